"""Prometheus text and telemetry."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from standin.keys import Access

if TYPE_CHECKING:
    from standin.server import StandIn


def text(server: "StandIn") -> str:
    """The answer of `GET /metrics`, those families that concern collections and snapshots."""
    there = dict(sorted(server.store.collections.items()))
    replicas = [state for one in there.values() for states in one.placement.values() for state in states.values()]
    dead = sum(state != "Active" for state in replicas) + len(server.faults.take("metrics", "", "dead_replica"))
    snapshots = server.snapshots
    families: tuple[tuple[str, str, str, Any], ...] = (
        ("app_info", "gauge", "information about qdrant server", {f'name="qdrant",version="{server.version}"': 1}),
        ("app_status_recovery_mode", "gauge", "features enabled in qdrant server", 0),
        ("collections_total", "gauge", "number of collections", len(there)),
        (
            "collection_points",
            "gauge",
            "approximate amount of points per collection",
            _ids({name: one.points(server.peer_id) for name, one in there.items()}),
        ),
        ("collection_dead_replicas", "gauge", "total amount of shard replicas in non-active state", dead),
        (
            "snapshot_creation_running",
            "gauge",
            "amount of snapshot creations that are currently running",
            _ids({name: snapshots.jobs.running(name) for name in there}),
        ),
        (
            "snapshot_recovery_running",
            "gauge",
            "amount of snapshot recovery operations currently running",
            _ids({name: server.restores.jobs.running(name) for name in server.restores.jobs.known | there.keys()}),
        ),
        (
            "snapshot_created_total",
            "counter",
            "total amount of snapshots created",
            _ids({name: snapshots.created[name] for name in there}),
        ),
        ("cluster_enabled", "gauge", "is cluster support enabled", int(server.store.distributed)),
    )
    return "".join(_family(*family) for family in families)


def telemetry(server: "StandIn", access: Access) -> dict[str, Any]:
    """The answer of `GET /telemetry`, in details as with `details_level=3` where the key may see them."""
    said: dict[str, Any] = {
        "id": "3e4f44e9-514d-48f1-aa03-20a8a199e53b",
        "app": {"name": "qdrant", "version": server.version, "startup": server.since},
        "collections": {"number_of_collections": sum(map(access.sees, server.store.collections))},
    }
    if access.collections is None:
        said["cluster"] = {"enabled": server.store.distributed, "resharding_enabled": False}
        said["collections"]["collections"] = [
            {
                "id": name,
                "shards": [_shard(number, one.operation, here=server.peer_id in peers) for number, peers in placed],
            }
            for name, one in sorted(server.store.collections.items())
            for placed in [sorted(one.placement.items())]
        ]
        said["requests"] = {"rest": {"responses": {}}, "grpc": {"responses": {}}}
    return said


def _shard(number: int, operation: int, *, here: bool) -> dict[str, Any]:
    queue = {"length": 0, "op_num": operation}
    return {"id": number, "local": {"update_queue": queue} if here else None}


def _ids(values: Mapping[str, int]) -> dict[str, int]:
    escapes = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
    return {f'id="{name.translate(escapes)}"': value for name, value in values.items()}


def _family(name: str, kind: str, about: str, values: int | Mapping[str, int]) -> str:
    samples = [f"{{{labels}}} {n}" for labels, n in values.items()] if isinstance(values, Mapping) else [f" {values}"]
    lines = [f"# HELP {name} {about}", f"# TYPE {name} {kind}", *(name + sample for sample in samples)]
    return "\n".join(lines) + "\n" if samples else ""
