"""Collections that are being restored, or were: noted before the server is touched, so that a break can be taken up."""

import sqlite3
from typing import Any

from msgspec import Struct


class Restored(Struct, frozen=True, kw_only=True):
    """One collection that is being restored, or was.

    Attributes:
        id: of the note.
        url: of the server.
        target: the collection's name there.
        backup, tier, collection: what it is restored from.
        state: begun, done or failed; left where it was done, and then changed by somebody else.
        replaced: whether there was a collection of that name.
        pre_restore: the backup of what there was; None where there was nothing, or nothing was kept.
        began, ended: epoch seconds.
        raw_bytes: of its archives, unpacked.
        points: exact count afterwards.
        why: in words.
    """

    id: int = 0
    url: str
    target: str
    backup: str
    tier: str
    collection: str
    state: str
    replaced: bool
    pre_restore: str | None
    began: float
    ended: float | None = None
    raw_bytes: int = 0
    points: int | None = None
    why: str = ""


_COLUMNS = "url, target, backup, tier, collection, state, replaced, pre_restore, began, ended, raw_bytes, points, why"


def begin(db: sqlite3.Connection, note: Restored) -> int:
    """Note what is restored next; returns the note's id."""
    values = [getattr(note, name) for name in _COLUMNS.split(", ")]
    marks = ",".join("?" * len(values))
    return int(db.execute(f"INSERT INTO restored({_COLUMNS}) VALUES({marks})", values).lastrowid or 0)


def end(db: sqlite3.Connection, note: int, state: str, now: float, *, points: int | None = None, why: str = "") -> None:
    """Note how it ended: done, failed or left."""
    db.execute(
        "UPDATE restored SET state = ?, ended = ?, points = ?, why = ? WHERE id = ?", (state, now, points, why, note)
    )


def newest(db: sqlite3.Connection, url: str, target: str) -> Restored | None:
    """The newest note about a collection of a server, or None."""
    row = db.execute(
        f"SELECT id, {_COLUMNS} FROM restored WHERE url = ? AND target = ? ORDER BY id DESC LIMIT 1", (url, target)
    ).fetchone()
    return _restored(row) if row else None


def since(db: sqlite3.Connection, url: str, moment: float) -> list[Restored]:
    """Every note about a server that was begun since then, oldest first."""
    rows = db.execute(f"SELECT id, {_COLUMNS} FROM restored WHERE url = ? AND began >= ? ORDER BY id", (url, moment))
    return list(map(_restored, rows))


def done(db: sqlite3.Connection) -> list[Restored]:
    """Every restore that succeeded, oldest first: from these the time of the next one is estimated."""
    rows = db.execute(f"SELECT id, {_COLUMNS} FROM restored WHERE state = 'done' ORDER BY id")
    return list(map(_restored, rows))


def _restored(row: tuple[Any, ...]) -> Restored:
    named = dict(zip(("id", *_COLUMNS.split(", ")), row, strict=True))
    return Restored(**{**named, "replaced": bool(named["replaced"])})
