"""Reasons against a restored copy, each found by comparing what it showed with what was recorded."""

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from agent.rules import comparison, content
from agent.rules.archive import RESTORABLE, WELL_FORMED
from agent.rules.manifest import Probe
from agent.rules.rehearsed import Expected, Part, Seen
from agent.rules.words import count

_FEW = 3
# Of the points that are compared, so many at most may hold another payload because of writes that failed.
_REPLAYED = 0.02
_ALLOCATION = re.compile(r"memory allocation of (\d+) bytes failed")
# No engine asks for so much at once that reads an archive right: as multiples of the archive, and in bytes.
_SANE, _LARGE = 16, 1 << 30
_HELP = {
    "time": ": raise drills.deadline if that is too short",
    "memory": ": raise drills.memory if that is too little",
}


class Trouble(Struct, frozen=True):
    """One reason; `sure` if nothing else explains it. `level` is what is proved in spite of it."""

    level: str
    why: str
    sure: bool = True


class Probed(Struct, frozen=True):
    """A probe that was asked of all shards, and how its answers differ; empty if they do not."""

    probe: Probe
    differs: str


def probed(seen: Seen, expected: Expected) -> list[Probed]:
    """Compare the answers to the recorded probes, as far as all shards answered."""
    found = []
    for number, probe in enumerate(expected.probes):
        parts = [part.answers[number] if number < len(part.answers) else None for part in seen.parts]
        given = [answers for answers in parts if answers is not None]
        recorded = [(one["id"], one["score"]) for one in probe.answers]
        if given and len(given) == len(parts) and all(isinstance(score, int | float) for _, score in recorded):
            limit = probe.query.get("limit", len(recorded))
            if probe.vector in expected.idf:
                differs = comparison.astray(recorded, given, limit)
            else:
                differs = comparison.unlike(recorded, given, limit, quiet=expected.writes == 0)
            found.append(Probed(probe, differs))
    return found


def contents(seen: Seen, expected: Expected, *, whole: bool) -> tuple[int, dict[str, str]]:
    """Compare what recorded points hold.

    Args:
        seen: what was seen.
        expected: what was recorded.
        whole: whether all was seen, so that what was not is missing.

    Returns:
        How many were compared; and by id, what of a point is not as it was: vectors, payload, both, or all of it.
    """
    recorded = expected.content.points if expected.content else {}
    unread = {text.split(":")[0].rpartition(" ")[2] for part in seen.parts for text in part.unread}
    found, bad = 0, {}
    for point, digest in recorded.items():
        # With shard keys, several shards may have an id.
        told = {part.digests[point]: part.shard for part in seen.parts if point in part.digests}
        found += bool(told)
        if told and digest not in told:
            other, shard = next(iter(told.items()))
            bad[point] = content.differs(digest, other) + (f" in shard {shard}" if len(seen.parts) > 1 else "")
        elif not told and whole:
            bad[point] = "unreadable" if point in unread else "missing"
    return len(recorded) if whole else found, bad


def ending(seen: Seen, raw_size: int) -> Iterator[Trouble]:
    """What an engine that did not come to its end, or could not open a shard, says against the archive."""
    refused = [part for part in seen.parts if part.error and not _is_machine(part.ended, part.error, raw_size)]
    if refused:
        words = [_refusal(part) for part in refused[:_FEW]]
        if len(refused) > _FEW:
            words.append(f"and {count(len(refused) - _FEW, 'more shard')}")
        yield Trouble(WELL_FORMED, "; ".join(words))
    elif seen.ended:
        where = f", at {seen.where}" if seen.where else ""
        sure = not _is_machine(seen.ended, seen.why, raw_size)
        yield Trouble(WELL_FORMED, f"{seen.why}{where}{_HELP.get(seen.ended, '')}", sure=sure)


def _is_machine(ended: str, words: str, raw_size: int) -> bool:
    """Whether an engine ended for a reason that need not lie in the archive."""
    asked = _ALLOCATION.search(words)
    if ended == "memory" and asked and raw_size:
        return int(asked[1]) <= max(_LARGE, _SANE * raw_size)
    return ended in {"time", "stopped", "unable", "memory"}


