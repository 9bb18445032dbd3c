"""Several stand-ins that are one cluster: each holds some shards of each collection, all know of all."""

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from standin.server import PEER, StandIn
from standin.store import Store


class Cluster:
    """Peers that share their collections, running as long as the `with` block.

    Args:
        folder: each peer has a folder in it.
        peers: how many.
        options: of every `StandIn`.
    """

    def __init__(self, folder: Path, peers: int = 3, **options: Any) -> None:
        folders = {PEER + number: folder / f"peer-{number}" for number in range(peers)}
        self.store = Store({peer: one / "storage" for peer, one in folders.items()})
        self.peers = [
            StandIn(one, peer_id=peer, store=self.store, cluster=self, **options) for peer, one in folders.items()
        ]
        self._stack = ExitStack()

    def set_state(self, collection: str, shard: int, peer: StandIn, state: str) -> None:
        """Say of a replica that it is "Active", "Dead", "Partial" ..."""
        self.store.get(collection).placement[shard][peer.peer_id] = state

    def status(self, of: StandIn) -> dict[str, Any]:
        """What `GET /cluster` of one peer answers."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        leader = next((peer for peer in self.peers if peer.up), of)
        return {
            "status": "enabled",
            "peer_id": of.peer_id,
            "peers": {str(peer.peer_id): {"uri": peer.uri} for peer in self.peers},
            "raft_info": {
                "term": 1,
                "commit": 9,
                "pending_operations": 0,
                "leader": leader.peer_id,
                "role": "Leader" if leader is of else "Follower",
                "is_voter": True,
            },
            "consensus_thread_status": {"consensus_thread_status": "working", "last_update": now},
            "message_send_failures": {
                peer.uri: {"count": 20, "latest_error": "tcp connect error", "latest_error_timestamp": now}
                for peer in self.peers
                if not peer.up
            },
        }

    def __enter__(self) -> Self:
        self._stack.callback(self.store.close)
        for peer in self.peers:
            self._stack.enter_context(peer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
