"""Gather what is found in an archive, and judge by it whether it is a whole snapshot.

Source: `Collection::restore_snapshot` and `ShardReplicaSet::restore_snapshot` of Qdrant 1.16 to 1.19.
"""

import re
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from agent.rules.archive import Form
from agent.rules.outline import COLLECTION, SHARD, SHARD_FILES, STORAGE, Outline, Shard, Where, where
from agent.rules.segment import Segment
from agent.rules.words import count

# The number under which a shard is kept that has a snapshot of its own.
ALONE = -1
KNOWN = frozenset({"newest_clocks.json", "oldest_clocks.json", "applied_seq.json", "segments_manifest.json"})

_LAST = "payload_index.json"
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SEGMENT = re.compile(rf"segments/{_UUID}(?:\.tar|/files/.+)", re.DOTALL)
_VERSION = re.compile(rb"\d+(?:\.\d+)*\s*")
_BUDGET = 8 << 20
_SHARD_COST = 512
_NOTES = 20

_Wrong = tuple[str, Where]
_T = TypeVar("_T")


class Holding:
    """What was found so far of one shard."""

    def __init__(self) -> None:
        self.segments = 0
        self.wal = False


class Gathered:
    """What was found so far of one archive; however much there is of it, this stays small.

    Attributes:
        entries: how many there were, those of the segments' tars among them.
        last: name of the last one of the archive itself.
        kept: content of the files that describe it, by name.
    """

    def __init__(self) -> None:
        self.entries = 0
        self.last = ""
        self.kept: dict[str, bytes] = {}
        self._shards: dict[int, Holding] = {}
        self._notes: list[str] = []
        self._budget = _BUDGET
        self._wrong: _Wrong | None = None
        self._open: Segment | None = None
        # Whether there is what only a server writes, and what only a copy of its folders has.
        self._certain = self._copied = False
        self._unlike = ""

    def room(self, need: int) -> bool:
        """Whether `need` bytes more may be kept."""
        self._budget -= need
        return self._budget >= 0

    def note(self, what: str) -> None:
        """Say what is worth knowing, once, and not more than can be read."""
        if what not in self._notes and len(self._notes) < _NOTES:
            self._notes.append(what)

    def shard(self, number: int, name: str) -> Holding | None:
        """The shard `number`, new or known, that has a file `name`; None if there are more of them than can be."""
        if number not in self._shards:
            if not self.room(_SHARD_COST):
                return None
            self._shards[number] = Holding()
        self._certain = self._certain or _SEGMENT.fullmatch(name) is not None
        return self._shards[number]

    def enter(self, path: str, name: str) -> tuple[Segment, bool]:
        """The segment at `path` whose file `name` is an entry of the archive itself, and whether it is a new one."""
        if name == "segment_manifest.json":
            self._unlike = "is a partial snapshot, which has only what was changed"
        if self._open and self._open.path == path:
            return self._open, False
        self.leave()
        self.note("has segments as folders, as a streamed snapshot has them")
        self._open = Segment(path)
        return self._open, True

    def leave(self) -> None:
        """There are no more files of that segment."""
        if self._open:
            self.judge(self._open)
            self._open = None

    def judge(self, segment: Segment) -> None:
        """See whether a segment has its files; the first one that has not is the one that is told."""
        self._wrong = self._wrong or _of(segment)

    def unseen(self, name: str) -> None:
        """Take a segment that is stored in a way that no server has, and cannot be looked into."""
        self._unlike = f"has {name} with holes, which was not looked into"

    def folder(self, name: str) -> None:
        """Take a folder; servers write none but that of an empty log."""
        self._copied = self._copied or name.rstrip("/").rpartition("/")[2] != "wal"

    def other(self, number: int | None, name: str) -> None:
        """Take a file that is not read: `name` within its shard `number`, or in the archive itself."""
        held = None if number is None else self._shards[number]
        if held and name.startswith("wal/"):
            held.wal = True
        elif held and name.startswith("segments/"):
            self._copied = True
        elif not held or name not in KNOWN:
            self.note(f"has {name if number is None else path(number, name)}, which is not known")

    def outline(self, length: int, broken: str, spot: Where) -> Outline:
        """Everything that was found in an archive of `length` bytes; `broken` is what is wrong with it as a tar."""
        if broken and not self.entries:
            return Outline(Form.OTHER, "", broken, size=length)
        numbers = sorted(number for number in self._shards if number != ALONE) or list(self._shards)
        shards = tuple(self._shard(number) for number in numbers)
        form, kind = Form.OTHER, SHARD if numbers == [ALONE] else COLLECTION
        why, at = (broken, spot) if broken else self._wrongs(kind, shards) or ("", Where())
        if not why:
            form, why = Form.SNAPSHOT, _holds(kind, shards)
        elif self._recognised():
            form = Form.BROKEN
        elif not broken and _read(self.kept.get("config.json"), _Storage) is not None:
            kind, why = STORAGE, "is a snapshot of a whole server, not of a collection"
        else:
            kind = ""
        return Outline(
            form,
            kind,
            why,
            at,
            size=length,
            entries=self.entries,
            shards=shards,
            version=self.kept.get("version.info", b"").decode("utf-8", "replace").strip()[:40],
            config=self.kept.get("config.json"),
            shard_key_mapping=self.kept.get("shard_key_mapping.json"),
            payload_index=self.kept.get(_LAST),
            notes=(*self._notes, *filter(None, map(_doubt, shards))),
        )

    def _recognised(self) -> bool:
        """Whether it is a snapshot beyond doubt, be it whole or not."""
        described = any(name.endswith(SHARD_FILES) for name in self.kept)
        return not self._unlike and (self._certain or (described and not self._copied))

    def _shard(self, number: int) -> Shard:
        held = self._shards[number]
        state = _read(self.kept.get(path(number, SHARD_FILES[0])), _State)
        if state is None:  # told by `_lacks`
            return Shard(max(number, 0), held.segments > 0, held.segments, held.wal, 0, ())
        replicas = tuple(sorted((peer, str(word)) for peer, word in state.peers.items()))
        return Shard(max(number, 0), state.is_local, held.segments, held.wal, state.this_peer_id, replicas)

    def _wrongs(self, kind: str, shards: tuple[Shard, ...]) -> _Wrong | None:
        """The first thing that is wrong with what was found; None if it is a whole snapshot."""
        wrong = self._wrong or (_of(self._open) if self._open else None)
        last = SHARD_FILES[-1] if kind == SHARD else _LAST
        if wrong or not self.entries:
            return wrong or ("holds nothing", Where())
        if self._unlike:
            return self._unlike, Where()
        if self._copied and not self._certain:
            return "has folders as a copy of a server's files has them, and not a snapshot", Where()
        # Before 1.11.4 servers wrote folders, and no indexes.
        if last not in self.kept and not (self._copied and kind == COLLECTION):
            return f"its last entry is {self.last}; a whole snapshot ends with {last}", Where(file=last)
        if kind == SHARD:
            return self._lacks(shards[0], ALONE)
        lacks = (self._lacks(shard, shard.id) for shard in shards)
        return self._described() or _lost(self.kept, {shard.id for shard in shards}) or next(filter(None, lacks), None)

    def _described(self) -> _Wrong | None:
        """What is wrong with the files that describe the collection."""
        for name in ("version.info", "config.json"):
            if name not in self.kept:
                return f"{name} is not in it", Where(file=name)
        if not _VERSION.fullmatch(self.kept["version.info"]):
            return "version.info holds no version", Where(file="version.info")
        for name, kind in _ROOT_TYPES.items():
            if why := _unreadable(self.kept.get(name, b"[]"), kind):
                return f"{name} cannot be read: {why}", Where(file=name)
        return None

    def _lacks(self, shard: Shard, number: int) -> _Wrong | None:
        told = None if number == ALONE else number
        for name, kind in zip(SHARD_FILES, (_State, dict[str, Any]), strict=True):
            file = path(number, name)
            if file not in self.kept:
                return f"{file} is not in it", Where(told, file=name)
            if why := _unreadable(self.kept[file], kind):
                return f"{file} cannot be read: {why}", Where(told, file=name)
        if shard.segments or not (shard.local or number == ALONE):
            return None
        return f"{'the shard' if told is None else f'shard {number}'} has no segment", Where(told)


