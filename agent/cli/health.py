"""`snapward health`: one look at the Qdrant server, which the agent also has made every `health.every`."""

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
import msgspec
from msgspec.structs import replace

from agent.adapters.ledger import runs
from agent.cli import parts, text
from agent.errors import BadUsage
from agent.jobs import health
from agent.rules.finding import Finding, Level
from agent.rules.server import View
from agent.settings import Settings
from agent.settings.parts import addresses, telling

if TYPE_CHECKING:
    from agent.adapters.qdrant.snapshot import Ticket


@click.command("health")
@parts.JSON
@click.pass_context
def health_(ctx: click.Context, *, json_: bool) -> int:
    """Look at the Qdrant server once: note what is wrong with it, and end the alerts that are over."""
    settings = parts.configuration(ctx).settings
    if settings.engine.kind != "qdrant":
        raise BadUsage(f"engine.kind: {settings.engine.kind} has no server to look at", "`snapward check` looks at it.")
    with parts.writer(settings, create=True) as db:
        view, findings = noted(db, settings)
    worst = max((one.level for one in findings), default=Level.OK)
    if json_:
        shown = [{**msgspec.structs.asdict(one), "level": one.level.word} for one in findings]
        text.as_json({"state": worst.word, "version": view.version, "findings": shown})
        return int(worst)
    for one in sorted(findings, key=lambda one: -one.level):
        _say(one)
    return int(worst)


def noted(db: sqlite3.Connection, settings: Settings, *, own_run: int | None = None) -> tuple[View, list[Finding]]:
    """Look at the server and write down what that finds; `own_run` is the backup that asks, its work done."""
    told = telling(settings)
    from agent.jobs.backup.journal import tickets  # noqa: PLC0415 - HTTP is dear to load

    left = tickets(db)
    view = seen(settings, left)
    at_work = any(one.job == "backup" and one.id != own_run for one in runs.running(db))
    busy = frozenset(one.collection for one in left) if at_work else frozenset()
    return view, health.accept(db, view, parts.now(), busy, told.policy, dict(told.severities))[0]


def seen(settings: Settings, left: "Sequence[Ticket]" = ()) -> View:
    """How the server looks; `left` is what we asked it for and may still lie there."""
    from agent.adapters.qdrant import look  # noqa: PLC0415 - HTTP is dear to load
    from agent.adapters.qdrant.server import Server  # noqa: PLC0415
    from agent.adapters.qdrant.wire import Wire  # noqa: PLC0415

    return look.view([Server(Wire(replace(one, patience=parts.PATIENCE))) for one in addresses(settings)], left)


def _say(one: Finding) -> None:
    text.say(f"{text.state(one.level.word, 8)}  {one.rule}  {one.subject}: {one.why}")
    if one.hint and one.level:
        text.say(f"          {text.dim(one.hint)}")
