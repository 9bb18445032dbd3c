import random
import sqlite3
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest

from agent.adapters.ledger import computed, connect, figures, runs, writing
from agent.adapters.ledger.runs import Sample
from agent.jobs import outlook
from agent.jobs.outlook import Plan
from agent.rules.figures import Made
from agent.rules.finding import Level
from agent.rules.keeping import Age, Backup, Policy
from agent.rules.names import backup_id
from agent.rules.storage import Limits

DAY, GIB = 86_400.0, 1 << 30
NOW = 1_795_521_600.0  # Tue 24 Nov 2026 12:00:00 UTC
WHOLE = 1_000 * GIB
PLAN = Plan(
    location="primary",
    policies={"daily": Policy(Age(30, "d")), "weekly": Policy(Age(12, "w")), "manual": None},
    crons={"daily": "0 2 * * *", "weekly": "0 1 * * 0"},
    cleanup="0 4 * * *",
    limits=Limits(),
)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    made = connect(str(tmp_path / "state"), create=True)
    yield made
    made.close()


def sampled(db: sqlite3.Connection, used: dict[float, float], location: str = "primary") -> None:
    """Readings by the days from now at which they were taken, in GiB."""
    with writing(db):
        for days, gib in used.items():
            full = min(int(gib * GIB), WHOLE)
            one = Sample(location, NOW + days * DAY, WHOLE, full, WHOLE - full, 100 * full / WHOLE, None, "ok", "")
            runs.add_sample(db, one)


def growing(per_day: float, last: float, days: int = 60) -> dict[float, float]:
    return {-float(day): last - day * per_day for day in range(days)}


def made(db: sqlite3.Connection, days: float, gib: float = 10, tier: str = "daily") -> Backup:
    """A whole backup that was made so many days ago."""
    at = NOW - days * DAY
    size = int(gib * GIB)
    with writing(db):
        figures.keep(db, Made(tier=tier, backup=backup_id(at), started=at, whole=True, size=size))
    return Backup(id=backup_id(at), tier=tier, started=at, state="good", size=size)


def levels(db: sqlite3.Connection, now: float = NOW) -> dict[str, Level]:
    return {one.rule: one.level for one in outlook.findings(db, PLAN, UTC, now)}


def refresh(db: sqlite3.Connection, *present: Backup, now: float = NOW, plan: Plan = PLAN) -> bool:
    """Refresh; returns whether anything was computed."""
    asked = []

    def ask(_location: str) -> tuple[Backup, ...]:
        asked.append(1)
        return present

    outlook.refresh(db, plan, ask, UTC, now)
    return bool(asked)


@pytest.mark.parametrize("seed", range(5))
def test_after_a_year_of_growth_the_date_is_right_within_two_days(db: sqlite3.Connection, seed: int) -> None:
    """Growth with a weekly rhythm, noise, and what every expiry frees; it is full 60 days from now."""
    lot = random.Random(seed)  # noqa: S311 - figures to test with
    rate = lot.uniform(1, 2)
    used = {
        float(-day): 1_000 - rate * (60 + day) - 5 * (day % 7) / 7 + lot.uniform(-2, 2) for day in range(364, -1, -1)
    }
    sampled(db, used)
    told = outlook.view(db, PLAN, UTC, NOW).outlook.forecast
    assert told.full is not None
    assert abs(told.full.at - (NOW + 60 * DAY)) <= 2 * DAY
    assert told.full.earliest <= told.full.at


def test_of_ten_samples_of_noise_nothing_can_be_told(db: sqlite3.Connection) -> None:
    lot = random.Random(1)  # noqa: S311 - figures to test with
    sampled(db, {-float(day): 400 + lot.uniform(-20, 20) for day in range(10)})
    told = outlook.view(db, PLAN, UTC, NOW).outlook.forecast
    assert (told.per_day, told.full, told.why) == (None, None, "cannot tell: no trend is clear")
    assert levels(db) == {"storage_forecast": Level.OK}


def test_without_samples_nothing_can_be_told_either(db: sqlite3.Connection) -> None:
    made(db, 1)
    seen = outlook.view(db, PLAN, UTC, NOW)
    assert seen.outlook.forecast.why == "cannot tell: it was measured on 0 days, and it takes 8"
    assert (seen.fit, seen.room) == (None, None)


@pytest.mark.parametrize(
    ("left", "level"), [(200, Level.OK), (130, Level.WARNING), (50, Level.WARNING), (25, Level.CRITICAL)]
)
def test_a_location_that_grows_is_told_the_earlier_the_fuller_it_is(
    db: sqlite3.Connection, left: float, level: Level
) -> None:
    sampled(db, growing(10, 1_000 - left))
    assert levels(db)["storage_forecast"] is level


