"""Write the pieces of a backup: each one stream, once through everything, into every location."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from msgspec import structs

from agent.adapters import press
from agent.adapters.press import Squeeze
from agent.adapters.shelf import write
from agent.errors import AgentError, TryLater
from agent.jobs.backup.engine import About, Engine, Halted, Order, Piece, Progress, Source, Stream
from agent.jobs.backup.places import Places
from agent.jobs.backup.pour import Written, pour
from agent.rules import retry
from agent.rules.manifest import CollectionEntry, Failure
from agent.rules.names import archive_name
from agent.rules.words import size

# Buffers of a piece that is alone, and of one among several: memory is bounded, whatever their number.
_ALONE, _AMONG = 1 << 20, 256 << 10


class Writing:
    """Writes the pieces of one backup, several at a time.

    Args:
        engine: where they come from.
        places: where they go to.
        order: how.
        halted: why it has to end now.
        progress: hears how it gets on.
        alone: whether only one is ever written at a time, which then has more memory.
    """

    def __init__(
        self, engine: Engine, places: Places, order: Order, halted: Halted, progress: Progress, *, alone: bool
    ) -> None:
        self._engine = engine
        self._places = places
        self._order = order
        self._halted = halted
        self._progress = progress
        self._buffer = _ALONE if alone else _AMONG

    def all(self, pieces: list[Piece]) -> tuple[list[CollectionEntry], list[Failure]]:
        """Write them; what fails does not keep the others from being written."""
        entries: list[CollectionEntry] = []
        failures: list[Failure] = []
        turn = threading.Lock()

        def one(piece: Piece) -> None:
            try:
                if why := self._halted():
                    raise TryLater(f"its turn did not come: {why}")
                entry = self._piece(piece)
                with turn:
                    entries.append(entry)
            except AgentError as error:
                self._places.left()  # without a place to write to there is no backup at all
                with turn:
                    failures.append(Failure(name=piece.label, why=error.message))

        with ThreadPoolExecutor(self._order.parallel, thread_name_prefix="collection") as pool:
            for done in [pool.submit(one, piece) for piece in pieces]:
                done.result()
        return sorted(entries, key=lambda entry: entry.file), sorted(failures, key=lambda failure: failure.name)

    def _piece(self, piece: Piece) -> CollectionEntry:
        began = time.monotonic()
        squeeze = self._order.squeeze_of(piece.collection)
        file = archive_name(piece.collection, piece.peer, press.suffix(squeeze.format))
        with self._engine.open(piece, self._halted) as source:
            written = self._written(source, piece, file, squeeze)
            try:
                return _entry(piece, file, written, squeeze, source.about(), time.monotonic() - began)
            except AgentError:
                self._places.each(lambda folder: _remove(os.path.join(folder, file)))  # else nothing would list it
                raise

    def _written(self, source: Source, piece: Piece, file: str, squeeze: Squeeze) -> Written:
        """One archive in every location; where its stream breaks for a reason that passes, begun anew."""
        for attempt in range(source.tries):
            try:
                with source.stream() as stream:
                    paced = _Paced(stream, piece, source.size, self._halted, self._progress)
                    return pour(
                        paced,
                        self._places,
                        file,
                        squeeze,
                        self._order.permissions,
                        confirm=source.confirm,
                        piece=self._buffer,
                    )
            except TryLater:
                if attempt == source.tries - 1 or self._halted():
                    raise
                time.sleep(retry.pause(attempt))
        raise AssertionError("the last attempt raises")


class _Paced:
    """A stream that ends when there is no more time for it, and that tells how far it has come."""

    def __init__(self, stream: Stream, piece: Piece, total: int, halted: Halted, progress: Progress) -> None:
        self._stream = stream
        self._label = piece.label
        self._total = total
        self._halted = halted
        self._progress = progress
        self._done = 0

    def readinto(self, buffer: memoryview, /) -> int:
        if why := self._halted():
            raise TryLater(f"broken off after {size(self._done)} of {size(self._total)}: {why}")
        got = self._stream.readinto(buffer)
        self._done += got
        self._progress(self._label, self._done, self._total)
        return got


def _remove(path: str) -> None:
    with write.explained(path):
        os.unlink(path)


def _entry(
    piece: Piece, file: str, written: Written, squeeze: Squeeze, about: About, seconds: float
) -> CollectionEntry:
    known = {**structs.asdict(about), "shards": list(about.shards), "shard_keys": list(about.shard_keys)}
    return CollectionEntry(
        name=piece.collection,
        peer=piece.peer,
        file=file,
        size=written.size,
        sha256=written.sha256,
        raw_size=written.raw_size,
        raw_sha256=written.raw_sha256,
        compression=told(squeeze),
        seconds=round(seconds, 3),
        **{**known, "probes": list(about.probes)},
    )


def told(squeeze: Squeeze) -> dict[str, str | int]:
    """What the manifest says of a compression."""
    return {"format": squeeze.format, "level": squeeze.level, "library": press.library(squeeze)}
