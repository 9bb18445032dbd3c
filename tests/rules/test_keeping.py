from datetime import date, datetime, timedelta
from math import inf
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rules import retention_model as model

from agent.rules.keeping import Age, Policy, window

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kathmandu"]


def at(text: str, zone: str = "Europe/Berlin", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("zone", "age", "now", "then"),
    [
        ("Europe/Berlin", Age(30, "d"), "2026-11-23T04:00", "2026-10-24T04:00"),
        ("Europe/Berlin", Age(12, "w"), "2026-11-23T04:00", "2026-08-31T04:00"),
        ("Europe/Berlin", Age(1, "w"), "2027-01-04T04:00", "2026-12-28T04:00"),
        ("Europe/Berlin", Age(24, "mo"), "2026-11-23T04:00", "2024-11-23T04:00"),
        ("Europe/Berlin", Age(11, "mo"), "2026-11-23T04:00", "2025-12-23T04:00"),
        ("Europe/Berlin", Age(10, "mo"), "2026-11-23T04:00", "2026-01-23T04:00"),
        ("Europe/Berlin", Age(9999, "mo"), "2026-11-23T04:00", "1193-08-23T04:00"),
        # The month was too short.
        ("Europe/Berlin", Age(1, "mo"), "2026-03-31T04:00", "2026-02-28T04:00"),
        ("Europe/Berlin", Age(12, "mo"), "2024-02-29T04:00", "2023-02-28T04:00"),
        ("Europe/Berlin", Age(48, "mo"), "2028-02-29T04:00", "2024-02-29T04:00"),
        # 02:30 was never shown: the clocks had gone from 02:00 to 03:00, in Lord Howe to 02:30.
        ("Europe/Berlin", Age(1, "d"), "2026-03-30T02:30", "2026-03-29T01:30"),
        ("Australia/Lord_Howe", Age(1, "w"), "2026-10-11T02:15", "2026-10-04T01:45"),
        # 02:30 was shown twice: the first time counts, and a day was 25 hours long.
        ("Europe/Berlin", Age(1, "d"), "2026-10-26T02:30", "2026-10-25T02:30"),
        ("America/New_York", Age(1, "mo"), "2026-12-01T01:30", "2026-11-01T01:30"),
    ],
)
def test_an_age_is_counted_by_the_calendar_and_by_wall_clocks(zone: str, age: Age, now: str, then: str) -> None:
    assert age.before(at(now, zone), ZoneInfo(zone)) == at(then, zone)


def test_a_day_is_as_long_as_the_clocks_make_it() -> None:
    assert at("2026-10-26T02:00") - Age(1, "d").before(at("2026-10-26T02:00"), BERLIN) == 25 * 3600
    assert at("2026-03-29T04:00") - Age(1, "d").before(at("2026-03-29T04:00"), BERLIN) == 23 * 3600


@given(
    st.sampled_from(ZONES),
    st.dates(date(2024, 1, 1), date(2028, 12, 31)),
    st.integers(0, 24 * 60 - 1),
    st.builds(Age, st.integers(1, 60), st.sampled_from(["d", "w", "mo"])),
)
def test_an_age_is_what_walking_back_through_the_calendar_gives(zone: str, day: date, minute: int, age: Age) -> None:
    now = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=ZoneInfo(zone)).timestamp()
    assert age.before(now, ZoneInfo(zone)) == model.ago(now, age, ZoneInfo(zone))


@given(st.sampled_from(ZONES), st.dates(date(2024, 1, 1), date(2028, 12, 31)), st.integers(1, 400))
def test_what_is_so_many_days_old_by_the_calendar_is_old_enough(zone: str, day: date, days: int) -> None:
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo(zone))
    cutoff = Age(days, "d").before(noon.timestamp(), ZoneInfo(zone))
    assert cutoff == (noon - timedelta(days=days)).timestamp()


@pytest.mark.parametrize(
    ("age", "said"), [(Age(1, "d"), "1 day"), (Age(12, "w"), "12 weeks"), (Age(24, "mo"), "24 months")]
)
def test_an_age_is_said_in_words(age: Age, said: str) -> None:
    assert str(age) == said


NOW = at("2026-11-23T04:00")
DAY = 86_400.0


@pytest.mark.parametrize(
    ("policy", "ages", "edge", "least"),
    [
        (Policy(Age(30, "d")), [], None, None),
        (Policy(Age(30, "d")), [3, 2, 1], None, 1),
        (Policy(Age(30, "d")), [40, 35, 31, 29, 1], 31, 1),
        (Policy(Age(30, "d")), [40, 35], 35, 35),
        (Policy(Age(30, "d"), minimum=3), [40, 35, 31, 1], 31, 35),
        (Policy(Age(30, "d"), minimum=5), [40, 35, 31, 1], 31, None),
        (Policy(Age(30, "d"), minimum=0), [40, 1], 40, 1),
        (Policy(3), [9, 8], None, 8),
        (Policy(3), [9, 8, 7, 6], 8, 6),
        (Policy(1, minimum=3), [9, 8, 7, 6], 6, 8),
    ],
)
def test_a_window_reaches_back_to_the_newest_good_one_that_is_old_enough(
    policy: Policy, ages: list[int], edge: int | None, least: int | None
) -> None:
    mine = window(policy, [NOW - age * DAY for age in ages], NOW, BERLIN)
    assert mine.edge == (-inf if edge is None else NOW - edge * DAY)
    assert mine.least == (-inf if least is None else NOW - least * DAY)
    assert mine.newest == max((NOW - age * DAY for age in ages), default=-inf)


def test_what_is_exactly_as_old_as_it_has_to_be_is_old_enough() -> None:
    cutoff = Age(30, "d").before(NOW, BERLIN)
    mine = window(Policy(Age(30, "d")), [cutoff - 1, cutoff, cutoff + 1], NOW, BERLIN)
    assert mine.edge == cutoff
    assert mine.releases(cutoff - 1)
    assert not mine.releases(cutoff)
    assert mine.outlived(cutoff)
    assert not mine.outlived(cutoff + 1)