def test_the_forecast_ends_when_room_was_made(db: sqlite3.Connection) -> None:
    sampled(db, growing(10, 975))
    refresh(db)
    assert levels(db)["storage_forecast"] is Level.CRITICAL
    sampled(db, {float(day): 300.0 + day / 10 for day in range(1, 30)})
    later = NOW + 29 * DAY
    assert refresh(db, now=later)
    assert levels(db, later)["storage_forecast"] is Level.OK


def test_the_next_backup_has_to_fit(db: sqlite3.Connection) -> None:
    for day in range(5):
        made(db, day, gib=30)
    sampled(db, {0.0: 960})
    assert levels(db)["next_backup_too_big"] is Level.OK
    sampled(db, {0.1: 980})
    (_, bad) = outlook.findings(db, PLAN, UTC, NOW)
    assert (bad.rule, bad.subject, bad.level) == ("next_backup_too_big", "primary", Level.CRITICAL)
    assert bad.why == "the next backup needs about 30 GiB, and 20 GiB are free: 10 GiB too little"


def test_a_cleanup_that_comes_before_the_next_backup_makes_room_for_it(db: sqlite3.Connection) -> None:
    # At noon the oldest is past its 30 days, and the cleanup at 01:30 takes it away before the backup at 02:00.
    present = [made(db, day + 10 / 24, gib=30) for day in range(34)]
    sampled(db, {0.0: 980})
    assert levels(db)["next_backup_too_big"] is Level.CRITICAL
    early = Plan(location="primary", policies=PLAN.policies, crons=PLAN.crons, cleanup="30 1 * * *", limits=PLAN.limits)
    assert refresh(db, *present, plan=early)
    assert [one.level for one in outlook.findings(db, early, UTC, NOW)] == [Level.OK, Level.OK]


def test_the_plan_needs_what_all_tiers_take_when_they_are_full(db: sqlite3.Connection) -> None:
    present = [made(db, day + 10 / 24) for day in range(3)]
    sampled(db, {0.0: 100})
    refresh(db, *present)
    seen = outlook.view(db, PLAN, UTC, NOW)
    # 30 days and 12 weeks, of each the one that is old enough, and the newest before the cleanup.
    assert seen.outlook.plan_needs == (32 + 14) * 10 * GIB
    assert (seen.outlook.held, seen.room) == (30 * GIB, 930 * GIB)


def test_what_cleanups_free_this_week_is_what_gets_too_old(db: sqlite3.Connection) -> None:
    present = [made(db, day + 10 / 24) for day in range(31)]
    sampled(db, {0.0: 500})
    refresh(db, *present)
    assert outlook.view(db, PLAN, UTC, NOW).freed == 7 * 10 * GIB
    assert outlook.view(db, PLAN, UTC, NOW + DAY).freed == 7 * 10 * GIB


def test_what_is_dear_is_computed_once_a_day_and_after_each_backup(db: sqlite3.Connection) -> None:
    first = made(db, 1)
    sampled(db, {0.0: 500})
    assert refresh(db, first)
    assert not refresh(db, first, now=NOW + 0.9 * DAY)
    assert refresh(db, first, now=NOW + DAY)
    second = made(db, -1)
    assert refresh(db, first, second, now=NOW + 1.1 * DAY)
    other = Plan(location="primary", policies={}, crons={}, cleanup="0 4 * * *", limits=Limits())
    assert refresh(db, first, now=NOW + 1.1 * DAY, plan=other)


def test_a_clock_that_goes_back_does_not_keep_an_outlook_from_the_future(db: sqlite3.Connection) -> None:
    refresh(db, now=NOW + 400 * DAY)
    assert refresh(db)


def test_an_old_outlook_is_not_shown(db: sqlite3.Connection) -> None:
    sampled(db, growing(10, 800))
    refresh(db)
    sampled(db, {float(day): 800.0 for day in range(1, 60)})
    seen = outlook.view(db, PLAN, UTC, NOW + 59 * DAY)
    assert seen.outlook.forecast.per_day is None


def test_a_plan_that_cannot_be_computed_leaves_the_forecast(db: sqlite3.Connection) -> None:
    made(db, 1)
    sampled(db, growing(1, 500))
    busy = Plan(
        location="primary", policies=PLAN.policies, crons={"daily": "* * * * *"}, cleanup="0 4 * * *", limits=Limits()
    )
    refresh(db, plan=busy)
    seen = outlook.view(db, busy, UTC, NOW)
    assert (seen.outlook.plan_needs, round((seen.outlook.forecast.per_day or 0) / GIB)) == (None, 1)


def test_each_location_has_its_own(db: sqlite3.Connection) -> None:
    refresh(db)
    assert computed.find(db, "outlook primary") is not None
    assert computed.find(db, "outlook secondary") is None
