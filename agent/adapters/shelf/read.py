"""Read archives back from the disk, from the first byte to the last."""

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import time
import zlib
from collections.abc import Callable, Iterator

from agent.adapters.shelf.look import kind, signature, signature_of
from agent.errors import AgentError
from agent.rules.archive import Reading, Signature, Stream
from agent.rules.words import size

_CHUNK = 1 << 20
_DROP_EVERY = 8 << 20
_MAGIC = b"\x1f\x8b"


class Moved(Exception):
    """The file is not the one that was seen: it changed, is still open for writing, or is gone."""


def read_small(path: str, limit: int = 16 << 20) -> tuple[bytes, Signature]:
    """Read a checksum file or a manifest whole.

    Raises:
        AgentError: it cannot be read, or is larger than `limit` bytes.
        Moved: it changed meanwhile.
    """
    with _opened(path) as (fd, before):
        if before.size > limit:
            raise AgentError(f"is {size(before.size)}, more than the {size(limit)} a checksum file may have")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(limit + 1)
        if signature_of(os.fstat(fd)) != before:
            raise Moved
    return data, before


def read(
    path: str,
    expected: Signature | None,
    *,
    stream: bool = True,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[Reading, Signature]:
    """Read an archive from its first byte to its last and hash it; inflate it too where `stream` is asked.

    What was read is dropped from the page cache behind the reader, so that the database keeps its own pages.
    Memory is constant whatever the file holds. `progress` is called with the bytes read since its last call.

    Raises:
        Moved: it is not the file `expected` describes, changed while it was read, or is open for writing.
    """
    began = time.perf_counter()
    try:
        with _opened(path) as (fd, before):
            if (expected is not None and before != expected) or _being_written(fd):
                raise Moved
            digest = hashlib.sha256()
            total, inflater = _read_through(fd, before.size, digest, progress, stream=stream)
            if signature_of(os.fstat(fd)) != before or signature(path) != before:
                raise Moved
    except (OSError, AgentError) as error:
        if isinstance(error, FileNotFoundError):
            raise Moved from error
        seen = signature(path)
        if seen is None:
            raise Moved from error
        why = error.message if isinstance(error, AgentError) else _words(error)
        return Reading(error=why, seconds=time.perf_counter() - began), seen
    if inflater is not None:
        inflater.finish()
    state, why = (inflater.state, inflater.why) if inflater is not None else (Stream.PLAIN, "")
    if not stream and total and inflater is None:
        state = Stream.NOT_READ
    return Reading(total, digest.hexdigest(), state, why, "", time.perf_counter() - began), before


def _read_through(
    fd: int, expected: int, digest: "hashlib._Hash", progress: Callable[[int], None], *, stream: bool
) -> "tuple[int, _Inflater | None]":
    buffer = memoryview(bytearray(min(_CHUNK, max(expected, 1) + 1)))
    large = expected > _DROP_EVERY
    if large:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    total = dropped = 0
    inflater: _Inflater | None = None
    while got := os.readv(fd, [buffer]):
        if total == 0 and stream and buffer[: min(got, 2)] == _MAGIC:
            inflater = _Inflater()
        digest.update(buffer[:got])
        if inflater is not None:
            inflater.feed(buffer[:got])
        total += got
        progress(got)
        if large and total - dropped >= _DROP_EVERY:
            os.posix_fadvise(fd, dropped, total - dropped, os.POSIX_FADV_DONTNEED)
            dropped = total
    if large:
        os.posix_fadvise(fd, dropped, 0, os.POSIX_FADV_DONTNEED)
    return total, inflater


class _Inflater:
    """Reads gzip members, one after the other, and forgets what they hold."""

    def __init__(self) -> None:
        self.state = Stream.ENDED_EARLY
        self.why = ""
        self._member: zlib._Decompress | None = zlib.decompressobj(31)
        self._inflated = 0
        self._head = b""

    def feed(self, data: memoryview | bytes) -> None:
        if self.state is Stream.DAMAGED:
            return
        try:
            self._feed(data)
        except zlib.error as error:
            self.state, self.why = Stream.DAMAGED, _zlib_words(error, self._inflated)

    def _feed(self, data: memoryview | bytes) -> None:
        while data:
            if self._member is None:
                data = self._next_member(bytes(data))
                continue
            self._inflated += len(self._member.decompress(data, _CHUNK))
            while self._member.unconsumed_tail:
                self._inflated += len(self._member.decompress(self._member.unconsumed_tail, _CHUNK))
            if not self._member.eof:
                return
            data, self._member = self._member.unused_data, None

    def _next_member(self, data: bytes) -> bytes:
        # What follows a member is another member, or zeros that fill up a tape's block.
        data = self._head + data
        self._head = b""
        rest = data.lstrip(b"\0")
        if not rest:
            return b""
        if len(rest) == 1 and rest == _MAGIC[:1]:
            self._head = rest
            return b""
        if rest[:2] != _MAGIC or len(rest) != len(data):
            self.state, self.why = Stream.DAMAGED, f"{len(rest):,} bytes that are no gzip follow the end"
            return b""
        self._member = zlib.decompressobj(31)
        return rest

    def finish(self) -> None:
        if self.state is Stream.DAMAGED:
            return
        if self._head:
            self.state, self.why = Stream.DAMAGED, "1 byte that is no gzip follows the end"
        elif self._member is None:
            self.state = Stream.COMPLETE
        else:
            self.why = f"no end after {size(self._inflated)} of content"


def _zlib_words(error: zlib.error, inflated: int) -> str:
    text = str(error).rpartition(": ")[2]
    return f"{text} after {size(inflated)} of content"


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[int, Signature]]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise AgentError(f"is {kind(found.st_mode)}, not a file")
        yield fd, signature_of(found)
    finally:
        os.close(fd)


def _being_written(fd: int) -> bool:
    """Whether some process has the file open for writing: a read lease is refused then.

    Where leases do not exist (network file systems) or are not ours to take, time alone must tell.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _words(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a symbolic link; links are not followed"
    return f"cannot be read: {error.strerror or error}"
