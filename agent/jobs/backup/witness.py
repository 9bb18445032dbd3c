"""What a collection is asked before its snapshot is made, and again once that was read.

A snapshot holds the collection as it was at some moment in between. What is the same at both ends is in it, and a
restored copy has to show it.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from agent.adapters.qdrant import content, probes
from agent.adapters.qdrant.content import Drawn
from agent.adapters.qdrant.operations import Numbers, Operations, writes
from agent.adapters.qdrant.probes import Asked
from agent.adapters.qdrant.server import Server
from agent.errors import AgentError
from agent.rules.manifest import Content, Probe

_COUNTING = 300.0
# Seconds that probes and points together may take, at either end.
_PROBING = 30.0
# Seconds after a snapshot in which an update that is in its log, and that the server was at, is carried out.
_LULL = 1.0
# Seconds that queued updates are waited for, and between two looks at the queue.
_QUEUED, _LOOK = 10.0, 0.2


class Before(Struct, frozen=True, kw_only=True):
    """How a collection was before its snapshot; `numbers` are of its last operations, before the rest was asked."""

    params: Mapping[str, Any] = {}
    points: int | None = None
    asked: Asked = Asked()
    drawn: Drawn | None = None
    numbers: Numbers = {}
    alone: bool = True
    why: str = ""


class Look:
    """The look at a collection before any of its archives is made; the same for all of them.

    In a cluster it has one archive a peer. What is the same at the end of each never changed while they were made.
    """

    def __init__(self, archives: int) -> None:
        self._left = archives
        self._turn = threading.Lock()
        self._was: Before | None = None

    def once(self, look: Callable[[], Before]) -> Before:
        """What the first one saw who looked."""
        with self._turn:
            self._left -= 1
            was = self._was or look()
            self._was = was if self._left else None  # it may be large
            return was


class After(Struct, frozen=True, kw_only=True):
    """What was the same afterwards, and how many points there were then; see `CollectionEntry` of the manifest."""

    points: int | None = None
    writes: int | None = None
    probes: tuple[Probe, ...] = ()
    probes_why: str = ""
    content: Content | None = None
    content_why: str = ""


def before(
    server: Server, name: str, params: Mapping[str, Any], operations: Operations, room: int, *, alone: bool
) -> Before:
    """Count, ask and read.

    Args:
        server: that holds the collection.
        name: of the collection.
        params: `config.params` of its info.
        operations: of this server.
        room: bytes that probes and points may take in the manifest.
        alone: whether no other peer has a part in it.
    """
    numbers = operations.before(name, server.wire.halted)
    points, why = _counted(server, name)
    if points is None:
        return Before(numbers=numbers, why=why)
    until = time.monotonic() + _PROBING
    asked = probes.ask(server, name, params, points, _PROBING, room)
    drawn = content.draw(server, name, params, points, until, room - asked.size, alone=alone)
    return Before(params=params, points=points, asked=asked, drawn=drawn, numbers=numbers, alone=alone)


def after(server: Server, name: str, was: Before, operations: Operations, made: float) -> After:
    """Count again, and keep of the rest what nobody has changed; the snapshot was there at `made` (monotonic)."""
    quiet, points, why, written = _look(server, name, was, operations)
    if written or not quiet or points != was.points:
        server.wire.rest(made + _LULL - time.monotonic())
        quiet, points, why, written = _look(server, name, was, operations)
    counts = After(points=points, writes=written, probes_why=was.why, content_why=was.why)
    if was.drawn is None:
        return counts
    if not quiet:
        busy = "the server had not carried out all that it had been told to write"
        return replace(counts, probes_why=busy, content_why=busy)
    if written == 0:
        kept, fewer, held, less = was.asked.probes, was.asked.why, content.unchanged(was.drawn), was.drawn.why
    else:
        kept, fewer, held, less = _again(server, name, was, was.drawn)
        if written is None and held is not None and held.changed:
            server.wire.rest(made + _LULL - time.monotonic())
            kept, fewer, held, less = _again(server, name, was, was.drawn)
    return replace(counts, probes=kept, probes_why=fewer or why, content=held, content_why=less)


def _again(server: Server, name: str, was: Before, drawn: Drawn) -> tuple[tuple[Probe, ...], str, Content | None, str]:
    until = time.monotonic() + _PROBING
    kept = probes.again(server, name, was.asked, until, alone=was.alone)
    return *kept, *content.again(server, name, was.params, drawn, until)


def _look(server: Server, name: str, was: Before, operations: Operations) -> tuple[bool, int | None, str, int | None]:
    """Whether no update waits any more, the exact count or why it is not known, and how many operations there were."""
    quiet = _drained(server, name)
    points, why = _counted(server, name)
    return quiet, points, why, writes(was.numbers, operations.now(name, server.wire.halted))


def _drained(server: Server, name: str) -> bool:
    until = time.monotonic() + _QUEUED
    try:
        while server.pending(name):
            if time.monotonic() > until:
                return False
            server.wire.rest(_LOOK)
    except AgentError:
        server.wire.check()
        return False
    return True


def _counted(server: Server, name: str) -> tuple[int | None, str]:
    """The exact number of points, or why it is not known."""
    try:
        return server.count(name, _COUNTING), ""
    except AgentError as error:
        server.wire.check()
        return None, f"the points could not be counted: {error.message}"
