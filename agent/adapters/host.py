"""The machine: mounts, space, and whether a location takes data."""

import contextlib
import os
import stat
import time
from collections.abc import Iterator

from msgspec import Struct

from agent.rules.storage import Patrol, Root, Space

_PROBE = ".snapward-probe"


class Mount(Struct, frozen=True):
    """One line of /proc/self/mountinfo: `root` is the folder of the device that shows at `point`."""

    id: int
    parent: int
    device: str
    root: str
    point: str
    kind: str


def mounts() -> list[Mount]:
    """Every mount this process sees, in the order the kernel lists them: a later one covers an earlier one."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            fields = left.split(" ")
            found.append(
                Mount(
                    int(fields[0]),
                    int(fields[1]),
                    fields[2],
                    _unescaped(fields[3]),
                    _unescaped(fields[4]),
                    right.split(" ")[0],
                )
            )
    return found


def mount_of(path: str, table: list[Mount]) -> Mount | None:
    """The mount that a path lies on."""
    holding = [one for one in table if path == one.point or path.startswith(one.point.rstrip("/") + "/")]
    return max(holding, key=lambda one: (len(one.point), table.index(one)), default=None)


def root(path: str, mount: str | None) -> Root:
    """Look at a location's folder, and at the mount it is expected on, without changing anything."""
    real = os.path.realpath(path)
    table = mounts()
    if mount is not None and not _mounted(os.path.realpath(mount), table):
        return Root(f"is not on its disk: nothing is mounted at {mount}", f"Mount it: `mount {mount}`.")
    try:
        found = os.stat(real)
    except FileNotFoundError:
        return Root("does not exist", "Make the folder, or mend `locations` in the configuration.")
    except OSError as error:
        return Root(f"cannot be looked at: {error.strerror}", "Look at the disk and at the folder's rights.")
    if not stat.S_ISDIR(found.st_mode):
        return Root("is not a folder", "Mend `locations` in the configuration.")
    if not os.access(real, os.R_OK | os.X_OK):
        return Root("cannot be read by the agent's user", f"Give it the right: `chmod o+rx {real}`, or a group.")
    on = mount_of(real, table)
    read_only = bool(os.statvfs(real).f_flag & os.ST_RDONLY)
    return Root("", "", found.st_dev, found.st_ino, on.id if on else 0, read_only)


class Anchor(Struct, frozen=True):
    """A location's folder, held open: `at` leads into it whatever becomes of its mount, so nothing is written below.

    `path` is how people call it.
    """

    path: str
    mount: str | None
    root: Root
    at: str

    def there(self) -> bool:
        """Whether the location is still the one that was opened."""
        now = root(self.path, self.mount)
        return (now.trouble, now.device, now.inode) == ("", self.root.device, self.root.inode)


@contextlib.contextmanager
def anchored(path: str, mount: str | None) -> Iterator[Anchor]:
    """Hold a location's folder open; `trouble` of the anchor's root says why it cannot be used, and `at` is empty then.

    Its disk cannot be unmounted meanwhile, or only lazily, and then what is written still goes to the disk.
    """
    before = root(path, mount)
    if before.trouble:
        yield Anchor(path, mount, before, "")
        return
    try:
        fd = os.open(os.path.realpath(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        yield Anchor(path, mount, Root(f"cannot be opened: {error.strerror}", "Is its disk mounted?"), "")
        return
    try:
        held = os.fstat(fd)
        if (held.st_dev, held.st_ino) != (before.device, before.inode):
            before = Root("became another folder while it was opened", "Was its disk mounted right now? Try again.")
        yield Anchor(path, mount, before, f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _mounted(point: str, table: list[Mount]) -> bool:
    """Whether something is really mounted there.

    A folder that is bound onto itself, as systemd does with every ReadWritePaths= of a unit, is no disk: what lies
    behind it is what counts.
    """
    by_id = {one.id: one for one in table}
    found = next((one for one in reversed(table) if one.point == point), None)
    while found is not None and found.point == point:
        parent = by_id.get(found.parent)
        if parent is None or found.device != parent.device:
            return True
        inside = os.path.normpath(os.path.join(parent.root, os.path.relpath(point, parent.point)))
        if found.root != inside:
            return True
        found = parent
    return False


def space(path: str) -> Space:
    """How full the file system under a path is; `used_percent` is df's, which leaves root's reserve out."""
    import psutil  # noqa: PLC0415 - 11 ms that `verify` has no use for

    disk = psutil.disk_usage(path)
    vfs = os.statvfs(path)
    reachable = vfs.f_files - vfs.f_ffree + vfs.f_favail
    inodes = 100.0 * (reachable - vfs.f_favail) / reachable if vfs.f_files and reachable else None
    return Space(disk.total, disk.used, disk.free, disk.percent, inodes)


def probe(path: str) -> str:
    """Write, sync and remove a small file; returns why that failed, or an empty text."""
    target = os.path.join(path, _PROBE)
    try:
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # A block that must be allocated: an empty file can be made on a disk that is full.
            os.write(fd, b"\0" * 4096)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(target)
    return ""


def patrol(location: str, path: str, mount: str | None) -> Patrol:
    """One round past a location: is it there, how full is it, does it take data."""
    began = time.perf_counter()
    found = root(path, mount)
    if found.trouble:
        return Patrol(location, path, found, seconds=time.perf_counter() - began)
    real = os.path.realpath(path)
    why = "" if found.read_only else probe(real)
    return Patrol(location, path, found, space(real), why, time.perf_counter() - began)


def has_inotify(path: str) -> bool:
    """Whether the kernel reports changes there: network file systems change without a word."""
    on = mount_of(os.path.realpath(path), mounts())
    silent = {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "lustre", "afs"}
    return on is None or not (on.kind in silent or on.kind.startswith("fuse"))


def keeps_modes(path: str) -> bool:
    """Whether files have modes and owners of their own there; some file systems give the same to all."""
    on = mount_of(os.path.realpath(path), mounts())
    return on is None or on.kind not in {"cifs", "smb3", "vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk"}


def _unescaped(text: str) -> str:
    for code in ("\\040", "\\011", "\\012", "\\134"):
        text = text.replace(code, chr(int(code[1:], 8)))
    return text
