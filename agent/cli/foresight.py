"""`snapward expire --simulate`: what will be kept when, and the disk that it needs."""

import re
import sqlite3
from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any

from agent.cli import expirable, parts, text
from agent.errors import BadUsage
from agent.rules.keeping import Age, Backup
from agent.rules.retention import Location
from agent.rules.simulation import Course, Series, simulate
from agent.rules.words import rfc3339, size
from agent.settings import Settings, zone

_SPAN = re.compile(r"([0-9]{1,4}) ?(d|w|mo|y)")
_UNPLANNED = frozenset({"manual", "pre-restore"})
_MOST = 20  # years: further ahead nobody knows his sizes


def foretell(db: sqlite3.Connection, settings: Settings, span: str, only: str | None, *, json_: bool) -> int:
    """Tell how each location will fill up if every backup succeeds and is as large as the newest good one."""
    local, now = zone(settings.timezone), parts.now()
    until = _until(span, now, local)
    every = expirable.locations(db, settings)
    newest = _sizes(every)
    crons = {name: one.cron for name, one in settings.tiers.items()}
    courses = {
        one.name: simulate(_series(one, crons, newest), settings.cleanup.cron, now, until, local, one.backups, "month")
        for one in every
        if only in {None, one.name}
    }
    if json_:
        answer = {name: _told(course) for name, course in courses.items()}
        text.as_json({"until": rfc3339(until), "sizes": newest, "locations": answer})
    else:
        for name, course in courses.items():
            _show(name, course, local)
        missing = [name for name in crons if name not in newest]
        if missing:
            text.say(f"No size is known of {', '.join(missing)}: there is no good backup yet; it counts as nothing.")
    return 0


def _until(span: str, now: float, local: tzinfo) -> float:
    found = _SPAN.fullmatch(span)
    if found is None or int(found[1]) == 0:
        raise BadUsage(
            f"--simulate {span!r} is a span that cannot be read", "Write something like 90d, 12w, 24mo or 3y."
        )
    amount, unit = int(found[1]), found[2]
    age = Age(-12 * amount, "mo") if unit == "y" else Age(-amount, unit)
    try:
        until = age.before(now, local)
    except (ValueError, OverflowError):
        until = float("inf")
    if until - now > _MOST * 366 * 86_400:
        raise BadUsage(f"--simulate {span!r} is too far ahead", f"At most {_MOST} years: {_MOST}y.")
    return until


def _sizes(locations: list[Location]) -> dict[str, int]:
    """By tier: bytes of its newest good backup; of the newest of any tier that is made of the same, if it has none."""
    newest: dict[str, Backup] = {}
    for location in locations:
        for one in location.backups:
            if one.counts and (one.tier not in newest or one.started > newest[one.tier].started):
                newest[one.tier] = one
    sizes = {tier: one.size for tier, one in newest.items()}
    planned = [one for tier, one in newest.items() if tier not in _UNPLANNED]
    if planned:
        usual = max(planned, key=lambda one: one.started).size
        tiers = {tier for location in locations for tier in location.policies} - _UNPLANNED
        sizes = dict.fromkeys(tiers, usual) | sizes
    return sizes


def _series(location: Location, crons: Mapping[str, str], sizes: Mapping[str, int]) -> dict[str, Series]:
    return {
        tier: Series(policy=policy, cron=crons.get(tier, ""), size=sizes.get(tier, 0))
        for tier, policy in location.policies.items()
    }


def _told(course: Course) -> dict[str, Any]:
    return {
        "peak_bytes": course.peak,
        "peak_at": rfc3339(course.peak_at),
        "months": [
            {"at": rfc3339(one.at), "kept": {tier: len(kept) for tier, kept in one.kept.items()}, "bytes": one.size}
            for one in course.ends
        ],
    }


def _show(name: str, course: Course, local: tzinfo) -> None:
    tiers = [tier for tier in course.ends[-1].kept if any(one.kept.get(tier) for one in course.ends)]
    text.say(text.bold(name))
    text.table(
        ("UNTIL", *(one.upper() for one in tiers), "NEEDS"),
        [
            (
                f"{datetime.fromtimestamp(one.at, local):%Y-%m-%d}",
                *(str(len(one.kept.get(tier, ()))) for tier in tiers),
                size(one.size),
            )
            for one in course.ends
        ],
    )
    text.say(f"at most {size(course.peak)}, first on {datetime.fromtimestamp(course.peak_at, local):%Y-%m-%d}\n")
