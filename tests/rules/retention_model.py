"""Retention once more, by brute force: every backup is asked about every other one, and calendars are walked in days.

It shares the types with `agent.rules.retention`, and nothing else. It answers what stays, not why.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache

from agent.rules.keeping import Age, Backup, Policy
from agent.rules.retention import Location

Copy = tuple[str, str, str]  # location, tier and id

HOUR = timedelta(hours=1)


def kept(locations: Sequence[Location], now: float, zone: tzinfo) -> set[Copy]:
    """Every copy that stays, if nothing is frozen."""
    stay = {(place.name, *one.key) for place in locations for one in place.backups if stays(one, place, now, zone)}
    good = {
        (place.name, *one.key): one for place in locations if not place.away for one in place.backups if proved(one)
    }
    everything = {one.key: one for one in good.values()}
    for one in everything.values():
        copies = {(place.name, *one.key) for place in locations} & good.keys()
        if not copies & stay and any(wants(place, one, everything.values(), now, zone) for place in locations):
            stay |= copies
    return stay


def frozen(locations: Sequence[Location], stay: set[Copy], now: float, newest: int, share: float) -> set[str]:
    """Which kinds of trouble stand against a cleanup that leaves what is in `stay`."""
    found = set()
    for place in locations:
        if place.away:
            continue
        mine = [one for one in place.backups if one.ours]
        if any(one.started - now > 60 for one in mine):
            found.add("future")
        for tier in {one.tier for one in mine}:
            judged = [one for one in mine if one.tier == tier and one.state != "unknown"]
            last = [one for one in judged if sum(newer(other, one) for other in judged) < newest]
            if place.policies.get(tier) and len(last) >= newest and not any(map(proved, last)):
                found.add("newest_bad")
        good = [one for one in mine if proved(one)]
        if sum((place.name, *one.key) not in stay for one in good) > len(good) * share:
            found.add("share")
    return found


def stays(one: Backup, place: Location, now: float, zone: tzinfo) -> bool:
    """Whether one copy stays, as far as its location can tell."""
    policy = place.policies.get(one.tier)
    if place.away or not one.ours or one.state == "unknown" or policy is None:
        return True
    if one.pin and (one.pin.until is None or one.pin.until > now):
        return True
    peers = [other for other in place.backups if other.tier == one.tier and proved(other)]
    newer = [other for other in peers if other.started > one.started]
    if not too_old(one, newer, policy, now, zone):
        return True
    if not proved(one):
        return not newer
    return not replaced(newer, policy, now, zone) or any(
        not drilled_later(one, collection, place.backups) for collection in one.drilled
    )


def wants(place: Location, one: Backup, everything: Iterable[Backup], now: float, zone: tzinfo) -> bool:
    """Whether the location's policy keeps a backup, if it had a good copy of everything."""
    policy = place.policies.get(one.tier)
    if policy is None:
        return True
    newer = [other for other in everything if other.tier == one.tier and other.started > one.started]
    return not too_old(one, newer, policy, now, zone) or not replaced(newer, policy, now, zone)


def replaced(newer: Sequence[Backup], policy: Policy, now: float, zone: tzinfo) -> bool:
    """Whether enough newer good ones are there, and one of them leads back as far as is asked for."""
    if len(newer) < max(policy.minimum, 1):
        return False
    return isinstance(policy.keep, int) or any(too_old(other, [], policy, now, zone) for other in newer)


def too_old(one: Backup, newer: Sequence[Backup], policy: Policy, now: float, zone: tzinfo) -> bool:
    """Whether a backup is older, or has more good ones before it, than the policy asks for."""
    if isinstance(policy.keep, int):
        return len(newer) >= policy.keep
    return one.started <= ago(now, policy.keep, zone)


def drilled_later(one: Backup, collection: str, others: Iterable[Backup]) -> bool:
    """Whether another good backup has a newer passed drill of a collection."""
    mine = (one.drilled[collection], one.started, one.key)
    return any(
        proved(other) and collection in other.drilled and (other.drilled[collection], other.started, other.key) > mine
        for other in others
    )


def newer(other: Backup, one: Backup) -> bool:
    """Whether the other one comes later in its tier."""
    return (other.started, other.id) > (one.started, one.id)


def proved(one: Backup) -> bool:
    """Whether anything may rely on a backup."""
    return one.ours and one.complete and one.state == "good"


@cache
def ago(now: float, age: Age, zone: tzinfo) -> float:
    """The moment that was `age` before `now`, found by walking back through the calendar."""
    wall = datetime.fromtimestamp(now, zone).replace(tzinfo=None)
    day = wall.date()
    if age.unit == "mo":
        for _ in range(age.amount):
            day = day.replace(day=1) - timedelta(days=1)
        day = the_day(day.year, day.month, wall.day)
    for _ in range(age.amount * {"d": 1, "w": 7, "mo": 0}[age.unit]):
        day -= timedelta(days=1)
    return earliest(datetime.combine(day, wall.time()), zone)


def the_day(year: int, month: int, day: int) -> date:
    """That day of the month, or the last one that it has."""
    try:
        return date(year, month, day)
    except ValueError:
        return the_day(year, month, day - 1)


def earliest(wall: datetime, zone: tzinfo) -> float:
    """The first moment at which clocks show `wall`; where they never do, it is by what they showed after the change."""
    as_utc = wall.replace(tzinfo=UTC)
    offsets = {(as_utc + hours * HOUR).astimezone(zone).utcoffset() for hours in (-30, 0, 30)}
    moments = [as_utc - offset for offset in offsets if offset is not None]
    showing = [moment for moment in moments if moment.astimezone(zone).replace(tzinfo=None) == wall]
    return min(showing or moments).timestamp()
