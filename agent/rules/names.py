"""File names for collections, ids for backups, and which collections a pattern means."""

import hashlib
from datetime import UTC, datetime
from fnmatch import fnmatchcase

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_LONGEST = 200


def file_stem(collection: str) -> str:
    """A file name for a collection of any name: what is not plain ASCII is percent-encoded.

    A name too long for a file keeps its beginning and gets a hash; the manifest always has the whole name.
    """
    out: list[str] = []
    for char in collection:
        if char in _PLAIN and not (char == "." and not out):
            out.append(char)
        else:
            out.extend(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogateescape"))
    stem = "".join(out)
    if len(stem) <= _LONGEST:
        return stem
    digest = hashlib.sha256(collection.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{stem[: _LONGEST - 17]}~{digest}"


def backup_id(at: float) -> str:
    """The id of a backup that begins at `at` (epoch seconds): 20261123T020000Z, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")


def chosen(names: list[str], include: tuple[str, ...], exclude: tuple[str, ...]) -> list[str]:
    """The names that match a pattern of `include` and none of `exclude`; patterns are fnmatch's."""
    return [
        name
        for name in names
        if any(fnmatchcase(name, one) for one in include) and not any(fnmatchcase(name, one) for one in exclude)
    ]
