"""Summarise a week: is everything all right, what needs somebody, and what is that known from."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo

from agent.errors import BadUsage
from agent.rules import sections
from agent.rules.alert import inert, plain
from agent.rules.archive import INTACT, lowest
from agent.rules.facts import Facts, Week
from agent.rules.finding import Level
from agent.rules.report import Alerts, Need, NextRun, Report, Scores
from agent.rules.scorecard import changes, copies, score
from agent.rules.words import count, span

TAGS = {Level.OK: "OK", Level.WARNING: "WARN", Level.CRITICAL: "CRIT"}
PATIENCE = 3600.0  # a message that waits for longer is worth a word
_NAME = re.compile(r"(\d{4})-W(\d{2})")


def week_of(text: str | None, now: float, zone: tzinfo) -> Week:
    """The week that `text` names (2026-W47, or current for that of `now`); without it, the last complete one.

    Raises:
        BadUsage: `text` names no week, or one that has not begun.
    """
    if text is None or text == "current":
        day = datetime.fromtimestamp(now, zone).date() - timedelta(days=0 if text else 7)
        return _week(day - timedelta(days=day.weekday()), zone)
    match = _NAME.fullmatch(text)
    try:
        if match is None:
            raise ValueError(text)
        found = _week(date.fromisocalendar(int(match[1]), int(match[2]), 1), zone)
    except (ValueError, OverflowError) as error:
        raise BadUsage(f"{plain(text, 60)!r} is no week.", "Write it as ISO 8601 does: 2026-W47.") from error
    if found.start > now:
        raise BadUsage(f"The week {text} has not begun yet.", "Without --week it is the last complete one.")
    return found


def _week(monday: date, zone: tzinfo) -> Week:
    year, number, _ = monday.isocalendar()
    start, end = (
        datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() for day in (monday, monday + timedelta(days=7))
    )
    return Week(f"{year:04}-W{number:02}", start, end)


def summarise(facts: Facts) -> Report:
    """Draw the weekly report from the facts; the same facts always give the same report."""
    scores = score(facts, copies(facts))
    needs, places, messages = sections.needs(facts), sections.storage(facts), sections.alerts(facts)
    level = _level(needs, scores, messages, facts.now)
    proved, total = _proved(scores)
    disk = max((one.used_percent for one in places if one.used_percent is not None), default=None)
    week = facts.week
    return Report(
        host=plain(facts.host),
        week=week,
        zone=_zone(facts),
        made=facts.now,
        complete=week.end <= facts.now,
        level=level,
        subject=_subject(facts, level, needs, scores, disk),
        headline=_headline(proved, total, _level_proved(scores)),
        summary=_summary(facts, needs, scores),
        proved=proved,
        level_proved=_level_proved(scores),
        collections=total,
        newest_good=scores.newest_good,
        disk=disk,
        needs=needs,
        scores=scores,
        runs=sections.tallies(facts),
        next_runs=tuple(
            NextRun(plain(job).replace(":", " "), at)
            for job, at in sorted(facts.next_runs.items(), key=lambda one: one[1])
        ),
        vanished=sum(1 for one in facts.archives if one.vanished and week.start <= one.vanished < week.end),
        evidence=sections.evidence(facts),
        storage=places,
        outlook=facts.outlook,
        alerts=messages,
        changes=changes(facts, scores),
        unchecked=sections.unchecked(facts, scores, places),
        agent=facts.agent,
        json_path=plain(facts.json_path),
    )


def _proved(scores: Scores) -> tuple[int, int]:
    good = sum(1 for one in scores.collections if one.state == "good")
    return good, len(scores.collections) + len(scores.never)


def _level_proved(scores: Scores) -> str:
    levels = [one.level for one in scores.collections if one.state == "good"]
    return lowest(levels) if levels else INTACT


def _level(needs: Sequence[Need], scores: Scores, messages: Alerts, now: float) -> Level:
    """How the week stands: nothing is OK because nothing was looked at."""
    worst = max((one.level for one in needs), default=Level.OK)
    if any(one.state == "bad" for one in scores.collections):
        return Level.CRITICAL
    if scores.collections and scores.newest_good is None:
        return Level.CRITICAL
    stuck = any(one.state == "dropped" or now - one.created > PATIENCE for one in messages.undelivered)
    unproved = not scores.collections or scores.never or any(one.state != "good" for one in scores.collections)
    return max(worst, Level.WARNING) if stuck or unproved else worst


def _subject(facts: Facts, level: Level, needs: Sequence[Need], scores: Scores, disk: float | None) -> str:
    (proved, total), level_proved = _proved(scores), _level_proved(scores)
    parts = [f"{proved:,}/{count(total, 'collection')} proved {level_proved}" if total else "no backup known yet"]
    if needs:
        parts.append(f"{count(len(needs), 'problem')} open")
    if scores.newest_good is not None:
        parts.append(f"newest good backup {span(facts.now - scores.newest_good)} old")
    parts.append("disk not measured" if disk is None else f"disk {disk:.0f} %")
    return f"[{TAGS[level]}] {inert(plain(facts.host, 80))} - {', '.join(parts)}"


def _headline(proved: int, total: int, level: str) -> str:
    if not total:
        return "No backup is known yet."
    if proved == total:
        return f"All {total:,} collections are proved {level}." if total > 1 else f"The collection is proved {level}."
    return f"{total - proved:,} of {count(total, 'collection')} {'is' if total - proved == 1 else 'are'} not proved."


def _summary(facts: Facts, needs: Sequence[Need], scores: Scores) -> str:
    if not (scores.collections or scores.never):
        first = "Take the first one with `snapward backup daily`, or wait for its time."
        return f"{first} {_needed(needs)}"
    if scores.newest_good is None:
        return f"There is no good backup at all. {_needed(needs)}"
    return f"The newest good backup is {span(facts.now - scores.newest_good)} old. {_needed(needs)}"


def _needed(needs: Sequence[Need]) -> str:
    if not needs:
        return "No problem is open."
    return f"{count(len(needs), 'problem')} {'needs' if len(needs) == 1 else 'need'} you."


def _zone(facts: Facts) -> str:
    """What the zone's clocks are called during the week: CET, or CEST/CET when they change."""
    ends = (facts.week.start, facts.week.end - 1)
    return "/".join(dict.fromkeys(datetime.fromtimestamp(at, facts.zone).strftime("%Z") or "UTC" for at in ends))


def period(week: Week, zone: tzinfo) -> tuple[str, str]:
    """The week's first and last day for readers of the zone, and its exact bounds in UTC."""
    first, last = (datetime.fromtimestamp(at, zone) for at in (week.start, week.end - 1))
    bounds = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M") for at in (week.start, week.end))
    return _days(first, last), " to ".join(bounds)


def _days(first: datetime, last: datetime) -> str:
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}\u2013{last.day} {last:%b %Y}"
    return f"{first.day} {first:%b}{'' if first.year == last.year else f' {first.year}'} \u2013 {last.day} {last:%b %Y}"
