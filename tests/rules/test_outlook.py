from datetime import UTC
from typing import Any

import pytest
from msgspec import Struct

from agent.rules import outlook
from agent.rules.finding import Level
from agent.rules.forecast import Fit, Forecast, When, forecast
from agent.rules.keeping import Age, Backup, Policy
from agent.rules.outlook import WEEK, Going, Mark, Outlook, View
from agent.rules.simulation import Course, Gone, Series, simulate
from agent.rules.storage import Limits

DAY, GIB = 86_400.0, 1 << 30
NOW = 1_795_485_600.0  # Tue 24 Nov 2026 02:00:00 UTC


class Sample(Struct, frozen=True):
    at: float
    used: int
    free: int


def when(days: float) -> When:
    return When(NOW + days * DAY, NOW + (days - 1) * DAY, NOW + (days + 1) * DAY)


def view(**more: Any) -> View:
    told = {"why": "grows by 5 GiB a day", "per_day": 5.0 * GIB, **more}
    return View(outlook=Outlook(forecast=Forecast(**told)))


@pytest.mark.parametrize(
    ("full", "critical", "level"),
    [
        (when(20), when(8), Level.OK),
        (when(14), when(8), Level.WARNING),
        (when(20), when(7), Level.WARNING),
        (when(20), None, Level.OK),
        (when(3.1), None, Level.WARNING),
        (when(3), None, Level.CRITICAL),
        (when(-1), None, Level.CRITICAL),
        (None, None, Level.OK),
    ],
)
def test_a_location_that_is_soon_full_is_told_in_time(full: When | None, critical: When | None, level: Level) -> None:
    found = outlook.filling("primary", view(full=full, critical=critical), NOW, UTC)
    assert (found.rule, found.subject, found.level) == ("storage_forecast", "primary", level)


def test_the_alert_says_when_and_why() -> None:
    assert outlook.filling("primary", view(full=when(5)), NOW, UTC).why == (
        "it will be full in about 5 days: it grows by 5 GiB a day"
    )
    assert outlook.filling("primary", view(critical=when(5)), NOW, UTC).why == (
        "it will pass storage.critical around Sun 29 Nov 02:00:00: it grows by 5 GiB a day"
    )
    assert outlook.filling("primary", view(full=when(-1)), NOW, UTC).why.startswith("it will be full any moment: ")


def test_a_backup_that_does_not_fit_is_critical() -> None:
    assert outlook.fitting("primary", Fit(True, 5, "it fits")).level is Level.OK
    bad = outlook.fitting("primary", Fit(False, 5, "too little"))
    assert (bad.rule, bad.subject, bad.level, bad.why) == (
        "next_backup_too_big",
        "primary",
        Level.CRITICAL,
        "too little",
    )


def test_what_cleanups_free_counts_from_now_on() -> None:
    seen = Outlook(forecast=Forecast(why=""), going=(Going(NOW, 1), Going(NOW + DAY, 20), Going(NOW + 3 * DAY, 300)))
    assert outlook.freed(seen, NOW, NOW + DAY) == 20
    assert outlook.freed(seen, NOW, NOW + WEEK) == 320
    assert outlook.freed(seen, NOW + 2 * DAY, NOW + WEEK) == 300


def test_the_plan_is_what_its_course_comes_to() -> None:
    def gone(days: float, size: int) -> Gone:
        return Gone(NOW + days * DAY, Backup(id="b", tier="daily", started=0.0, state="good", size=size))

    course = Course(NOW, (), 70 * GIB, NOW + 9 * DAY, (gone(1, 5), gone(1, 6), gone(2, 7), gone(15, 8)))
    told = outlook.planned(Outlook(forecast=Forecast(why="x")), course, 40 * GIB)
    assert (told.plan_needs, told.plan_at, told.held) == (70 * GIB, NOW + 9 * DAY, 40 * GIB)
    assert told.going == (Going(NOW + DAY, 11), Going(NOW + 2 * DAY, 7))


def test_the_weeks_go_up_to_now_and_on_until_it_is_full() -> None:
    samples = [Sample(NOW + day * DAY, used := 40 + day, 100 - used) for day in range(-30, 1)]
    seen = outlook.weeks(samples, Forecast(why="", per_day=5.0))
    assert [(one.percent, one.expected) for one in seen] == [
        *((12.0, False), (19.0, False), (26.0, False), (33.0, False), (40.0, False)),
        *((75.0, True), (100.0, True)),
    ]
    assert seen[-1].at == NOW + 2 * WEEK


def test_where_growth_is_not_known_nothing_is_expected() -> None:
    samples = [Sample(NOW - DAY, 10, 90), Sample(NOW, 11, 89)]
    assert outlook.weeks(samples, Forecast(why="cannot tell")) == (Mark(NOW, 11.0, False),)
    assert outlook.weeks([], Forecast(why="cannot tell")) == ()


def test_all_of_it_is_one_line() -> None:
    seen = View(
        outlook=Outlook(forecast=Forecast(why="grows by 5 GiB a day"), plan_needs=70 * GIB),
        fit=Fit(True, 5, "it fits"),
        freed=3 * GIB,
        room=60 * GIB,
    )
    told = outlook.prospect("primary", seen)
    assert told.outlook == (
        "grows by 5 GiB a day; it fits; with all tiers full the backups take 70 GiB, 10 GiB more than there is;"
        " cleanups free 3 GiB within a week"
    )
    assert (told.location, told.fits, told.next_backup_bytes, told.plan_room_bytes) == ("primary", True, 5, 60 * GIB)
    assert outlook.prospect("primary", view()).outlook == "grows by 5 GiB a day"


@pytest.mark.parametrize(("whole", "alarmed"), [(600, False), (500, True)])
def test_tiers_that_fill_up_for_the_first_time_alarm_nobody_unless_they_will_not_fit(
    whole: int,
    alarmed: bool,  # noqa: FBT001 - a table
) -> None:
    """570 GiB are needed in the end; the first month grows by 12 GiB a day, and what comes after it much slower."""
    tiers = {
        "daily": Series(policy=Policy(Age(30, "d")), cron="0 2 * * *", size=10 * GIB),
        "weekly": Series(policy=Policy(Age(12, "w")), cron="0 1 * * 0", size=10 * GIB),
        "monthly": Series(policy=Policy(Age(24, "mo")), cron="0 0 1 * *", size=10 * GIB),
    }
    course = simulate(tiers, "0 4 * * *", NOW, NOW + 150 * DAY, UTC)
    samples, told = [], set()
    for one in course.ends:
        samples.append(Sample(one.at, used := min(one.size, whole * GIB), whole * GIB - used))
        seen = View(outlook=Outlook(forecast=forecast(samples, Limits(), UTC)))
        told.add(outlook.filling("primary", seen, one.at, UTC).level)
    assert (told != {Level.OK}) is alarmed
