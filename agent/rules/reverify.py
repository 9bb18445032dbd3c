"""Choose which archives to read again now, so that each is read once in a while and no day has to read too much.

The oldest proof comes first. Of all the ways to meet every deadline, the one is taken whose busiest day is the
quietest: it reads so much a day as the tightest of the deadlines ahead asks for, and no more.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from agent.rules.finding import Finding, Level, ok
from agent.rules.words import count, size, span

DAY = 86_400.0
EVERY = 30 * DAY
# Read two days early: an archive is in one piece, and a day may be missed.
AHEAD = 2 * DAY
OPENING = 0.02  # seconds that an archive takes however small it is
USUAL_SPEED = 50e6  # bytes per second, where nothing was measured; a slow disk
MEASURED = 64 << 20  # bytes; what is smaller says more about opening than about speed

K = TypeVar("K")


class Archive(Struct, Generic[K], frozen=True):
    """An archive to be read again: what it is known by, its bytes, and when it was last read (None: never)."""

    key: K
    size: int
    checked: float | None


class Work(Struct, frozen=True):
    """An amount of reading: seconds and bytes. As a budget, what a day may have."""

    seconds: float = 0.0
    bytes: int = 0


class Plan(Struct, Generic[K], frozen=True):
    """What to read now, in this order, and whether the budget is enough.

    Attributes:
        now: keys of the archives.
        work: what reading them takes.
        needs: what a day takes on average, for as long as there are these archives.
        overdue: how many have not been read for longer than they should.
        enough: whether the budget covers `needs`, and no archive is too large for it.
        why: that in words.
    """

    now: tuple[K, ...]
    work: Work
    needs: Work
    overdue: int
    enough: bool
    why: str


def speed(readings: Sequence[Work]) -> float:
    """Bytes per second, as they were measured; the middle of the readings that were long enough to tell."""
    found = sorted(one.bytes / one.seconds for one in readings if one.bytes >= MEASURED and one.seconds > 0)
    return found[(len(found) - 1) // 2] if found else USUAL_SPEED


def plan(
    archives: Sequence[Archive[K]], pace: float, budget: Work, spent: Work, now: float, every: float = EVERY
) -> Plan[K]:
    """What to read now.

    Args:
        archives: all that are there; how old each proof is decides.
        pace: bytes per second, see `speed`.
        budget: of one day.
        spent: what of today's budget is gone already.
        now: epoch seconds.
        every: how often each archive is to be read at least, seconds.
    """
    queue = sorted(archives, key=lambda one: -1.0 if one.checked is None else one.checked)
    costs = [OPENING + one.size / pace for one in queue]
    days = max(every - AHEAD, DAY) / DAY
    needs = Work(sum(costs) / days, round(sum(one.size for one in queue) / days))
    enough = needs.seconds <= budget.seconds and needs.bytes <= budget.bytes
    share = _share(queue, costs, now, every)
    chosen: list[K] = []
    work, reached = Work(), spent.seconds
    for one, cost in zip(queue, costs, strict=True):
        reached += cost
        if reached > share + OPENING / 2 and _left(one, now, every) > DAY:
            break
        after = Work(work.seconds + cost, work.bytes + one.size)
        fits = spent.seconds + after.seconds <= budget.seconds and spent.bytes + after.bytes <= budget.bytes
        # What no day has room for gets a day of its own, as long as the others can make up for it.
        huge = cost > budget.seconds or one.size > budget.bytes
        if fits or (huge and enough and not chosen and spent == Work()):
            chosen.append(one.key)
            work = after
    overdue = sum(1 for one in queue if one.checked is not None and now - one.checked > every)
    return Plan(tuple(chosen), work, needs, overdue, enough, _words(needs, budget, overdue, every, enough=enough))


def finding(location: str, plan: Plan[K]) -> Finding:
    """The finding `reverify_behind` about a location whose archives are not read as often as they should be."""
    if plan.enough and not plan.overdue:
        return ok("reverify_behind", location, plan.why)
    hint = "Raise the budget, or the time within which each archive is read again; or keep fewer backups."
    if plan.enough:
        hint = "The oldest are read first; at this budget it will catch up by itself."
    return Finding("reverify_behind", location, Level.WARNING, plan.why, hint)


def _share(queue: Sequence[Archive[K]], costs: Sequence[float], now: float, every: float) -> float:
    """Seconds of reading that this day cannot do without, if no later one is to have more."""
    share = reached = 0.0
    for one, cost in zip(queue, costs, strict=True):
        reached += cost
        share = max(share, reached / max(_left(one, now, every) / DAY, 1.0))
    return share


def _left(archive: Archive[K], now: float, every: float) -> float:
    """Seconds until an archive should be read again."""
    return 0.0 if archive.checked is None else archive.checked + every - AHEAD - now


def _words(needs: Work, budget: Work, overdue: int, every: float, *, enough: bool) -> str:
    told = f"needs {span(needs.seconds)} and {size(needs.bytes)} a day, has {span(budget.seconds)} and"
    told = f"{told} {size(budget.bytes)}"
    if not enough:
        times = [need / has for need, has in ((needs.seconds, budget.seconds), (needs.bytes, budget.bytes)) if has > 0]
        rarely = f"only every {span(every * max(times))}" if len(times) == 2 else "never"
        told = f"{told}: each archive is read again {rarely}, not every {span(every)}"
    if overdue:
        told = f"{told}; {count(overdue, 'archive')} not read for longer than that"
    return told
