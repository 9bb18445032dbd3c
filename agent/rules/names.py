"""File names for collections, ids for backups, and which collections a pattern means."""

import hashlib
import re
from datetime import UTC, datetime
from fnmatch import fnmatchcase

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_LONGEST = 200
_ID = re.compile(r"\d{8}T\d{6}Z")
_ESCAPED = re.compile(r"\[([*?\[])\]")


def file_stem(collection: str) -> str:
    """A file name for a collection of any name: what is not plain ASCII is percent-encoded, and a leading . or -, too.

    A name too long for a file keeps its beginning and gets a hash; the manifest always has the whole name.
    """
    out: list[str] = []
    for char in collection:
        if char in _PLAIN and (out or char not in ".-"):
            out.append(char)
        else:
            out.extend(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogateescape"))
    stem = "".join(out)
    if len(stem) <= _LONGEST:
        return stem
    digest = hashlib.sha256(collection.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{stem[: _LONGEST - 17]}~{digest}"


def archive_name(collection: str, peer: int | None, suffix: str) -> str:
    """The file of one archive; in a cluster it says which peer it is from. `suffix` is the compression's, like .gz."""
    part = "" if peer is None else f".peer-{peer}"
    return f"{file_stem(collection)}{part}.snapshot{suffix}"


def backup_id(at: float) -> str:
    """The id of a backup that begins at `at` (epoch seconds): 20261123T020000Z, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")


def is_backup_id(name: str) -> bool:
    """Whether a folder of this name may be a backup of ours."""
    return _ID.fullmatch(name) is not None


def exactly(name: str) -> str:
    """A pattern that means just this name."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)


def literal(pattern: str) -> str | None:
    """The one name that a pattern means; None if it may mean several."""
    bare = _ESCAPED.sub(r"\1", pattern)
    return None if any(char in _ESCAPED.sub("", pattern) for char in "*?[") else bare


def absent(names: list[str], include: tuple[str, ...], exclude: tuple[str, ...]) -> list[str]:
    """What `include` names without a pattern and is not there."""
    wanted = [one for one in map(literal, include) if one is not None and one not in names]
    return [one for one in dict.fromkeys(wanted) if not any(fnmatchcase(one, other) for other in exclude)]


def chosen(names: list[str], include: tuple[str, ...], exclude: tuple[str, ...]) -> list[str]:
    """The names that match a pattern of `include` and none of `exclude`; patterns are fnmatch's."""
    return [
        name
        for name in names
        if any(fnmatchcase(name, one) for one in include) and not any(fnmatchcase(name, one) for one in exclude)
    ]
