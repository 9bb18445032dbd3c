"""Threads that hand things on to each other, and all stop when one of them fails; and what they hand on."""

import threading
from collections.abc import Callable, Iterator, Mapping
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_STARTING = 5.0  # seconds
# A CRC-32: of some bytes, going on from what came before them.
Checksum = Callable[[memoryview, int], int]


class Stopped(Exception):
    """Something else has failed, and what it was is raised where the flow was begun."""


class Flow:
    """Some threads, and the belts between them."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._broken = False
        self._failed: BaseException | None = None
        self._belts: list[Belt[Any]] = []

    def add(self, belt: "Belt[Any]") -> None:
        """Have a belt between two threads."""
        self._belts.append(belt)

    def check(self) -> None:
        """Go on only while nothing has failed.

        Raises:
            Stopped: something has.
        """
        if self._broken:
            raise Stopped

    def stop(self, error: BaseException) -> None:
        """Let nobody go on: who waits at a belt is woken up. Of several errors the first one counts."""
        with self._turn:
            if not self._broken:
                self._broken, self._failed = True, error
        for belt in self._belts:
            belt.end()

    def run(self, parts: Mapping[str, Callable[[], None]], main: Callable[[], None]) -> None:
        """Run `main` here and each part in a thread of its own; none is left when this ends, however it does.

        Raises:
            BaseException: whatever failed first, here or in a part.
        """
        threads = [_Part(self, name, part) for name, part in parts.items()]
        begun: list[_Part] = []
        try:
            for one in threads:
                begun.append(one)
                one.start()
            main()
            for one in begun:
                one.ended.wait()
        except BaseException as error:  # noqa: BLE001 - it is raised below, when the others have ended
            self.stop(error)
        for one in begun:
            one.finish()
        # What follows breaks circles that hold every buffer, so that they do not wait for the collector.
        while self._belts:
            self._belts.pop().clear()
        failed, self._failed = self._failed, None
        try:
            if failed is not None:
                raise failed
        finally:
            del failed


class _Part(threading.Thread):
    """A part of a flow in its thread.

    `join` alone will not do: interrupted, it takes a thread that still runs for one that has ended (gh-90882).
    """

    def __init__(self, flow: Flow, name: str, action: Callable[[], None]) -> None:
        super().__init__(name=name)
        self.ended = threading.Event()
        self._flow, self._action = flow, action

    def run(self) -> None:
        """Do it, and let its failure be everybody's."""
        try:
            self._action()
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that began the flow
            self._flow.stop(error)
        finally:
            self.ended.set()

    def finish(self) -> None:
        """Wait for its end. Where `start` was interrupted nobody knows whether there will be one: then not for ever."""
        self.ended.wait(None if self.ident else _STARTING)
        if self.ident:
            self.join()


class Belt(Generic[T]):
    """What one thread is handed by another, in order."""

    def __init__(self, flow: Flow) -> None:
        self._queue: SimpleQueue[T | None] = SimpleQueue()
        self._ended = False
        self._flow = flow
        flow.add(self)

    def put(self, thing: T) -> None:
        """Put something on the belt; this never waits."""
        self._queue.put(thing)

    def idle(self) -> bool:
        """Whether nothing lies on it."""
        return self._queue.empty()

    def end(self) -> None:
        """Say that nothing comes any more."""
        self._queue.put(None)

    def clear(self) -> None:
        """Let go of everything on it."""
        self._queue = SimpleQueue()

    def get(self) -> T:
        """Wait for the next thing.

        Raises:
            Stopped: nothing comes any more.
        """
        thing = self._queue.get()
        self._flow.check()
        if thing is None:
            raise Stopped
        return thing

    def __iter__(self) -> Iterator[T]:
        while not self._ended:
            thing = self._queue.get()
            self._flow.check()
            if thing is None:
                self._ended = True
            else:
                yield thing


class Block:
    """A stretch of the archive and its CRC-32; several threads read it, then it is filled again."""

    def __init__(self, memory: memoryview, home: Belt["Block"]) -> None:
        self.crc = 0
        self._memory, self._home = memory, home
        self._filled = self._readers = 0
        self._turn = threading.Lock()

    @property
    def content(self) -> memoryview:
        """What it holds."""
        return self._memory[: self._filled]

    @property
    def full(self) -> bool:
        """Whether nothing more goes in."""
        return self._filled == len(self._memory)

    def fill(self, data: memoryview) -> int:
        """Take as much of the data as there is room for, and tell how much."""
        taken = min(len(data), len(self._memory) - self._filled)
        self._memory[self._filled : self._filled + taken] = data[:taken]
        self._filled += taken
        return taken

    def lend(self, belts: list[Belt["Block"]], crc: int) -> None:
        """Put it on all of these belts."""
        self.crc, self._readers = crc, len(belts)
        for belt in belts:
            belt.put(self)

    def give_back(self) -> None:
        """Say that one reader has done with it."""
        with self._turn:
            self._readers -= 1
            last = not self._readers
        if last:
            self._filled = 0
            self._home.put(self)


class Blocks:
    """The archive, cut into blocks for the threads behind these belts."""

    def __init__(self, flow: Flow, memories: list[memoryview], crc32: Checksum, belts: list[Belt[Block]]) -> None:
        self._crc32 = crc32
        self._belts = belts
        self._empty = Belt[Block](flow)
        for memory in memories:
            self._empty.put(Block(memory, self._empty))
        self._filling: Block | None = None

    def add(self, data: bytes) -> None:
        """Take what comes next in the archive."""
        rest = memoryview(data)
        while rest:
            self._filling = self._filling or self._empty.get()
            rest = rest[self._filling.fill(rest) :]
            if self._filling.full:
                self._lend(self._filling)

    def end(self) -> None:
        """Say that this was all of it."""
        if self._filling:
            self._lend(self._filling)
        for belt in self._belts:
            belt.end()

    def _lend(self, block: Block) -> None:
        self._filling = None
        block.lend(self._belts, self._crc32(block.content, 0))
