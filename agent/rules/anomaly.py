"""Notice what is unusual about a collection's newest backup: points, size, duration, compression.

Each figure is compared with the trend of the backups before it, as a factor (a half is as far off as the double), by
medians: neither noise nor growth nor an earlier incident moves what is usual. The history is all that has to be
remembered: what was off before, and since when, follows from it anew each time.
"""

import math
from collections.abc import Callable, Sequence
from datetime import tzinfo

from msgspec import Struct
from msgspec.structs import replace

from agent.rules.finding import Finding, Level, ok
from agent.rules.trend import median, rise, spread
from agent.rules.words import count, moment, size, span

RULES = ("points_changed", "size_changed", "duration_changed", "ratio_changed")
ENOUGH = 5  # backups from which on it can be said what is usual
STAYS = 5  # backups after which a step has become what is usual
WINDOW = 28  # backups that say what is usual: four weeks of daily ones
LOOKBACK = 3 * WINDOW
NOISE = 6.0  # times the noise that there is
WEEK = 7 * 86_400.0
TINY = 8 << 20
# Until two weeks are known a weekend may come as a surprise, and the noise is not known well.
YOUNG, YOUNG_SPAN, YOUNG_NOISE = 14, 12.5 * 86_400.0, 9.0
# What is off has to come this much nearer to be back, so that a figure on the border does not flicker.
NEARER = 0.75
# Where a trend through a few moments leads, days later; no figure comes near it.
_BEYOND = math.log(2.0**63)


class Measured(Struct, frozen=True, kw_only=True):
    """What one backup of one collection came to; None where nobody measured it.

    Attributes:
        backup: its id.
        at: when it began, epoch seconds.
        points: exact count.
        raw_size: of the snapshot, bytes; in a cluster of all of them.
        stored_size: of what lies in a location, bytes.
        seconds: that it took.
    """

    backup: str
    at: float
    points: int | None = None
    raw_size: int | None = None
    stored_size: int | None = None
    seconds: float | None = None

    @property
    def packed(self) -> float | None:
        """What compression leaves of the snapshot, 1 being all of it; what is tiny says nothing."""
        return (
            self.stored_size / self.raw_size if self.stored_size and self.raw_size and self.raw_size >= TINY else None
        )


class _Figure(Struct, frozen=True):
    """How a figure is judged and told. Unusual is what is off by the factor and by the floor as well.

    `young` is the factor where little is known. `zero` is added before two figures are compared as a factor, so that
    nothing at all can be compared too.
    """

    factor: float
    young: float
    floor: float
    zero: float
    read: Callable[[Measured], float | None]
    words: Callable[[float], str]
    tell: str
    fewer: str
    more: str
    times: str


_POINTS = _Figure(
    1.4, 1.65, 20, 1, lambda one: one.points, lambda n: count(round(n), "point"), "{} has", "fewer", "more", "as many"
)
# A server's log of writes, up to two segments of 32 MiB, comes and goes in a snapshot. It packs to very little.
_RAW = _Figure(
    1.5, 1.85, 64 << 20, 1 << 20, lambda one: one.raw_size, size, "the snapshot of {} has", "less", "more", "as much"
)
_STORED = _Figure(
    1.5, 1.85, 8 << 20, 1 << 20, lambda one: one.stored_size, size, "the backup of {} takes", "less", "more", "as much"
)
_SECONDS = _Figure(2.2, 2.9, 30, 1, lambda one: one.seconds, span, "the backup of {} took", "less", "more", "as long")
_PACKED = _Figure(
    1.25,
    1.4,
    0.03,
    0,
    lambda one: one.packed,
    lambda n: f"{100 * n:.0f} % of its size",
    "{} packs to",
    "less",
    "more",
    "as much",
)


class _Standing(Struct, frozen=True):
    """How a value stands to those before it.

    Attributes:
        off: logarithm of the factor by which it lies outside of what is usual; 0 is inside.
        limit: what `off` may be.
        usual: the end of what is usual that it is nearest to; None where too little is known.
        unusual: whether it is off by more than it may be.
        excuse: why nobody has to be told of that, in words; empty if somebody has.
        since: index of the first backup that was off without a break.
    """

    off: float = 0.0
    limit: float = 0.0
    usual: float | None = None
    unusual: bool = False
    excuse: str = ""
    since: int = 0

    @property
    def alarming(self) -> bool:
        """Whether it is for people to know."""
        return self.unusual and not self.excuse


