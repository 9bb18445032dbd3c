"""Tell which file a segment of a snapshot lacks, by what the segment says of itself.

Source: what `Segment::take_snapshot` archives without a condition in Qdrant 1.16.3 to 1.19.0 (lib/segment/src/segment/
snapshot.rs, and each part's own `files`). A part that has a file which is not known here is not judged: it may be of a
later version.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from agent.rules.words import printable

LARGEST_KEPT = 1 << 20
MARKS = ("version.info", "segment.json")

_MOST = 4096
_VERSION = re.compile(rb"\d+(?:\.\d+)*\s*")
_TRACKED = re.compile(r"(vector_storage|vector_index|payload_storage)(?:-[^/]*)?")
_SERIES = re.compile(r"((?:store/)?page_|(?:vectors|offsets)/chunk_)([0-9]{1,4})(\.dat|\.mmap)")
_DELETED = {"deleted/status.dat", "deleted/flags_a.dat"}
_BLOBS = {"config.json", "tracker.dat", "bitmask.dat", "gaps.dat", "page_*.dat"}
_MAPPED = {"matrix.dat", "deleted.dat"}
_CHUNKED = {"vectors/config.json", "vectors/status.dat", *_DELETED}
_MULTIPLE = {*_CHUNKED, "offsets/config.json", "offsets/status.dat"}
_SPARSE = {f"store/{name}" for name in _BLOBS} | _DELETED
_GRAPH = {"graph.bin", "links*.bin"}
_OPTIONAL = re.compile(r"quantized.*|(?:vectors|offsets)/chunk_\*\.mmap|deleted/flags_b\.dat|hnsw_config\.json")
_FROZEN = {"id_tracker.mappings", "id_tracker.versions", "id_tracker.deleted"}
_GROWING = {"mutable_id_tracker.mappings", "mutable_id_tracker.versions"}


class Segment:
    """What was seen of the files of one segment; however many there are, this stays small.

    Args:
        path: of the segment in the archive.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._marks: dict[str, bytes | None] = {}
        self._ids: set[str] = set()
        self._parts: dict[str, _Part] = {}
        self._seen = 0

    def see(self, name: str) -> None:
        """Take note of a file, by its name within the segment."""
        part, _, rest = name.partition("/")
        if name in MARKS:
            self._marks.setdefault(name, None)
        elif "id_tracker" in part or _TRACKED.fullmatch(part) or name == "payload_index/config.json":
            self._seen += 1
            if self._seen > _MOST:
                self._parts.clear()
            elif rest:
                self._parts.setdefault(part, _Part()).add(rest)
            else:
                self._ids.add(name)

    def keep(self, name: str, data: bytes) -> None:
        """Take the content of one of `MARKS`."""
        self._marks[name] = data

    def lacks(self) -> tuple[str, str]:
        """The first file that is missing or cannot be read, and what is wrong, in words; both empty if there is none.

        A server skips a segment without a version in silence, and cannot load one without a description.
        """
        for mark, then in zip(MARKS, ("a server would lose the segment", "no server can load it"), strict=True):
            if mark not in self._marks:
                return mark, f"{self.path} has no {mark}, and {then}"
        version = self._marks["version.info"]
        if version is not None and not _VERSION.fullmatch(version):
            return MARKS[0], f"version.info of {self.path} holds no version"
        try:
            described = self._marks["segment.json"]
            config = _UNKNOWN if described is None else msgspec.json.decode(described, type=_State).config
        except msgspec.ValidationError:
            return "", ""  # of a version that describes its segments in another way
        except (ValueError, RecursionError) as error:
            return MARKS[1], f"segment.json of {self.path} cannot be read: {error}"
        missing = "" if self._seen > _MOST else next(self._missing(config), "")
        return missing, f"{self.path} has no {missing}" if missing else ""

    def _missing(self, config: "_Config") -> "Iterator[str]":
        if config.payload_storage_type.type in {"mmap", "in_ram_mmap"}:
            yield from self._part("payload_storage", _BLOBS, certain=True)
        if config is not _UNKNOWN:
            yield from self._part("payload_index", {"config.json"}, certain=True)
        growing = config.growing and not self._ids & _FROZEN
        for name, dense in config.vector_data.items():
            yield from self._dense(f"-{name}" if name else "", dense, growing=growing)
        for name, sparse in config.sparse_vector_data.items():
            if sparse.storage_type == "mmap":
                yield from self._part(f"vector_storage-{name}" if name else "vector_storage", _SPARSE, certain=growing)
        if self._ids <= _FROZEN | _GROWING:
            yield from sorted(_FROZEN - self._ids if self._ids & _FROZEN else ())
            yield from sorted(_GROWING - self._ids if self._ids == {"mutable_id_tracker.versions"} else ())

    def _dense(self, suffix: str, dense: "_Dense", *, growing: bool) -> "Iterator[str]":
        """What the storage and the index of one vector lack.

        A vector that was added to a finished segment, which servers allow from 1.18 on, has no files and no graph.
        """
        storage, graph = dense.storage_type, dense.index.type == "hnsw"
        mapped, chunked = storage in {"Mmap", "InRamMmap"}, storage in {"ChunkedMmap", "InRamChunkedMmap"}
        if (mapped or chunked) and dense.datatype in {None, "float32", "float16", "uint8"}:
            needed = _MULTIPLE if dense.multivector_config else _MAPPED if mapped else _CHUNKED
            yield from self._part(f"vector_storage{suffix}", needed, certain=mapped or graph or growing)
        if graph:
            yield from self._part(f"vector_index{suffix}", _GRAPH, certain=True)

    def _part(self, folder: str, needed: set[str], *, certain: bool) -> "Iterator[str]":
        """What `folder` lacks; one of which there is nothing lacks everything if it is `certain` that it has to be."""
        part = self._parts.get(folder)
        if part is not None:
            yield from (f"{folder}/{printable(name)}" for name in part.lacks(needed))
        elif certain and "/" not in folder:  # until 1.17 a vector's name could hold one
            yield printable(folder)


