"""Take a backup away: out of its place by one rename, then file by file, and without following a link anywhere.

Every step goes through descriptors of folders that were opened as folders, on the location's own mount. So what
somebody puts in the place of one meanwhile is not touched.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from msgspec import Struct

from agent.adapters.shelf.look import kind, signature_of
from agent.adapters.shelf.write import explained
from agent.errors import Refused
from agent.rules.archive import Signature
from agent.rules.words import printable, raw

EXPIRING = ".expiring"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ASIDE = "Look at what it is, and move it elsewhere; the next cleanup goes on."


class Top(Struct, frozen=True):
    """A location's own folder, open; `mount` is the kernel's number of the mount it lies on."""

    path: str
    fd: int
    mount: str


class Found(Struct, frozen=True):
    """A backup's folder as it lies there; `files` by name in printable form, all of them regular or links."""

    device: int
    inode: int
    files: dict[str, Signature]


class Freed(Struct, frozen=True):
    """What was removed; bytes of a file that has another name elsewhere are not among `size`."""

    files: int
    size: int


@contextlib.contextmanager
def opened(path: str) -> Iterator[Top]:
    """A location, by the path of its folder, which may be a link; all that is below may not.

    Raises:
        CannotWrite: it is not there.
        NoRights: it cannot be read.
    """
    with explained(path):
        fd = os.open(os.path.realpath(path), _FOLDER)
    try:
        yield Top(path, fd, _mount(fd))
    finally:
        os.close(fd)


def inspect(top: Top, backup: str) -> Found | None:
    """Look at a backup (`tier/id`) in its place; None if nothing is there.

    Raises:
        Refused: it is no folder, lies on another disk, or holds a folder or a device.
        CannotWrite, NoRights: it cannot be looked at.
    """
    with explained(f"{top.path}/{backup}"), contextlib.suppress(FileNotFoundError), _folder(top, raw(backup)) as fd:
        here = os.fstat(fd)
        return Found(here.st_dev, here.st_ino, {printable(one): signature_of(it) for one, it in _files(fd, backup)})
    return None


def put_aside(top: Top, backup: str, found: Found) -> None:
    """Rename a backup into `.expiring`, so that it is wholly there or wholly gone; on the disk when this returns.

    Raises:
        Refused: by now something else has that name; then it is where it was.
        CannotWrite, NoRights: that is not possible; then it is where it was.
    """
    tier, _, name = raw(backup).rpartition("/")
    with explained(f"{top.path}/{backup}"):
        _make(top, EXPIRING)
        _make(top, f"{EXPIRING}/{tier}")
        with _folder(top, tier) as place, _folder(top, f"{EXPIRING}/{tier}") as aside:
            _same(place, name, backup, found)
            os.rename(name, name, src_dir_fd=place, dst_dir_fd=aside)
            try:
                _same(aside, name, backup, found)
            except Refused:
                os.rename(name, name, src_dir_fd=aside, dst_dir_fd=place)
                raise
            os.fsync(aside)
            os.fsync(place)


def clear(top: Top, backup: str) -> Freed:
    """Remove what lies in `.expiring` of a backup, and the folders there that are empty then.

    Raises:
        Refused: it is no folder, lies on another disk, or holds a folder.
        CannotWrite, NoRights: a file could not be removed; the next call goes on.
    """
    tier, _, name = raw(backup).rpartition("/")
    number = size = 0
    with explained(f"{top.path}/{EXPIRING}/{backup}"):
        with _folder(top, f"{EXPIRING}/{tier}") as aside:
            with _folder(top, f"{EXPIRING}/{raw(backup)}") as fd:
                for one, known in _files(fd, f"{EXPIRING}/{backup}"):
                    os.unlink(one, dir_fd=fd)
                    number += 1
                    size += known.st_size if known.st_nlink == 1 else 0
            os.rmdir(name, dir_fd=aside)
            os.fsync(aside)
        for empty in (f"{EXPIRING}/{tier}", EXPIRING):
            with contextlib.suppress(OSError):  # another one waits in it
                os.rmdir(empty, dir_fd=top.fd)
        os.fsync(top.fd)
    return Freed(number, size)


def waiting(top: Top) -> list[str]:
    """Backups (`tier/id`) that were put aside and are still to be removed."""
    found = []
    with explained(f"{top.path}/{EXPIRING}"), contextlib.suppress(FileNotFoundError), _folder(top, EXPIRING) as fd:
        for tier in _names(fd):
            with contextlib.suppress(OSError, Refused), _folder(top, f"{EXPIRING}/{tier}") as below:
                found += [printable(f"{tier}/{one}") for one in _names(below)]
    return found


def tidy(top: Top) -> None:
    """Remove folders of `.expiring` in which nothing waits: a cleanup died right after it had made them."""
    with contextlib.suppress(OSError, Refused), _folder(top, EXPIRING) as fd:
        for tier in _names(fd):
            with contextlib.suppress(OSError):
                os.rmdir(tier, dir_fd=fd)
    with contextlib.suppress(OSError):
        os.rmdir(EXPIRING, dir_fd=top.fd)


@contextlib.contextmanager
def _folder(top: Top, path: str) -> Iterator[int]:
    """A folder below the location, each step of the way a folder on the same mount."""
    here = os.dup(top.fd)
    try:
        for part in path.split("/"):
            try:
                below = os.open(part, _FOLDER, dir_fd=here)
            except OSError as error:
                if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                    raise
                what = kind(os.stat(part, dir_fd=here, follow_symlinks=False).st_mode)
                raise Refused(f"{top.path}/{printable(path)}: {printable(part)} is {what}, no folder", _ASIDE) from None
            os.close(here)
            here = below
            if _mount(here) != top.mount:
                raise Refused(f"{top.path}/{printable(path)} lies on another disk than {top.path}", _ASIDE)
        yield here
    finally:
        os.close(here)


def _make(top: Top, path: str) -> None:
    """Make a folder that only we look into."""
    above, _, name = path.rpartition("/")
    with _folder(top, above) if above else contextlib.nullcontext(top.fd) as fd, contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=fd)
        os.fsync(fd)


def _names(fd: int) -> list[str]:
    with os.scandir(fd) as entries:
        return sorted(one.name for one in entries)


def _files(fd: int, path: str) -> list[tuple[str, os.stat_result]]:
    """What lies in a folder that only has files, each as it is."""
    found = [(name, os.stat(name, dir_fd=fd, follow_symlinks=False)) for name in _names(fd)]
    for name, known in found:
        if not stat.S_ISREG(known.st_mode) and not stat.S_ISLNK(known.st_mode):
            raise Refused(f"{path} holds {kind(known.st_mode)}, {printable(name)}: that is no part of a backup", _ASIDE)
    return found


def _same(fd: int, name: str, backup: str, found: Found) -> None:
    now = os.stat(name, dir_fd=fd, follow_symlinks=False)
    if (now.st_dev, now.st_ino) != (found.device, found.inode):
        raise Refused(f"{backup} was replaced by something else meanwhile", "The next cleanup looks at it anew.")


def _mount(fd: int) -> str:
    """The number of the mount: a folder that is bound to another place has the same device, but not this."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        return next(line.split()[1] for line in file if line.startswith("mnt_id:"))
