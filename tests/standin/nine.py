"""Nine collections that differ in all that a snapshot has to keep, made over plain REST on any Qdrant."""

import random
import ssl
from collections.abc import Collection, Iterator
from typing import Any
from uuid import UUID

from standin.client import Client, path_of, path_of_snapshot

AWKWARD = "-'ünï cödé' 100% v1.2 (a&b=c+d) #1; $HOME `x` ~ [日本] %2F @"
ALIASES = {"current": "dense", "the latest ähm": AWKWARD}
_SIZE = 8
_BATCH = 500
_COSINE = {"size": _SIZE, "distance": "Cosine"}
_QUICK = {"indexing_threshold": 1}  # KB: what is quantised has to have been indexed

COLLECTIONS: dict[str, dict[str, Any]] = {
    "dense": {"vectors": _COSINE},
    "indexed": {"vectors": {"size": _SIZE, "distance": "Euclid", "on_disk": True}},
    "sparse": {"sparse_vectors": {"terms": {"modifier": "idf"}}},
    "multi": {"vectors": {**_COSINE, "multivector_config": {"comparator": "max_sim"}}},
    "scalar": {
        "vectors": _COSINE,
        "quantization_config": {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}},
        "optimizers_config": _QUICK,
    },
    "binary": {
        "vectors": {"size": 64, "distance": "Dot"},
        "quantization_config": {"binary": {"always_ram": True}},
        "optimizers_config": _QUICK,
    },
    "named": {
        "vectors": {
            "title": {"size": _SIZE, "distance": "Cosine", "datatype": "float16"},
            "image": {"size": 4, "distance": "Manhattan", "datatype": "uint8", "hnsw_config": {"m": 8}},
        },
        "sparse_vectors": {"words": {"index": {"on_disk": True}}},
        "hnsw_config": {"m": 24},
        "on_disk_payload": False,
    },
    "empty": {"vectors": _COSINE},
    AWKWARD: {"vectors": {"size": 4, "distance": "Dot"}, "shard_number": 2},
}
INDEXES: dict[str, Any] = {
    "city": "keyword",
    "tenant": {"type": "keyword", "is_tenant": True},
    "year": {"type": "integer", "lookup": True, "range": True},
    "price": "float",
    "sold": "bool",
    "place": "geo",
    "seen": "datetime",
    "text": {"type": "text", "tokenizer": "word", "min_token_len": 2, "lowercase": True},
    "key": "uuid",
}


def seed(
    url: str,
    api_key: str | None = None,
    points: int = 60,
    context: ssl.SSLContext | None = None,
    names: Collection[str] = tuple(COLLECTIONS),
) -> dict[str, int]:
    """Make the nine collections, or just those of these names, and their aliases; return how many points each has."""
    with Client(url, api_key, context) as client:
        made = {}
        for name in names:
            assert client.ask("PUT", path_of(name), COLLECTIONS[name]).result
            for field, schema in INDEXES.items() if name == "indexed" else ():
                body = {"field_name": field, "field_schema": schema}
                assert client.ask("PUT", path_of(name, "/index?wait=true"), body).result
            made[name] = 0 if name == "empty" else points
            for batch in _batches(name, made[name]):
                assert client.ask("PUT", path_of(name, "/points?wait=true"), {"points": batch}).result
        actions = [{"create_alias": {"alias_name": k, "collection_name": v}} for k, v in ALIASES.items() if v in names]
        assert client.ask("POST", "/collections/aliases", {"actions": actions}).result
        return made


def drop(url: str, api_key: str | None = None, context: ssl.SSLContext | None = None) -> None:
    """Remove the nine collections, their aliases and their snapshots."""
    with Client(url, api_key, context) as client:
        for name in COLLECTIONS:
            if not client.ask("GET", path_of(name, "/exists")).result["exists"]:
                continue
            for snapshot in client.ask("GET", path_of(name, "/snapshots")).result:
                assert client.ask("DELETE", path_of_snapshot(name, snapshot["name"])).result
            assert client.ask("DELETE", path_of(name)).result


def _batches(name: str, points: int) -> Iterator[list[dict[str, Any]]]:
    dice = random.Random(name)  # noqa: S311 - has to be the same on every run, not secret
    for start in range(0, points, _BATCH):
        yield [_point(name, number, dice) for number in range(start, min(points, start + _BATCH))]


def _point(name: str, number: int, dice: random.Random) -> dict[str, Any]:
    key = str(UUID(int=dice.getrandbits(128), version=4))
    payload: dict[str, Any] = {"title": f"note {number}", "rank": number}
    if name == "indexed":
        payload |= {
            "city": dice.choice(("Kyoto", "København", "Lagos", "Lima")),
            "tenant": f"t{number % 3}",
            "year": dice.randint(1950, 2025),
            "price": round(dice.uniform(1, 99), 2),
            "sold": number % 2 == 0,
            "place": {"lon": round(dice.uniform(-180, 180), 4), "lat": round(dice.uniform(-85, 85), 4)},
            "seen": f"2026-01-{number % 28 + 1:02}T10:00:00Z",
            "text": f"the quick fox number {number} jumps",
            "key": key,
        }
    return {"id": key if number % 5 == 4 else number, "vector": _vector(name, dice), "payload": payload}


def _vector(name: str, dice: random.Random) -> Any:
    match name:
        case "sparse":
            return {"terms": _words(dice)}
        case "multi":
            return [_dense(dice, _SIZE) for _ in range(dice.randint(1, 4))]
        case "binary":
            return _dense(dice, 64)
        case "named":
            image = [dice.randint(0, 255) for _ in range(4)]
            return {"title": _dense(dice, _SIZE), "image": image, "words": _words(dice)}
    return _dense(dice, 4 if name == AWKWARD else _SIZE)


def _dense(dice: random.Random, size: int) -> list[float]:
    return [round(dice.uniform(-1, 1), 4) for _ in range(size)]


def _words(dice: random.Random) -> dict[str, Any]:
    indices = sorted(dice.sample(range(1000), 6))
    return {"indices": indices, "values": [round(dice.uniform(0.1, 2), 3) for _ in indices]}
