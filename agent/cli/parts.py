"""What several commands do alike: read the configuration, open the ledger, choose the engine."""

import contextlib
import os
import pwd
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from agent.adapters import ledger
from agent.errors import AgentError, NoRights, Refused
from agent.jobs.backup.engine import Engine
from agent.settings import Loaded, Settings, load

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


def engine(settings: Settings) -> Engine:
    """The engine that gives us its collections.

    Raises:
        Refused: this version has no such engine.
    """
    chosen = settings.engine
    if chosen.kind == "edge" and chosen.path is not None:
        from agent.adapters import edge, snapshot_tar  # noqa: PLC0415 - only a backup needs them

        path = chosen.path
        return Engine(
            "edge",
            edge.version,
            lambda: edge.collections(path),
            lambda name: edge.open_collection(path, name, snapshot_tar.plan),
        )
    raise Refused(
        f"this version of snapward takes no backups with engine.kind: {chosen.kind}",
        "Use `kind: command` with a program that makes them; what it writes is watched and proved all the same.",
    )


@contextlib.contextmanager
def finishing() -> Iterator[Callable[[], bool]]:
    """Let the first signal finish the step in hand, and a second one leave at once; yields whether to stop."""
    asked = False

    def stop(number: int, _frame: Any) -> None:
        nonlocal asked
        asked = True
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def agent_runs(settings: Settings) -> bool:
    """Whether an agent is at work with this state folder."""
    from agent.adapters import locks  # noqa: PLC0415 - few commands ask

    try:
        with locks.held(settings.state_dir, "agent"):
            return False
    except AgentError:
        return True


now = time.time
