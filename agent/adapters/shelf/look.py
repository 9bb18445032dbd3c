"""List the folders of a location, without reading a file and without following a link."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from fnmatch import translate

from msgspec import Struct, field

from agent.rules.archive import Signature
from agent.rules.words import printable, raw

_DEEPEST = 16


class Listing(Struct, frozen=True):
    """What lies in one folder: regular files with their signatures, folders, and what is neither.

    Names are in printable form. `odd` maps a name to what it is instead of a file; `error` is why
    the folder could not be listed, and then the rest is empty.
    """

    files: set[tuple[str, int, int, int, int]] = field(default_factory=set)
    folders: tuple[str, ...] = ()
    odd: dict[str, str] = field(default_factory=dict)
    error: str = ""
    gone: bool = False


def pattern(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """One expression that matches the names of archives; patterns are fnmatch's."""
    return re.compile("|".join(f"(?:{translate(one)})" for one in patterns) or r"(?!)")


def listing(root: str, folder: str) -> Listing:
    """List one folder of a location without following links. Never raises for what it finds there."""
    path = os.path.join(root, raw(folder)) if folder else root
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with os.scandir(fd) as entries:
                return _sorted(entries)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return Listing(error="is gone", gone=True)
    except OSError as error:
        return Listing(error=error.strerror or str(error), gone=error.errno == errno.ENOTDIR)


def _sorted(entries: Iterator[os.DirEntry[str]]) -> Listing:
    files = set()
    folders = []
    odd = {}
    for entry in entries:
        name = entry.name
        if entry.is_dir(follow_symlinks=False):
            if not name.startswith("."):
                folders.append(printable(name))
            continue
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue  # gone between listing and looking
        if not name.isascii() or not name.isprintable() or "\\" in name:
            name = printable(name)
        if stat.S_ISREG(found.st_mode):
            files.add((name, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
        else:
            odd[name] = kind(found.st_mode)
    return Listing(files, tuple(folders), odd)


def walk(root: str, only: set[str] | None = None) -> Iterator[tuple[str, Listing]]:
    """Every folder of a location with its listing, top down; or just the folders named, with what is below them."""
    waiting = [""] if only is None else sorted(only)
    seen = set(waiting)
    while waiting:
        folder = waiting.pop()
        found = listing(root, folder)
        yield folder, found
        if folder.count("/") >= _DEEPEST:
            continue
        for name in found.folders:
            below = f"{folder}/{name}" if folder else name
            if below not in seen:
                seen.add(below)
                waiting.append(below)


def signature(path: str) -> Signature | None:
    """What a file is at this moment; None when it is gone or cannot be looked at."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return signature_of(found)


def exists(root: str, folder: str, name: str) -> bool:
    """Whether there is anything of that name; what cannot be looked at does not count as missing."""
    try:
        os.lstat(os.path.join(root, raw(folder), raw(name)))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def signature_of(found: os.stat_result) -> Signature:
    """The signature in what the system says of a file."""
    return Signature(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def kind(mode: int) -> str:
    """What something is, in words, from its mode."""
    if stat.S_ISLNK(mode):
        return "a symbolic link; links are not followed"
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe, socket or device" if not stat.S_ISREG(mode) else "a file"
