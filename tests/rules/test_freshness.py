"""Is the schedule kept: tiers, their collections, and the agent's own jobs."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rules import timetable
from agent.rules.archive import State
from agent.rules.facts import Archive, Folder, Stock
from agent.rules.finding import Finding, Level, ok
from agent.rules.freshness import Done, Promise, Share, collection, job, shares, stand, tier, told
from agent.rules.manifest import CollectionEntry, Failure, Manifest

HOUR, DAY = 3600.0, 86_400.0
SET_UP = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
NIGHTLY = Promise("0 2 * * *", HOUR, SET_UP)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


# A tier.


def test_a_fresh_install_is_late_only_when_its_first_slot_and_the_grace_are_over() -> None:
    assert tier("daily", NIGHTLY, Done(), UTC, SET_UP).level is Level.OK
    assert tier("daily", NIGHTLY, Done(), UTC, at("2026-11-21T03:00")).level is Level.OK
    late = tier("daily", NIGHTLY, Done(), UTC, at("2026-11-21T03:01"))
    assert (late.rule, late.subject, late.level) == ("backup_late", "daily", Level.CRITICAL)
    assert "no good backup yet; the one of Sat 21 Nov 02:00:00 was due by Sat 21 Nov 03:00:00" in late.why


def test_backups_from_before_the_agent_was_set_up_make_nothing_late() -> None:
    ancient = Done(good=SET_UP - 90 * DAY)
    assert tier("daily", NIGHTLY, ancient, UTC, SET_UP + HOUR).level is Level.OK
    assert tier("daily", NIGHTLY, ancient, UTC, at("2026-11-21T03:01")).level is Level.CRITICAL


def test_a_tier_is_measured_by_its_own_schedule() -> None:
    weekly = Promise("0 1 * * 0", HOUR, SET_UP)
    good = Done(good=at("2026-11-22T01:00:04"))
    assert tier("weekly", weekly, good, UTC, at("2026-11-28T23:00")).level is Level.OK
    assert tier("weekly", weekly, good, UTC, at("2026-11-29T02:01")).level is Level.CRITICAL


def test_a_backup_that_is_being_read_back_has_its_grace_from_when_it_was_made() -> None:
    made = at("2026-11-22T14:00")  # twelve hours late
    caught_up = Done(good=at("2026-11-21T02:00:05"), arriving=made)
    assert tier("daily", NIGHTLY, caught_up, UTC, made + 60).level is Level.OK
    assert "a newer one is under way" in stand(NIGHTLY, caught_up, UTC, made + 60).why
    assert tier("daily", NIGHTLY, caught_up, UTC, made + HOUR + 1).level is Level.CRITICAL


def test_one_that_arrives_and_is_too_old_itself_excuses_nothing() -> None:
    old = Done(good=at("2026-11-21T02:00:05"), arriving=at("2026-11-21T10:00"))
    assert tier("daily", Promise("0 * * * *", 12 * HOUR, SET_UP), old, UTC, at("2026-11-22T02:00")).level


@pytest.mark.parametrize("day", ["2026-10-25", "2027-03-28"])
def test_the_days_on_which_clocks_change_make_nothing_late(day: str) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    midnight = datetime.fromisoformat(day).replace(tzinfo=berlin)
    since = (midnight - timedelta(days=5)).timestamp()
    promise = Promise("30 2 * * *", HOUR, since)
    good = None
    for hour in range(-48, 72):
        now = midnight.timestamp() + hour * HOUR
        due = timetable.last_slot("30 2 * * *", now, berlin)
        good = due + 5 if due else None
        assert tier("daily", promise, Done(good=good), berlin, now).level is Level.OK


@given(st.floats(0, 10 * DAY), st.floats(0, 10 * DAY), st.floats(0, DAY))
def test_what_is_late_stays_late_and_a_newer_backup_never_makes_it_worse(age: float, more: float, grace: float) -> None:
    promise, now = Promise("0 */6 * * *", grace, SET_UP - 30 * DAY), SET_UP
    one = tier("daily", promise, Done(good=now - age), UTC, now)
    assert tier("daily", promise, Done(good=now - age), UTC, now + more).level >= one.level
    assert tier("daily", promise, Done(good=now - age - more), UTC, now).level >= one.level


@given(
    st.sampled_from(["0 2 * * *", "30 2 * * *", "0 1 * * 0", "0 */6 * * *", "0 0 1 * *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
    st.floats(0, 40 * DAY),
    st.none() | st.floats(0, 60 * DAY),
    st.floats(0, DAY),
    st.floats(0, 400 * DAY),
)
def test_it_is_late_exactly_when_a_slot_after_all_that_is_good_is_over_with_its_grace(
    cron: str, zone: str, young: float, old: float | None, grace: float, offset: float
) -> None:
    now = SET_UP + offset
    promise = Promise(cron, grace, now - young)
    good = None if old is None else now - old
    covered = max(promise.since, good or 0.0)
    slots = timetable.slots_between(cron, covered, now, ZoneInfo(zone), 1000)
    late = any(slot + grace < now for slot in slots)
    assert (tier("daily", promise, Done(good=good), ZoneInfo(zone), now).level is Level.CRITICAL) == late


# A job.


@pytest.mark.parametrize("name", ["drill", "cleanup", "report", "reread"])
def test_a_job_that_never_ran_is_told_after_its_first_slot(name: str) -> None:
    assert job(name, NIGHTLY, Done(), UTC, at("2026-11-21T02:59")).level is Level.OK
    late = job(name, NIGHTLY, Done(), UTC, at("2026-11-21T03:01"))
    assert (late.rule, late.subject, late.level) == (f"{name}_late", name, Level.WARNING)
    assert "no good run yet" in late.why
    assert late.hint.startswith("`snapward ")


def test_a_slot_that_was_not_run_is_told_at_once_and_in_its_own_words() -> None:
    why = "1 run of drill did not start"
    missed = job("drill", NIGHTLY, Done(good=at("2026-11-21T02:00:01"), unrun=why), UTC, at("2026-11-21T02:10"))
    assert (missed.level, missed.why) == (Level.WARNING, why)


def test_a_job_that_is_under_way_keeps_quiet_about_what_it_makes_up_for_and_ends_nothing_yet() -> None:
    now = at("2026-11-21T03:30")
    going = Done(arriving=now - 600, unrun="1 run of drill did not start")
    assert job("drill", NIGHTLY, going, UTC, now).level is Level.OK
    assert job("drill", NIGHTLY, going, UTC, now, {("drill_late", "drill")}).level is Level.WARNING


# What follows from what.

LATE = Finding("backup_late", "daily", Level.CRITICAL, "old")
SHARE = Finding("collection_late", "daily/articles", Level.CRITICAL, "old")
DRILL = Finding("drill_late", "drill", Level.WARNING, "old")


def rules(found: Iterable[Finding]) -> list[str]:
    return [one.rule for one in found]


def test_what_only_follows_is_not_told_as_well() -> None:
    assert rules(told([LATE, SHARE, DRILL], set())) == ["backup_late", "drill_late"]
    assert rules(told([LATE, SHARE], {("backup_failed", "daily")})) == []
    assert rules(told([LATE, SHARE], {("backup_missed", "weekly")})) == ["backup_late"]
    assert rules(told([SHARE], set())) == ["collection_late"]
    assert rules(told([DRILL], {("drill_failed", "articles")})) == []


def test_what_was_told_before_its_cause_came_is_not_called_over() -> None:
    open_ = {("backup_late", "daily"), ("backup_missed", "daily"), ("collection_late", "daily/articles")}
    assert told([LATE, SHARE], open_) == [LATE, SHARE]


def test_what_is_well_ends_whatever_is_open() -> None:
    well = ok("backup_late", "daily")
    assert told([well], {("backup_failed", "daily"), ("backup_late", "daily")}) == [well]


# Collections.


def backup(of: str, when: str, *collections: str, failed: tuple[str, ...] = (), location: str = "primary") -> Folder:
    started = at(when)
    entries = [CollectionEntry(name=one, file=f"{one}.tar", size=9, sha256="00") for one in collections]
    given: dict[str, Any] = {"id": when, "tier": of, "engine": {}, "started": when, "ended": when}
    manifest = Manifest(**given, collections=entries, failed=[Failure(name=one, why="locked") for one in failed])
    return Folder(location, f"{of}/{when}", of, when, started, manifest)


def read(one: Folder, state: State | None = State.GOOD, **states: State | None) -> list[Archive]:
    return [
        Archive(one.location, one.folder, entry.file, 9, found, "intact", "", 0.0, 0.0, 0.0, 1.0, None)
        for entry in one.manifest.collections
        if (found := states.get(entry.name, state)) is not None
    ]


def shared(backups: list[Folder], archives: list[Archive], *tiers: str, full: tuple[str, ...] = ()) -> dict[str, Share]:
    stock = Stock(tuple(backups), tuple(archives), frozenset((one.location, one.folder) for one in backups))
    found = shares(stock, ["primary", "secondary"], tiers or ("daily",), full)
    return {f"{one.tier}/{one.collection}": one for one in found}


def test_each_collection_is_measured_by_its_own_newest_good_backup() -> None:
    old, new = backup("daily", "2026-11-21T02:00", "a", "b"), backup("daily", "2026-11-22T02:00", "a", failed=("b",))
    found = shared([old, new], read(old) + read(new))
    assert found["daily/a"].done.good == at("2026-11-22T02:00")
    assert found["daily/b"].done.good == at("2026-11-21T02:00")
    late = collection("b", "daily", NIGHTLY, found["daily/b"].done, UTC, at("2026-11-22T04:00"))
    assert (late.rule, late.subject, late.level) == ("collection_late", "daily/b", Level.CRITICAL)


def test_one_good_copy_is_enough_and_bad_ones_count_for_nothing() -> None:
    old = backup("daily", "2026-11-21T02:00", "a")
    here = backup("daily", "2026-11-22T02:00", "a")
    there = backup("daily", "2026-11-22T02:00", "a", location="secondary")
    bad = read(here, State.CORRUPT)
    assert shared([old, here, there], read(old) + bad + read(there))["daily/a"].done.good == at("2026-11-22T02:00")
    assert shared([old, here], read(old) + bad)["daily/a"].done == Done(good=at("2026-11-21T02:00"))


def test_a_collection_that_is_being_read_back_is_on_its_way() -> None:
    old, new = backup("daily", "2026-11-21T02:00", "a"), backup("daily", "2026-11-22T02:00", "a")
    found = shared([old, new], read(old) + read(new, None))["daily/a"].done
    assert found == Done(good=at("2026-11-21T02:00"), arriving=at("2026-11-22T02:00"))


def test_a_collection_that_was_dropped_is_late_nowhere() -> None:
    old, new = backup("daily", "2026-11-21T02:00", "a", "b"), backup("daily", "2026-11-22T02:00", "a")
    assert list(shared([old, new], read(old) + read(new))) == ["daily/a"]


def test_a_backup_of_one_collection_does_not_hide_the_others() -> None:
    full, part = backup("daily", "2026-11-21T02:00", "a", "b"), backup("daily", "2026-11-21T09:00", "a")
    every = read(full) + read(part)
    assert list(shared([full, part], every, full=("2026-11-21T02:00",))) == ["daily/a", "daily/b"]
    manual = backup("manual", "2026-11-21T09:00", "a")
    assert list(shared([full, manual], every)) == ["daily/a", "daily/b"]


def test_a_new_collection_has_time_until_the_tiers_next_slot() -> None:
    new = backup("daily", "2026-11-22T02:00", "a")
    one = shared([new], read(new), "daily", "monthly")["monthly/a"]
    assert (one.done, one.first) == (Done(), at("2026-11-22T02:00"))


def test_a_collection_that_was_dropped_and_made_anew_counts_from_then() -> None:
    days = [("2026-10-01T00:00", "a"), ("2026-11-20T02:00",), ("2026-11-21T02:00", "a"), ("2026-11-22T02:00", "a")]
    every = [backup("monthly" if "10-01" in when else "daily", when, "b", *names) for when, *names in days]
    found = shared(every, [row for one in every for row in read(one)], "daily", "monthly")
    assert found["monthly/a"].first == at("2026-11-21T02:00")
    assert found["monthly/b"].first == at("2026-10-01T00:00")
    assert found["monthly/a"].done.good == at("2026-10-01T00:00")


def test_where_there_is_no_backup_there_is_nothing_to_be_late() -> None:
    assert shared([], []) == {}


def test_a_name_that_cannot_be_printed_does_no_harm() -> None:
    subject = collection("a\nb", "daily", NIGHTLY, Done(), UTC, SET_UP).subject
    assert "\n" not in subject
