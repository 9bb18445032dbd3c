"""Judge what a collection snapshot holds: what is there, what is missing, what is unknown.

Source: `Collection::restore_snapshot` and `ShardReplicaSet::restore_snapshot` of Qdrant 1.16 to 1.19.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from agent.rules.words import count, size

ROOT_FILES = ("version.info", "config.json", "shard_key_mapping.json", "payload_index.json")
SHARD_FILES = ("replica_state.json", "shard_config.json")
LARGEST_KEPT = 1 << 20

_LAST = "payload_index.json"
_KNOWN = frozenset({"newest_clocks.json", "oldest_clocks.json", "applied_seq.json", "segments_manifest.json"})
_STREAMED = re.compile(r"segments/[^/]+/(?:files/)?(.+)")
_TAR = re.compile(r"segments/[^/]+\.tar")
_VERSION = re.compile(rb"\d+(?:\.\d+)*\s*")
_BUDGET = 8 << 20
_SHARD_COST = 512
_NOTES = 20


class Shard(Struct, frozen=True):
    """One shard as its own files describe it.

    Attributes:
        id: number of the shard.
        local: whether its data were on the server, and so are in the archive.
        segments: how many are in the archive.
        wal: whether files of its write-ahead log are in the archive.
        peer: the server that made the snapshot; 0 where its files do not say.
        replicas: (peer, state) of each replica, such as Active, Dead or Partial.
    """

    id: int
    local: bool
    segments: int
    wal: bool
    peer: int
    replicas: tuple[tuple[int, str], ...]


class Outline(Struct, frozen=True):
    """What a walk through one archive showed.

    Attributes:
        complete: whether the archive is a whole snapshot of a collection.
        why: what it lacks; or, when complete, what it holds.
        size: bytes of the archive.
        entries: how many the archive and the segments' tars have together.
        shards: every shard that the archive names, by number; of one peer of a cluster not all of them are local.
        version: format of the collection, such as 0.4.2; it is not the server's version.
        config: `config.json`, the collection's configuration.
        shard_key_mapping: `shard_key_mapping.json`.
        payload_index: `payload_index.json`.
        notes: what was not understood or is worth knowing, and proves no damage.
    """

    complete: bool
    why: str
    size: int = 0
    entries: int = 0
    shards: tuple[Shard, ...] = ()
    version: str = ""
    config: bytes | None = None
    shard_key_mapping: bytes | None = None
    payload_index: bytes | None = None
    notes: tuple[str, ...] = ()

    @property
    def segments(self) -> int:
        """How many segments there are in all shards."""
        return sum(shard.segments for shard in self.shards)

    @property
    def local(self) -> tuple[int, ...]:
        """Numbers of the shards whose data are in the archive."""
        return tuple(shard.id for shard in self.shards if shard.local)


class Holding:
    """What was found so far of one shard, whose segments are tars, or else folders as a streamed snapshot has."""

    def __init__(self) -> None:
        self.segments = 0
        self.wal = False
        self.streamed = {"segment.json": 0, "version.info": 0}


class Gathered:
    """What was found so far of one archive; however much there is of it, this stays small."""

    def __init__(self) -> None:
        self.entries = 0
        self.last = ""
        self.wrong = ""
        self.kept: dict[str, bytes] = {}
        self.shards: dict[int, Holding] = {}
        self.notes: list[str] = []
        self._budget = _BUDGET

    def room(self, need: int) -> bool:
        """Whether `need` bytes more may be kept."""
        self._budget -= need
        return self._budget >= 0

    def blame(self, why: str) -> None:
        """Say what is wrong; the first reason is the one that is told."""
        self.wrong = self.wrong or why

    def note(self, what: str) -> None:
        """Say what is worth knowing, once, and not more than can be read."""
        if what not in self.notes and len(self.notes) < _NOTES:
            self.notes.append(what)

    def other(self, shard: int | None, name: str) -> None:
        """Take a file that is not read: `name` within its `shard`, or in the archive itself."""
        held = self.shards.get(-1 if shard is None else shard)
        if held is None:
            self.note(f"has {name}, which is not known")
        elif name.startswith("wal/"):
            held.wal = True
        elif _TAR.fullmatch(name):
            held.segments += 1
            self.note(f"has {shard}/{name} with holes, which was not looked into")
        elif streamed := _STREAMED.fullmatch(name):
            self.note("has segments as folders, as a streamed snapshot has them")
            if streamed[1] in held.streamed:
                held.streamed[streamed[1]] += 1
        elif name not in _KNOWN:
            self.note(f"has {shard}/{name}, which is not known")

    def shard(self, number: int) -> Holding | None:
        """The shard `number`, new or known; None if there are more of them than can be."""
        if number not in self.shards:
            if not self.room(_SHARD_COST):
                return None
            self.shards[number] = Holding()
        return self.shards[number]

    def outline(self, length: int, broken: str) -> Outline:
        """Everything that was found in an archive of `length` bytes; `broken` is what is wrong with it as a tar."""
        shards = tuple(self._shard(number) for number in sorted(self.shards))
        why = broken or self.wrong or self._lacking(shards)
        local = sum(shard.local for shard in shards)
        segments = sum(shard.segments for shard in shards)
        return Outline(
            complete=not why,
            why=why or f"has {count(local, 'shard')} with {count(segments, 'segment')}, up to its end",
            size=length,
            entries=self.entries,
            shards=shards,
            version=self.kept.get("version.info", b"").decode("utf-8", "replace").strip()[:40],
            config=self.kept.get("config.json"),
            shard_key_mapping=self.kept.get("shard_key_mapping.json"),
            payload_index=self.kept.get(_LAST),
            notes=(*self.notes, *filter(None, map(_doubt, shards))),
        )

    def _shard(self, number: int) -> Shard:
        held = self.shards[number]
        segments = held.segments + held.streamed["version.info"]
        try:
            state = msgspec.json.decode(self.kept.get(f"{number}/replica_state.json", b""), type=_State)
            replicas = tuple(sorted((int(peer), str(word)) for peer, word in state.peers.items()))
        except (ValueError, RecursionError):  # told by `_lacks`
            return Shard(number, segments > 0, segments, held.wal, 0, ())
        return Shard(number, state.is_local, segments, held.wal, state.this_peer_id, replicas)

    def _lacking(self, shards: tuple[Shard, ...]) -> str:
        if not self.entries:
            return "holds nothing"
        if not shards and self.last == "shard_config.json":
            return "is the snapshot of a shard, not of a collection"
        if self.last != _LAST:
            return f"its last entry is {self.last}; a whole snapshot ends with {_LAST}"
        for name in ("version.info", "config.json"):
            if name not in self.kept:
                return f"{name} is not in it"
        if not _VERSION.fullmatch(self.kept["version.info"]):
            return "version.info holds no version"
        there = {shard.id for shard in shards}
        return self._unreadable() or _lost(self.kept, there) or next(filter(None, map(self._lacks, shards)), "")

    def _unreadable(self) -> str:
        for name, kind in _ROOT_TYPES.items():
            try:
                msgspec.json.decode(self.kept.get(name, b"[]"), type=kind)
            except (ValueError, RecursionError) as error:
                return f"{name} cannot be read: {error}"
        return ""

    def _lacks(self, shard: Shard) -> str:
        for name in SHARD_FILES:
            path = f"{shard.id}/{name}"
            try:
                msgspec.json.decode(self.kept.get(path, b""), type=_State if name == SHARD_FILES[0] else dict[str, Any])
            except (ValueError, RecursionError) as error:
                return f"{path} {f'cannot be read: {error}' if path in self.kept else 'is not in it'}"
        if len({*self.shards[shard.id].streamed.values()}) > 1:
            return f"shard {shard.id} has a segment without its segment.json or version.info"
        return f"shard {shard.id} has no segment" if shard.local and not shard.segments else ""


class _State(Struct):
    """`replica_state.json` of a shard."""

    is_local: bool
    this_peer_id: int
    peers: dict[str, Any]


class _Params(Struct):
    shard_number: int = 1
    sharding_method: str | None = None


class _Config(Struct):
    """`config.json` of a collection."""

    params: _Params


class _Key(Struct):
    """An entry of `shard_key_mapping.json`, which older servers write as a mapping of keys to numbers."""

    shard_ids: list[int]


_Mapping = list[_Key] | dict[str, list[int]]
_ROOT_TYPES: dict[str, Any] = {"config.json": _Config, "shard_key_mapping.json": _Mapping, _LAST: Any}


def _doubt(shard: Shard) -> str:
    own = dict(shard.replicas).get(shard.peer, "Active")
    known = own in {"Active", "Listener"} or not shard.local
    return "" if known else f"shard {shard.id} was {own} on the server that made it, so points may be missing from it"


def _lost(kept: dict[str, bytes], there: set[int]) -> str:
    """The first shard that the collection has and the archive has not, in words; empty if there is none."""
    params = msgspec.json.decode(kept["config.json"], type=_Config).params
    wanted: Iterable[int] = range(params.shard_number)
    if params.sharding_method == "custom":
        if "shard_key_mapping.json" not in kept:
            return "shard_key_mapping.json is not in it"
        mapping: _Mapping = msgspec.json.decode(kept["shard_key_mapping.json"], type=_Mapping)
        groups = mapping.values() if isinstance(mapping, dict) else [key.shard_ids for key in mapping]
        wanted = (number for group in groups for number in group)
    lost = next((number for number in wanted if number not in there), None)
    return "" if lost is None else f"shard {lost} of the collection is not in it"


def too_much(name: str, stored: int) -> str:
    """The words for a description that is too long to be one."""
    return f"{name} has {size(stored)}, too much for what it is"
