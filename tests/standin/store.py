"""All collections and aliases, of one server or of all peers of a cluster."""

import json
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from standin.answers import Refused, internal, no_collection, wrong_input

if TYPE_CHECKING:
    from standin.collection import Collection  # the engine is 35 MB that a server without collections does not need

_HNSW = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000, "max_indexing_threads": 0, "on_disk": False}
_OPTIMIZER = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "max_segment_size": None,
    "memmap_threshold": None,
    "indexing_threshold": 10000,
    "flush_interval_sec": 5,
    "max_optimization_threads": None,
    "prevent_unoptimized": None,
}
_WAL = {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1}


class Store:
    """Collections by name and aliases; `folders` is peer id to where that peer keeps its storage."""

    def __init__(self, folders: Mapping[int, Path]) -> None:
        self.folders = dict(folders)
        self.collections: dict[str, Collection] = {}
        self.aliases: dict[str, str] = {}
        self.lock = threading.RLock()
        self.down: set[int] = set()  # peers that are not up
        for folder in self.folders.values():
            (folder / "collections").mkdir(parents=True, exist_ok=True)
        if len(self.folders) == 1:
            self._load()

    @property
    def distributed(self) -> bool:
        return len(self.folders) > 1

    def get(self, name: str) -> "Collection":
        """The collection of this name or alias."""
        with self.lock:
            found = self.collections.get(self.aliases.get(name, name))
        if found is None:
            raise no_collection(name)
        return found

    def create(self, name: str, asked: Mapping[str, Any]) -> None:
        check_name(name)
        with self.lock:
            if name in self.collections:
                raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
            if name in self.aliases:
                raise wrong_input(f"Can't create collection with name {name}. Alias with the same name already exists")
            config = server_config(asked)
            if self.distributed:
                config["uuid"] = str(uuid5(NAMESPACE_URL, name))
            self._make(name, config)

    def take_over(self, name: str, config: dict[str, Any]) -> "Collection":
        """The collection that is to be restored, made if it is missing, refused if it is another kind.

        As on a real server an alias leads to its collection, whose archive this then need not be.
        """
        with self.lock:
            name = self.aliases.get(name, name)
            if name not in self.collections:
                self._make(name, config)
            found = self.collections[name]
        for what, of, snapshot in (
            ("Vectors", found.config["params"]["vectors"], config["params"]["vectors"]),
            ("shard number", found.config["params"]["shard_number"], config["params"]["shard_number"]),
        ):
            if of != snapshot:
                text = f"Collection {what.lower()}: {of} Snapshot {what}: {snapshot}"
                raise wrong_input(f"Snapshot is not compatible with existing collection: {text}")
        return found

    def drop(self, name: str) -> bool:
        with self.lock:
            gone = self.collections.pop(name, None)
            if gone is None:
                return False
            gone.close()
            for folder in gone.folders.values():
                shutil.rmtree(folder)
            self.aliases = {alias: target for alias, target in self.aliases.items() if target != name}
            self._save_aliases()
            return True

    def add_key(self, name: str, asked: Mapping[str, Any]) -> None:
        """Make the shards of a shard key."""
        collection, key = self.get(name), asked["shard_key"]
        if not self.distributed:
            raise Refused(400, "Bad request: Distributed mode disabled")
        if collection.config["params"].get("sharding_method") != "custom":
            raise Refused(400, "Bad request: Shard Key cannot be created with Auto sharding method")
        if key in collection.keys:
            raise Refused(400, f"Bad request: Sharding key {json.dumps(key)} already exists for collection {name}")
        where, params = asked.get("placement") or list(self.folders), collection.config["params"]
        for peer in where:
            check_peer(self, peer)
        with collection.lock:
            start = 1 + max(collection.placement, default=0)
            numbers = list(range(start, start + (asked.get("shards_number") or params["shard_number"])))
            for number in numbers:
                copies = asked.get("replication_factor") or params["replication_factor"]
                collection.place(number, _spread(where, number, copies))
            collection.keys[key] = numbers
            collection.save()

    def drop_key(self, name: str, key: str | int) -> None:
        """Remove a shard key with its shards."""
        collection = self.get(name)
        if not self.distributed:
            raise Refused(400, "Bad request: Distributed mode disabled")
        if key not in collection.keys:
            raise Refused(400, f"Bad request: Sharding key {json.dumps(key)} does not exist for collection {name}")
        with collection.lock:
            for number in collection.keys.pop(key):
                for peer in list(collection.placement[number]):
                    collection.discard(number, peer)
            collection.save()

    def update(self, name: str, asked: Mapping[str, Any]) -> None:
        """Change the params of a collection."""
        collection = self.get(name)
        collection.config["params"] |= asked.get("params") or {}
        collection.save()

    def change_aliases(self, actions: Sequence[Mapping[str, Any]]) -> None:
        """Make one after the other: as on a real server, those before one that fails are made."""
        with self.lock:
            for action in actions:
                self._change(self.aliases, action)
                self._save_aliases()

    def _change(self, aliases: dict[str, str], action: Mapping[str, Any]) -> None:
        match action:
            case {"create_alias": {"collection_name": name, "alias_name": alias}}:
                if name not in self.collections:
                    raise no_collection(name)
                if alias in self.collections:
                    raise Refused(409, f"Wrong input: Collection `{alias}` already exists!")
                aliases[alias] = name
            case {"delete_alias": {"alias_name": alias}}:
                aliases.pop(alias, None)
            case {"rename_alias": {"old_alias_name": old, "new_alias_name": new}}:
                if old not in aliases:
                    raise Refused(404, f"Not found: Alias {old} does not exists!")
                aliases[new] = aliases.pop(old)
            case _:
                raise Refused(
                    400, "Format error in JSON body: data did not match any variant of untagged enum AliasOperations"
                )

    def close(self) -> None:
        for collection in self.collections.values():
            collection.close()

    def _make(self, name: str, config: dict[str, Any]) -> None:
        from standin.collection import Collection

        made = Collection(name, config, self._folders(name), self.down)
        try:
            if config["params"].get("sharding_method") != "custom":
                for number in range(config["params"]["shard_number"]):
                    made.place(number, self._peers(number, config))
            made.save()
        except OSError as trouble:
            text = f"Can't create directory for collection {name}. Error: {trouble.strerror}"
            raise internal(f"{text} (os error {trouble.errno})") from trouble
        self.collections[name] = made

    def _folders(self, name: str) -> dict[int, Path]:
        return {peer: folder / "collections" / name for peer, folder in self.folders.items()}

    def _peers(self, number: int, config: Mapping[str, Any]) -> list[int]:
        return _spread(list(self.folders), number, config["params"]["replication_factor"])

    def _load(self) -> None:
        ((peer, folder),) = self.folders.items()
        for config in sorted((folder / "collections").glob("*/config.json")):
            from standin.collection import Collection

            name = config.parent.name
            found = Collection(name, json.loads(config.read_bytes()), self._folders(name), self.down)
            found.schema = json.loads((config.parent / "payload_index.json").read_bytes())["schema"]
            for number in _numbers(config.parent):
                found.place(number, [peer])
            self.collections[name] = found
        if (folder / "aliases.json").exists():
            self.aliases = json.loads((folder / "aliases.json").read_bytes())

    def _save_aliases(self) -> None:
        for folder in self.folders.values():
            (folder / "aliases.json").write_text(json.dumps(self.aliases))