class _Part:
    """The files of one folder of a segment; those that are numbered count as one, which lacks a number or does not."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._series: dict[str, int] = {}

    def add(self, name: str) -> None:
        if numbered := _SERIES.fullmatch(name):
            name = f"{numbered[1]}*{numbered[3]}"
            self._series[name] = self._series.get(name, 0) | 1 << int(numbered[2])
        elif name.startswith("links"):
            name = "links*.bin"
        self._names.add(name)

    def lacks(self, needed: set[str]) -> Iterator[str]:
        if any(not _OPTIONAL.fullmatch(name) for name in self._names - needed):
            return
        yield from (name.replace("page_*", "page_0") for name in sorted(needed - self._names))
        for name, numbers in self._series.items():
            if numbers & (numbers + 1):
                yield name.replace("*", str((~numbers & (numbers + 1)).bit_length() - 1))


class _Kind(Struct):
    type: str = ""


class _Dense(Struct):
    storage_type: str
    index: _Kind
    multivector_config: Any = None
    datatype: str | None = None


class _SparseIndex(Struct):
    index_type: str


class _Sparse(Struct):
    index: _SparseIndex
    storage_type: str = "on_disk"


class _Config(Struct):
    payload_storage_type: _Kind
    vector_data: dict[str, _Dense] = {}
    sparse_vector_data: dict[str, _Sparse] = {}

    @property
    def growing(self) -> bool:
        """Whether points can still be added to the segment."""
        dense = all(
            one.index.type == "plain" and one.storage_type in {"ChunkedMmap", "InRamChunkedMmap"}
            for one in self.vector_data.values()
        )
        return dense and all(one.index.index_type == "MutableRam" for one in self.sparse_vector_data.values())


class _State(Struct):
    """`segment.json`."""

    config: _Config


_UNKNOWN = _Config(_Kind())