class _State(Struct):
    """`replica_state.json` of a shard."""

    is_local: bool
    this_peer_id: int
    peers: dict[int, Any]


class _Params(Struct):
    shard_number: int = 1
    sharding_method: str | None = None


class _Config(Struct):
    """`config.json` of a collection."""

    params: _Params


class _Storage(Struct):
    """`config.json` of a snapshot of a whole server."""

    collections_mapping: dict[str, str]


class _Key(Struct):
    """An entry of `shard_key_mapping.json`, which older servers write as a mapping of keys to numbers."""

    shard_ids: list[int]


_Mapping = list[_Key] | dict[str, list[int]]
_ROOT_TYPES: dict[str, Any] = {"config.json": _Config, "shard_key_mapping.json": _Mapping, _LAST: Any}


def path(number: int, name: str) -> str:
    """The name in the archive of a file of the shard `number`."""
    return name if number == ALONE else f"{number}/{name}"


def _of(segment: Segment) -> _Wrong | None:
    file, why = segment.lacks()
    return (why, where(segment.path, file)) if why else None


def _read(data: bytes | None, kind: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(data or b"", type=kind)
    except (ValueError, RecursionError):
        return None


def _unreadable(data: bytes, kind: Any) -> str:
    try:
        msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError) as error:
        return str(error)
    return ""


def _holds(kind: str, shards: tuple[Shard, ...]) -> str:
    if kind == SHARD:
        return "is the snapshot of a shard, not of a collection"
    local, segments = sum(shard.local for shard in shards), sum(shard.segments for shard in shards)
    return f"a whole snapshot: {count(local, 'shard')} with {count(segments, 'segment')}"


def _doubt(shard: Shard) -> str:
    own = dict(shard.replicas).get(shard.peer, "Active")
    known = own in {"Active", "Listener"} or not shard.local
    return "" if known else f"shard {shard.id} was {own} on the server that made it, so points may be missing from it"


def _lost(kept: dict[str, bytes], there: set[int]) -> _Wrong | None:
    """The first shard that the collection has and the archive has not; None if there is none."""
    params = msgspec.json.decode(kept["config.json"], type=_Config).params
    wanted: Iterable[int] = range(params.shard_number)
    if params.sharding_method == "custom":
        if "shard_key_mapping.json" not in kept:
            return "shard_key_mapping.json is not in it", Where(file="shard_key_mapping.json")
        mapping: _Mapping = msgspec.json.decode(kept["shard_key_mapping.json"], type=_Mapping)
        groups = mapping.values() if isinstance(mapping, dict) else [key.shard_ids for key in mapping]
        wanted = (number for group in groups for number in group)
    lost = next((number for number in wanted if number not in there), None)
    return None if lost is None else (f"shard {lost} of the collection is not in it", Where(lost))
