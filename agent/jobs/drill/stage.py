"""Where a restore is rehearsed: what every such place can do, and the embedded engine as one."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from msgspec import Struct

from agent.adapters import edge
from agent.adapters.edge.rehearse import Limits, Questions, rehearse
from agent.adapters.unpack import Unpacker
from agent.jobs.drill import scratch
from agent.rules.manifest import CollectionEntry
from agent.rules.rehearsal import Expected, Seen
from agent.rules.subjects import Piece

# How much is unpacked before the disk is looked at again.
_LOOK_EVERY = 64 << 20


class Task(Struct, frozen=True, kw_only=True):
    """What is wanted of a rehearsal.

    Attributes:
        piece: the archive.
        path: where the copy lies that was read.
        entries: what the manifest says of the collection, where there is one.
        expected: what to compare with.
        whole: whether every point is read, or only a sample.
        draw: whether probes and points are drawn from the copy, since there are none to compare with.
        seconds: that it may take.
        stopping: whether nobody waits for it any more.
    """

    piece: Piece
    path: str
    entries: tuple[CollectionEntry, ...]
    expected: Expected
    whole: bool
    draw: bool
    seconds: float
    stopping: Callable[[], bool]


class Taken(Protocol):
    """One archive on its way to where it is looked at."""

    @property
    def raw_size(self) -> int:
        """Bytes of it that came by, unpacked."""

    def feed(self, data: memoryview, /) -> None:
        """Take the next bytes of the archive, inflated.

        Raises:
            CannotWrite, NoRights: there is no room for them, or none may be used.
        """

    def see(self, task: Task) -> tuple[Seen, str]:
        """What it shows, now that all of it came by; and why it could not be put together, else empty.

        Raises:
            AgentError: nothing can be told, for a reason that lies not in the archive.
        """


class Stage(Protocol):
    """A place where archives are restored and looked at."""

    @property
    def name(self) -> str:
        """What opens them, with its version."""

    def take(self, piece: Piece, *, alone: bool) -> AbstractContextManager[Taken]:
        """Make ready for one archive; what was made is gone when the block ends.

        Args:
            piece: the archive.
            alone: whether it is all of its collection.

        Raises:
            CannotWrite, NoRights: there is no room.
            Refused: such an archive cannot be looked at here.
        """


class Embedded:
    """The embedded engine, which opens what is unpacked into a scratch folder.

    Args:
        root: the scratch folder.
        memory: that the engine may take beside the files that it maps, bytes.

    Raises:
        AgentError: the engine is not installed.
    """

    def __init__(self, root: str, memory: int) -> None:
        self.name = edge.version()
        self._root = root
        self._memory = memory

    @contextmanager
    def take(self, piece: Piece, *, alone: bool) -> Iterator[Taken]:  # noqa: ARG002 - its protocol
        """A scratch folder for one archive."""
        scratch.need(self._root, piece.raw_size)
        with scratch.folder(self._root) as folder, Unpacker(folder) as unpacker:
            yield _Unpacked(self.name, folder, unpacker, self._memory)


class _Unpacked:
    def __init__(self, engine: str, folder: str, unpacker: Unpacker, memory: int) -> None:
        self._engine = engine
        self._folder = folder
        self._unpacker = unpacker
        self._memory = memory
        self.raw_size = 0

    def feed(self, data: memoryview, /) -> None:
        before, self.raw_size = self.raw_size, self.raw_size + len(data)
        if before // _LOOK_EVERY != self.raw_size // _LOOK_EVERY:
            scratch.need(self._folder, 0)  # something of the disk has to be left to others
        self._unpacker.feed(data)

    def see(self, task: Task) -> tuple[Seen, str]:
        self._unpacker.finish()
        shards = task.piece.shards or self._unpacker.shards
        lost = ", ".join(str(one) for one in shards if one not in self._unpacker.shards)
        broken = self._unpacker.broken or (f"shard {lost} is not in it" if lost else "")
        if broken:
            return Seen(engine=self._engine), broken
        expected = task.expected
        questions = Questions(
            probes=expected.probes,
            points=tuple(expected.content.points) if expected.content else (),
            whole=task.whole,
            draw=task.draw,
        )
        limits = Limits(memory=self._memory, seconds=task.seconds)
        return rehearse(self._folder, shards, questions, limits, task.stopping), ""