_Spot = tuple[float, float]  # when, and the logarithm of how much


def judge(collection: str, history: Sequence[Measured], zone: tzinfo) -> list[Finding]:
    """What is unusual about the last backup in `history`: a finding for each of `RULES` that was measured.

    One change is told once: what goes along with the points or with the size is explained by them.

    Args:
        collection: its name.
        history: its backups, oldest first, the one to judge last; whole ones only, of all tiers.
        zone: of the times that people read.
    """
    history = history[-LOOKBACK:]
    if not history:
        return []
    points, raw, stored, seconds, packed = (rows[-1] for rows in _standings(history))
    figure, larger = (_STORED, stored) if _worse(stored) >= _worse(raw) else (_RAW, raw)
    if packed and larger and larger.alarming:
        packed = replace(packed, excuse="its size says so already")
    told = ((_POINTS, points), (figure, larger), (_SECONDS, seconds), (_PACKED, packed))
    return [
        _finding(rule, collection, figure, standing, history, zone)
        for rule, (figure, standing) in zip(RULES, told, strict=True)
        if standing is not None
    ]


def _standings(history: Sequence[Measured]) -> tuple[list[_Standing | None], ...]:
    """How every backup stood when it was the newest: points, raw size, stored size, duration, compression."""
    points = _follow(history, _POINTS)
    raw, stored = _follow(history, _RAW, points), _follow(history, _STORED, points)
    return points, raw, stored, _follow(history, _SECONDS, points, raw, stored), _follow(history, _PACKED)


def _worse(standing: _Standing | None) -> tuple[bool, float]:
    """What tells which of two sizes is worth more words."""
    return (standing.alarming, abs(standing.off)) if standing else (False, -1.0)


def _follow(
    history: Sequence[Measured], figure: _Figure, *causes: Sequence[_Standing | None]
) -> list[_Standing | None]:
    """How each value of a history stood to those before it; `causes` are figures that this one goes along with."""
    told: list[_Standing | None] = []
    usual: list[_Spot] = []
    step: list[_Spot] = []  # the latest values, if they are off, all in one direction
    since, before = 0, 0.0
    for index, one in enumerate(history):
        value = figure.read(one)
        if value is None:
            told.append(None)
            continue
        spot = (one.at, math.log(value + figure.zero))
        seen = _emptied(value, [*usual, *step] if before > 0 else usual, figure)
        seen = seen or _compare(spot, value, usual, figure, before)
        if step and (not seen.unusual or seen.off * before < 0):
            usual, step = [*usual, *step][-WINDOW:], []
        if not seen.unusual:
            usual, before = [*usual, spot][-WINDOW:], 0.0
            told.append(seen)
            continue
        since = since if step else index
        step, before = [*step, spot], seen.off
        # A server clears away what was deleted in its own time: what else changed lately counts too.
        lately = [it for cause in causes for it in cause[max(since - STAYS, 0) : index + 1] if it is not None]
        told.append(replace(seen, excuse=_excuse(seen, figure, len(step), lately), since=since))
        if len(step) >= STAYS:
            usual, step, before = step, [], 0.0
    return told


def _excuse(seen: _Standing, figure: _Figure, stayed: int, causes: Sequence[_Standing]) -> str:
    """Why nobody has to be told of what is unusual, after it `stayed` so for some backups; empty if somebody has."""
    pulls = [0.0, *(one.off for one in causes)]
    left = seen.off - min(max(seen.off, min(pulls)), max(pulls))
    if stayed >= STAYS:
        return f"it has stayed so for {STAYS} backups, and is what is usual now"
    if abs(left) <= seen.limit:
        return "it goes along with what else changed"
    return "it was empty, and is being filled" if figure is _POINTS and not seen.usual else ""


