"""Find out which part of a copy it is that the engine fails on."""

import os
import re
from typing import Any

from msgspec import DecodeError, Struct, json

from agent.adapters.edge.child import Copy

_ASIDE = "apart"
_NAMED = re.compile(r"(?:segments/[\w-]+|\bwal\b)(?:/[\w.-]+)*")
_LOG = re.compile(r"\bWAL\b|\bwal\b")
_TRACKERS = ("id_tracker", "mutable_id_tracker")
_ROCKSDB = "CURRENT"
_LARGEST = 1 << 20


class _Config(Struct):
    vector_data: dict[str, dict[str, Any]] = {}


class _State(Struct):
    """`segment.json`."""

    config: _Config


def named(words: str) -> str:
    """The part that the engine names, as exactly as it does."""
    return max(_NAMED.findall(words), key=len, default="").rstrip(".")


def about_log(words: str) -> bool:
    """Whether it may be the write-ahead log that it fails on."""
    return bool(_LOG.search(words)) or not named(words)


def flaw(shard: str) -> str:
    """What a shard lacks that the engine does without, and loses points or vectors thereby; empty if it is all there.

    A segment without `version.info` is passed over, one without its ids has no points, and missing vectors and
    payloads are taken for none.
    """
    home = os.path.join(shard, "segments")
    for name in sorted(os.listdir(home)) if os.path.isdir(home) else ():
        folder = os.path.join(home, name)
        if os.path.isdir(folder) and not name.startswith(".") and not name.endswith(".deleted"):
            lacks = _lacks(folder)
            if lacks:
                return f"segments/{name}/{lacks} is missing"
    return ""


def without_log(folder: str, copy: Copy) -> bool:
    """Take the write-ahead log out of the copy; false if it has none."""
    log = os.path.join(folder, copy.folder, "wal")
    if not os.path.isdir(log):
        return False
    os.makedirs(os.path.join(folder, _ASIDE), exist_ok=True)
    os.rename(log, os.path.join(folder, _ASIDE, f"wal-{copy.shard}"))
    return True


def segments(folder: str, copy: Copy) -> list[Copy]:
    """A copy of each segment alone: moved, since it may be as large as the disk."""
    home = os.path.join(folder, copy.folder, "segments")
    alone = []
    for name in sorted(os.listdir(home)):
        if os.path.isdir(os.path.join(home, name)):
            place = os.path.join(_ASIDE, f"{copy.shard}-{name}")
            os.makedirs(os.path.join(folder, place, "segments"))
            os.rename(os.path.join(home, name), os.path.join(folder, place, "segments", name))
            alone.append(Copy(copy.shard, place))
    return alone


def segment(copy: Copy) -> str:
    """The segment that such a copy consists of."""
    return f"segments/{os.path.basename(copy.folder).partition('-')[2]}"


def _lacks(segment: str) -> str:
    def there(*names: str) -> bool:
        return os.path.exists(os.path.join(segment, *names))

    for name in ("version.info", "segment.json"):
        if not there(name):
            return name
    if there(_ROCKSDB):  # holds what is in no file of its own
        return ""
    stores = [f"vector_storage-{name}" if name else "vector_storage" for name in _dense(segment)]
    trackers = [kind for kind in _TRACKERS if there(f"{kind}.mappings") or there(f"{kind}.versions")]
    if not trackers:  # as in a segment without points
        return "id_tracker.mappings" if any(there(store, "matrix.dat") for store in stores) else ""
    wanted = [f"{trackers[0]}.mappings", f"{trackers[0]}.versions", "payload_storage/tracker.dat"]
    wanted += [f"{store}/matrix.dat" for store in stores if not there(store, "vectors", "status.dat")]
    return next((name for name in wanted if not there(name)), "")


def _dense(segment: str) -> list[str]:
    """Names of the vectors that are kept in files."""
    try:
        with open(os.path.join(segment, "segment.json"), "rb") as file:
            vectors = json.decode(file.read(_LARGEST), type=_State).config.vector_data
    except (OSError, DecodeError):
        return []  # told by the engine
    return [name for name, one in vectors.items() if one.get("storage_type") != "Memory"]
