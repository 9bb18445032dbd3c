"""The catalogue: which archives are known, what they were promised to be, and every verdict on them."""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from agent.rules.archive import Promise, Reading, Signature, State, Verdict
from agent.rules.manifest import Manifest
from agent.rules.words import printable


class Key(NamedTuple):
    """Where a file is: its location, the folder inside it, and its name, both in printable form."""

    location: str
    folder: str
    name: str


class Archive(Struct, frozen=True):
    """One archive as the catalogue knows it; `checked` and `vanished` are epoch seconds or None."""

    key: Key
    signature: Signature
    state: State
    level: str
    why: str
    reading: Reading | None
    arrived: float
    checked: float | None
    vanished: float | None


class Folder(Struct, frozen=True):
    """One backup folder of one location, as its manifest describes it, or a folder of loose archives.

    `sha256` is that of the manifest's file, `digest` what a signature of it is about.
    """

    location: str
    folder: str
    tier: str
    backup: str
    engine: str
    started: float | None = None
    ended: float | None = None
    failed: int = 0
    manifest: str | None = None
    problem: str = ""
    sha256: str = ""
    digest: str = ""


_COLUMNS = (
    "location, folder, name, inode, size, mtime_ns, ctime_ns, state, level, why, reading, arrived, checked, vanished"
)
_HERE = "location = ? AND folder = ? AND name = ?"


_READING = msgspec.json.Decoder(Reading)


def _archive(row: tuple[Any, ...]) -> Archive:
    location, folder, name, inode, size, mtime, ctime, state, level, why, reading, arrived, checked, gone = row
    return Archive(
        Key(location, folder, name),
        Signature(inode, size, mtime, ctime),
        State(state),
        level,
        why,
        _READING.decode(reading) if reading is not None else None,
        arrived,
        checked,
        gone,
    )


def folders(db: sqlite3.Connection, location: str) -> set[str]:
    """Every folder of a location in which something is known to be, vanished archives not counted."""
    return {
        row[0]
        for row in db.execute(
            "SELECT folder FROM archive WHERE location = ?1 AND vanished IS NULL"
            " UNION SELECT folder FROM sums WHERE location = ?1",
            (location,),
        )
    }


def known(db: sqlite3.Connection, location: str, folder: str) -> set[tuple[str, int, int, int, int]]:
    """(name, inode, size, mtime_ns, ctime_ns) of all that is known to be in one folder."""
    return set(
        db.execute(
            "SELECT name, inode, size, mtime_ns, ctime_ns FROM archive"
            " WHERE location = ?1 AND folder = ?2 AND vanished IS NULL"
            " UNION ALL SELECT name, inode, size, mtime_ns, ctime_ns FROM sums"
            " WHERE location = ?1 AND folder = ?2",
            (location, folder),
        )
    )


def signature(db: sqlite3.Connection, key: Key) -> Signature | None:
    """The signature a file had when it was last read; None for one that is unknown or vanished."""
    row = db.execute(
        f"SELECT inode, size, mtime_ns, ctime_ns FROM archive WHERE {_HERE} AND vanished IS NULL"
        f" UNION ALL SELECT inode, size, mtime_ns, ctime_ns FROM sums WHERE {_HERE}",
        (*key, *key),
    ).fetchone()
    return Signature(*row) if row else None


def archive(db: sqlite3.Connection, key: Key) -> Archive | None:
    """One archive, or None."""
    row = db.execute(f"SELECT {_COLUMNS} FROM archive WHERE {_HERE}", key).fetchone()
    return _archive(row) if row else None


def archives(db: sqlite3.Connection, location: str | None = None, folder: str | None = None) -> Iterator[Archive]:
    """All archives, of one location or one folder where given, ordered by location, folder and name."""
    given = {column: value for column, value in (("location", location), ("folder", folder)) if value is not None}
    where = " AND ".join(f"{column} = ?" for column in given) or "TRUE"
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM archive WHERE {where} ORDER BY location, folder, name", tuple(given.values())
    )
    return map(_archive, rows)


def present(db: sqlite3.Connection, location: str) -> int:
    """How many archives of a location are known to be there."""
    return int(
        db.execute("SELECT count(*) FROM archive WHERE location = ? AND vanished IS NULL", (location,)).fetchone()[0]
    )


def forget(db: sqlite3.Connection, key: Key) -> None:
    """Take an archive that is gone out of the catalogue; its verdicts stay in the history."""
    db.execute(f"DELETE FROM archive WHERE {_HERE}", key)
    db.execute(f"DELETE FROM seal WHERE {_HERE}", key)


def vanished_since(db: sqlite3.Connection, location: str, since: float) -> int:
    """How many archives of a location vanished at or after `since` and are still gone."""
    return int(
        db.execute("SELECT count(*) FROM archive WHERE location = ? AND vanished >= ?", (location, since)).fetchone()[0]
    )


def promises(db: sqlite3.Connection, key: Key) -> tuple[Promise, ...]:
    """What the checksum files around an archive promise; the manifest comes before SHA256SUMS."""
    rows = db.execute(f"SELECT source, sha256, size FROM promise WHERE {_HERE} ORDER BY source DESC", key)
    return tuple(Promise(*row) for row in rows)


def record(db: sqlite3.Connection, key: Key, seen: Signature, reading: Reading, verdict: Verdict, now: float) -> None:
    """Store a verdict, and what it was drawn from, as the archive's present state and in its history."""
    db.execute(
        f"INSERT INTO archive({_COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,NULL)"
        " ON CONFLICT(location, folder, name) DO UPDATE SET inode = excluded.inode, size = excluded.size,"
        " mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns, state = excluded.state,"
        " level = excluded.level, why = excluded.why, reading = excluded.reading,"
        " checked = excluded.checked, vanished = NULL",
        (*key, *seen, verdict.state, verdict.level, verdict.why, _json(reading), now, now),
    )
    _history(db, key, verdict, now, reading.seconds, reading.size)


