"""What archives and manifests were when they were last proved, and since when that is known."""

import sqlite3
from collections.abc import Iterator

from agent.adapters.ledger.catalogue import Folder, Key
from agent.rules.archive import Signature
from agent.rules.tamper import Sealed

SEALING = "sealing"  # since when manifests are signed
BOOKS = "books"  # since when this ledger knows what became of backups
_HERE = "location = ? AND folder = ? AND name = ?"


def sealed(db: sqlite3.Connection, key: Key) -> Sealed | None:
    """What an archive or a manifest was when it was last proved; None if it never was."""
    row = db.execute(f"SELECT inode, size, mtime_ns, ctime_ns, sha256, at FROM seal WHERE {_HERE}", key).fetchone()
    return Sealed(Signature(*row[:4]), *row[4:]) if row else None


def seal(db: sqlite3.Connection, key: Key, proved: Sealed | None) -> None:
    """Remember what a file was when it was proved; None: that it is no longer proved."""
    if proved is None:
        db.execute(f"DELETE FROM seal WHERE {_HERE}", key)
    else:
        row = (*key, *proved.signature, proved.sha256, proved.at)
        db.execute("INSERT OR REPLACE INTO seal VALUES(?,?,?,?,?,?,?,?,?)", row)


def sealed_folders(db: sqlite3.Connection) -> Iterator[Folder]:
    """Every backup whose manifest is there, oldest first."""
    rows = db.execute(
        "SELECT folder.* FROM folder JOIN sums USING(location, folder) WHERE sums.name = 'manifest.json'"
        " AND folder.sha256 != '' ORDER BY backup, location, folder"
    )
    return (Folder(*row) for row in rows)


def ever(db: sqlite3.Connection, tier: str) -> set[str]:
    """Ids of all backups of a tier that were ever known here."""
    return {row[0] for row in db.execute("SELECT DISTINCT backup FROM folder WHERE tier = ?", (tier,))}


def since(db: sqlite3.Connection, what: str) -> float | None:
    """Since when something has been so, as it was first remembered; epoch seconds."""
    row = db.execute("SELECT at FROM since WHERE what = ?", (what,)).fetchone()
    return row[0] if row else None


def remember(db: sqlite3.Connection, what: str, at: float) -> None:
    """Remember since when something has been so; the first word stays."""
    db.execute("INSERT OR IGNORE INTO since VALUES(?, ?)", (what, at))
