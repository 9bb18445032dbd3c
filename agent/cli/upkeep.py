"""snapward upkeep: the agent's round through its books, every few minutes; a child of the daemon.

Each step looks at one kind of trouble and says how things stand now. What a step no longer speaks of is over.
"""

import sqlite3
import time
import traceback
from collections.abc import Callable, Iterable
from datetime import tzinfo

import click
from msgspec import Struct

from agent.adapters.ledger import incidents, writing
from agent.cli import parts, text, upkeep_outlook, upkeep_repair
from agent.jobs import freshness, outlook, overview, sealing, unusual
from agent.rules.finding import Finding, Level, ok
from agent.settings import Settings, zone
from agent.settings.parts import promised, seal_keys, telling


class Round(Struct, frozen=True):
    """What a step is given; `now` in epoch seconds."""

    db: sqlite3.Connection
    settings: Settings
    zone: tzinfo
    now: float


class Step(Struct, frozen=True):
    """One look: the rules that it alone speaks of, and what it finds."""

    name: str
    rules: frozenset[str]
    look: Callable[[Round], Iterable[Finding]]


def _unusual(given: Round) -> list[Finding]:
    return upkeep_outlook.unlike(given.db, given.zone, given.now)


def _outlook(given: Round) -> list[Finding]:
    return upkeep_outlook.ahead(given.db, given.settings, given.zone, given.now)


def _sealing(given: Round) -> list[Finding]:
    return sealing.look(given.db, seal_keys(given.settings), given.settings.locations, given.now)


def _copies(given: Round) -> list[Finding]:
    return upkeep_repair.copies(given.db, given.settings, given.now)


def _behind(given: Round) -> list[Finding]:
    return upkeep_repair.behind(given.db, given.settings, given.now)


def _drift(given: Round) -> list[Finding]:
    return upkeep_repair.drift(given.db, given.settings, given.now)


def _freshness(given: Round) -> list[Finding]:
    settings, places = given.settings, list(given.settings.locations)
    made = overview.made(overview.backups(given.db, places))
    return freshness.look(given.db, promised(settings), made, places, given.zone, given.now)


STEPS: tuple[Step, ...] = (
    Step("freshness", freshness.RULES, _freshness),
    Step("copies", upkeep_repair.COPIES, _copies),
    Step("rereading", upkeep_repair.REREAD, _behind),
    Step("permissions", upkeep_repair.RIGHTS, _drift),
    Step("sealing", sealing.RULES, _sealing),
    Step("unusual", unusual.RULES, _unusual),
    Step("outlook", outlook.RULES, _outlook),
)


@click.command("upkeep", hidden=True)
@click.pass_context
def upkeep_(ctx: click.Context) -> int:
    """Look through the books: what is late, unusual, unequal, or about to be full."""
    settings = parts.configuration(ctx).settings
    told = telling(settings)
    with parts.writer(settings) as db:
        for step in STEPS:
            now = time.time()
            found = list(_found(step, Round(db, settings, zone(settings.timezone), now)))
            with writing(db):
                incidents.observe(db, found, now, told.policy, told.severities)
    return 0


def _found(step: Step, given: Round) -> Iterable[Finding]:
    """What a step finds, and the end of what it found before; a step that fails is told, and ends nothing."""
    about = f"upkeep {step.name}"
    try:
        found = list(step.look(given))
    except Exception as error:  # noqa: BLE001 - the other steps have to go on, and this one's failure is told
        text.note(traceback.format_exc())
        why = f"a part of the agent failed: {error}"
        hint = "The agent goes on and tries again. Please report this with the log."
        return [Finding("agent_error", about, Level.WARNING, why, hint)]
    spoken = {(one.rule, one.subject) for one in found}
    over = [
        ok(one.rule, one.subject, "no longer so")
        for one in incidents.active(given.db)
        if one.rule in step.rules and (one.rule, one.subject) not in spoken
    ]
    return [*found, *over, ok("agent_error", about, "goes well again")]
