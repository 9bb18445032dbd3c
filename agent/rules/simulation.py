"""What a schedule and its policies will keep, day by day, and how much room that takes, if all goes well."""

from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from datetime import tzinfo
from heapq import merge
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from agent.errors import BadUsage
from agent.rules.keeping import GOING, Backup, Policy, reason, window
from agent.rules.timetable import DAY, slots_between

MOST = 100_000  # slots of one cron line; more than that can neither be computed nor read in a reasonable time
_ENDS = {"day": "0 0 * * *", "month": "0 0 1 * *"}
# At one moment a day ends first, and a cleanup sees the backup.
_END, _MADE, _CLEANUP = range(3)


class Series(Struct, frozen=True, kw_only=True):
    """A tier as it is planned: its policy (None: for ever), when one is made (empty: never again), bytes of each."""

    policy: Policy | None
    cron: str = ""
    size: int = 0


class Stock(Struct, frozen=True):
    """What lies in a location at `at`: when each backup of each tier was begun, the oldest first; bytes of them all."""

    at: float
    kept: Mapping[str, tuple[float, ...]]
    size: int


class Gone(Struct, frozen=True):
    """A backup that a cleanup removed at `at`."""

    at: float
    backup: Backup


class Course(Struct, frozen=True):
    """How things will go.

    Attributes:
        since: the moment from which this was computed, epoch seconds.
        ends: what lies there at the end of every day or month, and at the end of it all.
        peak: most bytes that lie there at once; a cleanup comes after the backup that takes the place.
        peak_at: when that will be for the first time.
        gone: what the cleanups remove, in that order.
    """

    since: float
    ends: tuple[Stock, ...]
    peak: int
    peak_at: float
    gone: tuple[Gone, ...]


def simulate(
    tiers: Mapping[str, Series],
    cleanup: str,
    since: float,
    until: float,
    zone: tzinfo,
    present: Sequence[Backup] = (),
    every: Literal["day", "month"] = "day",
) -> Course:
    """Let time pass over one location: every backup succeeds, every cleanup runs, nothing is frozen.

    What nobody has proved yet is taken to be good. Drills are taken to go on, so that the newest backups are those
    that were drilled last; pins hold until they end.

    Args:
        tiers: the tiers; one that is not among them is kept for ever.
        cleanup: cron line of the cleanups.
        since: epoch seconds.
        until: epoch seconds.
        zone: the time zone of ages and cron lines.
        present: what lies there already.
        every: at which ends the stock is told.

    Raises:
        BadUsage: a cron line has too many slots in this time.
        BadConfig: a cron line cannot be read.
    """
    stock: dict[str, list[Backup]] = {tier: [] for tier in tiers}
    for one in sorted(present, key=_started):
        stock.setdefault(one.tier, []).append(_as_hoped(one))
    held = peak = sum(one.size for one in present)
    peak_at, ends, gone = since, [], []
    for at, kind, tier in _events(tiers, cleanup, since, until, zone, _ENDS[every]):
        if kind == _MADE:
            made = Backup(id=f"{at:.0f}", tier=tier, started=at, state="good", size=tiers[tier].size)
            insort(stock[tier], made, key=_started)
            held += made.size
            if held > peak:
                peak, peak_at = held, at
        elif kind == _CLEANUP:
            for name, series in tiers.items():
                going, stock[name] = _clean(stock[name], series.policy, at, zone)
                held -= sum(one.size for one in going)
                gone += [Gone(at, one) for one in going]
        else:
            ends.append(Stock(at, {name: tuple(map(_started, here)) for name, here in stock.items()}, held))
    return Course(since, tuple(ends), peak, peak_at, tuple(gone))


def freed(course: Course, days: float) -> int:
    """Bytes that cleanups will free within so many days."""
    return sum(one.backup.size for one in course.gone if one.at <= course.since + days * DAY)


def _started(one: Backup) -> float:
    return one.started


def _as_hoped(one: Backup) -> Backup:
    return replace(one, state="good") if one.state == "unknown" else one


def _clean(stock: list[Backup], policy: Policy | None, now: float, zone: tzinfo) -> tuple[list[Backup], list[Backup]]:
    """What of a tier goes, and what stays, both with the oldest first."""
    if policy is None:
        return [], stock
    mine = window(policy, [one.started for one in stock if one.counts], now, zone)
    old = next((n for n, one in enumerate(stock) if not mine.outlived(one.started)), len(stock))
    going = [reason(one, mine, drilled=False, now=now) in GOING for one in stock[:old]]
    if not any(going):
        return [], stock
    pairs = list(zip(stock, going, strict=False))
    return [one for one, goes in pairs if goes], [one for one, goes in pairs if not goes] + stock[old:]


def _events(
    tiers: Mapping[str, Series], cleanup: str, since: float, until: float, zone: tzinfo, ends: str
) -> Iterator[tuple[float, int, str]]:
    """All that happens, in order."""
    made = [_slots(one.cron, _MADE, tier, since, until, zone) for tier, one in tiers.items() if one.cron]
    cleanups = _slots(cleanup, _CLEANUP, "", since, until, zone)
    told = [one for one in _slots(ends, _END, "", since, until, zone) if one[0] < until]
    return merge(*made, cleanups, [*told, (until, _END, "")])


def _slots(cron: str, kind: int, tier: str, since: float, until: float, zone: tzinfo) -> list[tuple[float, int, str]]:
    found = slots_between(cron, since, until, zone, MOST + 1)
    if len(found) > MOST:
        raise BadUsage(f"'{cron}' has more than {MOST:,} slots in this time.", "Ask for a shorter time.")
    return [(at, kind, tier) for at in found]
