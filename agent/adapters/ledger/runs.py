"""Runs of jobs, the slots they were started for, the pulse of the agent's parts, and storage samples."""

import json
import os
import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct


class Run(Struct, frozen=True):
    """One execution of a job. `outcome`: running, ok, incomplete, failed, interrupted, skipped or missed."""

    id: int
    job: str
    subject: str
    slot: float | None
    pid: int | None
    boot: str
    started: float
    ended: float | None
    outcome: str
    exit_code: int | None
    why: str
    figures: dict[str, Any]
    output: str


class Sample(Struct, frozen=True):
    """How full one location was at one moment; sizes in bytes, `at` in epoch seconds."""

    location: str
    at: float
    total: int
    used: int
    free: int
    used_percent: float
    inodes_percent: float | None
    state: str
    why: str


class Pulse(Struct, frozen=True):
    """When a part of the agent last showed that it works, and what it said."""

    part: str
    at: float
    words: str


COLUMNS = "id, job, subject, slot, pid, boot, started, ended, outcome, exit_code, why, figures, output"


def as_run(row: tuple[Any, ...]) -> Run:
    """A row of `COLUMNS` as what it means."""
    return Run(*(*row[:11], msgspec.json.decode(row[11]), row[12]))


def life(pid: int | None = None) -> str:
    """What tells a process (this one if none is named) from all that had its pid or will have it; "" if it is unseen.

    It is the boot of the machine, and when in it the process began: in containers pids are few, and soon come again.
    """
    try:
        with open(f"/proc/{pid or 'self'}/stat", "rb") as file:
            began = file.read().rpartition(b")")[2].split()[19].decode()
    except OSError:
        return ""
    return f"{_boot()} {began}"


def begin(db: sqlite3.Connection, job: str, subject: str, slot: float | None, now: float) -> int:
    """Note that this process begins a run; returns the run's id."""
    cursor = db.execute(
        "INSERT INTO run(job, subject, slot, pid, boot, started, outcome) VALUES(?,?,?,?,?,?, 'running')",
        (job, subject, slot, os.getpid(), life(), now),
    )
    return int(cursor.lastrowid or 0)


def end(
    db: sqlite3.Connection,
    run: int,
    outcome: str,
    now: float,
    *,
    why: str = "",
    exit_code: int | None = None,
    figures: dict[str, Any] | None = None,
    output: str = "",
) -> None:
    """Note how a run ended; without `figures` those stay that it has noted so far."""
    told = None if figures is None else msgspec.json.encode(figures).decode()
    db.execute(
        "UPDATE run SET ended = ?, outcome = ?, why = ?, exit_code = ?, figures = coalesce(?, figures), output = ?"
        " WHERE id = ?",
        (now, outcome, why, exit_code, told, output, run),
    )


def so_far(db: sqlite3.Connection, run: int, figures: dict[str, Any]) -> None:
    """Note what a run that goes on has come to, in case that it dies."""
    db.execute("UPDATE run SET figures = ? WHERE id = ?", (msgspec.json.encode(figures).decode(), run))


def note(
    db: sqlite3.Connection, job: str, subject: str, slot: float | None, outcome: str, why: str, now: float
) -> None:
    """Note a run that never began: it was missed or skipped."""
    db.execute(
        "INSERT INTO run(job, subject, slot, started, ended, outcome, why) VALUES(?,?,?,?,?,?,?)",
        (job, subject, slot, now, now, outcome, why),
    )


def orphans(db: sqlite3.Connection) -> list[Run]:
    """Runs that are noted as running although their process is gone."""
    rows = map(as_run, db.execute(f"SELECT {COLUMNS} FROM run WHERE outcome = 'running'"))
    return [run for run in rows if not _alive(run)]


def running(db: sqlite3.Connection) -> list[Run]:
    """Runs that are under way now."""
    gone = {run.id for run in orphans(db)}
    rows = map(as_run, db.execute(f"SELECT {COLUMNS} FROM run WHERE outcome = 'running' ORDER BY id"))
    return [run for run in rows if run.id not in gone]


def between(db: sqlite3.Connection, since: float, until: float) -> list[Run]:
    """Every run that began in a time span, oldest first."""
    rows = db.execute(
        f"SELECT {COLUMNS} FROM run WHERE started >= ? AND started < ? ORDER BY started, id", (since, until)
    )
    return list(map(as_run, rows))


def recorded(db: sqlite3.Connection) -> float | None:
    """Since when runs are on record, epoch seconds; None if none is."""
    first: float | None = db.execute("SELECT min(started) FROM run").fetchone()[0]
    return first


def latest(db: sqlite3.Connection, job: str, subject: str) -> Run | None:
    """The newest run of a job that has ended."""
    row = db.execute(
        f"SELECT {COLUMNS} FROM run WHERE job = ? AND subject = ? AND ended IS NOT NULL ORDER BY id DESC LIMIT 1",
        (job, subject),
    ).fetchone()
    return as_run(row) if row else None


def newest(db: sqlite3.Connection, job: str, outcomes: Iterable[str], but: str = "") -> Run | None:
    """The newest run of a job that came to one of these outcomes, and was not about `but`."""
    marks = json.dumps(list(outcomes))
    row = db.execute(
        f"SELECT {COLUMNS} FROM run WHERE job = ?1 AND outcome IN (SELECT value FROM json_each(?2))"
        " AND (?3 = '' OR subject != ?3) ORDER BY id DESC LIMIT 1",
        (job, marks, but),
    ).fetchone()
    return as_run(row) if row else None


