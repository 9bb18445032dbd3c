"""Middles and lines of figures that jump about; a few wild ones among them move nothing."""

from collections.abc import Iterable, Sequence

# What a median of distances has to be multiplied by to be the standard deviation of ordinary noise.
_NORMAL = 1.4826


def median(values: Iterable[float]) -> float:
    """The middle of at least one value."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def spread(values: Sequence[float]) -> float:
    """How far values lie from their middle, as a standard deviation would say it of ordinary noise (1.48 MAD)."""
    middle = median(values)
    return _NORMAL * median([abs(one - middle) for one in values])


def rise(times: Sequence[float], values: Sequence[float]) -> float:
    """By how much values rise per unit of time: from the middle of the first third to that of the last.

    `times` are in order. It costs a sort of two short lists; all pairs (Theil and Sen) would cost a square.
    """
    third = (len(values) + 2) // 3
    passed = times[-(third + 1) // 2] - times[third // 2]
    return (median(values[-third:]) - median(values[:third])) / passed if passed > 0 else 0.0


def slopes(groups: Iterable[Sequence[tuple[float, float]]]) -> list[float]:
    """The slope of every pair of (time, value) within each group, the least first; their median is Theil and Sen's.

    The times of a group are all different.
    """
    found = [
        (value - earlier) / (time - before)
        for group in groups
        for index, (time, value) in enumerate(group)
        for before, earlier in group[:index]
    ]
    found.sort()
    return found
