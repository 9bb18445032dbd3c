"""The embedded Qdrant as an engine: one collection is one folder, and its archive is written by us."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from agent.adapters import edge, snapshot_tar
from agent.errors import TryLater
from agent.jobs.backup.engine import About, Halted, Piece, Surroundings
from agent.rules.manifest import Failure


class Embedded:
    """The collections of the embedded engine in one folder."""

    def __init__(self, path: str) -> None:
        self._path = path

    def collections(self) -> list[str]:
        """Names of all collections."""
        return edge.collections(self._path)

    def pieces(self, names: list[str]) -> tuple[list[Piece], list[Failure]]:
        """One archive a collection."""
        return [Piece(name) for name in names], []

    def sizes(self, names: list[str]) -> Mapping[str, int]:  # noqa: ARG002 - its protocol
        """Nothing is known before a collection was opened."""
        return {}

    def room(self, sizes: Mapping[str, int], parallel: int) -> None:
        """It is read where it lies, and needs no room."""

    @contextmanager
    def open(self, piece: Piece, halted: Halted) -> "Iterator[_Held]":  # noqa: ARG002 - its protocol
        """Hold a collection, so that nobody writes to it."""
        with edge.open_collection(self._path, piece.collection, snapshot_tar.plan) as source:
            yield _Held(source)

    def surroundings(self) -> Surroundings:
        """An embedded engine knows no aliases and no peers."""
        return Surroundings(engine={"kind": "edge", "version": edge.version()})

    def gaps(self, done: list[tuple[Piece, tuple[int, ...]]]) -> list[Failure]:  # noqa: ARG002 - its protocol
        """An archive holds all of its collection."""
        return []


class _Held:
    tries = 1

    def __init__(self, source: edge.Source) -> None:
        self._source = source
        self.size = source.plan.raw_size

    @contextmanager
    def stream(self) -> "Iterator[Pieces]":
        yield Pieces(self._source.plan.chunks())

    def confirm(self, size: int, sha256: str) -> None:  # noqa: ARG002 - its protocol
        if size != self.size:
            raise TryLater(f"{size:,} bytes came instead of {self.size:,}: it changed while it was read")

    def about(self) -> About:
        source, recorded = self._source, self._source.record
        return About(
            points_before=source.points,
            points_after=source.points,
            writes=0,
            shards=source.shards,
            config=source.config,
            payload_schema=source.payload_schema,
            probes=recorded.probes,
            probes_why=recorded.probes_why,
            content=recorded.content,
            content_why=recorded.content_why,
        )


class Pieces:
    """Pieces of bytes, one after the other, as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the buffer, or what there is of it; 0 at the end."""
        done = 0
        while done < len(buffer):
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._rest = memoryview(piece)
            part = self._rest[: len(buffer) - done]
            buffer[done : done + len(part)] = part
            self._rest = self._rest[len(part) :]
            done += len(part)
        return done
