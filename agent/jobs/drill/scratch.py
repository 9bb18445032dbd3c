"""The scratch folder: what is unpacked lies in a folder of its own there, which goes whatever happens."""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator

from agent.adapters.shelf import write
from agent.errors import CannotWrite
from agent.rules.words import size

_OURS = "snapward-drill-"
# Kept free beside what is unpacked: the engine writes a little too, and the ledger may lie on the same disk.
_SPARE = 64 << 20
_SPARE_SHARE = 10


@contextlib.contextmanager
def folder(root: str) -> Iterator[str]:
    """An empty folder below `root` that only we may read, gone when the block ends.

    Raises:
        CannotWrite, NoRights: it cannot be made.
    """
    with contextlib.ExitStack() as held:
        with write.explained(root):
            with contextlib.suppress(FileExistsError):
                os.mkdir(root, 0o700)
            path = os.path.join(root, f"{_OURS}{secrets.token_hex(8)}")
            os.mkdir(path, 0o700)
            held.callback(shutil.rmtree, path, ignore_errors=True)
            held.enter_context(_held(path))
        yield path


def clear(root: str) -> list[str]:
    """Remove what drills that died have left below `root`; returns the paths.

    The folder of a drill that lives, of this agent or of another, is held by it.
    """
    gone = []
    for path in _leftovers(root):
        with contextlib.suppress(OSError), _held(path):
            shutil.rmtree(path, ignore_errors=True)
            gone.append(path)
    return gone


def need(root: str, raw_size: int | None) -> None:
    """See that there is room for what an archive holds, as far as its size is known.

    Raises:
        CannotWrite: there is not; the message has the figures.
    """
    wanted = raw_size or 0
    spare = max(_SPARE, wanted // _SPARE_SHARE)
    free = left(root)
    if free < wanted + spare:
        raise CannotWrite(
            f"the scratch folder {root} has {size(free)} free, and {size(wanted + spare)} are needed:"
            f" {size(wanted)} to unpack it, and {size(spare)} to spare",
            "Free space there, or name another folder: drills.scratch.",
        )


def left(root: str) -> int:
    """Bytes that may still be written below `root`.

    Raises:
        CannotWrite, NoRights: it cannot be looked at.
    """
    there = os.path.abspath(root)
    while not os.path.isdir(there):  # it is made when it is needed first
        there = os.path.dirname(there)
    with write.explained(root):
        disk = os.statvfs(there)
    return disk.f_bavail * disk.f_frsize


def _leftovers(root: str) -> list[str]:
    try:
        with os.scandir(root) as entries:
            return [
                one.path
                for one in entries
                if one.name.startswith(_OURS)
                and one.is_dir(follow_symlinks=False)
                and one.stat(follow_symlinks=False).st_uid == os.geteuid()
            ]
    except OSError:
        return []


@contextlib.contextmanager
def _held(path: str) -> Iterator[None]:
    """Hold a folder, so that nobody takes it for a leftover; the kernel lets go of it with its holder."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)
