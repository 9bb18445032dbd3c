"""Read archives back from the disk, from the first byte to the last."""

import contextlib
import errno
import fcntl
import hashlib
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator

from agent.adapters.shelf import streams
from agent.adapters.shelf.look import kind, signature, signature_of
from agent.errors import AgentError
from agent.rules.archive import Form, Reading, Signature, Stream
from agent.rules.tarball import Walk
from agent.rules.words import size

_CHUNK = 1 << 20
_DROP_EVERY = 8 << 20


class Moved(Exception):
    """The file is not the one that was seen: it changed, is still open for writing, or is gone."""


def read_small(path: str, limit: int = 16 << 20) -> tuple[bytes, Signature]:
    """Read a checksum file or a manifest whole.

    Raises:
        AgentError: it is no file, or is larger than `limit` bytes.
        OSError: it cannot be read.
        Moved: it changed meanwhile, or is open for writing: `sha256sum * > SHA256SUMS` is for as long as it hashes.
    """
    with _opened(path) as (fd, before):
        if _being_written(fd):
            raise Moved
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
    content: streams.Content | None = None,
    keep: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[Reading, Signature]:
    """Read an archive from its first byte to its last and hash it; look through what is in it where `stream` is asked.

    What was read is dropped from the page cache behind the reader, so that the database keeps its own pages, unless it
    is to be kept there for who reads it again at once. Memory is constant whatever the file holds. `content` is given
    all that the archive holds, decompressed and in order, in pieces that it may not keep; what it raises is raised.
    `progress` is called with the bytes read since its last call.

    Raises:
        Moved: it is not the file `expected` describes, changed while it was read, or is open for writing.
    """
    began = time.perf_counter()
    inside = _Inside(path, content) if stream or content is not None else None
    try:
        with _opened(path) as (fd, before):
            if (expected is not None and before != expected) or _being_written(fd):
                raise Moved
            digest = hashlib.sha256()
            total = _read_through(fd, before.size, digest, progress, inside, drop=not keep)
            if signature_of(os.fstat(fd)) != before or signature(path) != before:
                raise Moved
    except (OSError, AgentError) as error:
        if inside is not None and error is inside.raised:
            raise
        if isinstance(error, FileNotFoundError):
            raise Moved from error
        seen = signature(path)
        if seen is None:
            raise Moved from error
        why = error.message if isinstance(error, AgentError) else _words(error)
        return Reading(error=why, seconds=time.perf_counter() - began), seen
    state, why = inside.finish() if inside is not None else (Stream.NOT_READ if total else Stream.PLAIN, "")
    form, form_why = inside.form(state) if inside is not None else (Form.NOT_READ, "")
    return Reading(total, digest.hexdigest(), state, why, "", time.perf_counter() - began, form, form_why), before


class _Inside:
    """What an archive holds: it is decompressed, looked through, and handed on.

    Attributes:
        raised: what those raised to whom it was handed on.
    """

    def __init__(self, name: str, content: streams.Content | None) -> None:
        self.raised: BaseException | None = None
        self._name = name
        self._content = content
        self._walk = Walk()
        self._stream: streams.Reader | None = None

    def feed(self, data: memoryview) -> None:
        """Take the next bytes of the file."""
        if self._stream is None:
            self._stream = streams.reader(self._name, bytes(data[: streams.HEAD]), self._take)
        self._stream.feed(data)

    def finish(self) -> tuple[Stream, str]:
        """Tell what the stream was, and the decompressor's word where it was not complete."""
        return self._stream.finish() if self._stream is not None else (Stream.PLAIN, "")

    def form(self, state: Stream) -> tuple[Form, str]:
        """Tell what was in it; of a stream without its end nothing is told."""
        if self._stream is None or state not in {Stream.PLAIN, Stream.COMPLETE}:
            return Form.NOT_READ, ""
        outline = self._walk.finish()
        return outline.form, outline.words

    def _take(self, piece: memoryview) -> None:
        self._walk.feed(piece)
        if self._content is not None:
            try:
                self._content(piece)
            except BaseException as error:
                self.raised = error
                raise


def _read_through(
    fd: int,
    expected: int,
    digest: "hashlib._Hash",
    progress: Callable[[int], None],
    inside: _Inside | None,
    *,
    drop: bool,
) -> int:
    buffer = memoryview(bytearray(min(_CHUNK, max(expected, 1) + 1)))
    large = expected > _DROP_EVERY
    if large:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    total = dropped = 0
    while got := os.readv(fd, [buffer]):
        digest.update(buffer[:got])
        if inside is not None:
            inside.feed(buffer[:got])
        total += got
        progress(got)
        if total > expected:
            raise Moved  # it grows, maybe faster than it can be read
        if drop and large and total - dropped >= _DROP_EVERY:
            os.posix_fadvise(fd, dropped, total - dropped, os.POSIX_FADV_DONTNEED)
            dropped = total
    if drop:
        os.posix_fadvise(fd, dropped, 0, os.POSIX_FADV_DONTNEED)
    return total


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[int, Signature]]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except BlockingIOError as error:
        raise Moved from error  # a file server holds a lease on it
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
        # A writer that comes while the lease is held makes the kernel send a signal; SIGIO would end the process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
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
