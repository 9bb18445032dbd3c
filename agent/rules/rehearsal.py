"""Judge a restored copy of a collection by what was recorded when it was backed up."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from agent.rules.manifest import CollectionEntry, Content, Probe


class Expected(Struct, frozen=True, kw_only=True):
    """What was recorded of a collection.

    Attributes:
        low: the least number of points it may have; None where nobody counted.
        high: the greatest.
        probes: questions with their exact answers.
        content: points with what they hold.
        source: where that was recorded, in words for people; empty if nothing was.
    """

    low: int | None = None
    high: int | None = None
    probes: tuple[Probe, ...] = ()
    content: Content | None = None
    source: str = ""


class Part(Struct, frozen=True, kw_only=True):
    """What one shard of a restored copy showed, or all of it where a server answers for all.

    Attributes:
        shard: its number; None for all of the collection.
        error: why it could not be opened or asked, in the engine's words.
        where: the segment or file that this is about, as far as it is known.
        points: exact count.
        answers: to each probe, in their order: pairs of `id` and `score`, the nearest first.
        digests: of the recorded points that are there, by id.
        read: how many points were read whole, with vectors and payload.
        unread: what could not be read of them, in words.
        vectors: by vector's name, how many of those that were read have it.
        zeroed: by vector's name, how many of them are nothing but zeros.
        odd: by vector's name, how many have a value that is no number, or is infinite.
        alike: by vector's name, the most of them that are one and the same vector, if it is not zeros.
    """

    shard: int | None = None
    error: str = ""
    where: str = ""
    points: int | None = None
    answers: tuple[tuple[tuple[int | str, float], ...], ...] = ()
    digests: dict[str, str] = {}
    read: int = 0
    unread: tuple[str, ...] = ()
    vectors: dict[str, int] = {}
    zeroed: dict[str, int] = {}
    odd: dict[str, int] = {}
    alike: dict[str, int] = {}


class Seen(Struct, frozen=True, kw_only=True):
    """What a rehearsal showed.

    Attributes:
        engine: what opened the copy, with its version.
        parts: one a shard, as far as it got.
        ended: empty if it came to its end; else how the engine ended: panic, abort, memory, time, stopped or unable.
        why: that in words.
        where: what it was at then: shard, segment or file.
        peak: memory it took at the most beside the files that it mapped, bytes; 0 where that is not known.
        seconds: all of it.
    """

    engine: str
    parts: tuple[Part, ...] = ()
    ended: str = ""
    why: str = ""
    where: str = ""
    peak: int = 0
    seconds: float = 0.0


class Judgement(Struct, frozen=True, kw_only=True):
    """The outcome of a rehearsal: passed, failed or inconclusive, the level it proves, and why.

    `matched` of `asked` probes gave the recorded answers, and `same` of `compared` points hold what they held.
    `evidence` is what people and programs may want to see beside it, as JSON has it.
    """

    state: str
    level: str
    why: str
    points: int | None = None
    asked: int = 0
    matched: int = 0
    compared: int = 0
    same: int = 0
    evidence: Mapping[str, Any] = {}


def expected(entries: tuple[CollectionEntry, ...]) -> Expected:
    """What the manifest's entries of one collection (in a cluster one a peer) say of it."""
    first = entries[0]
    counts = [one for one in (first.points_before, first.points_after) if one is not None]
    return Expected(
        low=min(counts, default=None),
        high=max(counts, default=None),
        probes=tuple(first.probes),
        content=first.content,
        source="manifest.json" if counts or first.probes or first.content else "",
    )
