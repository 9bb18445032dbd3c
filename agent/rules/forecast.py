"""Say when a location will be full, and whether the next backup fits; or that this cannot be said.

The line goes through one reading of each day, and its slope is the median of what lies between the same days of
different weeks (Theil and Sen's): what an expiry frees every week is neither growth nor shrinking. How far it can be
trusted is Kendall's measure of how many of those pairs agree.
"""

import math
from collections.abc import Sequence
from datetime import datetime, tzinfo
from itertools import pairwise
from typing import Protocol

from msgspec import Struct

from agent.rules.storage import Limits
from agent.rules.trend import median, slopes, spread
from agent.rules.words import count, size

DAY = 86_400.0
LEAST = 8  # days on which it was measured: a week, and the day after
YEAR = 366  # days that count
HORIZON = 5 * 365 * DAY
RECENT = 5  # backups
WEEKLY = 21  # days from which on only the same days of different weeks are compared
PEAK = 4.0
CLEAR, LIKELY = 3.3, 1.96  # standard deviations: to believe in a trend at all, and of the range that is told


class Sample(Protocol):
    """How full a location was at one moment: a row of the ledger."""

    @property
    def at(self) -> float:
        """When, epoch seconds."""

    @property
    def used(self) -> int:
        """Bytes in use."""

    @property
    def free(self) -> int:
        """Bytes that can still be used by us."""


class When(Struct, frozen=True):
    """A moment that is expected, epoch seconds, from the `earliest` to the `latest`; None is not within five years."""

    at: float
    earliest: float
    latest: float | None


class Forecast(Struct, frozen=True, kw_only=True):
    """What becomes of a location.

    Attributes:
        why: all of it in words, or why nothing can be said.
        per_day: bytes by which it grows in a day; None where no trend is clear.
        full: when nothing more can be written. None: not within five years, or nothing can be said.
        warn: when `storage.warn` is passed; None also where it has been already.
        critical: when `storage.critical` is passed; likewise.
    """

    why: str
    per_day: float | None = None
    full: When | None = None
    warn: When | None = None
    critical: When | None = None


class Fit(Struct, frozen=True):
    """Whether the next backup fits, the bytes that it needs, and both in words."""

    fits: bool
    needs: int
    why: str


class _Line(Struct, frozen=True):
    """Growth in bytes per day: the likely one, its range, and whether there is any."""

    slope: float
    low: float
    high: float
    least: float
    most: float


_Days = Sequence[tuple[float, float]]  # when, in days, and the bytes in use; one a day, oldest first


def forecast(samples: Sequence[Sample], limits: Limits, zone: tzinfo) -> Forecast:
    """When a location passes its limits and is full, as its growth looks now.

    Args:
        samples: readings of one location, oldest first; the last year of them counts.
        limits: of the configuration.
        zone: of the dates that people read.
    """
    days = _days(samples) if samples else []
    if len(days) < LEAST:
        return Forecast(why=f"cannot tell: it was measured on {count(len(days), 'day')}, and it takes {LEAST}")
    newest = samples[-1]
    days, line = _trend(days)
    if line.least <= 0:
        return Forecast(why=f"cannot tell: {'it is shrinking' if line.most < 0 else 'no trend is clear'}")
    full = newest.used + newest.free
    marks = [full * limits.warn / 100, full * limits.critical / 100, float(full)]
    crossings = [_when(mark, days, line, newest) for mark in marks]
    names = [f"{limits.warn:g} %", f"{limits.critical:g} %", "full"]
    told = [
        f"{name} {'now' if newest.used >= mark else _dates(when, zone)}"
        for name, mark, when in zip(names, marks, crossings, strict=True)
    ]
    warn, critical, end = crossings
    return Forecast(
        why=f"grows by {size(line.slope)} a day: {', '.join(told)}",
        per_day=line.slope,
        full=end,
        warn=warn,
        critical=critical,
    )


def fits(recent: Sequence[int], free: int) -> Fit | None:
    """Whether the next backup fits into `free` bytes; None where there is none to go by.

    Args:
        recent: bytes that the last whole backups take in the location, oldest first.
        free: bytes that we can still use there.
    """
    if not recent:
        return None
    steps = slopes([[(float(index), float(one)) for index, one in enumerate(recent[-3 * RECENT :])]])
    growth = max(median(steps), 0.0) if steps else 0.0
    needs = math.ceil(max(recent[-RECENT:]) + growth)
    told = f"the next backup needs about {size(needs)}, and {size(free)} are free"
    if needs > free:
        return Fit(fits=False, needs=needs, why=f"{told}: {size(needs - free)} too little")
    more = (free - needs) // needs if needs else 0
    after = f"so {'does' if more == 1 else 'do'} {more:,} more like it" if more else ""
    return Fit(fits=True, needs=needs, why=f"{told}: it fits, {f'and {after}' if more else 'but no other after it'}")


