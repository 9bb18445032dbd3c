"""Compare what a restored copy shows with what was recorded, where both may differ without anything being wrong."""

import math
from collections.abc import Sequence

# A score may differ by this share of the greatest: engines compute vectors of 16 bits with more or fewer digits.
_TOLERANCE = 1e-3
_LEAST = 1e-3
# With 0 of n, a share of 3/n goes unnoticed once in twenty times.
_MARGIN = 3.0
# With 0 of n, a share of 10/n goes unnoticed once in 20,000 times.
_CERTAIN = 10.0

Answer = tuple[int | str, float]


def unlike(recorded: Sequence[Answer], parts: Sequence[Sequence[Answer]], limit: int, *, quiet: bool = True) -> str:
    """How the answers to a probe differ from the recorded ones, in words; empty if they are the same.

    Points with equal scores may come in any order, and which of them are the last ones is chance. Where something was
    written meanwhile, points may be there that were not there before, nor afterwards.

    Args:
        recorded: pairs of id and score, the nearest first.
        parts: the answers of each shard, as far as these are several.
        limit: how many answers were asked for.
        quiet: whether nothing was written meanwhile.
    """
    found = [_unlike(recorded, parts, limit, descending=order, quiet=quiet) for order in _orders(recorded)]
    return min(found, key=len)


def astray(recorded: Sequence[Answer], parts: Sequence[Sequence[Answer]], limit: int) -> str:
    """How answers differ whose scores need not be as they were: in words, unless most of the points are the same."""
    strictly = unlike(recorded, parts, limit)
    then, now = {point for point, _ in recorded}, {point for part in parts for point, _ in part}
    return strictly if len(then & now) * 2 < len(then) else ""


def merged(parts: Sequence[Sequence[Answer]], limit: int, *, descending: bool) -> list[Answer]:
    """The nearest of all shards' answers, each id once; `descending` if the nearest have the greatest scores."""
    found = sorted((answer for part in parts for answer in part), key=lambda answer: answer[1], reverse=descending)
    nearest: dict[int | str, float] = {}
    for point, score in found:
        nearest.setdefault(point, score)  # with shard keys, several shards may have an id
    return list(nearest.items())[:limit]


def descending(lists: Sequence[Sequence[Answer]]) -> bool:
    """Whether the nearest have the greatest scores, as far as these answers tell."""
    return not any(answers and answers[0][1] < answers[-1][1] for answers in lists)


def _orders(recorded: Sequence[Answer]) -> tuple[bool, ...]:
    """The orders that the recorded answers may be in; nothing tells that of equal ones."""
    if not recorded or recorded[0][1] == recorded[-1][1]:
        return True, False
    return (recorded[0][1] > recorded[-1][1],)


def _unlike(
    recorded: Sequence[Answer], parts: Sequence[Sequence[Answer]], limit: int, *, descending: bool, quiet: bool
) -> str:
    found = merged(parts, limit, descending=descending)
    if len(found) < len(recorded) or (quiet and len(found) > len(recorded)):
        return f"{len(found)} answers instead of {len(recorded)}"
    if not recorded:
        return ""
    tolerance = _TOLERANCE * max(_LEAST, *(abs(score) for _, score in recorded))

    def near(one: float, other: float) -> bool:
        return abs(one - other) <= tolerance  # false if one of them is no number

    then, now = dict(recorded), dict(found)
    last, farthest = recorded[-1][1], found[-1][1]
    for (one, score), (other, its) in zip(recorded, found, strict=False):
        if quiet and not near(score, its):
            return f"{other} at {its:.6g} instead of {one} at {score:.6g}"
        if quiet and other not in then and not near(its, last):
            return f"{other} is new"
        if one in now and not near(score, now[one]):
            return f"{one} at {now[one]:.6g} instead of {score:.6g}"
        crowded_out = len(found) == limit and (near(score, farthest) or (score < farthest) == descending)
        if one not in now and not crowded_out:
            return f"{one} is missing"
    return ""


def unseen(changed: int, drawn: int, of: int) -> int:
    """How many of `of` points may have changed, if that was seen of `changed` among `drawn` of them."""
    if not drawn:
        return of
    most = changed + _MARGIN * math.sqrt(changed + 1)
    return math.ceil(min(1.0, most / drawn) * of)


def more(known: int, among: int, found: int, of: int) -> bool:
    """Whether `found` of `of` is beyond doubt a greater share than `known` of `among`, both drawn from the same."""
    if not among or not of:
        return False
    return (found - 4 * math.sqrt(found)) / of > (known + 4 * math.sqrt(known) + _CERTAIN) / among
