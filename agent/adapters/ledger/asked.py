"""What was asked of a Qdrant server and may still lie there: noted before it is asked, forgotten when it is gone."""

import sqlite3

import msgspec
from msgspec import Struct


class Asked(Struct, frozen=True):
    """A snapshot that was asked for: where, of which collection, when by the server's clock, and beside which others.

    `name` is None while it is not known whether the server made it.
    """

    id: int
    url: str
    collection: str
    asked: float
    beside: frozenset[str]
    name: str | None


def note(db: sqlite3.Connection, url: str, collection: str, asked: float, beside: frozenset[str]) -> int:
    """Note what is asked next; returns the note's id."""
    cursor = db.execute(
        "INSERT INTO asked(url, collection, asked, beside) VALUES(?,?,?,?)",
        (url, collection, asked, msgspec.json.encode(sorted(beside)).decode()),
    )
    return int(cursor.lastrowid or 0)


def made(db: sqlite3.Connection, note: int, name: str) -> None:
    """Note what the server called it."""
    db.execute("UPDATE asked SET name = ? WHERE id = ?", (name, note))


def gone(db: sqlite3.Connection, note: int) -> None:
    """Forget it: it is on the server no more."""
    db.execute("DELETE FROM asked WHERE id = ?", (note,))


def everything(db: sqlite3.Connection) -> list[Asked]:
    """All that may still lie on a server, the oldest first."""
    rows = db.execute("SELECT id, url, collection, asked, beside, name FROM asked ORDER BY id")
    return [
        Asked(number, url, collection, at, frozenset(msgspec.json.decode(beside)), name)
        for number, url, collection, at, beside, name in rows
    ]
