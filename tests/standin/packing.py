"""Snapshots as a server writes them."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from agent.adapters import snapshot_tar

if TYPE_CHECKING:
    from standin.collection import Collection


def pack(collection: "Collection", peer: int, target: Path) -> str:
    """Write the snapshot of what a peer holds of a collection, and return its SHA-256."""
    from standin.collection import compact

    digest = hashlib.sha256()
    with collection.lock:
        collection.settle()
        shards, files = {}, {}
        for number, states in collection.placement.items():
            folder = collection.folder(number, peer) if peer in states else _nothing(collection.folders[peer])
            shards[number] = str(folder)
            said = {str(one): state for one, state in states.items()}
            state = {"is_local": peer in states, "this_peer_id": peer, "peers": said}
            files[number] = {"replica_state.json": compact(state), "shard_config.json": b'{"type":"ReplicaSet"}'}
        plan = snapshot_tar.plan(shards, collection.root_files(), files)
        with target.open("wb") as file:
            for chunk in plan.chunks():
                file.write(chunk)
                digest.update(chunk)
    return digest.hexdigest()


def _nothing(folder: Path) -> Path:
    """A shard folder without anything in it, for what other peers hold."""
    for part in ("segments", "wal"):
        (folder / "elsewhere" / part).mkdir(parents=True, exist_ok=True)
    return folder / "elsewhere"
