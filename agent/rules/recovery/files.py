"""Say where the server's own files that a backup holds go back to."""

import posixpath
from collections.abc import Sequence

from msgspec import Struct


class Member(Struct, frozen=True):
    """An entry of the archive of files: its name, and its kind: file, folder, link, or something else."""

    name: str
    kind: str


class Sorted(Struct, frozen=True):
    """Where the files go to, by name in the archive; the links, which stay as they are; and why none is put back."""

    files: dict[str, str]
    links: tuple[str, ...] = ()
    refused: str = ""


def sort(members: Sequence[Member], allowed: Sequence[str]) -> Sorted:
    """Where each member goes to.

    Args:
        members: of the archive; names are paths without their first slash.
        allowed: the files and folders that are backed up, as absolute paths. Nothing outside of them is written.
    """
    files: dict[str, str] = {}
    links: list[str] = []
    for one in members:
        path = posixpath.normpath("/" + one.name.lstrip("/"))
        inside = any(path == place or path.startswith(place.rstrip("/") + "/") for place in allowed)
        if ".." in one.name.split("/") or not inside:
            return Sorted({}, refused=f"it holds {one.name!r}, which engine.config_files does not name")
        if one.kind == "link":
            links.append(path)
        elif one.kind == "file":
            if path in files.values():
                return Sorted({}, refused=f"it holds {path} twice")
            files[one.name] = path
        elif one.kind != "folder":
            return Sorted({}, refused=f"it holds {path}, which is neither a file nor a folder")
    return Sorted(files, tuple(links))
