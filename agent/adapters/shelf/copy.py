"""Copy files from one location to another past the page cache, and move what is bad aside."""

import contextlib
import errno
import filecmp
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator

from agent.adapters.shelf import direct, write
from agent.adapters.shelf.write import Permissions
from agent.errors import AgentError, Damaged
from agent.rules.archive import Promise
from agent.rules.words import size

_BLOCK = 1 << 20


def copy(
    source: str,
    target: str,
    promise: Promise,
    permissions: Permissions,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Copy one file in one pass into a new one: hashed on the way, on the disk and read back when this returns.

    It keeps the source's time. What the page cache holds of either is let go. `progress` is called with the bytes
    since its last call, and what it raises is raised. Returns the bytes copied.

    Raises:
        Damaged: the source cannot be read, or is not what was promised; there is no new file then.
        CannotWrite: the target's place is full, read-only, or not there.
    """
    block, back = direct.memory(2, _BLOCK)
    digest, crc32, total = hashlib.sha256(), direct.checksum(), 0
    with _opened(source) as fd, direct.new_file(target, permissions, back) as file:
        while filled := _fill(fd, block, source):
            data = block[:filled]
            digest.update(data)
            file.append(data, crc32(data, 0))
            total += filled
            progress(filled)
            os.posix_fadvise(fd, total - filled, filled, os.POSIX_FADV_DONTNEED)
        if promise.size is not None and total != promise.size:
            raise Damaged(f"{source} has {size(total)}, not the {size(promise.size)} that were proved", _PROVE)
        if promise.sha256 is not None and digest.hexdigest() != promise.sha256:
            raise Damaged(f"{source} has another SHA-256 than was proved: {digest.hexdigest()[:16]}…", _PROVE)
        before = os.fstat(fd)
        os.utime(file.descriptor, ns=(before.st_mtime_ns, before.st_mtime_ns))
    return total


_PROVE = "It has changed since it was read: `snapward verify` tells what it is now."


@contextlib.contextmanager
def _opened(source: str) -> Iterator[int]:
    try:
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(source, error) from error
    try:
        yield fd
    finally:
        os.close(fd)


def _fill(fd: int, block: memoryview, source: str) -> int:
    """Fill a block as far as there is anything left, so that all but the last are of one length."""
    filled = 0
    try:
        while filled < len(block) and (got := os.readv(fd, [block[filled:]])):
            filled += got
    except OSError as error:
        raise _unreadable(source, error) from error
    return filled


def _unreadable(source: str, error: OSError) -> AgentError:
    return Damaged(f"{source} cannot be read: {error.strerror or error}", "Look at the disk and the folder's rights.")


def same(one: str, other: str) -> bool:
    """Whether two small files hold the same; what cannot be read is not the same."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def free(aside: str, path: str) -> str:
    """A name to move `path` to: `aside`, or with a number behind it; one that is a link to it already is its own."""
    number, name = 1, aside
    while os.path.lexists(name) and not os.path.samefile(name, path):
        number += 1
        name = f"{aside}.{number}"
    return name


def put_aside(path: str, aside: str) -> None:
    """Move a file to where it harms nobody; its place holds it until something is renamed over it, where that can be.

    Raises:
        CannotWrite: it cannot be moved there.
    """
    with write.explained(aside):
        try:
            if os.path.lexists(aside):
                return  # begun by a repair that died
            os.link(path, aside, follow_symlinks=False)
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}:
                raise
            os.rename(path, aside)
        write.sync_folder(os.path.dirname(aside))


def put(path: str, target: str) -> None:
    """Give a new file its place, over whatever is there, in one rename that is on the disk when this returns.

    Raises:
        CannotWrite: it cannot be moved there.
    """
    with write.explained(target):
        os.rename(path, target)
        write.sync_folder(os.path.dirname(path))
        write.sync_folder(os.path.dirname(target))


def clear(folder: str) -> None:
    """Take away what we have begun and not finished; only for the holder of the lock."""
    shutil.rmtree(folder, ignore_errors=True)
