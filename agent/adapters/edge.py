"""Read collections of the embedded engine (Qdrant Edge) as a source of backups.

One collection is one folder with one shard. Its archive is a server's collection snapshot and restores into a real
Qdrant as well; what only a server keeps, such as the collection's configuration, is derived here.
"""

import os
import random
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from glob import escape, glob
from types import ModuleType
from typing import Any, Protocol

from msgspec import DecodeError, Struct, json

from agent.errors import AgentError, BadUsage, CannotWrite, NoRights, Refused, TryLater, Unreachable

_SHARD = 0
_SHARD_FILES = {  # the server that restores puts its own id in place of 1
    "replica_state.json": b'{"is_local":true,"this_peer_id":1,"peers":{"1":"Active"}}',
    "shard_config.json": b'{"type":"ReplicaSet"}',
}
_COLLECTION_FORMAT = b"0.4.2"  # of Qdrant 1.16 to 1.19, lib/collection/Cargo.toml
_BATCH = 500


class Plan(Protocol):
    """What an archive will hold, see `snapshot_tar.SnapshotPlan`."""

    @property
    def raw_size(self) -> int:
        """Exact length of the archive, bytes."""

    def chunks(self) -> Iterator[bytes]:
        """Yield the archive in pieces of at most 1 MiB."""


Planner = Callable[[Mapping[int, str], Mapping[str, bytes], Mapping[int, Mapping[str, bytes]]], Plan]


class Source(Struct, frozen=True):
    """A collection that is held open, so that no other process writes to it.

    Attributes:
        name: of the collection.
        points: exact count.
        shards: ids of its shards.
        config: the collection's configuration as a server keeps it in `config.json`.
        payload_schema: payload field to the schema of its index, as a server keeps it in `payload_index.json`.
        engine_version: the engine that counted and flushed.
        plan: the archive to be read while the collection is open.
    """

    name: str
    points: int
    shards: tuple[int, ...]
    config: dict[str, Any]
    payload_schema: dict[str, Any]
    engine_version: str
    plan: Plan


def version() -> str:
    """Name and version of the engine, such as "qdrant-edge-py 0.9.0".

    Raises:
        AgentError: it is not installed.
    """
    from importlib import metadata  # noqa: PLC0415 - costs 20 ms, and only this function wants it

    _engine()
    return f"qdrant-edge-py {metadata.version('qdrant-edge-py')}"


def collections(path: str) -> list[str]:
    """Names of the collections in the folder `path`, sorted.

    Raises:
        Unreachable: the folder is missing or may not be read.
    """
    try:
        names = os.listdir(path)
    except OSError as error:
        message = f"the collections in {path} cannot be listed: {error.strerror}"
        raise Unreachable(message, "check the path, its mount and its permissions") from error
    return sorted(name for name in names if os.path.isdir(os.path.join(path, name, "segments")))


@contextmanager
def open_collection(path: str, name: str, plan: Planner) -> Iterator[Source]:
    """Open the collection `name` in the folder `path`, and hold it until the archive has been read.

    Opening replays the write-ahead log and flushes, which writes to the collection's own files.

    Args:
        path: folder of the collections.
        name: the collection, which is the name of its folder.
        plan: `snapshot_tar.plan`.

    Raises:
        Unreachable: there is no such collection, or the engine cannot open it.
        TryLater: another process has it open, or its files change.
        Refused: nothing would keep another process from writing to it.
        NoRights, CannotWrite: the system forbids opening it, or has no space for that.
        AgentError: the engine is not installed.
    """
    folder = _folder(path, name)
    if not os.path.isdir(os.path.join(folder, "segments")):
        there = ", ".join(collections(path)) or "none"
        raise Unreachable(f"there is no collection '{name}' in {path}", f"there are: {there}")
    _require_lock(folder, name)
    # A flush leaves redo journals, which the next opening replays and removes. A server that knows none, such as 1.18,
    # would leave them lying in the restored collection, and a later one would replay them over newer data.
    with _opened(folder, name) as shard, _translated(name):
        shard.flush()
    with _opened(folder, name) as shard:
        with _translated(name):
            points = shard.count(_engine().CountRequest(exact=True))
        config = server_config(_read(os.path.join(folder, "edge_config.json")))
        schema = _payload_schema(folder)
        planned = plan({_SHARD: folder}, _root_files(config, schema), {_SHARD: _SHARD_FILES})
        yield Source(name, points, (_SHARD,), config, schema, version(), planned)


def build_sample(path: str, name: str, points: int, dimensions: int, *, seed: int = 0) -> None:
    """Create a small collection with made-up cities, indexed by `city`; the same arguments give the same points.

    Args:
        path: folder of the collections.
        name: of the new collection.
        points: how many; their ids are 0 up to this number.
        dimensions: length of each vector; distance is cosine.
        seed: of the random numbers.

    Raises:
        Refused: the folder already has a collection of this name.
        CannotWrite: the folder cannot be made, or its disk is full.
        AgentError: the engine is not installed.
    """
    engine = _engine()
    folder = _folder(path, name)
    if os.path.exists(folder):
        raise Refused(f"{folder} exists already", "choose another name for the sample")
    try:
        os.makedirs(folder)
    except OSError as error:
        raise CannotWrite(f"{folder} cannot be made: {error.strerror}", "choose a writable folder") from error
    config = engine.EdgeConfig(vectors=engine.EdgeVectorParams(size=dimensions, distance=engine.Distance.Cosine))
    dice = random.Random(seed)  # noqa: S311 - a sample has to be the same each time, not secret
    with _translated(name):
        shard = engine.EdgeShard.create(folder, config)
        shard.update(engine.UpdateOperation.create_field_index("city", engine.PayloadSchemaType.Keyword))
        for start in range(0, points, _BATCH):
            batch = [_point(number, dimensions, dice) for number in range(start, min(points, start + _BATCH))]
            shard.update(engine.UpdateOperation.upsert_points(batch))
        shard.flush()
        shard.close()


