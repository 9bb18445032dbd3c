"""What each request about shards and peers does."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from standin import overview
from standin.answers import Answer, Refused, result
from standin.request import Request
from standin.route import Route
from standin.store import Store, check_peer

if TYPE_CHECKING:
    from standin.collection import Collection
    from standin.server import StandIn


def _shard_keys(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    keys = [{"key": key} for key in server.store.get(collection).keys]
    return result({"shard_keys": keys} if keys else {}, request.elapsed)


def _add_key(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    server.store.add_key(collection, request.json)
    return result(True, request.elapsed)


def _drop_key(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    server.store.drop_key(collection, request.json["shard_key"])
    return result(True, request.elapsed)


def _cluster(server: "StandIn", request: Request, *_: str) -> Answer:
    return result(server.cluster_status(), request.elapsed)


def _collection_cluster(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    return result(overview.cluster(server, collection), request.elapsed)


def _change_cluster(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    found, asked = server.store.get(collection), request.json
    if not asked.keys() & {"move_shard", "replicate_shard", "drop_replica"}:
        kind = "data did not match any variant of untagged enum ClusterOperations"
        raise Refused(400, f"Format error in JSON body: {kind}")
    if not server.store.distributed:
        raise Refused(400, "Bad request: Distributed mode disabled")
    if "hollow" not in server.faults.take("move", collection, "hollow"):
        _change(server.store, found, asked)
    return result(True, request.elapsed)


def _change(store: Store, collection: "Collection", asked: Mapping[str, Any]) -> None:
    match asked:
        case {"drop_replica": {"shard_id": number, "peer_id": peer}}:
            others = [one for one, state in _states(collection, number).items() if one != peer and state == "Active"]
            if not others:
                text = f"Shard {number} must have at least one active replica after removing {peer}"
                raise Refused(400, f"Bad request: {text}")
            collection.discard(number, peer)
        case {"move_shard": how} | {"replicate_shard": how}:
            number, source, target = how["shard_id"], how["from_peer_id"], how["to_peer_id"]
            if source == target:
                text = 'cannot transfer shard to itself, "to_peer_id" must be different'
                raise Refused(422, f"Validation error in JSON body: [move_shard.to_peer_id: {text}]")
            check_peer(store, target)
            if _states(collection, number).get(source) != "Active":
                raise Refused(400, f"Bad request: Shard {number} is not active on peer {source}")
            collection.copy(number, source, target)
            if "move_shard" in asked:
                collection.discard(number, source)


def _states(collection: "Collection", number: int) -> Mapping[int, str]:
    if number not in collection.placement:
        raise Refused(400, f"Bad request: Shard {number} of {collection.name} does not exist")
    return collection.placement[number]


ROUTES = (
    Route("GET", "/cluster", "cluster", "global", _cluster),
    Route("GET", "/collections/{c}/shards", "shard_keys", "read", _shard_keys),
    Route("PUT", "/collections/{c}/shards", "add_shard_key", "manage", _add_key),
    Route("GET", "/collections/{c}/cluster", "collection_cluster", "read", _collection_cluster),
    Route("POST", "/collections/{c}/shards/delete", "drop_shard_key", "manage", _drop_key),
    Route("POST", "/collections/{c}/cluster", "move", "manage", _change_cluster),
)
