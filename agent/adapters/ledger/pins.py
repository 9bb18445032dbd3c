"""Backups that somebody wants to stay.

They are in a file beside the ledger too: a ledger that is lost or damaged takes nobody's word with it.
"""

import contextlib
import logging
import os
import sqlite3

import msgspec

from agent.errors import CannotWrite
from agent.rules.keeping import Key, Pin

log = logging.getLogger(__name__)

FILE = "kept.json"
_Row = tuple[str, str, float, str, float | None, str]


def put(db: sqlite3.Connection, key: Key, pin: Pin, who: str, now: float) -> None:
    """Pin a backup (tier and id), in place of what was said of it before."""
    db.execute("INSERT OR REPLACE INTO pin VALUES(?,?,?,?,?,?)", (*key, now, who, pin.until, pin.because))


def drop(db: sqlite3.Connection, key: Key) -> bool:
    """Unpin a backup; returns whether it was pinned."""
    return db.execute("DELETE FROM pin WHERE tier = ? AND backup = ?", key).rowcount > 0


def all(db: sqlite3.Connection) -> dict[Key, Pin]:  # noqa: A001 - read as pins.all
    """Every pin by tier and id, those that are over too."""
    rows = db.execute("SELECT tier, backup, until, because FROM pin ORDER BY tier, backup")
    return {(tier, backup): Pin(until, because) for tier, backup, until, because in rows}


def save(db: sqlite3.Connection, state_dir: str) -> None:
    """Write every pin into the file beside the ledger, as a whole.

    Raises:
        CannotWrite: it cannot be written; the one before it is as it was.
    """
    path = os.path.join(state_dir, FILE)
    content = msgspec.json.encode(db.execute("SELECT * FROM pin ORDER BY tier, backup").fetchall())
    try:
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
        os.replace(f"{path}.new", path)
        folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise CannotWrite(f"{path}: {error.strerror}", "Nothing was changed. Is there space in state_dir?") from error


def recall(db: sqlite3.Connection, state_dir: str) -> None:
    """Take the pins into a ledger that was begun anew; a file that cannot be read is put aside, and told in the log."""
    path = os.path.join(state_dir, FILE)
    try:
        with open(path, "rb") as file:
            rows = msgspec.json.decode(file.read(), type=list[_Row])
    except FileNotFoundError:
        return
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("%s cannot be read, so that no backup counts as kept on purpose: %s", path, error)
        with contextlib.suppress(OSError):
            os.replace(path, f"{path}.damaged")
        return
    db.executemany("INSERT OR REPLACE INTO pin VALUES(?,?,?,?,?,?)", rows)
