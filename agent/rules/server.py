"""Judge how a Qdrant server looks: whether it answers, how its collections are, and what was left lying on it."""

from collections.abc import Iterable, Iterator
from urllib.parse import quote

from msgspec import Struct

from agent.rules import advisories
from agent.rules.finding import Finding, Level, ok
from agent.rules.words import count, size, span

SERVER = "server"
# Not "server": a collection may be called that, but never has a slash.
FULL_SNAPSHOTS = "server/snapshots"

COLLECTION_RULES = frozenset(
    {"collection_unknown", "collection_red", "optimizer_failed", "replicas_dead", "snapshots_forgotten"}
)
_DAY = 86400.0
_RED = "red"
# Yellow is what a snapshot being made looks like, grey a restart.
_WELL = frozenset({"green", "yellow", "grey"})


class SnapshotView(Struct, frozen=True):
    """A snapshot that lies on the server; `created` by the server's clock, `ours` if this agent had it made.

    `url` is where it lies, if that is another peer than the one that was asked first.
    """

    name: str
    size: int
    created: float | None = None
    ours: bool = False
    url: str = ""


class CollectionView(Struct, frozen=True):
    """One collection.

    Attributes:
        name: of the collection.
        status: green, yellow, grey or red.
        optimizer: "ok", or its error.
        points: how many it says it has.
        dead_replicas: in words, such as "shard 2 on peer 123: Dead".
        lost_shards: numbers of the shards of which no replica is active.
        sharding: auto or custom.
        problem: why it could not be looked at, and then nothing else counts.
        snapshots: what lies on the server.
    """

    name: str
    status: str = ""
    optimizer: str = "ok"
    points: int | None = None
    dead_replicas: tuple[str, ...] = ()
    lost_shards: tuple[int, ...] = ()
    sharding: str = "auto"
    problem: str = ""
    snapshots: tuple[SnapshotView, ...] = ()


class PeerView(Struct, frozen=True):
    """A peer of a cluster; `url` is where it was asked, None if it was not, `problem` why it did not answer."""

    id: int
    uri: str = ""
    url: str | None = None
    problem: str = ""


class View(Struct, frozen=True):
    """One look at a server.

    Attributes:
        url: where it was asked.
        problem: why it did not answer, and then nothing else counts.
        denied: why the key was refused; then only the version is known.
        missing_rights: what the key does not allow; collections that it hides are not in the view.
        version: of the server.
        commit: of the server.
        collections: all that the key shows.
        peers: empty where there is no cluster.
        full_snapshots: those of the whole storage.
    """

    url: str
    problem: str = ""
    denied: str = ""
    missing_rights: tuple[str, ...] = ()
    version: str = ""
    commit: str = ""
    collections: tuple[CollectionView, ...] = ()
    peers: tuple[PeerView, ...] = ()
    full_snapshots: tuple[SnapshotView, ...] = ()


def judge(view: View, now: float, *, old: float = _DAY, busy: frozenset[str] = frozenset()) -> list[Finding]:
    """Every finding of one look; what could not be looked at yields none, so that what is open stays open.

    Args:
        view: what was seen.
        now: epoch seconds.
        old: seconds after which a snapshot of somebody else's counts as forgotten.
        busy: collections that are being backed up: our snapshots of them are in use.
    """
    if view.problem:
        return [
            Finding(
                "server_unreachable",
                SERVER,
                Level.CRITICAL,
                f"{view.url} does not answer: {view.problem}",
                "Is Qdrant running, and is `engine.url` right? Look at its log; nothing can be backed up until then.",
            )
        ]
    found = [ok("server_unreachable", SERVER, f"{view.url} answers"), _rights(view), advisories.finding(view.version)]
    if view.denied:
        return found
    for collection in view.collections:
        found += _collection(view.url, collection, now, old, ours=collection.name not in busy)
    found += map(_peer, (peer for peer in view.peers if peer.url is not None))
    if not view.missing_rights:
        found.append(_forgotten(FULL_SNAPSHOTS, view.url, "/snapshots", view.full_snapshots, now, old, ours=True))
    return found


def gone(active: Iterable[tuple[str, str]], view: View) -> list[Finding]:
    """What ends open incidents, given as (rule, subject), about collections and peers that are no longer there."""
    if view.problem or view.denied:
        return []
    collections = {collection.name for collection in view.collections} | {FULL_SNAPSHOTS}
    peers = {peer.url for peer in view.peers}
    return [
        ok(rule, subject, f"{subject} is no longer there")
        for rule, subject in active
        if (rule == "peer_unreachable" and subject not in peers)
        # A key that does not show every collection cannot tell that one is gone.
        or (rule in COLLECTION_RULES and subject not in collections and not view.missing_rights)
    ]


