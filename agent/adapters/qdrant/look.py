"""One look at a server, or at the peers of a cluster: how it is, and what lies on it."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from agent.adapters.qdrant.server import Server, Snapshot
from agent.adapters.qdrant.snapshot import Ticket, ours
from agent.adapters.qdrant.trouble import Absent
from agent.errors import AgentError, NoRights, TryLater, Unreachable
from agent.rules.cluster import is_active
from agent.rules.server import CollectionView, PeerView, SnapshotView, View
from agent.rules.words import span

# Seconds for all collections together: each may stay silent, and who looks does not wait for every one of them.
_LOOKING = 120.0
_DEAD = "Dead"


def view(servers: Sequence[Server], tickets: Sequence[Ticket], *, within: float = _LOOKING) -> View:
    """What can be seen of the server, and of the other peers given; `tickets` are for snapshots that we asked for.

    Nothing is raised: what could not be seen is in the view, as is what there was no time for `within` these seconds.
    """
    first, until = servers[0], time.monotonic() + within
    try:
        identity = first.identity()
    except AgentError as error:
        return View(url=first.url, problem=error.message)
    known = partial(View, url=first.url, version=identity.version, commit=identity.commit)
    try:
        names = first.collections()
        missing = () if first.sees_all() else ("reading the whole server: collections it does not see are not watched",)
        cluster = first.cluster()
        full = [] if missing else _full(first)
    except NoRights as error:
        return known(denied=error.message)
    except AgentError as error:
        return known(problem=error.message)
    peers = _peers(servers, cluster) if cluster["status"] == "enabled" else ()
    silent = {one.url for one in peers if one.problem}
    asked = [first, *(one for one in servers[1:] if peers and one.url not in silent)]
    seen = []
    for name in names:
        if time.monotonic() < until:
            seen.append(_collection(asked, name, tickets))
        else:
            seen.append(CollectionView(name=name, problem=f"there was no time for it within {span(within)}"))
    return known(
        missing_rights=missing,
        collections=tuple(one for one in seen if one is not None),
        peers=peers,
        full_snapshots=tuple(SnapshotView(one.name, one.size, one.stamp) for one in full),
    )


def _full(server: Server) -> list[Snapshot]:
    """Snapshots of the whole storage; where there is no such thing there are none."""
    try:
        return server.snapshots(None)[0]
    except Absent:
        return []


def _collection(servers: Sequence[Server], name: str, tickets: Sequence[Ticket]) -> CollectionView | None:
    """How a collection is; None when it has gone since the first server named it."""
    server = servers[0]
    try:
        dead, lost = _replicas(server.shards(name))
        lying = _lying(server, name, tickets)
        info = _info(server, name, lost)
    except Absent:
        return None
    except AgentError as error:
        return CollectionView(name=name, problem=error.message)
    optimizer = info.get("optimizer_status", "ok")
    return CollectionView(
        name=name,
        status=info.get("status", ""),
        optimizer=str(optimizer.get("error")) if isinstance(optimizer, dict) else str(optimizer),
        points=info.get("points_count"),
        dead_replicas=dead,
        lost_shards=lost,
        sharding=str(info["config"]["params"].get("sharding_method") or "auto") if info else "auto",
        snapshots=tuple(lying + [one for other in servers[1:] for one in _elsewhere(other, name, tickets)]),
    )


def _info(server: Server, name: str, lost: tuple[int, ...]) -> dict[str, Any]:
    """What the server says of a collection: nothing where shards are lost, which is then said of it."""
    try:
        return server.info(name)
    except (TryLater, Unreachable):
        if not lost:
            raise
        return {}


def _replicas(placed: dict[str, Any]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The replicas that are dead, in words, and the shards of which none is active."""
    near = [(one["shard_id"], placed["peer_id"], one["state"]) for one in placed["local_shards"]]
    far = [(one["shard_id"], one["peer_id"], one["state"]) for one in placed["remote_shards"]]
    every = sorted(near + far)
    # Those in other states are on their way, or only listen.
    dead = tuple(f"shard {shard} on peer {peer}: {state}" for shard, peer, state in every if state == _DEAD)
    active = {shard for shard, _, state in every if is_active(state)}
    return dead, tuple(sorted({shard for shard, _, _ in every} - active))


def _peers(servers: Sequence[Server], cluster: dict[str, Any]) -> tuple[PeerView, ...]:
    """Every peer: those that were asked, and those that only the first one knows."""
    known = {int(peer): str(one.get("uri", "")) for peer, one in (cluster.get("peers") or {}).items()}
    asked: list[PeerView] = []
    for number, server in enumerate(servers):
        try:
            told = cluster if number == 0 else server.cluster()
            peer = int(told["peer_id"])
            asked.append(PeerView(id=peer, uri=known.get(peer, ""), url=server.url))
        except AgentError as error:
            asked.append(PeerView(id=0, url=server.url, problem=error.message))
        except KeyError:
            asked.append(PeerView(id=0, url=server.url, problem="it is not part of a cluster"))
    there = {one.id for one in asked}
    return (*asked, *(PeerView(id=peer, uri=uri) for peer, uri in known.items() if peer not in there))


def _lying(server: Server, name: str, tickets: Sequence[Ticket]) -> list[SnapshotView]:
    """The snapshots of a collection on one server, and which of them were made for us."""
    there, _ = server.snapshots(name)
    mine = ours([one for one in tickets if (one.url, one.collection) == (server.url, name)], there)
    return [SnapshotView(one.name, one.size, one.stamp, one in mine) for one in there]


def _elsewhere(server: Server, name: str, tickets: Sequence[Ticket]) -> list[SnapshotView]:
    """The same of another peer; one that does not answer is told of as such."""
    try:
        return [replace(one, url=server.url) for one in _lying(server, name, tickets)]
    except AgentError:
        return []
