"""What an archive holds, as a stream to be read from; a thread of its own reads and inflates ahead.

By ISA-L where it is, which takes some damaged streams for whole: so what comes out is compared by its SHA-256.
"""

import gzip
import hashlib
import importlib
import io
import os
import queue
import threading
import zlib
from types import TracebackType
from typing import Any, Protocol, Self

from agent.adapters.shelf import streams
from agent.adapters.shelf.look import signature_of
from agent.errors import Damaged
from agent.rules.archive import Signature
from agent.rules.words import count

_PIECE = 1 << 20
# Pieces of memory that the two threads hand to each other.
_PIECES = 6
# Seconds after which the thread that inflates looks whether anybody wants it to go on.
_LOOK = 0.2


class Inflated:
    """The content of an archive, once, from its first byte to its last; memory is constant.

    It ends only if it is what was promised.

    Args:
        path: of the archive.
        expected: what the file looked like when it was proved; None takes it as it is.
        size: of the content in bytes.
        sha256: of the content, hexadecimal.
    """

    def __init__(self, path: str, expected: Signature | None, size: int, sha256: str) -> None:
        self._path, self._expected = path, expected
        self._size, self._sha256 = size, sha256
        self._empty: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[tuple[memoryview, int]] = queue.SimpleQueue()
        for _ in range(_PIECES):
            self._empty.put(memoryview(bytearray(_PIECE)))
        self._unwanted = threading.Event()
        self._thread = threading.Thread(target=self._inflate, name="inflate")
        self._why = ""
        self._failed: BaseException | None = None
        self._piece: memoryview | None = None
        self._rest = memoryview(b"")
        self._taken = 0
        self._digest = hashlib.sha256()
        self._ended = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._unwanted.set()
        self._thread.join()

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the beginning of the buffer; 0 at the end.

        Raises:
            Damaged: it is not what was promised: it was changed since it was proved, or cannot be read any more.
        """
        if not self._rest and not self._ended:
            self._next()
        got = min(len(buffer), len(self._rest))
        buffer[:got] = self._rest[:got]
        self._digest.update(self._rest[:got])
        self._rest = self._rest[got:]
        self._taken += got
        return got

    def _next(self) -> None:
        """Give the last piece back, and take the next one."""
        if self._piece is not None:
            self._empty.put(self._piece)
        self._piece, filled = self._full.get()
        self._rest = self._piece[:filled]
        if filled:
            return
        self._ended = True
        if self._failed is not None:
            raise self._failed
        if why := self._why or self._wrong():
            raise Damaged(f"{self._path} {why}", "Nothing was restored from it. `snapward verify` proves it anew.")

    def _wrong(self) -> str:
        """Why what came is not what was promised; empty if it is."""
        if self._taken != self._size:
            return f"has {count(self._taken, 'byte')}, unpacked, of the {self._size:,} that were promised"
        if (found := self._digest.hexdigest()) != self._sha256:
            return f"has SHA-256 {found[:16]}…, unpacked, and {self._sha256[:16]}… was promised"
        return ""

    def _inflate(self) -> None:
        """Fill one piece after the other; an empty one is the end, and why there is one may be left behind."""
        try:
            self._why = self._through()
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that reads what was inflated
            self._failed = error
        self._full.put((memoryview(b""), 0))

    def _through(self) -> str:
        """Read and inflate all of it, while anybody wants it; returns why that was not possible."""
        try:
            with open(self._path, "rb", buffering=0, opener=_only_files) as file:
                if self._expected is not None and signature_of(os.fstat(file.fileno())) != self._expected:
                    return "is not the file any more that was proved"
                content, errors = _content(file, self._path)
                try:
                    self._pour(content)
                except errors as error:
                    return f"cannot be read to its end: {error}"
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # the database keeps its own pages
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        return ""

    def _pour(self, content: "_Content") -> None:
        while not self._unwanted.is_set():
            try:
                piece = self._empty.get(timeout=_LOOK)
            except queue.Empty:
                continue
            got = content.readinto(piece)
            if not got:
                return
            self._full.put((piece, got))


class _Content(Protocol):
    """What can be read from."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the beginning of the buffer; 0 at the end."""


def _only_files(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _content(file: io.FileIO, name: str) -> tuple[_Content, tuple[type[Exception], ...]]:
    """What a file holds, decompressed, and what may be raised where it is damaged."""
    kind = streams.reader(name, os.pread(file.fileno(), streams.HEAD, 0), lambda _: None)
    if isinstance(kind, streams.Unread):
        raise OSError(kind.finish()[1])
    if isinstance(kind, streams.Zstd):
        zstd = _installed("compression.zstd") or _installed("backports.zstd")
        return zstd.ZstdFile(file), (zstd.ZstdError, EOFError)
    if not isinstance(kind, streams.Gzip):
        return file, ()
    damage = (gzip.BadGzipFile, zlib.error, EOFError)
    isal = _installed("isal.igzip")  # it exists for the common machines only
    if isal is None:
        return gzip.GzipFile(fileobj=file), damage
    return isal.IGzipFile(fileobj=file), (*damage, isal.igzip_lib.error)


def _installed(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None
