"""Which peer of a cluster holds what of a collection, and what a set of archives leaves out."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from agent.rules.manifest import Failure
from agent.rules.words import count

# Source: `ReplicaState::is_active` of Qdrant 1.16 to 1.19, which "can be used as a source of truth".
_ACTIVE = frozenset({"Active", "ReshardingScaleDown"})


class Peer(Struct, frozen=True):
    """One address that was asked. `told` is its `/cluster`; `problem` why it did not answer, and then `id` is None."""

    url: str
    id: int | None
    told: Mapping[str, Any] = {}
    problem: str = ""


class Layout(Struct, frozen=True):
    """The peers that were asked, and by collection and peer what `/collections/{name}/cluster` said there."""

    peers: tuple[Peer, ...] = ()
    placed: Mapping[str, Mapping[int, Mapping[str, Any]]] = {}

    def holders(self, collection: str) -> list[int]:
        """The peers that answered and hold shards of a collection."""
        return sorted(peer for peer, told in self.placed.get(collection, {}).items() if told.get("local_shards"))

    def known(self) -> dict[int, str]:
        """Every peer the cluster knows, with the address that its peers use."""
        found: dict[int, str] = {}
        for peer in self.peers:
            for name, one in (peer.told.get("peers") or {}).items():
                found[int(name)] = str(one.get("uri", ""))
        return found

    def told(self) -> dict[str, Any]:
        """What the manifest says of the cluster; empty where there is none."""
        if not self.peers:
            return {}
        urls = {peer.id: peer.url for peer in self.peers if peer.id is not None}
        return {
            "peers": [{"id": one, "uri": uri, "url": urls.get(one)} for one, uri in sorted(self.known().items())],
            "silent": [{"url": peer.url, "why": peer.problem} for peer in self.peers if peer.id is None],
            "shards": {name: _replicas(told) for name, told in self.placed.items()},
        }


def is_active(state: str) -> bool:
    """Whether a replica in this state has all of its shard."""
    return state in _ACTIVE


def gaps(layout: Layout, written: Iterable[tuple[str, int | None, tuple[int, ...]]]) -> Iterator[Failure]:
    """Collections of which some shard is in no archive from a replica that was active.

    Args:
        layout: of the cluster; one without peers has no gaps.
        written: collection, peer and shards of each archive.
    """
    if not layout.peers:
        return
    archived: dict[str, set[tuple[int, int | None]]] = {}
    for name, peer, shards in written:
        archived.setdefault(name, set()).update((shard, peer) for shard in shards)
    answered = {peer.id for peer in layout.peers if peer.id is not None}
    share = f"[{len(answered)} of {len(answered | layout.known().keys())} peers]"
    for name, answers in layout.placed.items():
        replicas = _replicas(answers)
        have = archived.get(name, set())
        missing = {
            shard: peers
            for shard, peers in replicas.items()
            if not any(is_active(state) and (shard, peer) in have for peer, state in peers.items())
        }
        unknown = max((int(told.get("shard_count") or 0) for told in answers.values()), default=0) - len(replicas)
        if why := _why(missing, unknown, layout, whole=bool(replicas)):
            yield Failure(name=name, why=f"{share} {why}")


def _why(missing: Mapping[int, Mapping[int, str]], unknown: int, layout: Layout, *, whole: bool) -> str:
    """What is missing in words; empty if nothing is."""
    if not whole:
        return "no peer that answered knows its shards"
    known, asked = layout.known(), {peer.id for peer in layout.peers}
    where = []
    for shard, replicas in missing.items():
        others = ", ".join(
            f"peer {peer} {known.get(peer, '')} {state}{'' if peer in asked else ', not in engine.peers'}"
            for peer, state in sorted(replicas.items())
        )
        where.append(f"shard {shard} ({others})")
    words = []
    if missing:
        words.append(f"{count(len(missing), 'shard')} in no archive of an active replica: {'; '.join(where)}")
    if unknown > 0:
        words.append(f"{count(unknown, 'shard')} without any replica: no peer holds them any more")
    return "; and ".join(words)


def _replicas(told: Mapping[int, Mapping[str, Any]]) -> dict[int, dict[int, str]]:
    """Shard to peer to state, as all peers together tell it.

    A replica counts as active only where nobody says otherwise: a peer that was cut off may not know that it is dead.
    """
    found: dict[int, dict[int, str]] = {}
    for here, one in told.items():
        replicas = [(near, here) for near in one.get("local_shards", ())]
        replicas += [(far, int(far["peer_id"])) for far in one.get("remote_shards", ())]
        for replica, peer in replicas:
            states, state = found.setdefault(int(replica["shard_id"]), {}), str(replica.get("state"))
            if is_active(states.setdefault(peer, state)):
                states[peer] = state
    return dict(sorted(found.items()))
