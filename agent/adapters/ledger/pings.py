"""What the watcher outside has been told of each run: the runs themselves are the queue, so that none is lost."""

import json
import sqlite3
from collections.abc import Iterable

from msgspec import Struct

from agent.adapters.ledger import catalogue, runs
from agent.adapters.ledger.catalogue import Archive
from agent.adapters.ledger.runs import Run
from agent.rules.words import printable


class Told(Struct, frozen=True):
    """A run, and what has been told of it: `start`, `end`, after `tries` that failed; not again before `next_try`."""

    run: Run
    start: bool
    end: bool
    tries: int
    next_try: float


def untold(db: sqlite3.Connection, jobs: Iterable[str], since: float) -> list[Told]:
    """Runs that were not over before then and whose end has not been told, oldest first; what was skipped was none.

    `jobs` are those that count, backups as backup:TIER.
    """
    rows = db.execute(
        f"SELECT {runs.COLUMNS}, ifnull(ping.begun, 0), ifnull(ping.over, 0), ifnull(tries, 0), ifnull(next_try, 0.0)"
        " FROM run LEFT JOIN ping ON ping.run = run.id"
        " WHERE ifnull(ended, ?1) >= ?1"
        " AND iif(job = 'backup', 'backup:' || subject, job) IN (SELECT value FROM json_each(?2))"
        " AND outcome != 'skipped' AND ifnull(ping.over, 0) = 0 ORDER BY run.id",
        (since, json.dumps(list(jobs))),
    )
    return [Told(runs.as_run(row[:-4]), bool(row[-4]), bool(row[-3]), row[-2], row[-1]) for row in rows]


def told(db: sqlite3.Connection, run: int, *, over: bool) -> None:
    """Note that the start of a run was told, or its end."""
    db.execute(
        "INSERT INTO ping(run, begun, over) VALUES(?1, 1, ?2)"
        " ON CONFLICT(run) DO UPDATE SET begun = 1, over = max(over, ?2), tries = 0, next_try = 0",
        (run, int(over)),
    )


def postponed(db: sqlite3.Connection, run: int, next_try: float) -> None:
    """Note that telling of a run failed, and when to try again."""
    db.execute(
        "INSERT INTO ping(run, tries, next_try) VALUES(?1, 1, ?2)"
        " ON CONFLICT(run) DO UPDATE SET tries = tries + 1, next_try = ?2",
        (run, next_try),
    )


def made(db: sqlite3.Connection, tier: str, backup: str, locations: Iterable[str]) -> list[Archive | None]:
    """The archives of a backup in these locations; None for each that has not been seen there yet."""
    found: list[Archive | None] = []
    for location in locations:
        row = db.execute(
            "SELECT folder FROM folder WHERE location = ? AND tier = ? AND backup = ?", (location, tier, backup)
        ).fetchone()
        entry = catalogue.folder(db, location, row[0]) if row else None
        manifest = catalogue.manifest(entry) if entry else None
        if entry is None or manifest is None:
            found.append(None)
            continue
        here = {one.key.name: one for one in catalogue.archives(db, location, entry.folder)}
        expected = {printable(one.file) for one in manifest.collections} | here.keys()
        found += [here.get(name) for name in sorted(expected)]
    return found
