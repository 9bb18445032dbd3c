"""Unpack a collection snapshot while it streams by, in one pass, with the segments' own tars opened on the way."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Self

from agent.errors import CannotWrite
from agent.rules.entries import Entries, Entry, Sink
from agent.rules.outline import ROOT_FILES
from agent.rules.words import printable

_GRAIN = 32 << 10
_ZEROS = bytes(_GRAIN)
_SHARD = re.compile(r"([0-9]{1,9})/(.+)", re.DOTALL)
_TAR = re.compile(r"segments/([^/]+)\.tar")
_STREAMED = re.compile(r"(segments/[^/]+)/files/(.+)", re.DOTALL)
# Of a shard that has a snapshot of its own there is no folder with its number.
_OWN = re.compile(r"(?:segments|wal)/.+|.+\.json", re.DOTALL)
_NOTES = 20
# What a file system says of a name or a size that cannot be, and of a file where a folder should be.
_IMPOSSIBLE = frozenset({errno.ENAMETOOLONG, errno.EFBIG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EILSEQ})


class Unpacker:
    """Writes what an archive holds below a folder, each shard in a folder of its number, as the engine wants it.

    Holes stay holes, and long runs of zeros become some.

    Attributes:
        broken: why it cannot go on, once it cannot; what is fed then is ignored.
        notes: what was left out, in words.
        size: apparent bytes of all files.
        stored: bytes written; the rest are holes.
    """

    def __init__(self, folder: str) -> None:
        self.broken = ""
        self.notes: list[str] = []
        self.size = self.stored = 0
        self._folder = folder
        self._made: set[str] = set()
        self._shards: set[int] = set()
        self._entries = Entries(self._outer)
        self._file: _File | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    @property
    def shards(self) -> tuple[int, ...]:
        """Numbers of those whose data are there, ascending."""
        return tuple(sorted(self._shards))

    def feed(self, piece: memoryview | bytes) -> None:
        """Take the next bytes of the archive, inflated; nothing is raised for what they are.

        Raises:
            CannotWrite: the folder is full, read-only or not there.
        """
        if not self.broken:
            self._entries.feed(piece)
            self.broken = self.broken or self._entries.broken

    def finish(self) -> None:
        """There are no more bytes: close what is open, and say in `broken` if the archive ends early."""
        if self._file:
            self._file.close()
            self._file = None
        if not (self.broken or self._entries.ended):
            inside = self._entries.inside
            self.broken = f"ends early{' in ' if inside else ''}{inside}, without an end marker"

    def _outer(self, entry: Entry) -> Sink | None:
        name = entry.name.removeprefix("./").rstrip("/")
        known = _SHARD.fullmatch(name)
        shard, rest = (int(known[1]), known[2]) if known else (0, name)
        if not known and name in ROOT_FILES:
            return self._sink(entry, name)
        if not known and not _OWN.fullmatch(name):
            if entry.kind != "5":
                self._note(f"{printable(name)[:200]} is not known, and was left out")
            return None
        if rest.startswith(("segments/", "wal/")):
            self._shards.add(shard)
        if entry.kind == "0" and (tar := _TAR.fullmatch(rest)):
            return self._segment(name, f"{shard}/segments/{tar[1]}", entry.size)
        streamed = _STREAMED.fullmatch(rest)
        return self._sink(entry, f"{shard}/" + (f"{streamed[1]}/{streamed[2]}" if streamed else rest))

    def _segment(self, name: str, folder: str, length: int) -> Sink:
        def inner(entry: Entry) -> Sink | None:
            rest = entry.name.removeprefix("./").rstrip("/").removeprefix("snapshot/").removeprefix("files/")
            return self._sink(entry, f"{folder}/{rest}") if rest else None

        return _Nested(Entries(inner), length, lambda why: self._break(f"{printable(name)[:200]} {why}"))

    def _sink(self, entry: Entry, place: str) -> Sink | None:
        if self.broken:
            return None
        if entry.kind not in "05":
            if entry.kind not in "Kxg":
                self._note(f"{printable(place)[:200]} is neither file nor folder, and was left out")
            return None
        if entry.name.startswith("/") or not {"", ".", ".."}.isdisjoint(place.split("/")) or "\0" in place:
            self._note(f"{printable(entry.name)[:200]} leads elsewhere, and was left out")
            return None
        path = os.path.join(self._folder, place)
        with self._told(path):
            self._make(path if entry.kind == "5" else os.path.dirname(path))
            if entry.kind == "0":
                self.size += entry.size
                self._file = _File(path, entry.size, self._written)
                return self._file
        return None

    def _make(self, folder: str) -> None:
        if folder not in self._made:
            os.makedirs(folder, 0o700, exist_ok=True)
            self._made.add(folder)

    def _written(self, length: int) -> None:
        self.stored += length

    def _note(self, what: str) -> None:
        if what not in self.notes and len(self.notes) < _NOTES:
            self.notes.append(what)

    def _break(self, why: str) -> None:
        self.broken = self.broken or why

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _IMPOSSIBLE:
                raise _full(path, error) from error
            self._break(f"{printable(os.path.relpath(path, self._folder))[:200]} cannot be a file: {error.strerror}")


class _Nested:
    """Feeds the tar of a segment to a reader of its own."""

    def __init__(self, tar: Entries, length: int, broken: Callable[[str], None]) -> None:
        self._tar, self._length, self._broken = tar, length, broken
        self._at = 0

    def data(self, at: int, piece: memoryview) -> None:
        self._tar.hole(at - self._at)
        self._tar.feed(piece)
        self._at = at + len(piece)
        if self._tar.broken:
            self._broken(self._tar.broken)

    def end(self) -> None:
        self._tar.hole(self._length - self._at)
        if not self._tar.clean:
            self._broken(self._tar.broken or f"ends early in {self._tar.inside or 'a header'}")


class _File:
    """A new file that is written where it is not zeros."""

    def __init__(self, path: str, length: int, written: Callable[[int], None]) -> None:
        self._path, self._written = path, written
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(self._fd, length)
        except OSError:
            os.close(self._fd)
            raise

    def data(self, at: int, piece: memoryview) -> None:
        for start, end in _solid(at, piece):
            self._write(at + start, piece[start:end])

    def end(self) -> None:
        self.close()

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _write(self, at: int, piece: memoryview) -> None:
        self._written(len(piece))
        while piece:
            try:
                done = os.pwrite(self._fd, piece, at)
            except OSError as error:
                raise _full(self._path, error) from error
            at, piece = at + done, piece[done:]


def _solid(at: int, piece: memoryview) -> Iterator[tuple[int, int]]:
    """Where in `piece`, which belongs at the offset `at`, there is more than zeros, in grains of the file."""
    begin = None
    for start, end in pairwise([0, *range(-at % _GRAIN or _GRAIN, len(piece), _GRAIN), len(piece)]):
        if _ZEROS.startswith(piece[start:end]):
            if begin is not None:
                yield begin, start
            begin = None
        elif begin is None:
            begin = start
    if begin is not None:
        yield begin, len(piece)


def _full(path: str, error: OSError) -> CannotWrite:
    return CannotWrite(
        f"{path} cannot be written: {error.strerror}", "The folder for drills needs about the size of the archive."
    )