def _rights(view: View) -> Finding:
    if view.denied:
        return Finding(
            "server_denied",
            SERVER,
            Level.CRITICAL,
            f"{view.url} refuses the key: {view.denied}",
            "Set `engine.api_key` to a key that may manage the server; nothing can be backed up until then.",
        )
    if view.missing_rights:
        return Finding(
            "server_denied",
            SERVER,
            Level.WARNING,
            f"the key lacks a right: {'; '.join(view.missing_rights)}",
            "Use a key that may manage the server, or accept that this is not watched.",
        )
    return ok("server_denied", SERVER, "the key may do what is needed")


def _collection(url: str, one: CollectionView, now: float, old: float, *, ours: bool) -> Iterator[Finding]:
    problem = one.problem or ("" if one.status in {*_WELL, _RED} else f"its status is {one.status[:40] or 'not told'}")
    if problem:
        yield Finding(
            "collection_unknown",
            one.name,
            Level.WARNING,
            f"could not be looked at: {problem}",
            "See what the server answers, and its log: what cannot be looked at may be broken.",
        )
    else:
        yield ok("collection_unknown", one.name, "could be looked at")
        yield _health(one)
    if not one.problem:
        yield _optimizer(one)
        yield _replicas(one)
        path = f"/collections/{quote(one.name, safe='')}/snapshots"
        yield _forgotten(one.name, url, path, one.snapshots, now, old, ours=ours)


def _health(one: CollectionView) -> Finding:
    if one.status != _RED:
        return ok("collection_red", one.name, f"is {one.status}")
    return Finding(
        "collection_red",
        one.name,
        Level.CRITICAL,
        "is red: an operation failed, and the server may take no more of them",
        "Look at the server's log and its free space. Keep the last good backup; a new one may hold the damage.",
    )


def _optimizer(one: CollectionView) -> Finding:
    if one.optimizer == "ok":
        return ok("optimizer_failed", one.name, "its optimizer works")
    return Finding(
        "optimizer_failed",
        one.name,
        Level.WARNING,
        f"its optimizer failed: {one.optimizer[:300]}",
        "Look at the server's log and its free space; an update of the collection starts the optimizer again.",
    )


def _replicas(one: CollectionView) -> Finding:
    if one.lost_shards:
        numbers = ", ".join(map(str, one.lost_shards))
        return Finding(
            "replicas_dead",
            one.name,
            Level.CRITICAL,
            f"no replica is active of {'shard' if len(one.lost_shards) == 1 else 'shards'} {numbers}"
            + (f" ({_first(one.dead_replicas)})" if one.dead_replicas else ""),
            "Start the peers that hold them, or restore the shards: their points can be neither read nor backed up.",
        )
    if one.dead_replicas:
        return Finding(
            "replicas_dead",
            one.name,
            Level.WARNING,
            f"{count(len(one.dead_replicas), 'replica')} not active: {_first(one.dead_replicas)}",
            "A peer that is back heals by itself. If it does not, look at its log.",
        )
    return ok("replicas_dead", one.name, "every replica is active")


def _first(words: tuple[str, ...]) -> str:
    return "; ".join(words[:5]) + (f"; and {len(words) - 5} more" if len(words) > 5 else "")


def _forgotten(
    subject: str, url: str, path: str, there: Iterable[SnapshotView], now: float, old: float, *, ours: bool
) -> Finding:
    """The finding about snapshots at `path` of the server; `ours` says that those of this agent are of no more use."""
    left = [one for one in there if one.ours and ours]
    foreign = [one for one in there if not one.ours and one.created is not None and now - one.created > old]
    if not left and not foreign:
        return ok("snapshots_forgotten", subject, "no snapshot lies on the server for nothing")
    both = [*left, *foreign]
    oldest = min(both, key=lambda one: now if one.created is None else one.created)
    age = "" if oldest.created is None else f", made {span(max(0.0, now - oldest.created))} ago"
    hints = ["The next backup deletes what this agent left."] if left else []
    if foreign:
        first = min(foreign, key=lambda one: one.created or now)
        where = f"{(first.url or url).rstrip('/')}{path}/{quote(first.name, safe='')}"
        hints.append(f"Delete what nobody needs: curl -X DELETE -H 'api-key: KEY' {where}")
    return Finding(
        "snapshots_forgotten",
        subject,
        Level.WARNING,
        f"{count(len(both), 'snapshot')} of {size(sum(one.size for one in both))} on the server"
        f"{f', {len(left)} of them left by this agent' if left else ''}; the oldest is {oldest.name}{age}",
        " ".join(hints),
    )


def _peer(peer: PeerView) -> Finding:
    url = peer.url or ""
    if not peer.problem:
        return ok("peer_unreachable", url, f"peer {peer.id} answers")
    return Finding(
        "peer_unreachable",
        url,
        Level.WARNING,
        f"this peer of the cluster does not answer: {peer.problem}",
        "Is it running? Until then, shards that only it holds are not backed up.",
    )