def on_their_way(db: sqlite3.Connection) -> dict[str, float]:
    """By tier: when the newest backup was begun that is still being made, or has not been seen in any location yet."""
    rows = db.execute(
        "SELECT subject, max(started) FROM run WHERE job = 'backup' AND (outcome = 'running' OR (outcome = 'ok'"
        " AND json_extract(figures, '$.id') NOT IN (SELECT backup FROM folder WHERE tier = subject))) GROUP BY subject"
    )
    return dict(rows.fetchall())


def planned(db: sqlite3.Connection) -> frozenset[str]:
    """Ids of the backups that the schedule asked for, and so of all collections."""
    rows = db.execute(
        "SELECT json_extract(figures, '$.id') FROM run WHERE job = 'backup' AND slot IS NOT NULL"
        " AND outcome IN ('ok', 'incomplete')"
    )
    return frozenset(str(row[0]) for row in rows if row[0])


def last_slot(db: sqlite3.Connection, job: str) -> float | None:
    """The newest slot of a job that was started or reported; epoch seconds."""
    row = db.execute("SELECT last FROM slot WHERE job = ?", (job,)).fetchone()
    return row[0] if row else None


def take_slot(db: sqlite3.Connection, job: str, slot: float) -> None:
    """Note a slot before it is started, so that no crash starts it twice."""
    db.execute("INSERT OR REPLACE INTO slot VALUES(?, ?)", (job, slot))


def beat(db: sqlite3.Connection, pulses: list[Pulse]) -> None:
    """Note that parts of the agent work."""
    db.executemany("INSERT OR REPLACE INTO pulse VALUES(?, ?, ?)", [(p.part, p.at, p.words) for p in pulses])


def pulses(db: sqlite3.Connection) -> dict[str, Pulse]:
    """The last pulse of every part."""
    return {row[0]: Pulse(*row) for row in db.execute("SELECT part, at, words FROM pulse")}


def forget_pulses(db: sqlite3.Connection, parts: Iterable[str]) -> None:
    """Forget parts of which nothing is to be heard any more."""
    db.executemany("DELETE FROM pulse WHERE part = ?", [(part,) for part in parts])


def add_sample(db: sqlite3.Connection, sample: Sample) -> None:
    """Keep a reading of how full a location is."""
    db.execute("INSERT OR REPLACE INTO sample VALUES(?,?,?,?,?,?,?,?,?)", msgspec.structs.astuple(sample))


def last_sample(db: sqlite3.Connection, location: str) -> Sample | None:
    """The newest reading of a location."""
    row = db.execute("SELECT * FROM sample WHERE location = ? ORDER BY at DESC LIMIT 1", (location,)).fetchone()
    return Sample(*row) if row else None


def samples(db: sqlite3.Connection, location: str, since: float, until: float) -> list[Sample]:
    """Every reading of a location in a time span, oldest first."""
    rows = db.execute(
        "SELECT * FROM sample WHERE location = ? AND at >= ? AND at < ? ORDER BY at", (location, since, until)
    )
    return [Sample(*row) for row in rows]


def settled(db: sqlite3.Connection, job: str, subject: str | None, until: float) -> float | None:
    """The newest slot up to `until` of which it is on record what became of it: a run, or why there was none.

    `subject` None takes the runs of a job whatever they were about.
    """
    sql = "SELECT max(slot) FROM run WHERE job = ?1 AND (?2 IS NULL OR subject = ?2) AND slot <= ?3"
    newest: float | None = db.execute(sql, (job, subject, until)).fetchone()[0]
    return newest


def trim(db: sqlite3.Connection, before: float) -> None:
    """Forget what is older than `before`: samples, verdicts, runs that ended, and incidents that are over.

    A drill is kept for as long as an archive is there that it speaks of.
    """
    db.execute("DELETE FROM sample WHERE at < ?", (before,))
    db.execute("DELETE FROM verdict WHERE at < ?", (before,))
    db.execute("DELETE FROM run WHERE ended < ?", (before,))
    db.execute("DELETE FROM ping WHERE run NOT IN (SELECT id FROM run)")  # numbers of runs may come again
    over = "SELECT id FROM incident WHERE resolved < ?"
    db.execute(f"DELETE FROM news WHERE incident IN ({over})", (before,))
    db.execute(
        "DELETE FROM notice WHERE created < ? AND state IN ('delivered', 'dropped') AND kind != 'report'"
        " AND id NOT IN (SELECT notice FROM news)"
        " AND id NOT IN (SELECT fallback_of FROM notice WHERE fallback_of IS NOT NULL)",
        (before,),
    )
    db.execute("DELETE FROM incident WHERE resolved < ?", (before,))
    there = "SELECT json_extract(reading, '$.sha256') FROM archive WHERE vanished IS NULL AND reading IS NOT NULL"
    spoken = f"SELECT drill FROM drilled WHERE sha256 IN ({there})"
    db.execute(f"DELETE FROM drill WHERE at < ? AND id NOT IN ({spoken})", (before,))
    db.execute("DELETE FROM drilled WHERE drill NOT IN (SELECT id FROM drill)")


def _alive(run: Run) -> bool:
    if run.pid is None:
        return False
    seen = life(run.pid)
    if seen:
        return seen == run.boot
    try:
        os.kill(run.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, and hidden from us
        return run.boot.startswith(_boot())
    return True


def _boot() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
