"""What a drill is of, where it is made, and how: all that `snapward drill` has to know before it begins."""

import os
import sqlite3
from collections.abc import Callable

from msgspec import Struct

from agent.adapters.ledger import drills
from agent.adapters.ledger.catalogue import Key
from agent.cli import parts
from agent.errors import BadUsage
from agent.jobs import overview
from agent.jobs.drill import scratch, standing
from agent.jobs.drill.rehearse import Order
from agent.jobs.drill.stage import Embedded, Stage
from agent.jobs.intake import verdicts
from agent.jobs.intake.reading import Outcome
from agent.rules import drilling
from agent.rules.archive import Reading, Signature
from agent.rules.drilling import DUE, FULL
from agent.rules.subjects import Subject
from agent.settings import Settings
from agent.settings.parts import drill_server, permissions, scratch_folder, telling


class Wanted(Struct, frozen=True, kw_only=True):
    """What a command line asks for.

    Attributes:
        what: the backup; or what the daemon asks for, as the history calls it.
        scheduled: whether the daemon asks.
        depth: light or full.
        budget: seconds for all of it.
        only: collections; empty for all.
        engine: edge or server; None for whichever is configured.
    """

    what: str
    scheduled: bool = False
    depth: str
    budget: float
    only: tuple[str, ...] = ()
    engine: str | None = None


def chosen(db: sqlite3.Connection, settings: Settings, wanted: Wanted) -> tuple[list[Subject], str | None]:
    """What is drilled, in its order, and the id of the backup if it is one."""
    seen = standing.view(db, list(settings.locations))
    if wanted.scheduled and wanted.what == DUE:
        last = {name: one.at for name, one in drills.newest(db, FULL).items()}
        return drilling.rotation(filter(None, seen.current.values()), last), None
    if wanted.scheduled:
        last = {name: one.at for name, one in seen.last.items()}
        fresh = drilling.unproved(filter(None, seen.current.values()), drills.proofs(db))
        return drilling.rotation(fresh, last), None
    roots = {name: os.path.realpath(one.path) for name, one in settings.locations.items()}
    meant = overview.resolve(overview.backups(db, settings.locations), wanted.what, roots)
    if meant is None:
        if wanted.what in {"latest", "latest-good", "oldest", "last-failed"}:
            return [], None
        raise BadUsage(f"there is no backup {wanted.what!r}", "`snapward list` shows those there are.")
    spots = {(name, copy.path) for name, copy in meant.locations.items()}
    found = [one for one in seen.subjects if one.backup == meant.id and one.spots & spots]
    names = {one.collection for one in found}
    if missing := [one for one in wanted.only if one not in names]:
        there = ", ".join(sorted(names)) or "none"
        raise BadUsage(f"backup {meant.id} has no collection {missing[0]!r}", f"It has: {there}.")
    return [one for one in found if not wanted.only or one.collection in wanted.only], meant.id


def stage_of(settings: Settings, engine: str | None, stopping: Callable[[], bool], notes: list[str]) -> Stage:
    """Where it is rehearsed; adds to `notes` what drills that died had left there.

    Raises:
        AgentError: nothing can be rehearsed there.
    """
    root = scratch_folder(settings)
    notes += [f"removed what a drill that died had left: {path}" for path in scratch.clear(root)]
    if engine == "edge" or (engine is None and settings.drills.url is None):
        return Embedded(root, settings.drills.memory)
    from agent.jobs.drill.server import OnServer  # noqa: PLC0415 - HTTP is dear to load

    stage = OnServer(drill_server(settings), settings.state_dir, stopping)
    notes += stage.clear()
    return stage


def order_of(
    db: sqlite3.Connection,
    settings: Settings,
    stage: Stage,
    depth: str,
    stopping: Callable[[], bool],
    progress: Callable[[int], None],
) -> Order:
    """How it is drilled; what reading an archive gives is written down as everywhere."""
    told = telling(settings)

    def accept(key: Key, seen: Signature, reading: Reading) -> None:
        outcome = Outcome(key, seen, reading=reading)
        verdicts.accept(db, [outcome], settings.watch.minimum_size, parts.now(), told)

    return Order(
        stage=stage,
        roots={name: one.path for name, one in settings.locations.items()},
        accept=accept,
        depth=depth,
        permissions=permissions(settings),
        now=parts.now,
        stopping=stopping,
        progress=progress,
    )