def rejudge(db: sqlite3.Connection, key: Key, verdict: Verdict, now: float) -> None:
    """Store a verdict that follows from an earlier reading and a new promise."""
    db.execute(
        f"UPDATE archive SET state = ?, level = ?, why = ? WHERE {_HERE}",
        (verdict.state, verdict.level, verdict.why, *key),
    )
    _history(db, key, verdict, now, 0.0, 0)


def vanish(db: sqlite3.Connection, key: Key, why: str, now: float) -> None:
    """Mark an archive as gone; what was known of it stays.

    An archive that was promised but never seen is entered as gone.
    """
    db.execute(
        f"INSERT INTO archive({_COLUMNS}) VALUES(?,?,?,0,0,0,0,?,'arrived',?,NULL,?,NULL,?)"
        " ON CONFLICT(location, folder, name) DO UPDATE SET state = excluded.state, why = excluded.why,"
        " level = excluded.level, vanished = excluded.vanished",
        (*key, State.VANISHED, why, now, now),
    )
    _history(db, key, Verdict(State.VANISHED, "arrived", why), now, 0.0, 0)


def forget_sums(db: sqlite3.Connection, key: Key) -> list[Key]:
    """Drop a checksum file that is gone, with all it promised; returns the archives this concerns."""
    db.execute(f"DELETE FROM sums WHERE {_HERE}", key)
    concerned = _promised_by(db, key)
    db.execute("DELETE FROM promise WHERE location = ? AND folder = ? AND source = ?", key)
    return concerned


def record_sums(
    db: sqlite3.Connection, key: Key, seen: Signature, promised: dict[str, Promise], problem: str
) -> list[Key]:
    """Store what a checksum file promises, in place of what it promised before; returns the archives concerned."""
    before = set(_promised_by(db, key))
    db.execute("DELETE FROM promise WHERE location = ? AND folder = ? AND source = ?", key)
    db.execute("INSERT OR REPLACE INTO sums VALUES(?,?,?,?,?,?,?,?)", (*key, *seen, problem))
    after = {Key(key.location, key.folder, printable(name)): promise for name, promise in promised.items()}
    db.executemany(
        "INSERT OR REPLACE INTO promise VALUES(?,?,?,?,?,?)",
        [(*one, promise.source, promise.sha256, promise.size) for one, promise in after.items()],
    )
    return sorted(before | set(after))


def sums_sizes(db: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """By location and folder: bytes of the checksum files there, manifests among them."""
    rows = db.execute("SELECT location, folder, sum(size) FROM sums GROUP BY location, folder")
    return {(location, folder): size for location, folder, size in rows}


def record_folder(db: sqlite3.Connection, entry: Folder) -> None:
    """Store what is known of a folder as a backup."""
    db.execute("INSERT OR REPLACE INTO folder VALUES(?,?,?,?,?,?,?,?,?,?,?,?)", msgspec.structs.astuple(entry))


def folder(db: sqlite3.Connection, location: str, path: str) -> Folder | None:
    """One folder, or None."""
    row = db.execute("SELECT * FROM folder WHERE location = ? AND folder = ?", (location, path)).fetchone()
    return Folder(*row) if row else None


def all_folders(db: sqlite3.Connection) -> Iterator[Folder]:
    """Every folder that is known as a backup, newest backup first."""
    return (Folder(*row) for row in db.execute("SELECT * FROM folder ORDER BY backup DESC, location, folder"))


def manifest(entry: Folder) -> Manifest | None:
    """The manifest of a backup folder, as it was when it was read."""
    return msgspec.json.decode(entry.manifest, type=Manifest) if entry.manifest else None


def uncompared(db: sqlite3.Connection, location: str, folders: Iterable[str]) -> dict[str, int]:
    """How many archives without a promised checksum there are, for each of the folders given."""
    return {
        folder: int(
            db.execute(
                "SELECT count(*) FROM archive WHERE location = ? AND folder = ? AND state = ? AND vanished IS NULL",
                (location, folder, State.NO_CHECKSUM),
            ).fetchone()[0]
        )
        for folder in folders
    }


def verdicts(db: sqlite3.Connection, since: float, until: float) -> Iterator[tuple[Key, float, State, str, str]]:
    """(key, at, state, level, why) of every judgement in a time span, oldest first."""
    rows = db.execute(
        "SELECT location, folder, name, at, state, level, why FROM verdict WHERE at >= ? AND at < ? ORDER BY id",
        (since, until),
    )
    return ((Key(*row[:3]), row[3], State(row[4]), row[5], row[6]) for row in rows)


def _promised_by(db: sqlite3.Connection, key: Key) -> list[Key]:
    rows = db.execute(
        "SELECT location, folder, name FROM promise WHERE location = ? AND folder = ? AND source = ?", key
    )
    return [Key(*row) for row in rows]


def _history(db: sqlite3.Connection, key: Key, verdict: Verdict, now: float, seconds: float, size: int) -> None:
    db.execute(
        "INSERT INTO verdict(location, folder, name, at, state, level, why, seconds, size) VALUES(?,?,?,?,?,?,?,?,?)",
        (*key, now, verdict.state, verdict.level, verdict.why, seconds, size),
    )


def _json(value: Struct) -> str:
    return msgspec.json.encode(value).decode()
