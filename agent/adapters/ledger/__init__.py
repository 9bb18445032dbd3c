"""The SQLite ledger: a catalogue of archives with their history, and the durable half of every alert.

One file in `state_dir`, in WAL mode with synchronous=FULL: a committed alert survives a power cut, and
readers never wait for the writer. Every process opens its own connection; writes are short transactions.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from sqlite3 import DatabaseError as DatabaseError

from agent.adapters.ledger import pins
from agent.adapters.ledger.schema import MIGRATIONS
from agent.errors import AgentError, CannotWrite, Damaged, TryLater

FILE = "ledger.db"
# Lies beside the ledger from the first start on: a ledger that is missing while this is there was lost.
MARK = "ledger.created"


def connect(state_dir: str, *, create: bool = False) -> sqlite3.Connection:
    """Open the ledger for reading and writing, bringing its schema up to date.

    Raises:
        Damaged: it is no SQLite database, is inconsistent, or was lost (see `lost`).
        CannotWrite: the folder cannot be written.
        TryLater: there is none yet and `create` is false.
    """
    path = os.path.join(state_dir, FILE)
    if not os.path.exists(path):
        if not create:
            raise TryLater(
                f"there is no ledger in {state_dir} yet",
                "Start the agent with `snapward run`, or build the ledger with `snapward reconcile`.",
            )
        if lost(state_dir):
            raise Damaged(f"the ledger {path} is gone", "It is rebuilt from the backup folders.")
        _make_folder(state_dir)
    made = os.path.exists(os.path.join(state_dir, MARK))
    with translated(path):
        db = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            # Before the journal is made, which takes its mode from the file.
            os.chmod(path, 0o600)
            if made and not _version(db):
                raise Damaged(f"the ledger {path} is empty", "It is rebuilt from the backup folders.")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            # The kernel holds the file's pages already; 2 MB of SQLite's own would only be resident twice.
            db.execute("PRAGMA cache_size=-256")
            fresh = not _version(db)
            _migrate(db)
            if fresh:
                pins.recall(db, state_dir)
        except OSError as error:
            db.close()
            raise CannotWrite(f"{path}: {error.strerror}", "Run as the agent's own user.") from error
        except BaseException:
            db.close()
            raise
    with contextlib.suppress(OSError), open(os.path.join(state_dir, MARK), "x", encoding="ascii"):
        pass
    return db


def _make_folder(path: str) -> None:
    try:
        os.makedirs(path, mode=0o750, exist_ok=True)
    except OSError as error:
        raise CannotWrite(
            f"state_dir {path} cannot be made: {error.strerror}", "Make it, owned by the agent's user."
        ) from error


def connect_reader(state_dir: str) -> sqlite3.Connection:
    """Open the ledger for reading only; never blocks the writer and never changes the file.

    Raises:
        TryLater: there is no ledger yet, or it was made by a newer snapward.
        Damaged: it cannot be read.
    """
    path = os.path.join(state_dir, FILE)
    if not os.path.exists(path):
        raise TryLater(
            f"there is no ledger in {state_dir} yet",
            "Is the agent running? `snapward run` starts it, `snapward reconcile` builds the ledger.",
        )
    with translated(path):
        db = sqlite3.connect(f"file:{_quoted(path)}?mode=ro", uri=True, timeout=10, isolation_level=None)
        try:
            version = _version(db)
        except BaseException:
            db.close()
            raise
    if version != len(MIGRATIONS):
        db.close()
        raise TryLater(
            f"the ledger {path} has schema {version}, this snapward reads {len(MIGRATIONS)}",
            "Restart the agent, so that both are of one version.",
        )
    return db


def check(db: sqlite3.Connection) -> None:
    """Look through the whole file.

    Raises:
        Damaged: SQLite finds it inconsistent; the message has its first complaint.
    """
    with translated():
        answer = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if answer != "ok":
        raise Damaged(f"the ledger is inconsistent: {answer}")


def lost(state_dir: str) -> bool:
    """Whether there was a ledger here that is gone now."""
    return os.path.exists(os.path.join(state_dir, MARK)) and not os.path.exists(os.path.join(state_dir, FILE))


def set_aside(state_dir: str, stamp: str) -> str | None:
    """Rename a ledger that cannot be used, with its journal, and return the new path (None: there was none)."""
    kept = None
    # The journal last: a ledger without it would look sound, and lack what was committed last.
    for suffix in ("", "-shm", "-wal"):
        old = os.path.join(state_dir, FILE + suffix)
        new = os.path.join(state_dir, f"{FILE}.damaged-{stamp}{suffix}")
        with contextlib.suppress(FileNotFoundError):
            os.replace(old, new)
            kept = kept or new
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(state_dir, MARK))
    return kept


def replaced(db: sqlite3.Connection, state_dir: str) -> bool:
    """Whether the file behind an open connection is no longer the one in `state_dir`."""
    try:
        now = os.stat(os.path.join(state_dir, FILE))
    except FileNotFoundError:
        return True
    on_disk = db.execute("PRAGMA database_list").fetchone()[2] != ""
    return on_disk and not any(_is_open_as(fd, now) for fd in os.listdir("/proc/self/fd"))


def _is_open_as(fd: str, file: os.stat_result) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(int(fd)), file)
    return False


@contextlib.contextmanager
def writing(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One transaction: all of it is on the disk when the block ends, or none of it."""
    with translated():
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise


@contextlib.contextmanager
def translated(path: str = "the ledger") -> Iterator[None]:
    """Turn SQLite's errors into ours, split by what the caller does about them."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise ours(error, path) from error


_KINDS: dict[int, tuple[type[AgentError], str]] = {
    sqlite3.SQLITE_CORRUPT: (Damaged, "It is set aside and rebuilt by `snapward reconcile`."),
    sqlite3.SQLITE_NOTADB: (Damaged, "It is set aside and rebuilt by `snapward reconcile`."),
    sqlite3.SQLITE_FULL: (CannotWrite, "Free space where state_dir lies."),
    sqlite3.SQLITE_IOERR: (CannotWrite, "Look at the disk: dmesg, smartctl."),
    sqlite3.SQLITE_READONLY: (CannotWrite, "Run as the agent's own user, and mount it for writing."),
    sqlite3.SQLITE_CANTOPEN: (CannotWrite, "Does the folder exist, and may the agent's user write there?"),
    sqlite3.SQLITE_PERM: (CannotWrite, "Run as the agent's own user."),
    sqlite3.SQLITE_BUSY: (TryLater, "Another snapward writes; try again."),
    sqlite3.SQLITE_LOCKED: (TryLater, "Another snapward writes; try again."),
}


def ours(error: sqlite3.DatabaseError, path: str = "the ledger") -> Exception:
    """SQLite's error as one of ours; a mistake in our own SQL stays what it is."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code not in _KINDS:
        return error
    kind, hint = _KINDS[code]
    return kind(f"{path}: {error}", hint)


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _migrate(db: sqlite3.Connection) -> None:
    version = _version(db)
    if version > len(MIGRATIONS):
        raise TryLater(
            f"the ledger has schema {version}, this snapward knows {len(MIGRATIONS)}",
            "It was made by a newer snapward: install that version again.",
        )
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        db.execute("BEGIN IMMEDIATE")
        try:
            if _version(db) < number:
                for statement in statements.split(";\n"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version={number}")
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def blank() -> sqlite3.Connection:
    """A ledger in memory, for the moment until a damaged one has been replaced."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    _migrate(db)
    return db
