"""Write files so that they last: beside their place, brought to the disk, renamed; then the folder is synced too."""

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping

from msgspec import Struct

from agent.errors import AgentError, CannotWrite, NoRights

INCOMING = ".incoming"
QUARANTINE = ".quarantine"
REPAIRING = ".repairing"  # not `INCOMING`, which each backup empties that begins


class Permissions(Struct, frozen=True):
    """Modes for new files and folders, and their owner where it is to be set; None keeps the process's own."""

    files: int = 0o640
    folders: int = 0o755
    owner: int | None = None
    group: int | None = None


def make_folder(path: str, permissions: Permissions, *, below: str) -> None:
    """Make a folder and what is missing above it, but nothing at or above `below`, which must exist.

    Raises:
        CannotWrite: `below` is missing, full, or read-only, or a file is in the way.
    """
    if not os.path.isdir(below):
        raise CannotWrite(f"{below} is not there", "Is its disk mounted? The agent never makes a mount point.")
    relative = os.path.relpath(path, below)
    current = below
    with explained(path):
        for part in [] if relative == "." else relative.split("/"):
            current = os.path.join(current, part)
            if not os.path.isdir(current):
                os.mkdir(current, permissions.folders)  # never more than these, and then exactly these
                os.chmod(current, permissions.folders)
                _own(current, permissions)
                sync_folder(os.path.dirname(current))


@contextlib.contextmanager
def new_file(path: str, permissions: Permissions) -> Iterator[int]:
    """A new file to write to, as a descriptor; when the block ends it is on the disk, and gone when the block fails.

    Raises:
        CannotWrite: the place is full, read-only or not there.
    """
    with created(path) as fd:
        yield fd
        settle(fd, permissions)


@contextlib.contextmanager
def created(path: str, access: int = os.O_WRONLY) -> Iterator[int]:
    """A new file that only we can open, as a descriptor, and gone when the block fails; `settle` is left to the block.

    Raises:
        CannotWrite: the place is full, read-only or not there.
    """
    with explained(path):
        fd = os.open(path, access | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                yield fd
            finally:
                os.close(fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise


def settle(fd: int, permissions: Permissions) -> None:
    """Give a new file its mode and owner, and bring all of it to the disk."""
    os.fchmod(fd, permissions.files)
    _own(fd, permissions)
    os.fsync(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`, however many calls that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_file(path: str, data: bytes, permissions: Permissions) -> None:
    """Write a small file in one piece; it is there whole or not at all."""
    temporary = f"{path}.part"
    with explained(path), contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    with new_file(temporary, permissions) as fd:
        write_all(fd, data)
    with explained(path):
        os.replace(temporary, path)
        sync_folder(os.path.dirname(path))


def publish(incoming: str, final: str) -> None:
    """Give a finished folder its name, in one rename that is on the disk when this returns.

    Raises:
        CannotWrite: something is there already, or the rename failed.
    """
    with explained(final):
        sync_folder(incoming)
        if os.path.lexists(final):
            raise CannotWrite(f"{final} exists already", "Two backups in the same second? Try again.")
        os.rename(incoming, final)
        sync_folder(os.path.dirname(incoming))
        sync_folder(os.path.dirname(final))


def sync_folder(path: str) -> None:
    """Bring a folder's own entries to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def leftovers(root: str) -> list[str]:
    """Backups that were being written when their writer died: paths below `.incoming`."""
    place = os.path.join(root, INCOMING)
    try:
        return sorted(os.path.join(place, name) for name in os.listdir(place))
    except OSError:
        return []


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn the system's errors while writing into ours, split by what the caller does about them."""
    try:
        yield
    except OSError as error:
        raise _ours(error, path) from error


_HINTS: Mapping[int, str] = {
    errno.ENOSPC: "Free space there; `snapward status` shows how full each location is.",
    errno.EDQUOT: "The quota of the agent's user is used up; raise it or free space.",
    errno.EROFS: "Mount it for writing again; look in dmesg for why it went read-only.",
    errno.ENOENT: "Is its disk mounted?",
    errno.EIO: "The disk failed: look at dmesg and smartctl.",
}


def _ours(error: OSError, path: str) -> AgentError:
    text = f"{path}: {error.strerror or error}"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return NoRights(text, "Give the agent's user the right to write there.")
    return CannotWrite(text, _HINTS.get(error.errno or 0, "Look at the disk and the mount."))


def _own(target: int | str, permissions: Permissions) -> None:
    if permissions.owner is not None or permissions.group is not None:
        os.chown(
            target,
            -1 if permissions.owner is None else permissions.owner,
            -1 if permissions.group is None else permissions.group,
        )
