"""The audit trail: what was done to backups, by whom and why, written down before it is done."""

import sqlite3
from collections.abc import Iterator

from msgspec import Struct

# Each of them changes what lies in a location, or what is kept there.
KINDS = (
    *("backup", "expire", "quarantine", "repair", "permissions", "baseline", "tidy"),
    *("keep", "release", "reconcile", "restore"),
)
# What takes a backup away is remembered for good, or accepts that: the one after it names it in its manifest.
_FOR_GOOD = ("expire", "quarantine", "reconcile")


class Deed(Struct, frozen=True):
    """One change to a backup; times are epoch seconds.

    Attributes:
        id: its number.
        at: when it was begun.
        who: the user, or `schedule`.
        kind: one of `KINDS`.
        location: its name; empty where it concerns all of them.
        path: inside the location; of a backup `tier/id`.
        why: the reason, in words.
        ended: None while it goes on, or if its process died.
        outcome: what came of it, in words; `done` where there is nothing to add.
    """

    id: int
    at: float
    who: str
    kind: str
    location: str
    path: str
    why: str
    ended: float | None = None
    outcome: str = ""


# How the outcome of a deed begins of which nothing was done after all: it excuses nothing.
NOT_DONE = "not done"

_COLUMNS = "id, at, who, kind, location, path, why, ended, outcome"


def begin(db: sqlite3.Connection, kind: str, location: str, path: str, why: str, who: str, now: float) -> int:
    """Write down what is about to be done; returns its number."""
    assert kind in KINDS, kind  # noqa: S101 - a word of ours
    done = db.execute(
        "INSERT INTO deed(at, who, kind, location, path, why) VALUES(?,?,?,?,?,?)",
        (now, who, kind, location, path, why),
    )
    return int(done.lastrowid or 0)


def end(db: sqlite3.Connection, number: int, now: float, outcome: str = "done") -> None:
    """Write down what came of it."""
    db.execute("UPDATE deed SET ended = ?, outcome = ? WHERE id = ?", (now, outcome, number))


def note(
    db: sqlite3.Connection, kind: str, location: str, path: str, why: str, who: str, now: float, outcome: str = "done"
) -> None:
    """Write down what is done within this transaction."""
    end(db, begin(db, kind, location, path, why, who, now), now, outcome)


def unfinished(db: sqlite3.Connection, kind: str) -> list[Deed]:
    """Deeds of a kind that were begun and not ended, oldest first."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM deed WHERE kind = ? AND ended IS NULL ORDER BY id", (kind,))
    return [Deed(*row) for row in rows]


def since(db: sqlite3.Connection, at: float, until: float | None = None) -> Iterator[Deed]:
    """Deeds that were begun, or ended, since then, oldest first."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM deed WHERE (at >= ?1 OR ended >= ?1 OR ended IS NULL) AND at < ?2 ORDER BY id",
        (at, float("inf") if until is None else until),
    )
    return (Deed(*row) for row in rows)


def about(db: sqlite3.Connection, location: str, path: str) -> list[Deed]:
    """Deeds about a file or folder of a location, or about what it lies in, oldest first; none that was not done."""
    parts = path.split("/")
    paths = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    marks = ",".join("?" * len(paths))
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM deed WHERE location = ? AND path IN ({marks})"
        f" AND outcome NOT GLOB '{NOT_DONE}*' ORDER BY id",
        (location, *paths),
    )
    return [Deed(*row) for row in rows]


def accepted(db: sqlite3.Connection) -> list[Deed]:
    """What somebody accepted as it is, oldest first."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM deed WHERE kind = 'reconcile' ORDER BY id")
    return [Deed(*row) for row in rows]


def removed(db: sqlite3.Connection, tier: str) -> set[str]:
    """Ids of the backups of a tier that we took away ourselves, or that were accepted as gone, in any location."""
    below = f"{_literal(tier)}/*"  # but no single file of one
    rows = db.execute(
        f"SELECT DISTINCT path FROM deed WHERE kind IN {_FOR_GOOD} AND path GLOB ? AND path NOT GLOB ?"
        f" AND outcome NOT GLOB '{NOT_DONE}*'",
        (below, f"{below}/*"),
    )
    return {path.split("/")[1] for (path,) in rows}


def trim(db: sqlite3.Connection, before: float) -> None:
    """Forget what ended before that time, but for what took a backup away."""
    db.execute(f"DELETE FROM deed WHERE ended < ? AND kind NOT IN {_FOR_GOOD}", (before,))


def _literal(text: str) -> str:
    return "".join(f"[{one}]" if one in "*?[" else one for one in text)
