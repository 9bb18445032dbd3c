"""Say which archive of a cluster's backup goes to which peer, and which shards have to be moved there first."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from agent.rules.manifest import CollectionEntry
from agent.rules.subjects import Piece
from agent.rules.words import printable


class Key(Struct, frozen=True):
    """A shard key with the numbers of its shards; a `filler` only takes numbers that no key has any more."""

    key: str | int
    shards: tuple[int, ...]
    filler: bool = False


class Move(Struct, frozen=True):
    """A shard that goes from one peer to another."""

    shard: int
    source: int
    target: int


def assigned(pieces: Sequence[Piece], entries: Sequence[CollectionEntry], peers: Sequence[int]) -> dict[str, int]:
    """The peer that each archive goes to, by its file: the one that made it, else one in its place, in the order given.

    Args:
        pieces: the archives.
        entries: what the manifest says of them.
        peers: those there are.
    """
    made = {printable(one.file): one.peer for one in entries}
    found = {one.file: peer for one in pieces if (peer := made.get(one.file)) in peers and peer is not None}
    free = [one for one in peers if one not in found.values()] or list(peers)
    others = [one.file for one in pieces if one.file not in found]
    return found | {file: free[number % len(free)] for number, file in enumerate(others)}


def wanted(pieces: Sequence[Piece], peers: Mapping[str, int]) -> dict[int, int]:
    """Which shard has to be at which peer; `peers` is by archive's file."""
    return {shard: peers[one.file] for one in pieces for shard in one.shards}


def ordered(pieces: Sequence[Piece], entries: Sequence[CollectionEntry]) -> tuple[Piece, ...] | None:
    """The archives in an order in which none spoils what another has brought; None if there is none.

    An archive brings all shards that are in it, also one that is taken from another archive, and the last one wins. So
    it has to come before that.
    """
    held = {printable(one.file): set(one.shards) for one in entries}
    left, found = list(pieces), list[Piece]()
    while left:
        before = {one.file: [it for it in left if it is not one and held[it.file] & set(one.shards)] for one in left}
        first = next((one for one in left if not before[one.file]), None)
        if first is None:
            return None
        left.remove(first)
        found.append(first)
    return tuple(found)


def moves(wanted: Mapping[int, int], placed: Mapping[int, Sequence[int]]) -> tuple[list[Move], list[Move]]:
    """What has to be moved so that each shard is where it should be, and what is copied from there afterwards.

    Where a shard is restored while another peer has it too, both can be lost: so all others give it up before, and get
    it again.

    Args:
        wanted: shard to the peer that it is restored at.
        placed: shard to the peers that have it now.
    """
    moved, copied = [], []
    for shard, home in sorted(wanted.items()):
        holders = list(placed.get(shard, ()))
        if holders and home not in holders:
            moved.append(Move(shard, holders.pop(0), home))
        copied += [Move(shard, home, other) for other in holders if other != home]
    return moved, copied


def keys(entry: CollectionEntry) -> tuple[Key, ...] | None:
    """The shard keys in the order in which they have to be made, so that their shards get the numbers that they had.

    A server numbers on from the greatest there is, beginning with 1: where a key was removed once, another one has to
    take its numbers meanwhile. None if the numbers of a key's shards do not follow each other: those no server gives.
    """
    had = [
        (tuple(sorted(int(shard) for shard in one.get("shard_ids") or ())), one["key"])
        for one in entry.shard_keys
        if isinstance(one.get("key"), str | int)
    ]
    found, following = list[Key](), 1
    for shards, key in sorted((one for one in had if one[0]), key=lambda one: one[0]):
        if shards != tuple(range(shards[0], shards[0] + len(shards))) or shards[0] < following:
            return None
        if shards[0] > following:
            found.append(Key(f"snapward-filler-{following}", tuple(range(following, shards[0])), filler=True))
        found.append(Key(key, shards))
        following = shards[-1] + 1
    return tuple(found)
