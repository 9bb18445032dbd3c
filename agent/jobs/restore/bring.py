"""Bring one collection back to a server: make room, upload, wait, compare."""

import time
from collections.abc import Callable, Mapping
from uuid import uuid4

from msgspec import Struct, structs

from agent.adapters.qdrant import admin, copy, shards, upload
from agent.adapters.qdrant.server import Server
from agent.adapters.shelf.inflate import Inflated
from agent.errors import AgentError, TryLater
from agent.jobs.restore.look import Site
from agent.jobs.restore.prove import Proved
from agent.rules import collection_config, rehearsal
from agent.rules.recovery import placement
from agent.rules.recovery.placement import Move
from agent.rules.recovery.plan import Step
from agent.rules.recovery.verdict import verdict
from agent.rules.rehearsal import Expected
from agent.rules.subjects import Piece

# Seconds that asking a copy everything that was recorded may take.
_COMPARING = 1800.0
_COUNTING = 300.0


class Brought(Struct, frozen=True):
    """What came of it: state (good, bad or unknown), why, the exact number of points, and what else is to be said."""

    state: str
    why: str
    points: int | None = None
    notes: tuple[str, ...] = ()


def bring(
    site: Site,
    step: Step,
    proved: Mapping[str, Proved],
    expected: Expected,
    until: float,
    progress: Callable[[int], None],
) -> Brought:
    """Restore one collection, and compare it with what was recorded.

    Args:
        site: the server.
        step: what happens.
        proved: by archive's file, the copy it is restored from.
        expected: what was recorded.
        until: monotonic deadline.
        progress: called with the bytes that were sent.

    Raises:
        AgentError: it could not be brought there.
    """
    first, target = site.first, step.target
    if step.earlier is not None:
        _outlast(site, step, until)
    # What an attempt that broke off had given a cluster may be there only now.
    if step.drop or (step.peers and step.earlier is not None):
        admin.drop(first, target)
    if step.peers:
        notes = _spread(site, step, proved, until, progress)
    else:
        notes = [note for one in step.wanted.pieces for note in _send(first, target, one, proved, until, progress)]
    unready = admin.wait_ready(first, target, until)
    notes += _settings(first, step, until)
    found = compare(first, step, expected, unready, notes)
    return _everywhere(site, step, found) if step.peers and found.state == "good" else found


def compare(server: Server, step: Step, expected: Expected, unready: list[str], notes: list[str]) -> Brought:
    """Ask a collection on the server what was recorded of it."""
    seen = copy.seen(server, step.target, expected, seconds=_COMPARING)
    judged = rehearsal.judge(seen, expected)
    state, why = verdict(judged, expected.low, expected.high, unready)
    return Brought(state, why, judged.points, tuple(notes))


def _outlast(site: Site, step: Step, until: float) -> None:
    """Wait while a server goes on with what an attempt that broke off has given it, and remove what that has left."""
    for server in site.by_peer.values() or (site.first,):
        while admin.restoring(server, step.target) and time.monotonic() < until:
            server.wire.rest(admin.LOOK)
        if admin.exists(server, step.target):
            for one in upload.uploads(server, step.target):
                upload.clear(server, step.target, one.name)


def _spread(
    site: Site, step: Step, proved: Mapping[str, Proved], until: float, progress: Callable[[int], None]
) -> list[str]:
    """Restore the shards of a collection at their peers, each at one first, and from there at the others."""
    first, target, wanted, notes = site.first, step.target, step.wanted, list[str]()
    goal = placement.wanted(wanted.pieces, step.peers)
    _make(site, step, goal)
    copies = _alone(site, step, goal, until)
    for piece in placement.ordered(wanted.pieces, wanted.entries) or wanted.pieces:
        server = site.by_peer[step.peers[piece.file]]
        _agree(server)
        notes += _send(server, target, piece, proved, until, progress)
        _agree(server)
        _agree(first)
        admin.wait_ready(first, target, until)
        _alone(site, step, goal, until)  # it brings each shard that is in it, wanted there or not
    for one in copies:
        shards.replicate_shard(first, target, one.shard, one.source, one.target, until)
    return notes


