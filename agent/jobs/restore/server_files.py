"""Put the server's own files back where a backup has them from, with the server stopped meanwhile."""

import contextlib
import errno
import gzip
import hashlib
import io
import os
import shutil
import signal
import stat
import tarfile
from collections.abc import Iterator, Sequence

from msgspec import Struct

from agent.adapters import systemctl
from agent.adapters.shelf import read, write
from agent.errors import AgentError, NoRights, Refused, TryLater
from agent.rules.manifest import FileEntry
from agent.rules.recovery.files import Member, sort
from agent.rules.words import count, size

_LARGEST = 64 << 20
_LARGEST_UNPACKED = 256 << 20


class Kept(Struct, frozen=True):
    """A file as the backup has it; `found` is new, same or other: what there is in its place."""

    path: str
    data: bytes
    mode: int
    owner: int
    group: int
    found: str


class Files(Struct, frozen=True):
    """The files of a backup, and the links in it, which are left as they are."""

    files: tuple[Kept, ...]
    links: tuple[str, ...] = ()

    @property
    def other(self) -> tuple[Kept, ...]:
        """Those that are not as they were."""
        return tuple(one for one in self.files if one.found != "same")


def unpack(path: str, promised: FileEntry, allowed: Sequence[str]) -> Files:
    """Read the archive of files, and compare it with what is there. Writes nothing.

    Args:
        path: of the archive.
        promised: what the manifest says of it.
        allowed: the files and folders that may be written, as they are backed up.

    Raises:
        Refused: it is not what was promised, or holds what may not be put back.
    """
    try:
        data, _ = read.read_small(path, _LARGEST)
    except (OSError, AgentError, read.Moved) as error:
        raise Refused(f"{path} cannot be read: {error}", "Take the copy in another location.") from error
    if hashlib.sha256(data).hexdigest() != promised.sha256.lower():
        raise Refused(f"{path} is damaged: it has another SHA-256 than the manifest says", "Take another copy.")
    try:
        with gzip.open(io.BytesIO(data)) as packed:
            raw = packed.read(_LARGEST_UNPACKED + 1)
        if len(raw) > _LARGEST_UNPACKED:
            raise Refused(f"{path} has more than {size(_LARGEST_UNPACKED)}, unpacked: that is no configuration")
        with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
            return _sorted(archive, path, allowed)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise Refused(f"{path} is no archive of files: {error}", "Take another copy.") from error


def _sorted(archive: tarfile.TarFile, path: str, allowed: Sequence[str]) -> Files:
    members = archive.getmembers()
    real = [os.path.abspath(one) for one in allowed]
    where = sort([Member(one.name, _kind(one)) for one in members], real)
    if where.refused:
        raise Refused(f"{path} is not put back: {where.refused}", "Look into it with `tar -tvzf`.")
    found = (
        _kept(where.files[one.name], content.read(), one, real)
        for one in members
        if one.name in where.files and (content := archive.extractfile(one)) is not None
    )
    return Files(tuple(found), where.links)


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "link"
    return "file" if member.isreg() else "folder" if member.isdir() else "other"


def _kept(path: str, data: bytes, member: tarfile.TarInfo, allowed: Sequence[str]) -> Kept:
    """A file beside what is in its place now.

    Raises:
        Refused: a link would lead out of what may be written.
    """
    roots = [os.path.realpath(one) for one in allowed]
    real = os.path.realpath(os.path.dirname(path))
    if not any(os.path.join(real, os.path.basename(path)) == one or f"{real}/".startswith(f"{one}/") for one in roots):
        raise Refused(f"{path} is not put back: a link leads it to {real}", "Mend the link, or engine.config_files.")
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return Kept(path, data, member.mode & 0o7777, member.uid, member.gid, "new")
    if not stat.S_ISREG(there.st_mode):
        raise Refused(f"{path} is not put back: it is {'a link' if stat.S_ISLNK(there.st_mode) else 'no file'} now")
    with write.explained(path), open(path, "rb") as file:
        found = "same" if file.read(len(data) + 1) == data else "other"
    return Kept(path, data, stat.S_IMODE(there.st_mode), there.st_uid, there.st_gid, found)


def writable(files: Sequence[Kept], archive: str) -> None:
    """See that all of them can be written and given to their owners, before the server is stopped for it.

    Raises:
        NoRights: one of them cannot.
    """
    if os.geteuid() == 0:
        return
    groups = {os.getegid(), *os.getgroups()}
    for one in files:
        folder = os.path.dirname(one.path)
        while not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        why = ""
        if not os.access(folder, os.W_OK | os.X_OK):
            why = f"{folder} cannot be written"
        elif one.owner != os.geteuid() or one.group not in groups:
            why = "it belongs to somebody else, and would not any more"
        if why:
            hint = f"As root, with the server stopped: `tar -xzf {archive} -C / --overwrite`."
            raise NoRights(f"{one.path} cannot be put back by this user: {why}", hint)


@contextlib.contextmanager
def stopped(unit: str, deadline: float) -> Iterator[None]:
    """The unit does not run for as long as the block takes; it is started again whatever happens, also on a signal.

    Raises:
        NoRights, Refused, TryLater: it cannot be stopped or started.
    """
    with _undisturbed():
        try:
            systemctl.stop(unit, deadline)
        except TryLater:
            _start(unit, deadline)
            raise
        try:
            yield
        finally:
            _start(unit, deadline)


def _start(unit: str, deadline: float) -> None:
    try:
        systemctl.start(unit, deadline)
    except Refused:  # a signal from the terminal ends systemctl as well
        systemctl.start(unit, deadline)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let signals that ask to end wait until the block is over."""
    asked: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {one: signal.signal(one, lambda number, _frame: asked.append(number)) for one in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
        if asked:
            signal.raise_signal(asked[0])


def put_back(files: Sequence[Kept], backup: str) -> list[str]:
    """Write the files, each old one kept beside as NAME.before-BACKUP; returns the paths that were written.

    Raises:
        CannotWrite, NoRights: one cannot be written; those before it are.
    """
    written = []
    for one in files:
        _make_folder(os.path.dirname(one.path))
        if one.found == "other":
            _keep(one.path, f"{one.path}.before-{backup}")
        temporary = f"{one.path}.part"
        with write.explained(temporary), contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        with write.created(temporary) as fd:
            write.write_all(fd, one.data)
            write.settle(fd, write.Permissions(one.mode, 0o755, one.owner, one.group))
        with write.explained(one.path):
            os.replace(temporary, one.path)
            write.sync_folder(os.path.dirname(one.path))
        written.append(one.path)
    return written


def _make_folder(path: str) -> None:
    with write.explained(path):
        os.makedirs(path, exist_ok=True)


def _keep(path: str, beside: str) -> None:
    """Keep a file under another name; one that an earlier attempt has kept stays: it is the older one."""
    with write.explained(beside):
        try:
            os.link(path, beside)
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV}:
                raise
            shutil.copy2(path, beside)


def told(files: Files) -> str:
    """The files in words."""
    same = len(files.files) - len(files.other)
    return f"{count(len(files.other), 'file')} to put back, {same:,} as in the backup"
