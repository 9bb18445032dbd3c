"""How long a tier keeps its backups, and what becomes of each of them by that alone.

Ages are the calendar's: 30 days ago it was the same time by the wall clock, 24 months ago the same day of the month
too. Where that time did not exist, or came twice, and where the month was too short, the earlier moment counts:
what is in doubt is kept.
"""

import enum
from bisect import bisect_right
from calendar import monthrange
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from math import inf

from msgspec import Struct

from agent.rules.words import count

Key = tuple[str, str]  # tier and id: the same in every location

_JUDGED = frozenset({"good", "bad", "incomplete"})
_DAYS = {"d": 1, "w": 7}
_NOUNS = {"d": "day", "w": "week", "mo": "month"}


class Age(Struct, frozen=True):
    """30 days, 12 weeks, 24 months; `unit` is d, w or mo, as in the settings' Span: `Age(span.amount, span.unit)`."""

    amount: int
    unit: str

    def __str__(self) -> str:
        return count(self.amount, _NOUNS[self.unit])

    def before(self, at: float, zone: tzinfo) -> float:
        """The moment that was this long before `at` by the wall clocks of `zone`; epoch seconds."""
        wall = datetime.fromtimestamp(at, zone)
        if self.unit == "mo":
            year, month = divmod(wall.year * 12 + wall.month - 1 - self.amount, 12)
            then = wall.replace(year=year, month=month + 1, day=min(wall.day, monthrange(year, month + 1)[1]))
        else:
            then = wall - timedelta(days=self.amount * _DAYS[self.unit])
        return min(then.replace(fold=0).timestamp(), then.replace(fold=1).timestamp())


class Policy(Struct, frozen=True):
    """What a tier keeps: everything up to an age, or a number of the newest; never fewer than `minimum` good ones."""

    keep: Age | int
    minimum: int = 1


class Pin(Struct, frozen=True):
    """Somebody's word that a backup stays until then (epoch seconds; None: until it is released), and why."""

    until: float | None = None
    because: str = ""

    def holds(self, now: float) -> bool:
        """Whether it does at `now`, epoch seconds."""
        return self.until is None or now < self.until


class Backup(Struct, frozen=True, kw_only=True):
    """One location's copy of a backup.

    Attributes:
        id: its name, the same in every location.
        tier: the tier that it was made for.
        started: when it was begun, epoch seconds.
        state: good, bad, incomplete, or unknown while nobody has looked at all of it.
        ours: whether the agent's own engine made it; archives that somebody else dropped here are not.
        complete: whether it holds all that a backup of its tier should.
        size: bytes that it takes.
        drilled: collection to its newest drill that this backup passed, epoch seconds.
        pin: if it is pinned.
    """

    id: str
    tier: str
    started: float
    state: str
    ours: bool = True
    complete: bool = True
    size: int = 0
    drilled: Mapping[str, float] = {}
    pin: Pin | None = None

    @property
    def key(self) -> Key:
        """What it is called in every location."""
        return self.tier, self.id

    @property
    def counts(self) -> bool:
        """Whether it may stand in for another one: only what is ours, complete and proved good may."""
        return self.ours and self.complete and self.state == "good"


class Reason(enum.StrEnum):
    """Why a backup stays, or goes."""

    NOT_OURS = "not_ours"
    PINNED = "pinned"
    FOR_EVER = "for_ever"
    UNPROVED = "unproved"
    YOUNG = "young"
    NEWEST = "newest"
    OLDEST_POINT = "oldest_point"
    MINIMUM = "minimum"
    DRILLED = "drilled"
    SPOILT_YOUNG = "spoilt_young"
    SPOILT_ALONE = "spoilt_alone"
    LAST_COPY = "last_copy"
    AWAY = "away"
    FROZEN = "frozen"
    OUTLIVED = "outlived"
    SPOILT_OUTLIVED = "spoilt_outlived"


GOING = frozenset({Reason.OUTLIVED, Reason.SPOILT_OUTLIVED})


class Window(Struct, frozen=True):
    """What a policy keeps of a tier in one location at one moment; epoch seconds, -inf where there is none.

    Attributes:
        policy: the tier's.
        cutoff: what was begun then or earlier is as old as the policy wants; for a policy that counts, -inf.
        edge: start of the oldest good backup that the policy wants. Up to an age, that is the newest one that is old
            enough: before another is, only this one leads back that far.
        least: start of the oldest of the fewest good ones that always stay.
        newest: start of the newest good one.
    """

    policy: Policy
    cutoff: float
    edge: float
    least: float
    newest: float

    def releases(self, started: float) -> bool:
        """Whether the policy has no more use for a good backup."""
        return started < self.edge and started < self.least

    def outlived(self, started: float) -> bool:
        """Whether a backup, good or not, is older than the policy asks for."""
        return started < self.edge if isinstance(self.policy.keep, int) else started <= self.cutoff


def window(policy: Policy, good: Sequence[float], now: float, zone: tzinfo) -> Window:
    """What `policy` keeps at `now` of the good backups that were begun at `good`, the oldest first."""

    def newest(n: int) -> float:
        return good[-n] if n <= len(good) else -inf

    least = newest(max(policy.minimum, 1))
    if isinstance(policy.keep, int):
        return Window(policy, -inf, newest(policy.keep), least, newest(1))
    cutoff = policy.keep.before(now, zone)
    old = bisect_right(good, cutoff)
    edge = good[old - 1] if old else -inf
    return Window(policy, cutoff, edge, least, newest(1))


def reason(one: Backup, window: Window | None, *, drilled: bool, now: float) -> Reason:
    """Why a backup stays or goes, as far as its own location can tell.

    Args:
        one: the backup.
        window: its tier's; None for a tier that is kept for ever.
        drilled: whether it holds the newest passed drill of a collection.
        now: epoch seconds.
    """
    if not one.ours:
        return Reason.NOT_OURS
    if one.pin is not None and one.pin.holds(now):
        return Reason.PINNED
    if window is None:
        return Reason.FOR_EVER
    if one.state not in _JUDGED:
        return Reason.UNPROVED
    if one.counts:
        return _of_a_good_one(one.started, window, drilled=drilled)
    if not window.outlived(one.started):
        return Reason.SPOILT_YOUNG
    return Reason.SPOILT_OUTLIVED if one.started < window.newest else Reason.SPOILT_ALONE


def _of_a_good_one(started: float, window: Window, *, drilled: bool) -> Reason:
    if not window.outlived(started):
        return Reason.NEWEST if isinstance(window.policy.keep, int) else Reason.YOUNG
    if not window.releases(started):
        return Reason.OLDEST_POINT if started == window.edge < window.newest else Reason.MINIMUM
    return Reason.DRILLED if drilled else Reason.OUTLIVED
