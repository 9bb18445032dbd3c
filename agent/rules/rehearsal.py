"""Judge a restored copy of a collection by what was recorded when it was backed up."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from agent.rules.archive import FAITHFUL, INTACT, RESTORABLE, lowest
from agent.rules.baseline import as_expected, baseline, decode_baseline, encode_baseline
from agent.rules.engines import unknown
from agent.rules.manifest import CollectionEntry, Content
from agent.rules.marks import marks
from agent.rules.rehearsed import Baseline, Expected, Judgement, Marks, Part, Seen
from agent.rules.troubles import Probed, Trouble, compared, contents, counted, ending, lacking, probed
from agent.rules.words import count

__all__ = [
    "Baseline",
    "Expected",
    "Judgement",
    "Marks",
    "Part",
    "Seen",
    "as_expected",
    "baseline",
    "decode_baseline",
    "encode_baseline",
    "expected",
    "judge",
]

_NAMED, _SHARDS = 20, 100
# Number, probes and content.
_ALL = 3


def expected(entries: tuple[CollectionEntry, ...]) -> Expected:
    """What the manifest's entries of one collection (in a cluster one a peer) say of it.

    Each was compared with the collection when its own archive was done: what holds for all of them is what all say.
    """
    counts = [one for entry in entries for one in (entry.points_before, entry.points_after) if one is not None]
    writes = [entry.writes for entry in entries if entry.writes is not None]
    first, *others = entries
    probes = tuple(probe for probe in first.probes if all(probe in other.probes for other in others))
    content = _common([entry.content for entry in entries])
    sparse = (first.config.get("params") or {}).get("sparse_vectors") or {}
    return Expected(
        low=min(counts, default=None),
        high=max(counts, default=None),
        probes=probes,
        content=content,
        writes=max(writes) if len(writes) == len(entries) else None,
        idf=tuple(name for name, one in sparse.items() if (one or {}).get("modifier") == "idf"),
        hides=bool((first.config.get("optimizer_config") or {}).get("prevent_unoptimized")),
        source="manifest.json" if counts or probes or content else "",
    )


def _common(contents: Sequence[Content | None]) -> Content | None:
    told = [one for one in contents if one is not None]
    if len(told) != len(contents):
        return None
    first = told[0]
    points = dict(set.intersection(*(set(one.points.items()) for one in told)))
    return structs.replace(first, points=points, changed=max(first.drawn - len(points), 0))


def judge(seen: Seen, expected: Expected, *, malformed: str = "", made_by: str = "", raw_size: int = 0) -> Judgement:
    """Judge what a rehearsal showed.

    Args:
        seen: what it showed, of all shards that the archives hold.
        expected: what was recorded.
        malformed: what is wrong with the form of the archive, in the words of its reading; empty if it is whole.
        made_by: the version of the server or engine that made it, such as 1.18.3; empty if that is not known.
        raw_size: of the archives, unpacked, bytes; 0 if that is not known.
    """
    ended = [Trouble(INTACT, malformed)] if malformed else list(ending(seen, raw_size))
    # What was not reached is not missing, and a shard that did not answer may have had the nearest points.
    probes = [] if ended else probed(seen, expected)
    read, bad = contents(seen, expected, whole=not ended)
    found = list(marks(seen.parts, recorded=expected.content is not None))
    points = _points(seen)
    troubles = [*ended, *([] if ended else counted(points or 0, expected))]
    troubles += compared(seen, expected, probes, bad, read)
    troubles += [Trouble(RESTORABLE, mark.why) for mark in found if mark.damage]
    if troubles or not (probes or read):
        troubles += lacking(seen)
    if troubles:
        state, level, why = _weighed(troubles, "" if malformed else _foreign(seen, made_by))
    else:
        state, (level, why) = "passed", _proved(points or 0, expected, len(probes), read)
    return Judgement(
        state=state,
        level=level,
        why="; ".join([why, *(mark.why for mark in found if not mark.damage)]),
        points=points,
        asked=len(probes),
        matched=sum(not one.differs for one in probes),
        compared=read,
        same=read - len(bad),
        evidence=_evidence(seen, probes, bad),
    )


def _weighed(troubles: Sequence[Trouble], foreign: str) -> tuple[str, str, str]:
    """State, level and reason of a copy that something speaks against."""
    sure = [one for one in troubles if one.sure]
    told = sure or troubles
    level, why = lowest(one.level for one in told), "; ".join(one.why for one in told)
    if sure and not foreign:
        return "failed", level, why
    return "inconclusive", level, f"{why}; but {foreign}" if sure else why


def _foreign(seen: Seen, made_by: str) -> str:
    words = next((part.error for part in seen.parts if part.error), seen.why)
    return unknown(seen.engine, made_by, words)


def _proved(points: int, expected: Expected, asked: int, read: int) -> tuple[str, str]:
    """The level that a copy proves which nothing speaks against, and why."""
    as_recorded = "as recorded" if expected.source in {"", "manifest.json"} else f"as in {expected.source}"
    told = [f"opened with {count(points, 'point')}" + ("" if expected.low is None else f", {as_recorded}")]
    told += [f"{count(asked, 'probe')} answered {as_recorded}"] if asked else []
    told += [f"{count(read, 'point')} hold what they held"] if read else []
    lacks = [
        what
        for what, there in (("number", expected.low is not None), ("probes", asked), ("content", read))
        if not there
    ]
    if points or expected.high != 0:
        told += ["nothing was recorded to compare with"] if len(lacks) == _ALL else []
        told += [f"not recorded: {' and '.join(lacks)}"] if 0 < len(lacks) < _ALL else []
        if expected.low is None or not (asked or read):
            return RESTORABLE, "; ".join(told)
    return FAITHFUL, "; ".join(told)


def _points(seen: Seen) -> int | None:
    counts = [part.points for part in seen.parts if part.points is not None]
    return sum(counts) if len(counts) == len(seen.parts) and not seen.ended else None


def _evidence(seen: Seen, probes: Sequence[Probed], bad: Mapping[str, str]) -> dict[str, Any]:
    """What was seen, as JSON has it; bounded, whatever that was."""
    ended = {"ended": seen.ended, "ended_why": seen.why, "ended_at": seen.where} if seen.ended else {}
    return {
        "engine": seen.engine,
        **ended,
        "shards": [_shard(part) for part in seen.parts[:_SHARDS]],
        "probes": [
            {"vector": one.probe.vector, "kind": one.probe.kind, "point": one.probe.point, "differs": one.differs}
            for one in probes
        ],
        "wrong": dict(list(bad.items())[:_NAMED]),
    }


def _shard(part: Part) -> dict[str, Any]:
    told = structs.asdict(part)
    of_vectors = {kind: told[kind] for kind in ("vectors", "zeroed", "odd", "alike") if told[kind]}
    words = {kind: told[kind] for kind in ("error", "ended", "where", "unreadable") if told[kind]}
    lists = {kind: list(told[kind][:_NAMED]) for kind in ("unread", "unanswered") if told[kind]}
    return {"shard": part.shard, "points": part.points, "read": part.read, **words, **lists, **of_vectors}
