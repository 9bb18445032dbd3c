"""What rehearsed restores showed: by collection, and by what an archive holds, so that every copy of it is proved."""

import sqlite3
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from agent.rules.drilling import FAILED, Proof


class Drill(Struct, frozen=True, kw_only=True):
    """One collection of one backup, rehearsed once.

    Attributes:
        at: when it began, epoch seconds.
        seconds: how long it took.
        backup, tier, collection, location: what was rehearsed, and from where it was read.
        depth: light or full.
        state: passed, failed or inconclusive.
        level: what was proved.
        why: in words.
        engine: what it was opened with, and its version.
        points: exact count; None where it came not so far.
        low, high: how many there should be; None where nobody knows.
        asked, matched: probes, and how many of them gave the recorded answers.
        raw_bytes: of the archives, unpacked.
        archives: SHA-256 of each archive to its file's name.
        evidence: what else was seen, as JSON has it.
    """

    at: float
    seconds: float
    backup: str
    tier: str
    collection: str
    location: str
    depth: str
    state: str
    level: str
    why: str
    engine: str
    points: int | None = None
    low: int | None = None
    high: int | None = None
    asked: int = 0
    matched: int = 0
    raw_bytes: int = 0
    archives: Mapping[str, str] = {}
    evidence: Mapping[str, Any] = {}


_COLUMNS = (
    "at, seconds, backup, tier, collection, location, depth, state, level, why, engine, points, low, high,"
    " asked, matched, raw_bytes, evidence"
)


def record(db: sqlite3.Connection, drill: Drill) -> int:
    """Write one down; returns its id."""
    given = msgspec.structs.asdict(drill)
    archives, evidence = given.pop("archives"), given.pop("evidence")
    marks = ",".join("?" * (len(given) + 1))
    values = (*given.values(), msgspec.json.encode(evidence).decode())
    number = int(db.execute(f"INSERT INTO drill({_COLUMNS}) VALUES({marks})", values).lastrowid or 0)
    rows = [(number, sha256, file) for sha256, file in archives.items()]
    db.executemany("INSERT INTO drilled VALUES(?,?,?)", rows)
    return number


def proofs(db: sqlite3.Connection) -> dict[str, Proof]:
    """By SHA-256 of an archive: what its newest drill that passed or failed says of it.

    Where several collections hold the same, as after a copy under a wrong name, one that failed speaks for all.
    """
    rows = db.execute(
        "SELECT drilled.sha256, drill.state, drill.level, drill.why, drill.at, max(drill.id) AS newest FROM drilled"
        " JOIN drill ON drill.id = drilled.drill WHERE drill.state != 'inconclusive'"
        " GROUP BY drilled.sha256, drill.collection ORDER BY newest"
    )
    found: dict[str, Proof] = {}
    for sha256, *rest, _ in rows:
        before = found.get(sha256)
        found[sha256] = before if before and before.state == FAILED else Proof(*rest)
    return found


def between(db: sqlite3.Connection, since: float, until: float) -> list[Drill]:
    """Every drill that began in a time span, oldest first."""
    rows = db.execute(f"SELECT id, {_COLUMNS} FROM drill WHERE at >= ? AND at < ? ORDER BY at, id", (since, until))
    return [_drill(db, row) for row in rows.fetchall()]


def newest(db: sqlite3.Connection, depth: str | None = None) -> dict[str, Drill]:
    """The newest drill of each collection that passed or failed; only those of this depth, if one is given."""
    rows = db.execute(
        f"SELECT id, {_COLUMNS}, max(id) FROM drill WHERE state != 'inconclusive' AND (?1 IS NULL OR depth = ?1)"
        " GROUP BY collection ORDER BY collection",
        (depth,),
    )
    return {one.collection: one for one in (_drill(db, row[:-1]) for row in rows.fetchall())}


def passed(db: sqlite3.Connection) -> dict[tuple[str, str], dict[str, float]]:
    """By tier and backup: each collection with its newest drill that passed, epoch seconds."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for tier, backup, collection, at in db.execute(
        "SELECT tier, backup, collection, max(at) FROM drill WHERE state = 'passed' GROUP BY tier, backup, collection"
    ):
        found.setdefault((tier, backup), {})[collection] = at
    return found


def failed(db: sqlite3.Connection, collection: str) -> Drill | None:
    """The newest drill of a collection that failed."""
    row = db.execute(
        f"SELECT id, {_COLUMNS} FROM drill WHERE collection = ? AND state = 'failed' ORDER BY id DESC LIMIT 1",
        (collection,),
    ).fetchone()
    return _drill(db, row) if row else None


def _drill(db: sqlite3.Connection, row: tuple[Any, ...]) -> Drill:
    number, *values, evidence = row
    named = dict(zip(Drill.__struct_fields__, values, strict=False))
    archives = dict(db.execute("SELECT sha256, file FROM drilled WHERE drill = ?", (number,)))
    return Drill(**named, archives=archives, evidence=msgspec.json.decode(evidence))