def server_config(asked: Mapping[str, Any]) -> dict[str, Any]:
    """A collection's `config.json` for what `PUT /collections/{name}` asks."""
    asked = _given(asked)
    params = {
        "vectors": asked.get("vectors", {}),
        "shard_number": asked.get("shard_number", 1),
        "sharding_method": asked.get("sharding_method"),
        "replication_factor": asked.get("replication_factor", 1),
        "write_consistency_factor": asked.get("write_consistency_factor", 1),
        "on_disk_payload": asked.get("on_disk_payload", True),
        "sparse_vectors": asked.get("sparse_vectors"),
    }
    _check(params["vectors"])
    config = {
        "params": _given(params),
        "hnsw_config": _HNSW | asked.get("hnsw_config", {}),
        "optimizer_config": _OPTIMIZER | asked.get("optimizers_config", {}),
        "wal_config": _WAL | asked.get("wal_config", {}),
        "quantization_config": asked.get("quantization_config"),
        "uuid": None,
    }
    return config | {key: asked[key] for key in ("strict_mode_config", "metadata") if key in asked}


def check_peer(store: Store, peer: int) -> None:
    """Refuse a peer that is not one of the cluster."""
    if peer not in store.folders:
        raise Refused(400, f"Bad request: Peer {peer} does not exist")


def check_path(name: str) -> None:
    """Refuse what never was a collection's name."""
    _refuse(name, "/\0")


def check_name(name: str) -> None:
    """Refuse what may not become a collection's name."""
    _refuse(name, '<>:"/\\|?*\0\x1f')


def _refuse(name: str, characters: str) -> None:
    bad = next((one for one in characters if one in name), None)
    text = "" if bad is None else f'collection name cannot contain "{bad}" char'
    if not 1 <= len(name) <= 255:
        text = f'value "{name}" invalid, must be from 1 to 255 characters'
    if text:
        raise Refused(422, f"Validation error in path parameters: [collection_name: {text}]")


def _check(vectors: Mapping[str, Any]) -> None:
    for one in [vectors] if "size" in vectors or "distance" in vectors else vectors.values():
        if not one.get("size") or one.get("distance") not in {"Cosine", "Dot", "Euclid", "Manhattan"}:
            kind = "data did not match any variant of untagged enum VectorsConfig"
            raise Refused(400, f"Format error in JSON body: {kind} at line 1 column 40")


def _spread(peers: Sequence[int], number: int, copies: int) -> list[int]:
    """The peers that get a replica of a shard."""
    return [peers[(number + step) % len(peers)] for step in range(min(len(peers), copies))]


def _given(value: Any) -> Any:
    return {k: _given(v) for k, v in value.items() if v is not None} if isinstance(value, dict) else value


def _numbers(folder: Path) -> Iterator[int]:
    return (int(one.name) for one in sorted(folder.iterdir()) if one.name.isdigit())
