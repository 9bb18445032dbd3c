"""Write large files past the page cache, and read them back from the disk meanwhile.

Direct writes leave the database's pages where they are, pile nothing up in memory, report a disk's error at the write
it belongs to, and take a fifth of the processor time. Where a file system refuses them, the same goes through the page
cache, which is brought to the disk and emptied every few megabytes.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import zlib
from array import array
from collections.abc import Callable, Iterator

from agent.adapters.shelf import write
from agent.adapters.shelf.write import Permissions
from agent.errors import CannotWrite
from agent.rules.words import size

_ALIGNMENT = 4096  # no disk asks for more
_WINDOW = 16 << 20


@contextlib.contextmanager
def new_file(path: str, permissions: Permissions, buffer: memoryview) -> Iterator["Matched"]:
    """A new file; when the block ends it is on the disk, read back and matched, and gone when anything fails.

    What the disk gives back is matched by the CRC-32 of each block: a second SHA-256 would cost as much as the first,
    and the agent compares that too when the archive arrives.

    Args:
        path: the file, which must not exist.
        permissions: its mode and owner once it is whole.
        buffer: of `memory`, for reading back.

    Raises:
        CannotWrite: the place is full, read-only or not there, or the disk gives other bytes back.
        NoRights: the place may not be written to.
    """
    with write.created(path, os.O_RDWR) as fd:
        file = Matched(path, fd, buffer)
        yield file
        file.finish(permissions)


def memory(number: int, length: int) -> list[memoryview]:
    """Buffers of `length` bytes, a multiple of 4,096, that disks write from and read into without a copy.

    In huge pages where there are any: a request to the disk is then one stretch of memory instead of hundreds, and
    takes less than half the time. What is let go belongs to the system again.
    """
    whole = mmap.mmap(-1, number * length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # the kernel may have been built without them
        whole.madvise(mmap.MADV_HUGEPAGE)
    return [memoryview(whole)[at : at + length] for at in range(0, len(whole), length)]


def checksum() -> Callable[[memoryview, int], int]:
    """The fastest CRC-32 there is here: of some bytes, going on from what came before them."""
    try:
        from isal.isal_zlib import crc32  # noqa: PLC0415 - it exists for the common machines only
    except ImportError:
        return zlib.crc32
    found: Callable[[memoryview, int], int] = crc32
    return found


class Matched:
    """An open file of blocks, each of which is read back and matched when there is time, at the latest in the end."""

    def __init__(self, path: str, fd: int, buffer: memoryview) -> None:
        self.path = path
        self._fd, self._buffer = fd, buffer
        self._crc32 = checksum()
        self._crcs = array("I")
        self._block = self._written = self._readable = self._matched = 0
        self._refused = self._direct = False
        self._go(direct=True)

    def append(self, block: memoryview, crc: int) -> None:
        """Write a block of `memory`: all are as long, a multiple of 4,096 bytes, but the last may be shorter."""
        if len(block) % _ALIGNMENT:
            self._go(direct=False)
        self._block = self._block or len(block)
        self._crcs.append(crc)
        begin = self._written
        while block:
            done = self._call(os.write, self._fd, block)
            self._written += done
            block = block[done:]
        if self._direct:
            self._readable = begin
        elif begin - self._readable >= _WINDOW:
            os.fdatasync(self._fd)
            self._drop(0, self._written)
            self._readable = begin

    @property
    def descriptor(self) -> int:
        """The open file's."""
        return self._fd

    def look_back(self) -> bool:
        """Read back one block and match it; False when all have been but the newest, which no disk may hold yet."""
        at, end = self._matched, min(self._matched + self._block, self._readable)
        if at >= end:
            return False
        self._drop(at, end)
        if self._found(at, end) != self._crcs[at // self._block]:
            raise CannotWrite(
                f"{self.path}: the disk gave back other bytes at {size(at)} to {size(end)}",
                "Do not trust this disk: look at dmesg and smartctl.",
            )
        self._drop(at, end)
        self._matched = end
        return True

    def finish(self, permissions: Permissions) -> None:
        """Bring the whole file to the disk, and match what has not been matched yet."""
        write.settle(self._fd, permissions)
        self._readable = self._written
        self._go(direct=True)
        while self.look_back():
            pass

    def _found(self, at: int, end: int) -> int:
        """The CRC-32 of what the disk holds there."""
        crc = 0
        while at < end:
            wanted = min(end - at, len(self._buffer))
            got = self._call(os.preadv, self._fd, [self._buffer[: wanted + -wanted % _ALIGNMENT]], at)
            if not got:
                break
            crc = self._crc32(self._buffer[: min(got, wanted)], crc)
            at += got
        return crc

    def _call(self, function: Callable[..., int], *arguments: object) -> int:
        try:
            return function(*arguments)
        except OSError as error:
            if error.errno != errno.EINVAL or not self._direct:
                raise
        self._refused = True
        self._go(direct=False)
        return function(*arguments)

    def _go(self, *, direct: bool) -> None:
        """Past the page cache, or through it; some file systems know only the second way."""
        self._direct = direct and not self._refused
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL) & ~os.O_DIRECT
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | (os.O_DIRECT if self._direct else 0))
        except OSError:
            self._refused, self._direct = True, False

    def _drop(self, at: int, end: int) -> None:
        """Let the page cache forget what it has of this: it is to come from the disk, and not to stay."""
        os.posix_fadvise(self._fd, at, end - at, os.POSIX_FADV_DONTNEED)