def _days(samples: Sequence[Sample]) -> _Days:
    """The middle of each day of the last year, raised to its peak where days have one."""
    read: dict[int, list[Sample]] = {}
    for one in samples:
        read.setdefault(int(one.at // DAY), []).append(one)
    last = max(read)
    year = [readings for day, readings in sorted(read.items()) if day > last - YEAR]
    uses = [sorted(one.used for one in readings) for readings in year]
    middles = [median(one) for one in uses]
    peak = median(one[-1] - middle for one, middle in zip(uses, middles, strict=True))
    lately = [one.used for readings in year[-7:] for one in readings]
    # The highest of many readings is no peak unless it stands out of what each differs from the next by.
    if peak <= PEAK * median([abs(later - earlier) for earlier, later in pairwise(lately)] or [0]):
        peak = 0.0
    times = [(readings[0].at + readings[-1].at) / 2 / DAY for readings in year]
    return [(time, middle + peak) for time, middle in zip(times, middles, strict=True)]


def _trend(days: _Days) -> tuple[_Days, _Line]:
    """The longest time up to now that is one line, and that line: what was before growth changed counts no more."""
    line = _line(days)
    while len(days) >= 2 * WEEKLY:
        late = days[len(days) // 2 :]
        recent = _line(late)
        if recent.least <= line.slope <= recent.most:
            break
        days, line = late, recent
    return days, line


def _line(days: _Days) -> _Line:
    period = 7 if days[-1][0] - days[0][0] >= WEEKLY else 1
    groups: list[list[tuple[float, float]]] = [[] for _ in range(period)]
    for day, used in days:
        groups[int(day) % period].append((day, used))
    found = slopes(groups)
    deviation = math.sqrt(sum(n * (n - 1) * (2 * n + 5) for n in map(len, groups)) / 18)

    def bound(deviations: float) -> float:
        rank = math.floor((len(found) - abs(deviations) * deviation) / 2)
        if rank < 0:
            return math.copysign(math.inf, deviations)
        return found[rank] if deviations < 0 else found[-1 - rank]

    return _Line(median(found), bound(-LIKELY), bound(LIKELY), bound(-CLEAR), bound(CLEAR))


def _when(mark: float, days: _Days, line: _Line, newest: Sample) -> When | None:
    """When a line reaches so many bytes: sooner where it is steeper and wavers up, later where it does not."""
    level, wavering = _level(days, line.slope)
    middle = median(day for day, _ in days)
    room = mark - level - line.slope * middle
    now, end = newest.at, newest.at + HORIZON

    def reached(slope: float, missing: float) -> float:
        return max((middle + missing / slope) * DAY, now) if slope > 0 else math.inf

    at = reached(line.slope, room)
    if newest.used >= mark or at > end:
        return None
    latest = max(reached(line.low, room + LIKELY * wavering), at)
    return When(at, min(reached(line.high, room - LIKELY * wavering), at), latest if latest <= end else None)


def _level(days: _Days, slope: float) -> tuple[float, float]:
    """How high a line of that slope lies on the fullest day of the week, and how far the days lie from it."""
    rest = [(int(day) % 7, used - slope * day) for day, used in days]
    base = median(used for _, used in rest)
    week = {one: median(used for day, used in rest if day == one) - base for one in {day for day, _ in rest}}
    left = [used - base - week[day] for day, used in rest]
    wavering, top = spread(left), max(week.values())
    if len(days) < WEEKLY or top - min(week.values()) <= 3 * wavering:
        left, top = [used - base for _, used in rest], 0.0
        wavering = spread(left)
    lately = median(left[-7:])
    # Something large that came or went for good; less than that is noise.
    return base + top + (lately if abs(lately) > 2 * wavering else 0.0), wavering


def _dates(when: When | None, zone: tzinfo) -> str:
    if when is None:
        return "not within 5 years"
    at, earliest = _date(when.at, zone), _date(when.earliest, zone)
    if when.latest is None:
        return f"around {at}, not before {earliest}"
    latest = _date(when.latest, zone)
    return f"around {at}" if earliest == latest else f"around {at} ({earliest} to {latest})"


def _date(at: float, zone: tzinfo) -> str:
    return f"{datetime.fromtimestamp(at, zone):%d %b %Y}"
