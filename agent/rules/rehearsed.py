"""What a restored copy is compared with, what it showed, and what follows from both."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from agent.rules.manifest import Content, Probe


class Expected(Struct, frozen=True, kw_only=True):
    """What was recorded of a collection.

    Attributes:
        low: the least number of points it may have; None where nobody counted.
        high: the greatest.
        probes: questions with their exact answers.
        content: points with what they hold.
        writes: how many operations were carried out while that was recorded; None where that is not known.
        idf: names of sparse vectors whose scores depend on all points, deleted ones too until they are cleaned up.
        hides: whether points may not have been counted, because they were not optimized yet.
        source: where that was recorded, in words for people; empty if nothing was.
    """

    low: int | None = None
    high: int | None = None
    probes: tuple[Probe, ...] = ()
    content: Content | None = None
    writes: int | None = None
    idf: tuple[str, ...] = ()
    hides: bool = False
    source: str = ""


class Marks(Struct, frozen=True, kw_only=True):
    """What vectors have in common that those of whole data have not, counted by vector's name; see `Part`."""

    points: int = 0
    vectors: dict[str, int] = {}
    zeroed: dict[str, int] = {}
    odd: dict[str, int] = {}
    alike: dict[str, int] = {}


class Part(Struct, frozen=True, kw_only=True):
    """What one shard of a restored copy showed, or all of it where a server answers for all.

    Attributes:
        shard: its number; None for all of the collection.
        error: why it could not be opened or asked, in the engine's words.
        ended: how the engine ended over that, if it did: panic, abort, memory or unable.
        where: the segment or file that this is about, as far as it is known.
        points: exact count.
        answers: to each probe, in their order: pairs of `id` and `score`, the nearest first; None where it was not
            answered.
        unanswered: why not, in words, where a probe was refused.
        digests: of the recorded points that are there, by id.
        read: how many points were read whole, with vectors and payload.
        unreadable: how many more could not be.
        unread: what of the first of these, in words.
        vectors: by vector's name, how many of those that were read have it.
        zeroed: by vector's name, how many of them are nothing but zeros.
        odd: by vector's name, how many have a value that is no number, or is infinite.
        alike: by vector's name, the most of them that are one and the same vector, if it is not zeros.
        recorded: the same of those alone that were recorded; without points where these were not told apart.
    """

    shard: int | None = None
    error: str = ""
    ended: str = ""
    where: str = ""
    points: int | None = None
    answers: tuple[tuple[tuple[int | str, float], ...] | None, ...] = ()
    unanswered: tuple[str, ...] = ()
    digests: dict[str, str] = {}
    read: int = 0
    unreadable: int = 0
    unread: tuple[str, ...] = ()
    vectors: dict[str, int] = {}
    zeroed: dict[str, int] = {}
    odd: dict[str, int] = {}
    alike: dict[str, int] = {}
    recorded: Marks = Marks()


class Seen(Struct, frozen=True, kw_only=True):
    """What a rehearsal showed.

    Attributes:
        engine: what opened the copy, with its version.
        parts: one a shard, as far as it got.
        ended: empty if it came to its end; else how the engine ended: panic, abort, memory, time, stopped or unable.
        why: that in words.
        where: what it was at then: shard, segment or file.
        probes: those that it drew itself, where none were given; the parts answer them.
        peak: memory it took at the most beside the files that it mapped, bytes; 0 where that is not known.
        seconds: all of it.
    """

    engine: str
    parts: tuple[Part, ...] = ()
    ended: str = ""
    why: str = ""
    where: str = ""
    probes: tuple[Probe, ...] = ()
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


class Baseline(Struct, frozen=True, kw_only=True):
    """What the first drill of an archive saw that nothing was recorded of; it lies beside the archive.

    Attributes:
        schema_version: of this form.
        sha256: of the archive's file; a baseline of another file says nothing.
        made: when it was drilled, epoch seconds.
        engine: what opened it, with its version.
        points: how many it had.
        probes: questions with the answers of the engine.
        content: points with what they held.
    """

    schema_version: int = 1
    sha256: str
    made: float
    engine: str
    points: int
    probes: list[Probe] = []
    content: Content | None = None
