"""Note what each backup came to, as soon as the catalogue knows of it."""

import sqlite3

from agent.adapters.ledger import figures, writing
from agent.rules.figures import made

KEPT = 2 * 366 * 86_400.0


def learn(db: sqlite3.Connection, now: float) -> int:
    """Read the manifests of backups that are new to the catalogue; returns how many there were.

    What they came to is forgotten after two years.
    """
    new = [made(*one) for one in figures.unread(db, now - KEPT)]
    if new:
        with writing(db):
            for one in new:
                figures.keep(db, one)
            figures.trim(db, now - KEPT)
    return len(new)
