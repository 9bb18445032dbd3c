"""From when on each line of the schedule counts: nothing is late because of slots from before it was given."""

import sqlite3
from collections.abc import Mapping

from agent.adapters.ledger import runs
from agent.adapters.ledger.runs import Pulse

_SINCE = "since:"


def noted(db: sqlite3.Connection) -> dict[str, tuple[str, float]]:
    """The cron line of each job, and from when on it counts; epoch seconds."""
    return {
        part.removeprefix(_SINCE): (one.words, one.at)
        for part, one in runs.pulses(db).items()
        if part.startswith(_SINCE)
    }


def note(db: sqlite3.Connection, job: str, cron: str, at: float) -> None:
    """Let the cron line of a job count from then on."""
    runs.beat(db, [Pulse(f"{_SINCE}{job}", at, cron)])


def changes(db: sqlite3.Connection, crons: Mapping[str, str], now: float) -> tuple[set[str], set[str]]:
    """Jobs whose line is new, changed, or was noted by a clock that has gone back since; and those that are gone."""
    before = noted(db)
    new = {job for job, cron in crons.items() if before.get(job, ("", now))[0] != cron or before[job][1] > now}
    return new, before.keys() - crons.keys()


def begin(db: sqlite3.Connection, crons: Mapping[str, str], now: float) -> None:
    """Note the schedule as it is now, inside the caller's transaction; lines that are as before count on."""
    new, gone = changes(db, crons, now)
    runs.beat(db, [Pulse(f"{_SINCE}{job}", now, crons[job]) for job in new])
    runs.forget_pulses(db, [f"{_SINCE}{job}" for job in gone])
