"""One collection: shards of the embedded engine on one peer or several."""

import json
import shutil
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import qdrant_edge as edge

from standin import shapes
from standin.answers import Refused, internal, wrong_input

_FORMAT = b"0.4.2"  # of collections in Qdrant 1.7 to 1.19
_UNREAD, _DIRTY = "1 of 1 read operations failed", "Dirty shard - shard is not fully initialized"
_ASCENDING = {"Euclid", "Manhattan"}


class Collection:
    """Points, shards and where they are.

    Attributes:
        folders: peer id to its folder for this collection.
        placement: shard id to peer id to the state of that replica.
        down: ids of the peers that do not run; shared by all collections.
        broken: shard id and peer id of replicas that were not restored to their end.
        operation: number of the last operation.
    """

    def __init__(self, name: str, config: dict[str, Any], folders: Mapping[int, Path], down: set[int]) -> None:
        self.name, self.config, self.folders, self.down = name, config, folders, down
        self.schema: dict[str, Any] = {}
        self.keys: dict[str | int, list[int]] = {}
        self.placement: dict[int, dict[int, str]] = {}
        self.broken: set[tuple[int, int]] = set()
        self.lock = threading.RLock()
        self._shards: dict[tuple[int, int], Any] = {}
        self.operation = 0
        self._changed = True

    def place(self, number: int, peers: Sequence[int]) -> None:
        """Make shard `number` with a replica on each of these peers, or open those that are there."""
        self.placement[number] = dict.fromkeys(peers, "Active")
        for peer in peers:
            folder = self.folder(number, peer)
            if (folder / "segments").is_dir():
                self._shards[number, peer] = edge.EdgeShard.load(str(folder))
            else:
                self._create(number, peer)

    def folder(self, number: int, peer: int) -> Path:
        return self.folders[peer] / str(number)

    def save(self) -> None:
        """Write what a restart has to find."""
        for folder in self.folders.values():
            folder.mkdir(parents=True, exist_ok=True)
            for name, data in self.root_files().items():
                (folder / name).write_bytes(data)

    def close(self) -> None:
        with self.lock:
            for shard in self._shards.values():
                shard.close()
            self._shards.clear()

    # --- writing

    def upsert(self, points: Sequence[Mapping[str, Any]], key: str | int | None = None) -> int:
        targets = self._targets(key)
        parts: dict[int, list[Any]] = {}
        for point in points:
            parts.setdefault(_shard_of(point["id"], targets), []).append(shapes.point(point))
        return self._write({n: edge.UpdateOperation.upsert_points(part) for n, part in parts.items()}, optimize=True)

    def delete(self, chosen: Mapping[str, Any]) -> int:
        if "points" in chosen:
            operation = edge.UpdateOperation.delete_points([shapes.point_id(one) for one in chosen["points"]])
        else:
            operation = edge.UpdateOperation.delete_points_by_filter(shapes.conditions(chosen["filter"]))
        return self._write(dict.fromkeys(self.placement, operation))

    def index(self, field: str, schema: Any) -> int:
        operation = edge.UpdateOperation.create_field_index(field, shapes.index_schema(schema))
        done = self._write(dict.fromkeys(self.placement, operation))
        self.schema[field] = _completed(schema)
        self.save()
        return done

    def _write(self, operations: Mapping[int, Any], *, optimize: bool = False) -> int:
        with self.lock, _told():
            for number, operation in operations.items():
                states = self.placement[number]
                for peer in states:
                    if peer in self.down:
                        states[peer] = "Dead"
                    if states[peer] == "Dead":
                        continue
                    self._shards[number, peer].update(operation)
                    if optimize and self.config["optimizer_config"]["indexing_threshold"] != _INDEXING:
                        self._shards[number, peer].optimize()
            self._changed = True
            self.operation += 1
            return self.operation

    def _targets(self, key: str | int | None) -> list[int]:
        if self.config["params"].get("sharding_method") != "custom":
            return sorted(self.placement)
        if key is None:
            raise wrong_input("Shard key not specified")
        if key not in self.keys:
            raise wrong_input(f"Shard key {json.dumps(key)} not found")
        return self.keys[key]

    # --- reading

    def count(self, peer: int, given: Mapping[str, Any]) -> int:
        request = edge.CountRequest(exact=given.get("exact", True), filter=shapes.conditions(given.get("filter")))
        return sum(self._each(peer, lambda shard: shard.count(request)))

    def query(self, peer: int, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        limit, using, params = given.get("limit", 10), given.get("using") or "", given.get("params") or {}
        request = edge.QueryRequest(
            limit=limit + given.get("offset", 0),
            query=shapes.query(given.get("query"), using),
            filter=shapes.conditions(given.get("filter")),
            with_payload=_asked(given.get("with_payload", False)),
            with_vector=_asked(given.get("with_vector", given.get("with_vectors", False))),
            params=edge.SearchParams(hnsw_ef=params.get("hnsw_ef"), exact=params.get("exact") or False),
            score_threshold=given.get("score_threshold"),
        )
        found = [hit for hits in self._each(peer, lambda shard: shard.query(request)) for hit in hits]
        params = shapes.dense_vectors(self.config["params"]).get(using, {})
        found.sort(key=lambda hit: hit.score, reverse=params.get("distance") not in _ASCENDING)
        start = given.get("offset", 0)
        return [shapes.record(hit, scored=True) for hit in found[start : start + limit]]

    def scroll(self, peer: int, given: Mapping[str, Any]) -> tuple[list[dict[str, Any]], Any]:
        offset, limit = given.get("offset"), given.get("limit") or 10
        request = edge.ScrollRequest(
            offset=None if offset is None else shapes.point_id(offset),
            limit=limit + 1,
            filter=shapes.conditions(given.get("filter")),
            with_payload=_asked(given.get("with_payload", True)),
            with_vector=_asked(given.get("with_vector", given.get("with_vectors", False))),
        )
        found = [one for part in self._each(peer, lambda shard: shard.scroll(request)[0]) for one in part]
        found.sort(key=lambda one: (not isinstance(one.id, int), one.id))
        said = [shapes.record(one) for one in found[: limit + 1]]
        return said[:limit], said[limit]["id"] if len(said) > limit else None

    def retrieve(self, peer: int, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        ids = [shapes.point_id(one) for one in given["ids"]]
        payload, vectors = _asked(given.get("with_payload", False)), _asked(given.get("with_vector", False))
        parts = self._each(peer, lambda shard: shard.retrieve(ids, payload, vectors))
        found = {one.id: shapes.record(one) for part in parts for one in part}
        return [found[one] for one in ids if one in found]

    def facts(self, peer: int) -> dict[str, Any]:
        """What `GET /collections/{name}` says, all being well."""
        infos = self._each(peer, lambda shard: shard.info())
        schema = {}
        for field, kind in self.schema.items():
            params = {} if isinstance(kind, str) else {"params": kind}
            points = sum(info.payload_schema[field].points for info in infos if field in info.payload_schema)
            schema[field] = {"data_type": kind if isinstance(kind, str) else kind["type"], **params, "points": points}
        return {
            "status": "green",
            "optimizer_status": "ok",
            "indexed_vectors_count": sum(info.indexed_vectors_count for info in infos),
            "points_count": self.points(peer),
            "segments_count": sum(info.segments_count for info in infos),
            "config": {key: value for key, value in self.config.items() if key != "uuid"},
            "payload_schema": schema,
            "update_queue": {"length": 0},
        }

    def points(self, peer: int) -> int:
        """How many there are, by an estimate that is quick and asks nobody who cannot answer."""
        where = ((number, peer if peer in states else next(iter(states))) for number, states in self.placement.items())
        return sum(self.points_in(*one) for one in where)

    def points_in(self, number: int, peer: int) -> int:
        with self.lock:
            return 0 if (number, peer) in self.broken else int(self._shards[number, peer].info().points_count)

    def _each(self, peer: int, ask: Callable[[Any], Any]) -> list[Any]:
        with self.lock, _told():
            return [ask(self._replica(number, peer)) for number in sorted(self.placement)]

    def _replica(self, number: int, peer: int) -> Any:
        active = [one for one, state in self.placement[number].items() if state == "Active" and one not in self.down]
        if not active:
            raise internal(f"{_UNREAD}:\n  Service internal error: tcp connect error")
        chosen = number, peer if peer in active else active[0]
        if chosen in self.broken:
            raise internal(f"{_UNREAD}:\n  Service internal error: Failed to Get Info,  {_DIRTY}")
        return self._shards[chosen]

    def restore(self, peer: int, shards: Mapping[int, Path], schema: dict[str, Any]) -> None:
        """Put these shards in place of what this peer holds; what is lost when they do not open stays lost."""
        with self.lock:
            self.schema |= schema
            for number in sorted(shards.keys() & self.placement.keys()):
                if peer not in self.placement[number]:
                    continue
                self._shards.pop((number, peer)).close()
                shutil.rmtree(self.folder(number, peer))
                shutil.move(shards[number], self.folder(number, peer))
                self.broken.add((number, peer))
                try:
                    self._shards[number, peer] = edge.EdgeShard.load(str(self.folder(number, peer)))
                except Exception as trouble:
                    shutil.rmtree(self.folder(number, peer))
                    self._create(number, peer)
                    raise internal(f"failed to load local shard {number}: {trouble}") from trouble
                self.broken.discard((number, peer))
                for other in self.placement[number].keys() - {peer}:  # what was restored counts, and is copied there
                    self.discard(number, other)
                    self.copy(number, peer, other)
            self._changed = True
        self.save()

    def copy(self, number: int, source: int, target: int) -> None:
        """Make a replica of a shard at another peer."""
        with self.lock:
            if target not in self.placement[number]:
                self._shards.pop((number, source)).close()
                shutil.copytree(self.folder(number, source), self.folder(number, target))
                for peer in (source, target):
                    self._shards[number, peer] = edge.EdgeShard.load(str(self.folder(number, peer)))
            self.placement[number][target] = "Active"

    def discard(self, number: int, peer: int) -> None:
        """Give up a replica, and with the last one the shard."""
        with self.lock:
            self._shards.pop((number, peer)).close()
            shutil.rmtree(self.folder(number, peer))
            del self.placement[number][peer]
            if not self.placement[number]:
                del self.placement[number]

    def _create(self, number: int, peer: int) -> None:
        folder, config = self.folder(number, peer), shapes.engine_config(self.config)
        folder.mkdir(parents=True)
        self._shards[number, peer] = edge.EdgeShard.create(str(folder), config)

    def settle(self) -> None:
        """Open every shard anew, which replays and removes the redo journals that older servers do not know."""
        if not self._changed:
            return
        for (number, peer), shard in self._shards.items():
            shard.flush()
            shard.close()
            self._shards[number, peer] = edge.EdgeShard.load(str(self.folder(number, peer)))
        self._changed = False

    def root_files(self) -> dict[str, bytes]:
        keys = [{"key": key, "shard_ids": numbers} for key, numbers in self.keys.items()]
        return {
            "version.info": _FORMAT,
            "config.json": compact(self.config),
            "shard_key_mapping.json": compact(keys),
            "payload_index.json": compact({"schema": self.schema}),
        }


_INDEXING = 10000  # KB, the server's default, below which nothing is optimized


def _shard_of(point: int | str, numbers: Sequence[int]) -> int:
    return numbers[zlib.crc32(str(point).encode()) % len(numbers)]


def _completed(schema: Any) -> Any:
    if isinstance(schema, dict) and schema["type"] == "integer":
        return {"type": "integer", "lookup": None, "range": None, "is_principal": None} | schema
    return schema


def _asked(given: Any) -> Any:
    return given if isinstance(given, bool | list) else bool(given)


def compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except Refused:
        raise
    except Exception as trouble:
        raise wrong_input(str(trouble)) from trouble
