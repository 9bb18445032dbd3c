"""What becomes of a location: when it is full, whether the next backup fits, and what the plan will need.

What is dear to compute is an `Outlook`, and is computed once a day; how things stand with it at a moment is a `View`.
"""

from collections.abc import Sequence
from datetime import tzinfo

from msgspec import Struct

from agent.rules.finding import Finding, Level, ok
from agent.rules.forecast import DAY, Fit, Forecast, Sample, When
from agent.rules.simulation import Course
from agent.rules.words import moment, size, span

FULL_SOON, FULL_NOW, CRITICAL_SOON = 14 * DAY, 3 * DAY, 7 * DAY
YEARS = 3 * 365 * DAY  # that the plan is followed for
WEEK = 7 * DAY
LOOK_BACK, LOOK_AHEAD = 7, 7  # weeks of the chart


class Going(Struct, frozen=True):
    """What one cleanup will free; epoch seconds and bytes."""

    at: float
    size: int


class Mark(Struct, frozen=True):
    """How full it was, or is expected to be, in percent of what we can use."""

    at: float
    percent: float
    expected: bool


class Outlook(Struct, frozen=True, kw_only=True):
    """What was computed of a location.

    Attributes:
        forecast: of its storage.
        weeks: its fill level week by week, of the past and as it is expected.
        plan_needs: most bytes that our backups will take there, once all tiers are full; None if that cannot be told.
        plan_at: when that will be.
        held: bytes that they take there now.
        going: what the cleanups of the next two weeks will free.
    """

    forecast: Forecast
    weeks: tuple[Mark, ...] = ()
    plan_needs: int | None = None
    plan_at: float | None = None
    held: int = 0
    going: tuple[Going, ...] = ()


class View(Struct, frozen=True, kw_only=True):
    """How a location stands now; `freed` is what cleanups free within a week, `room` what the plan may take."""

    outlook: Outlook
    fit: Fit | None = None
    freed: int = 0
    room: int | None = None


class Prospect(Struct, frozen=True, kw_only=True):
    """The same as the status and the weekly report tell it; None is what nobody knows.

    Attributes:
        location: its name.
        outlook: all of it in words.
        per_day: bytes by which it grows in a day.
        full: when nothing more can be written.
        why: the forecast in words, or why there is none.
        fits: whether the next backup does.
        next_backup_bytes: what that needs.
        plan_needs_bytes: most bytes that our backups will take, once all tiers are full.
        plan_room_bytes: what they take now, and what is free beside them.
        freed_this_week_bytes: what cleanups will free within seven days.
        weeks: the fill level week by week, of the past and as it is expected.
    """

    location: str
    outlook: str
    per_day: int | None
    full: When | None
    why: str
    fits: bool | None
    next_backup_bytes: int | None
    plan_needs_bytes: int | None
    plan_room_bytes: int | None
    freed_this_week_bytes: int
    weeks: tuple[Mark, ...]


def planned(outlook: Outlook, course: Course, held: int) -> Outlook:
    """An outlook with what the plan's course says of it."""
    by_time: dict[float, int] = {}
    for one in course.gone:
        if one.at <= course.since + 2 * WEEK:
            by_time[one.at] = by_time.get(one.at, 0) + one.backup.size
    return Outlook(
        forecast=outlook.forecast,
        weeks=outlook.weeks,
        plan_needs=course.peak,
        plan_at=course.peak_at,
        held=held,
        going=tuple(Going(at, freed) for at, freed in by_time.items()),
    )


def freed(outlook: Outlook, now: float, until: float) -> int:
    """Bytes that cleanups free within a time span."""
    return sum(one.size for one in outlook.going if now < one.at <= until)


def weeks(samples: Sequence[Sample], forecast: Forecast) -> tuple[Mark, ...]:
    """The fill level week by week up to the newest sample, and on from there if growth is known."""
    if not samples:
        return ()
    newest = samples[-1]
    whole = newest.used + newest.free
    past: dict[int, Sample] = {}
    for one in samples:
        past[int((newest.at - one.at) // WEEK)] = one
    found = [_mark(one.at, one.used, one.used + one.free, expected=False) for _, one in sorted(past.items())]
    found = found[:LOOK_BACK][::-1]
    if forecast.per_day is not None:
        for ahead in range(1, LOOK_AHEAD + 1):
            used = min(newest.used + forecast.per_day * 7 * ahead, whole)
            found.append(_mark(newest.at + ahead * WEEK, used, whole, expected=True))
            if used == whole:
                break
    return tuple(found)


def _mark(at: float, used: float, whole: int, *, expected: bool) -> Mark:
    return Mark(at, round(100 * used / whole, 1) if whole else 0.0, expected)


def filling(location: str, view: View, now: float, zone: tzinfo) -> Finding:
    """Whether a location will soon be full."""
    told = view.outlook.forecast
    hint = (
        "Make room, keep fewer backups, or take a larger disk; `snapward status` shows what the plan will need,"
        " `snapward expire --simulate 3y` when."
    )
    if told.full is not None and told.full.at <= now + FULL_SOON:
        level = Level.CRITICAL if told.full.at <= now + FULL_NOW else Level.WARNING
        when = f"in about {span(told.full.at - now)}" if told.full.at > now else "any moment"
        return Finding("storage_forecast", location, level, f"it will be full {when}: it {told.why}", hint)
    if told.critical is not None and told.critical.at <= now + CRITICAL_SOON:
        when = moment(told.critical.at, zone)
        why = f"it will pass storage.critical around {when}: it {told.why}"
        return Finding("storage_forecast", location, Level.WARNING, why, hint)
    return ok("storage_forecast", location, told.why)


def fitting(location: str, fit: Fit) -> Finding:
    """Whether the next backup fits."""
    if fit.fits:
        return ok("next_backup_too_big", location, fit.why)
    hint = "Make room before it is due: `snapward expire` shows what may go, `snapward list` what lies there."
    return Finding("next_backup_too_big", location, Level.CRITICAL, fit.why, hint)


def prospect(location: str, view: View) -> Prospect:
    """A location's view, to be told."""
    seen = view.outlook
    return Prospect(
        location=location,
        outlook=_words(view),
        per_day=None if seen.forecast.per_day is None else round(seen.forecast.per_day),
        full=seen.forecast.full,
        why=seen.forecast.why,
        fits=view.fit.fits if view.fit else None,
        next_backup_bytes=view.fit.needs if view.fit else None,
        plan_needs_bytes=seen.plan_needs,
        plan_room_bytes=view.room,
        freed_this_week_bytes=view.freed,
        weeks=seen.weeks,
    )


def _words(view: View) -> str:
    told = [view.outlook.forecast.why]
    if view.fit is not None:
        told.append(view.fit.why)
    needs = view.outlook.plan_needs
    if needs:
        lacking = needs - view.room if view.room is not None else 0
        short = f", {size(lacking)} more than there is" if lacking > 0 else ""
        told.append(f"with all tiers full the backups take {size(needs)}{short}")
    if view.freed:
        told.append(f"cleanups free {size(view.freed)} within a week")
    return "; ".join(told)
