"""Read collections of the embedded engine (Qdrant Edge) as a source of backups.

One collection is one folder with one shard. Its archive is a server's collection snapshot and restores into a real
Qdrant as well; what only a server keeps, such as the collection's configuration, is derived here.
"""

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from glob import escape, glob
from typing import Any, Protocol

from msgspec import DecodeError, Struct, json

from agent.adapters.edge import asking, drawing
from agent.adapters.edge.config import server_config
from agent.adapters.edge.drawing import Record
from agent.adapters.edge.engine import library, opened, translated, version
from agent.errors import BadUsage, CannotWrite, Refused, Unreachable

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
        record: what a copy of it can be compared with.
        plan: the archive to be read while the collection is open.
    """

    name: str
    points: int
    shards: tuple[int, ...]
    config: dict[str, Any]
    payload_schema: dict[str, Any]
    engine_version: str
    record: Record
    plan: Plan


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
    with opened(folder, name) as shard, translated(name):
        shard.flush()
    with opened(folder, name) as shard:
        with translated(name):
            points = asking.count(shard)
            recorded = drawing.record(shard, points)
        config = server_config(_read(os.path.join(folder, "edge_config.json")))
        schema = _payload_schema(folder)
        planned = plan({_SHARD: folder}, _root_files(config, schema), {_SHARD: _SHARD_FILES})
        yield Source(name, points, (_SHARD,), config, schema, version(), recorded, planned)


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
    engine = library()
    folder = _folder(path, name)
    if os.path.exists(folder):
        raise Refused(f"{folder} exists already", "choose another name for the sample")
    try:
        os.makedirs(folder)
    except OSError as error:
        raise CannotWrite(f"{folder} cannot be made: {error.strerror}", "choose a writable folder") from error
    config = engine.EdgeConfig(vectors=engine.EdgeVectorParams(size=dimensions, distance=engine.Distance.Cosine))
    dice = random.Random(seed)  # noqa: S311 - a sample has to be the same each time, not secret
    with translated(name):
        shard = engine.EdgeShard.create(folder, config)
        shard.update(engine.UpdateOperation.create_field_index("city", engine.PayloadSchemaType.Keyword))
        for start in range(0, points, _BATCH):
            batch = [_point(number, dimensions, dice) for number in range(start, min(points, start + _BATCH))]
            shard.update(engine.UpdateOperation.upsert_points(batch))
        shard.flush()
        shard.close()


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


def _point(number: int, dimensions: int, dice: random.Random) -> Any:
    city = dice.choice(("Amsterdam", "Kyoto", "København", "Lagos", "Lima", "Tbilisi", "Wellington"))
    payload = {"city": city, "year": dice.randint(1950, 2025), "title": f"note {number} from {city}"}
    return library().Point(number, [dice.uniform(-1, 1) for _ in range(dimensions)], payload)


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return json.decode(file.read(), type=dict[str, Any])
    except (OSError, DecodeError) as error:
        raise Unreachable(f"{path} cannot be read: {error}", "look at the disk and its log") from error
