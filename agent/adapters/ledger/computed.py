"""What is dear to compute, kept with what it was computed from."""

import sqlite3
from typing import NamedTuple


class Computed(NamedTuple):
    """An answer as JSON, when it was computed (epoch seconds), and from what."""

    at: float
    basis: str
    told: str


def find(db: sqlite3.Connection, name: str) -> Computed | None:
    """The last answer of that name."""
    row = db.execute("SELECT at, basis, told FROM computed WHERE name = ?", (name,)).fetchone()
    return Computed(*row) if row else None


def keep(db: sqlite3.Connection, name: str, answer: Computed) -> None:
    """Store an answer in place of the last one; within the caller's transaction."""
    db.execute("INSERT OR REPLACE INTO computed VALUES(?,?,?,?)", (name, *answer))
