import sqlite3
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.adapters.ledger import catalogue, connect, runs, writing
from agent.adapters.ledger.catalogue import Key
from agent.jobs import reread
from agent.jobs.reread import Budget, Tally
from agent.rules.archive import Reading, Signature, State, Stream, Verdict
from agent.rules.finding import Level
from agent.rules.reverify import Work

DAY = 86_400.0
NOW = 1_800_000_000.0
UTC = ZoneInfo("UTC")
GIB = 1 << 30
BUDGET = Budget(7200.0, 1 << 40, 200 << 20, 30 * DAY)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    made = connect(str(tmp_path), create=True)
    yield made
    made.close()


def known(db: sqlite3.Connection, name: str, age: float, *, size: int = GIB, location: str = "primary") -> Key:
    """An archive that was proved so many days ago, at 100 MiB a second."""
    key = Key(location, f"daily/{name}", "a.snapshot.gz")
    reading = Reading(size, "aa", Stream.COMPLETE, seconds=size / (100 << 20))
    with writing(db):
        catalogue.record(db, key, Signature(1, size, 2, 3), reading, Verdict(State.GOOD, "intact", ""), NOW - age * DAY)
    return key


def test_the_oldest_are_read_first_and_only_as_many_as_the_day_needs(db: sqlite3.Connection) -> None:
    keys = [known(db, f"{age:02}", age) for age in range(30)]
    found = reread.plans(db, ["primary"], BUDGET, {}, NOW)["primary"]
    assert found.now[0] == keys[-1]
    assert 1 <= len(found.now) <= 3
    assert list(found.now) == keys[::-1][: len(found.now)]


def test_the_locations_share_a_day(db: sqlite3.Connection) -> None:
    for number in range(120):
        known(db, f"{number}", 28 + number / 10, size=10 * GIB)
        known(db, f"{number}", 28 + number / 10, size=10 * GIB, location="secondary")
    little = Budget(600.0, 1 << 40, 200 << 20, 30 * DAY)
    found = reread.plans(db, ["primary", "secondary"], little, {}, NOW)
    assert all(0 < plan.work.seconds <= 300 for plan in found.values())
    assert not found["primary"].enough
    assert reread.plans(db, ["primary"], little, {}, NOW)["primary"].enough
    assert [one.level for one in reread.findings(found)] == [Level.WARNING] * 2


def test_nothing_is_promised_faster_than_the_rate_allows(db: sqlite3.Connection) -> None:
    known(db, "old", 40)
    slow = Budget(7200.0, 1 << 40, 1 << 20, 30 * DAY)
    assert reread.plans(db, ["primary"], slow, {}, NOW)["primary"].work.seconds > 1000


def test_what_a_run_has_spent_counts_all_day_even_if_it_died(db: sqlite3.Connection) -> None:
    midnight = NOW - NOW % DAY
    tally = Tally()
    tally.add("primary", 10.5, GIB, 3)
    tally.add("primary", 1.5, GIB, 1)
    tally.add("secondary", 2.0, 5, 1)
    assert tally.figures()["archives"] == 5
    with writing(db):
        yesterday = runs.begin(db, "reread", "", None, midnight - 60)
        runs.end(db, yesterday, "ok", midnight - 30, figures=tally.figures())
        run = runs.begin(db, "reread", "", midnight + 60, midnight + 60)
        runs.so_far(db, run, tally.figures())
        runs.end(db, run, "interrupted", midnight + 90, why="its process 1 died before it was done")
    found = reread.spent(db, midnight + 3600, UTC)
    assert found == {"primary": Work(12.0, 2 * GIB), "secondary": Work(2.0, 5)}
    assert reread.spent(db, midnight + DAY, UTC) == {}


def test_a_day_that_is_spent_reads_nothing_more(db: sqlite3.Connection) -> None:
    known(db, "old", 40)
    assert reread.plans(db, ["primary"], BUDGET, {}, NOW)["primary"].now
    gone = {"primary": Work(7200.0, 0)}
    assert not reread.plans(db, ["primary"], BUDGET, gone, NOW)["primary"].now
    volume = {"primary": Work(0.0, 1 << 40)}
    assert not reread.plans(db, ["primary"], BUDGET, volume, NOW)["primary"].now


def test_what_is_gone_or_elsewhere_is_not_asked_for(db: sqlite3.Connection) -> None:
    key = known(db, "gone", 40)
    known(db, "elsewhere", 40, location="attic")
    with writing(db):
        catalogue.vanish(db, key, "gone", NOW)
    assert not reread.plans(db, ["primary"], BUDGET, {}, NOW)["primary"].now


def test_each_archive_is_read_within_its_time_for_half_a_year(db: sqlite3.Connection) -> None:
    """One day after the other, with the figures of each run: no proof ever gets older than it should."""
    keys = [known(db, f"{number:03}", number % 28, size=GIB * (1 + number % 5)) for number in range(60)]
    at, checked = NOW, {key: NOW - (number % 28) * DAY for number, key in enumerate(keys)}
    for _ in range(180):
        at += DAY
        for key in reread.plans(db, ["primary"], BUDGET, {}, at)["primary"].now:
            checked[key] = at
        with writing(db):
            for key, when in checked.items():
                db.execute(
                    "UPDATE archive SET checked = ? WHERE location = ? AND folder = ? AND name = ?", (when, *key)
                )
        assert at - min(checked.values()) <= 30 * DAY
