"""What several commands do alike: read the configuration, open the ledger, choose the engine."""

import contextlib
import os
import pwd
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator

import click
from msgspec.structs import replace

from agent.adapters import ledger, signals
from agent.cli import text
from agent.errors import AgentError, NoRights, Refused
from agent.jobs.backup.book import Book
from agent.jobs.backup.engine import Engine
from agent.settings import Loaded, Settings, load
from agent.settings.parts import addresses, seal_keys

# Seconds for which a server that is only looked at is asked again: a person may be waiting.
PATIENCE = 1.0
# Seconds within which signals are one and the same: sudo and terminals send one twice.
_ONE = 0.5
JSON = click.option("--json", "json_", is_flag=True, help="Answer in JSON, one object.")


def configuration(ctx: click.Context, *, thorough: bool = False) -> Loaded:
    """The configuration this command was given."""
    return load(ctx.obj["config"], thorough=thorough)


@contextlib.contextmanager
def reader(settings: Settings) -> Iterator[sqlite3.Connection]:
    """The ledger for reading."""
    db = ledger.connect_reader(settings.state_dir)
    try:
        with ledger.translated():
            yield db
    finally:
        db.close()


@contextlib.contextmanager
def writer(settings: Settings, *, create: bool = False) -> Iterator[sqlite3.Connection]:
    """The ledger for writing."""
    own(settings)
    db = ledger.connect(settings.state_dir, create=create)
    try:
        with ledger.translated():
            yield db
    finally:
        db.close()


def own(settings: Settings) -> None:
    """See that root leaves no file behind that the agent's own user cannot write.

    Raises:
        NoRights: state_dir belongs to somebody else.
    """
    try:
        owner = os.stat(settings.state_dir).st_uid
    except OSError:
        return
    if os.geteuid() == 0 and owner != 0:
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        raise NoRights(
            f"{settings.state_dir} belongs to {name}: what root writes there, {name} could not change",
            f"Run it as that user: sudo -u '{name}' snapward …",
        )


def engine(settings: Settings, include: tuple[str, ...] = ("*",)) -> Engine:
    """The engine that gives us its collections; `include` are the patterns of those that are wanted.

    Raises:
        BadConfig: the key's reference leads nowhere.
        Refused: this kind of engine makes its backups itself.
    """
    chosen = settings.engine
    if chosen.kind == "edge" and chosen.path is not None:
        from agent.jobs.backup.embedded import Embedded  # noqa: PLC0415 - only a backup needs it

        return Embedded(chosen.path)
    if chosen.kind == "qdrant":
        from agent.jobs.backup.journal import Journal  # noqa: PLC0415 - HTTP is dear to load
        from agent.jobs.backup.remote import Remote  # noqa: PLC0415

        folders = [path for path in (chosen.snapshots_path, chosen.temp_path) if path]
        return Remote(addresses(settings), Journal(settings.state_dir), chosen.deadline, folders, include, text.note)
    raise Refused(f"engine.kind: {chosen.kind} has no collections of its own", "Its program makes the backups.")


def tidying(settings: Settings) -> Callable[[], list[str]]:
    """What deletes the snapshots that our backups left on the server, and says what it did."""
    if settings.engine.kind != "qdrant":
        return list
    from agent.jobs.backup import leftovers  # noqa: PLC0415 - HTTP is dear to load
    from agent.jobs.backup.journal import Journal  # noqa: PLC0415

    servers = [replace(one, patience=PATIENCE) for one in addresses(settings)]
    return lambda: leftovers.clear(servers, Journal(settings.state_dir))


@contextlib.contextmanager
def finishing() -> Iterator[Callable[[], bool]]:
    """Let the first signal finish the step in hand, and a second one leave at once; yields whether to stop."""
    asked = threading.Event()
    first = 0.0

    def hear(_number: signal.Signals) -> None:
        nonlocal first
        if not asked.is_set():
            first = time.monotonic()
        elif time.monotonic() - first > _ONE:
            os._exit(128 + signal.SIGINT)
        asked.set()

    end = signals.listen((signal.SIGINT, signal.SIGTERM), hear)
    try:
        yield asked.is_set
    finally:
        end()


def who(*, scheduled: bool) -> str:
    """Whose doing this is, for the audit trail: the schedule's, or the name of the user who asked for it."""
    if scheduled:
        return "schedule"
    user = os.geteuid()
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:
        name = f"#{user}"
    asked = os.environ.get("SUDO_USER", "")
    return f"{asked} as {name}" if asked and asked != name else name


def book(db: sqlite3.Connection, settings: Settings, why: str, who: str) -> Book:
    """Where a backup is written down; its manifest is signed if there is a key.

    Raises:
        BadConfig: the key's reference leads nowhere, or it is too short.
    """
    keys = seal_keys(settings)
    return Book(db, who, why, keys[0] if keys else b"")


def agent_runs(settings: Settings) -> bool:
    """Whether an agent is at work with this state folder."""
    from agent.adapters import locks  # noqa: PLC0415 - few commands ask

    try:
        with locks.held(settings.state_dir, "agent"):
            return False
    except AgentError:
        return True


now = time.time