def server_config(edge: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the engine's `edge_config.json` to a server's `config.json`.

    Source: CollectionConfigInternal in Qdrant's lib/collection/src/config.rs. Values that are not set are left out, so
    that each server takes its own defaults. Placement in memory is said in both words: `memory`, and the flags that
    servers before 1.19 know.
    """
    vectors = {name: _vector(params) for name, params in edge.get("vectors", {}).items()}
    sparse = {name: _sparse(params) for name, params in edge.get("sparse_vectors", {}).items()}
    payload = edge.get("payload_memory")
    params = {
        "vectors": vectors[""] if list(vectors) == [""] else vectors,
        "sparse_vectors": sparse or None,
        "shard_number": 1,
        "replication_factor": 1,
        "write_consistency_factor": 1,
        "on_disk_payload": edge.get("on_disk_payload", True) if payload is None else payload == "cold",
    }
    hnsw = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000} | edge.get("hnsw_config", {})
    optimizer = {"default_segment_number": 0, "flush_interval_sec": 5} | _given(edge.get("optimizers", {}))
    config = {
        "params": _given(params),
        "hnsw_config": _placed(hnsw),
        "optimizer_config": optimizer,
        "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1},
        "quantization_config": _quantization(edge.get("quantization_config")),
    }
    return _given(config)


def _vector(edge: Mapping[str, Any]) -> dict[str, Any]:
    hnsw = _placed(edge.get("hnsw_config", {})) or None
    quantization = _quantization(edge.get("quantization_config"))
    return _given({**_placed(edge), "hnsw_config": hnsw, "quantization_config": quantization})


def _sparse(edge: Mapping[str, Any]) -> dict[str, Any]:
    index = {key: value for key, value in edge.items() if key != "modifier"}
    return _given({"index": _placed(index), "modifier": edge.get("modifier")})


def _quantization(edge: Mapping[str, Any] | None) -> dict[str, Any] | None:
    flags = {"pinned": True, "cold": False}
    kinds = (edge or {}).items()
    return {kind: _given({"always_ram": flags.get(params.get("memory")), **params}) for kind, params in kinds} or None


def _placed(edge: Mapping[str, Any]) -> dict[str, Any]:
    flag = {"on_disk": edge["memory"] == "cold"} if edge.get("memory") else {}
    return _given({**edge, **flag})


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _payload_schema(folder: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for path in glob(os.path.join(escape(folder), "segments", "*", "payload_index", "config.json")):
        fields |= _read(path)["indexed_fields"]
    return dict(sorted(fields.items()))


def _root_files(config: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, bytes]:
    return {
        "version.info": _COLLECTION_FORMAT,
        "config.json": json.encode(config),
        "shard_key_mapping.json": b"[]",
        "payload_index.json": json.encode({"schema": schema}),
    }


def _require_lock(folder: str, name: str) -> None:
    """The engine's only lock is the one on the write-ahead log."""
    config = os.path.join(folder, "edge_config.json")
    if os.path.exists(config) and _read(config).get("wal_enabled") is False:
        message = (
            f"collection '{name}' keeps no write-ahead log, so nothing would stop its owner from writing meanwhile"
        )
        raise Refused(message, "create it with the write-ahead log enabled, which is the engine's default")


def _folder(path: str, name: str) -> str:
    if os.path.basename(name) != name or name in {"", ".", ".."}:
        raise BadUsage(f"'{name}' is no name of a collection", "give the name of a folder, without its path")
    return os.path.join(path, name)


@contextmanager
def _opened(folder: str, name: str) -> Iterator[Any]:
    engine = _engine()
    with _translated(name):
        shard = engine.EdgeShard.load(folder)
    try:
        yield shard
    finally:
        with _translated(name):
            shard.close()


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        # A panic of the engine is no Exception, and its class cannot be imported.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise _trouble(name, error) from error


def _trouble(name: str, error: BaseException) -> AgentError:
    text = str(error)
    if "WouldBlock" in text:
        return TryLater(f"collection '{name}' is open in another process", "close it there, then back up again")
    system = re.search(r"\(os error (\d+)\)", text)
    match int(system[1]) if system else 0:
        case 1 | 13:
            return NoRights(f"collection '{name}' may not be opened: {text}", "run as the user that owns it")
        case 28 | 30 | 122:
            return CannotWrite(f"collection '{name}' cannot be opened: {text}", "opening it needs some free space")
    return Unreachable(f"the engine failed on collection '{name}': {text}", "if its files are damaged, restore it")


def _engine() -> ModuleType:
    try:
        import qdrant_edge  # noqa: PLC0415 - optional, and 35 MB that only a few commands want
    except ImportError as error:
        raise AgentError("the embedded Qdrant engine is not installed", "pip install 'snapward[edge]'") from error
    return qdrant_edge


def _point(number: int, dimensions: int, dice: random.Random) -> Any:
    city = dice.choice(("Amsterdam", "Kyoto", "København", "Lagos", "Lima", "Tbilisi", "Wellington"))
    payload = {"city": city, "year": dice.randint(1950, 2025), "title": f"note {number} from {city}"}
    return _engine().Point(number, [dice.uniform(-1, 1) for _ in range(dimensions)], payload)


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return json.decode(file.read(), type=dict[str, Any])
    except (OSError, DecodeError) as error:
        raise Unreachable(f"{path} cannot be read: {error}", "look at the disk and its log") from error
