"""What a server says of a collection as a whole: its state, and where its shards are."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from standin.server import StandIn


def info(server: "StandIn", name: str) -> dict[str, Any]:
    """The answer of `GET /collections/{name}`."""
    collection = server.store.get(name)
    said = collection.facts(server.peer_id)
    if server.snapshots.jobs.running(collection.name):
        said["status"] = "yellow"
    faults = server.faults.take("info", collection.name, "status", "queue")
    if "queue" in faults:
        said["update_queue"] = {"length": faults["queue"].after}
    fault = faults.get("status")
    if fault is not None:
        said["status"] = fault.state or said["status"]
        said["optimizer_status"] = {"error": fault.text} if fault.text else said["optimizer_status"]
    return said


def cluster(server: "StandIn", name: str) -> dict[str, Any]:
    """The answer of `GET /collections/{name}/cluster`."""
    collection = server.store.get(name)
    dead = server.faults.take("collection_cluster", collection.name, "dead_replica").get("dead_replica")
    key_of = {number: {"shard_key": key} for key, numbers in collection.keys.items() for number in numbers}
    local, remote = [], []
    for number, states in sorted(collection.placement.items()):
        for peer, state in sorted(states.items()):
            if peer == server.peer_id:
                points = collection.points_in(number, peer)
                said = {"points_count": points, "state": (dead.state or "Dead") if dead and number == 0 else state}
                local.append({"shard_id": number, **key_of.get(number, {}), **said})
            else:
                remote.append({"shard_id": number, **key_of.get(number, {}), "peer_id": peer, "state": state})
    return {
        "peer_id": server.peer_id,
        "shard_count": len(collection.placement),
        "local_shards": local,
        "remote_shards": remote,
        "shard_transfers": [],
    }
