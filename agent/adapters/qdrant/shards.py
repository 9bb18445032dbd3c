"""Shard keys, and which peer of a cluster has which shard; each function raises what `Wire.ask` does."""

import itertools
import time
from collections.abc import Sequence

from agent.adapters.qdrant.admin import LOOK, STUCK, at, once
from agent.adapters.qdrant.server import Server
from agent.errors import TryLater
from agent.rules import retry
from agent.rules.cluster import is_active


def shard_keys(server: Server, collection: str) -> dict[str | int, list[int]]:
    """Shard key to its shards, in the order of their numbers; empty where the application has no keys of its own."""
    placed = server.shards(collection)
    found: dict[str | int, set[int]] = {}
    for one in [*placed["local_shards"], *placed["remote_shards"]]:
        if one.get("shard_key") is not None:
            found.setdefault(one["shard_key"], set()).add(one["shard_id"])
    return {key: sorted(shards) for key, shards in sorted(found.items(), key=lambda one: min(one[1]))}


def add_shard_key(
    server: Server,
    collection: str,
    key: str | int,
    *,
    shards: int | None = None,
    replicas: int | None = None,
    placement: Sequence[int] = (),
) -> None:
    """Make a shard key with so many shards, each on so many of the peers in `placement` (ids; empty: any).

    Its shards get the numbers after the highest one there is, and an archive's shards find their place by number: for
    numbers that are to be left out, make a key and drop it again once the others are made.

    Raises:
        Refused: it is there already, or the server is not one of a cluster.
    """
    asked = {"shards_number": shards, "replication_factor": replicas, "placement": list(placement) or None}
    body = {"shard_key": key} | {name: value for name, value in asked.items() if value is not None}
    once(server, "PUT", f"{at(collection)}/shards", body, lambda: key in shard_keys(server, collection))


def drop_shard_key(server: Server, collection: str, key: str | int) -> None:
    """Remove a shard key, with its shards and their points.

    Raises:
        Refused: there is no such key.
    """
    path = f"{at(collection)}/shards/delete"
    once(server, "POST", path, {"shard_key": key}, lambda: key not in shard_keys(server, collection))


def replicas(server: Server, collection: str) -> dict[int, dict[int, str]]:
    """Shard to peer (ids) to the state of the replica there, such as Active or Dead."""
    placed = server.shards(collection)
    found: dict[int, dict[int, str]] = {}
    for one in placed["local_shards"]:
        found.setdefault(one["shard_id"], {})[placed["peer_id"]] = one["state"]
    for one in placed["remote_shards"]:
        found.setdefault(one["shard_id"], {})[one["peer_id"]] = one["state"]
    return found


def move_shard(server: Server, collection: str, shard: int, source: int, target: int, until: float) -> None:
    """Move a replica of a shard from one peer to another (ids); returns when it is there and active.

    Where the target has a replica already, that of the source is given up: the shard then has one less.

    Raises:
        TryLater: it was not there by `until` (monotonic), or the cluster gave up moving it.
        Refused: the source has no active replica of it, or there is no such shard or peer.
    """
    _transfer(server, collection, "move_shard", shard, (source, target), until)


def replicate_shard(server: Server, collection: str, shard: int, source: int, target: int, until: float) -> None:
    """Copy a replica of a shard to another peer (ids); returns when it is active there. Raises as `move_shard` does."""
    _transfer(server, collection, "replicate_shard", shard, (source, target), until)


def drop_replica(server: Server, collection: str, shard: int, peer: int) -> None:
    """Give up a peer's replica of a shard.

    Raises:
        Refused: there is none, or it is the last one that is active.
    """
    body = {"drop_replica": {"shard_id": shard, "peer_id": peer}}
    path = f"{at(collection)}/cluster"
    once(server, "POST", path, body, lambda: peer not in replicas(server, collection).get(shard, {}))


def _transfer(server: Server, collection: str, how: str, shard: int, way: tuple[int, int], until: float) -> None:
    """Let the cluster move or copy a replica, and wait until it has."""
    source, target = way
    body = {how: {"shard_id": shard, "from_peer_id": source, "to_peer_id": target}}
    once(server, "POST", f"{at(collection)}/cluster", body, lambda: target in replicas(server, collection)[shard])
    given_up = time.monotonic() + STUCK
    for attempt in itertools.count():
        there = replicas(server, collection).get(shard, {})
        if is_active(there.get(target, "")) and (how == "replicate_shard" or source not in there):
            return
        now = time.monotonic()
        if target in there:
            given_up = now + STUCK
        if now >= min(until, given_up):
            raise TryLater(
                f"shard {shard} of {collection} has not come from peer {source} to peer {target}",
                "Look at the logs of both peers.",
            )
        server.wire.rest(min(LOOK, retry.pause(attempt), max(0.0, until - now)))
