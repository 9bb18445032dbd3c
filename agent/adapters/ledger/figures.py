"""What backups came to, of all tiers; kept when the backups themselves have long expired."""

import sqlite3
from collections.abc import Iterator

import msgspec

from agent.rules.anomaly import Measured
from agent.rules.figures import Made
from agent.rules.inventory import Inventory
from agent.rules.manifest import Manifest

# A clock that is put right later must not leave a newest backup for all time.
_AHEAD = 86_400.0


def unread(db: sqlite3.Connection, since: float) -> Iterator[tuple[str, str, float, Manifest]]:
    """(tier, backup, started, manifest) of each backup of the catalogue since then that has no figures yet."""
    rows = db.execute(
        "SELECT tier, backup, max(started), manifest FROM folder WHERE manifest IS NOT NULL AND started >= ?"
        " AND NOT EXISTS (SELECT 1 FROM made WHERE made.tier = folder.tier AND made.backup = folder.backup)"
        " GROUP BY tier, backup",
        (since,),
    ).fetchall()
    decoder = msgspec.json.Decoder(Manifest)
    return ((tier, backup, started, decoder.decode(text)) for tier, backup, started, text in rows)


def keep(db: sqlite3.Connection, made: Made) -> None:
    """Store what a backup came to; within the caller's transaction."""
    key = made.tier, made.backup
    failed, aliases = (msgspec.json.encode(one).decode() for one in (made.failed, dict(made.aliases)))
    db.execute(
        "INSERT OR REPLACE INTO made VALUES(?,?,?,?,?,?,?)",
        (*key, made.started, made.whole, made.size, failed, aliases),
    )
    db.executemany(
        "INSERT OR REPLACE INTO figure VALUES(?,?,?,?,?,?,?,?)",
        [
            (*key, name, made.started, one.points, one.raw_size, one.stored_size, one.seconds)
            for name, one in made.figures.items()
        ],
    )


def trim(db: sqlite3.Connection, before: float) -> None:
    """Forget what was begun before that time."""
    db.execute("DELETE FROM made WHERE started < ?", (before,))
    db.execute("DELETE FROM figure WHERE started < ?", (before,))


def histories(db: sqlite3.Connection, backups: int, now: float) -> dict[str, list[Measured]]:
    """Each collection of the last so many whole backups, with its figures, oldest first."""
    rows = db.execute(
        "SELECT collection, figure.backup, figure.started, points, raw_size, stored_size, seconds"
        " FROM figure JOIN (SELECT tier, backup FROM made WHERE whole AND started <= ? ORDER BY started DESC LIMIT ?)"
        " AS lately ON figure.tier = lately.tier AND figure.backup = lately.backup ORDER BY figure.started",
        (now + _AHEAD, backups),
    )
    found: dict[str, list[Measured]] = {}
    for name, backup, at, points, raw, stored, seconds in rows:
        one = Measured(backup=backup, at=at, points=points, raw_size=raw, stored_size=stored, seconds=seconds)
        found.setdefault(name, []).append(one)
    return found


def inventories(db: sqlite3.Connection, backups: int, until: float) -> list[Inventory]:
    """What the last so many whole backups hold that were begun up to then, oldest first."""
    rows = db.execute(
        "SELECT tier, backup, started, failed, aliases FROM made WHERE whole AND started <= ?"
        " ORDER BY started DESC LIMIT ?",
        (until, backups),
    ).fetchall()
    return [_inventory(db, *row) for row in reversed(rows)]


def _inventory(db: sqlite3.Connection, tier: str, backup: str, at: float, failed: str, aliases: str) -> Inventory:
    held = db.execute("SELECT collection, points FROM figure WHERE tier = ? AND backup = ?", (tier, backup))
    points: dict[str, int | None] = dict(held.fetchall())
    points |= dict.fromkeys(msgspec.json.decode(failed, type=list[str]))
    return Inventory(backup=backup, at=at, points=points, aliases=msgspec.json.decode(aliases, type=dict[str, str]))


def sizes(db: sqlite3.Connection, backups: int, now: float) -> list[int]:
    """Bytes that the last so many whole backups take of which nothing failed, oldest first."""
    rows = db.execute(
        "SELECT size FROM made WHERE whole AND failed = '[]' AND started <= ? ORDER BY started DESC LIMIT ?",
        (now + _AHEAD, backups),
    )
    return [size for (size,) in rows][::-1]


def version(db: sqlite3.Connection) -> str:
    """What is another one as soon as anything is learned or forgotten."""
    number, newest = db.execute("SELECT count(*), max(started) FROM made").fetchone()
    return f"{number} {newest}"
