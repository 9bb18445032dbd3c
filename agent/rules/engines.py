"""Which engine knows the format of whose archives."""

import re

_VERSION = re.compile(r"(\d+)\.(\d+)")
_EMBEDDED = "qdrant-edge"
# The server whose code is in it; the newest is of an unfinished 1.20.
_SERVER = {
    "0.1": (1, 16),
    "0.4": (1, 16),
    "0.5": (1, 17),
    "0.6": (1, 17),
    "0.7": (1, 18),
    "0.8": (1, 19),
    "0.9": (1, 20),
}
# Servers of whose archives it is known that the engine opens them: tried with it.
_OPENS = {"0.9": ((1, 16), (1, 19))}
# What is said of a format that is unknown. Before 1.17 a collection could still be kept in RocksDB.
_FOREIGN = re.compile(r"unknown variant|unknown field|missing field|invalid type|rocksdb", re.IGNORECASE)
_ROCKSDB_UNTIL = (1, 16)


def unknown(engine: str, made_by: str, words: str = "") -> str:
    """Why the engine may simply not know the archive's format, in words; empty if it has to know it.

    Args:
        engine: name and version of the engine that opened the archive: "qdrant-edge-py 0.9.0", or "Qdrant 1.18.3".
        made_by: version of the server or engine that made it; empty if nobody says.
        words: what the engine said about it.
    """
    made = _server(made_by)
    foreign = bool(_FOREIGN.search(words))
    if made is None:
        return "nothing says which version made it" if foreign else ""
    if made_by and made_by in engine:
        return ""
    oldest, newest = _opens(engine)
    if not oldest <= made <= newest:
        return f"it was made by {made_by}, and {engine} is known to open what {_span(oldest, newest)} have made"
    return f"it was made by {made_by}, which may keep it in RocksDB" if foreign and made <= _ROCKSDB_UNTIL else ""


def _server(version: str) -> tuple[int, int] | None:
    found = _VERSION.search(version)
    if not found:
        return None
    if version.startswith(_EMBEDDED):
        return _SERVER.get(found[0])
    return int(found[1]), int(found[2])


def _opens(engine: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """The oldest and the newest server that the engine opens archives of; a server opens the one before it, too."""
    found = _VERSION.search(engine)
    if not found:
        return (0, 0), (0, 0)
    if engine.startswith(_EMBEDDED):
        return _OPENS.get(found[0], ((0, 0), (0, 0)))
    major, minor = int(found[1]), int(found[2])
    return (major, minor - 1), (major, minor)


def _span(oldest: tuple[int, int], newest: tuple[int, int]) -> str:
    return f"servers {oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}"