def _refusal(part: Part) -> str:
    what = "the copy" if part.shard is None else f"shard {part.shard}"
    how = "cannot be opened" if part.points is None else f"was opened with {count(part.points, 'point')}, then failed"
    where = f" (in {part.where})" if part.where and part.where not in part.error else ""
    return f"{what} {how}: {part.error}{where}"


def counted(points: int, expected: Expected) -> Iterator[Trouble]:
    """Compare the number of points; what was written meanwhile may explain that it is another one."""
    low, high, drawn, writes = expected.low, expected.high, expected.content, expected.writes
    if low is None or high is None or low <= points <= high:
        return
    why = f"{count(points, 'point')} instead of {f'{low:,}' if low == high else f'{low:,} to {high:,}'}"
    written = bool(writes or (drawn and drawn.changed))
    hidden = expected.hides and points > high
    told = writes == 0 or (low == high and (drawn is None or drawn.drawn >= drawn.of))
    if told and not written and not hidden:
        yield Trouble(WELL_FORMED, why)
        return
    slack = high - low if drawn is None else comparison.unseen(drawn.changed, drawn.drawn, drawn.of)
    slack += writes or 0
    if not low - slack <= points <= high + slack:
        # Points that came and went meanwhile are in no sample, but may have been counted, or be in the archive.
        sure = not (written or hidden) or points * 2 < low
        yield Trouble(WELL_FORMED, f"{why}, though it was written to" if written else why, sure=sure)
    elif not written:
        yield Trouble(WELL_FORMED, f"{why}, which writes may explain that nobody saw", sure=False)


def compared(
    seen: Seen, expected: Expected, probes: Sequence[Probed], bad: Mapping[str, str], of: int
) -> Iterator[Trouble]:
    """Tell points that are not as they were, probes that are answered otherwise, and what cannot be read.

    Args:
        seen: what was seen, as far as it got.
        expected: what was recorded.
        probes: as `probed` has them.
        bad: as `contents` has it.
        of: how many points were compared.
    """
    unreadable = sum(part.unreadable for part in seen.parts)
    if unreadable:
        first = next((text for part in seen.parts for text in part.unread), "")
        read = unreadable + sum(part.read for part in seen.parts)
        yield Trouble(RESTORABLE, f"{unreadable:,} of {count(read, 'point')} cannot be read: {first}")
    if bad:
        some = ", ".join(f"{point} ({what})" for point, what in list(bad.items())[:_FEW])
        more = ", …" if len(bad) > _FEW else ""
        why = f"{len(bad):,} of {count(of, 'recorded point')} changed: {some}{more}"
        maybe = ", which may come of writes that failed" if _replayed(expected, bad, of) else ""
        yield Trouble(RESTORABLE, f"{why}{maybe}", sure=not maybe)
    other = [one for one in probes if one.differs]
    if other:
        first = f"about point {other[0].probe.point}{_vector(other[0].probe.vector)}: {other[0].differs}"
        yield Trouble(RESTORABLE, f"{len(other)} of {count(len(probes), 'probe')} answered otherwise, {first}")
    for refused in [words for part in seen.parts for words in part.unanswered][:1]:
        yield Trouble(RESTORABLE, f"the engine cannot answer {refused}")


def _replayed(expected: Expected, bad: Mapping[str, str], of: int) -> bool:
    """Whether a few payloads may be others because a write that failed was replayed from the log.

    A write of payload to several points, one of which is not there, is refused, and changes some of the others; when a
    copy replays it, these may be others. Seen with servers 1.16.3 and 1.18.3.
    """
    only_payload = all(what.startswith("payload") for what in bad.values())
    return bool(expected.writes) and only_payload and len(bad) <= max(1, of * _REPLAYED)


def lacking(seen: Seen) -> Iterator[Trouble]:
    """Tell files that are missing, and that the engine does without."""
    for part in seen.parts:
        if part.where and not part.error:
            yield Trouble(WELL_FORMED, f"{'' if part.shard is None else f'in shard {part.shard} '}{part.where}")


def _vector(name: str) -> str:
    return f" (vector '{name}')" if name else ""