def _emptied(value: float, known: Sequence[_Spot], figure: _Figure) -> _Standing | None:
    """No points where there were some: always off, however few they were or however little is known."""
    if value or figure is not _POINTS or not known:
        return None
    lately = [one for _, one in known[-ENOUGH:]]
    held = max(median(lately), lately[-1])
    return _Standing(-held, 0.0, _plain(held, figure), unusual=True) if held > 0 else None


def _compare(spot: _Spot, value: float, usual: Sequence[_Spot], figure: _Figure, before: float) -> _Standing:
    """How far a value is from what is usual; `before` is by how much the one before it was off."""
    if len(usual) < ENOUGH:
        return _Standing()
    low, high, noise, slope = _band(spot[0], usual)
    off = spot[1] - min(max(spot[1], low), high)
    young = len(usual) < YOUNG or usual[-1][0] - usual[0][0] < YOUNG_SPAN
    limit = max(math.log(figure.young if young else figure.factor), (YOUNG_NOISE if young else NOISE) * noise)
    edge = _plain(low if off < 0 else high, figure)
    bound = limit * NEARER if off * before > 0 else limit
    unusual = abs(off) > bound and abs(value - edge) > figure.floor and not _weekly(spot, usual, slope, figure)
    return _Standing(off, bound, edge, unusual=unusual)


def _band(at: float, usual: Sequence[_Spot]) -> tuple[float, float, float, float]:
    """What would be usual at a moment, from low to high, with its noise and slope; all of it in logarithms.

    Both count: that the trend goes on, and that it ends where it was lately.
    """
    times, values = [one for one, _ in usual], [one for _, one in usual]
    slope = rise(times, values)
    level = [value - slope * time for time, value in usual]
    recent = median(values[-((len(values) + 2) // 3) :])
    # No further ahead than back: an hour of backups says nothing about the next month.
    trend = median(level) + slope * min(at, 2 * times[-1] - times[0])
    return min(recent, trend), max(recent, trend), spread(level), slope


def _weekly(spot: _Spot, usual: Sequence[_Spot], slope: float, figure: _Figure) -> bool:
    """Whether it was about the same on this day of the week, in two of the last four weeks."""
    near, alike = math.log(figure.factor) / 2, 0
    for week in (1, 2, 3, 4):
        at = spot[0] - week * WEEK
        alike += any(
            abs(time - at) < WEEK / 14 and abs(spot[1] - value - slope * (spot[0] - time)) < near
            for time, value in usual
        )
    return alike >= 2


def _plain(logarithm: float, figure: _Figure) -> float:
    return max(math.exp(min(logarithm, _BEYOND)) - figure.zero, 0.0)


def _finding(
    rule: str, name: str, figure: _Figure, seen: _Standing, history: Sequence[Measured], zone: tzinfo
) -> Finding:
    """Say how the newest backup stands."""
    value = figure.read(history[-1]) or 0.0
    now = f"{figure.tell.format(name)} {figure.words(value)}"
    if seen.usual is None:
        return ok(rule, name, f"{now}; what is usual is known from {ENOUGH} backups on")
    told = f"{now}, usually about {figure.words(seen.usual)}"
    if not seen.unusual:
        return ok(rule, name, told)
    first = history[seen.since]
    since = f"since {moment(first.at, zone)} (backup {first.backup})"
    told = f"{told}: {_difference(value, seen.usual, figure)}, {since}"
    if seen.excuse:
        return ok(rule, name, f"{told}; {seen.excuse}")
    before = f" `snapward keep {history[seen.since - 1].backup}` keeps the last backup from before." * (seen.since > 0)
    hint = (
        f"If that was meant to happen, nothing is to be done: what stays for {STAYS} backups is usual."
        f" If not, look at what writes to {name}.{before}"
    )
    level = Level.CRITICAL if figure is _POINTS and not value else Level.WARNING
    return Finding(rule, name, level, told, hint)


def _difference(value: float, usual: float, figure: _Figure) -> str:
    """By how much a value differs: 60 % fewer, 3.0 times as many."""
    if usual and value >= 2 * usual:
        return f"{value / usual:.1f} times {figure.times}"
    share = abs(value / usual - 1) if usual else 1.0
    return f"{100 * share:.0f} % {figure.fewer if value < usual else figure.more}"