def _agree(server: Server) -> None:
    """Wait until a peer has carried out what its cluster has agreed on so far.

    What an upload changes of the states of replicas is agreed on after its answer. Changes keep their order, and one of
    an alias is waited for: also one that changes nothing.
    """
    admin.change_aliases(server, [admin.remove_alias(f"snapward-{uuid4()}")])


def _make(site: Site, step: Step, goal: Mapping[int, int]) -> None:
    """Make the collection empty, with its shard keys."""
    first, target, entry = site.first, step.target, step.wanted.entry
    admin.create(first, target, entry.config if entry else {})
    for one in step.keys:
        peers = [goal[shard] for shard in one.shards if shard in goal]
        shards.add_shard_key(first, target, one.key, shards=len(one.shards), placement=peers)
    for one in step.keys:
        if one.filler:
            shards.drop_shard_key(first, target, one.key)


def _alone(site: Site, step: Step, goal: Mapping[int, int], until: float) -> list[Move]:
    """Let each shard be at the peer of its archive, and nowhere else; returns what is to be copied from there again."""
    first, target = site.first, step.target
    placed = {number: list(peers) for number, peers in shards.replicas(first, target).items()}
    moves, copies = placement.moves(goal, placed)
    for move in moves:
        shards.move_shard(first, target, move.shard, move.source, move.target, until)
    for copied in copies:
        shards.drop_replica(first, target, copied.shard, copied.target)
    return copies


def _everywhere(site: Site, step: Step, found: Brought) -> Brought:
    """See that each peer counts the same: a replica that is taken for whole and is not shows only there."""
    counts = {peer: server.count(step.target, _COUNTING) for peer, server in site.by_peer.items()}
    others = [f"peer {peer} counts {count}" for peer, count in counts.items() if count != found.points]
    if not others:
        return found
    return structs.replace(found, state="bad", why=f"{found.why}; but {', '.join(others)}")


def _send(
    server: Server,
    target: str,
    piece: Piece,
    proved: Mapping[str, Proved],
    until: float,
    progress: Callable[[int], None],
) -> list[str]:
    """Upload one archive, and remove the file that stays on the server."""
    name, one, sent = upload.new_name(), proved[piece.file], 0

    def more(total: int) -> None:
        nonlocal sent
        progress(total - sent)
        sent = total

    unheard = ""
    try:
        with Inflated(one.path, one.signature, one.raw_size, one.raw_sha256) as source:
            unheard = upload.upload(server, target, name, one.raw_size, one.raw_sha256, source, until, more)
    finally:
        left = _clear(server, target, name)
    if unheard and not admin.exists(server, target):
        raise TryLater(f"{unheard}; and there is no {target} afterwards", "Look at the server's log.")
    return [*([f"{piece.file}: {unheard}"] if unheard else []), *left]


def _clear(server: Server, target: str, name: str) -> list[str]:
    try:
        if upload.clear(server, target, name):
            return []
        why = "the collection is not there"
    except AgentError as error:
        why = error.message
    return [f"the uploaded file {name} stays on {server.url}: {why}"]


def _settings(server: Server, step: Step, until: float) -> list[str]:
    """Bring back what a server leaves out, and say what is not as it was all the same."""
    entry, target, notes = step.wanted.entry, step.target, []
    if entry is None:
        return []
    if entry.config:
        admin.complete(server, target, entry.config)
        notes += [f"setting {one}" for one in collection_config.differs(entry.config, admin.config(server, target))]
    there = admin.indexes(server, target)
    for field, schema in entry.payload_schema.items():
        if field not in there:
            try:
                admin.put_index(server, target, field, schema, until)
                notes.append(f"the payload index of {field} was missing, and made anew")
            except TryLater as error:
                notes.append(f"the payload index of {field} is still missing: {error.message}")
        elif there[field] != schema:
            notes.append(f"the payload index of {field} was {schema} and is {there[field]}")
    surplus = ", ".join(sorted(there.keys() - entry.payload_schema.keys()))
    return [*notes, f"payload indexes that it had not: {surplus}"] if surplus else notes
