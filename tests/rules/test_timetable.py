from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import BadConfig
from agent.rules.timetable import (
    COUNTED,
    DAY,
    Appointment,
    Due,
    describe,
    expected_every,
    freshness,
    jitter,
    last_slot,
    next_slot,
    plan,
    slots_between,
)

HOUR = 3600.0
BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Africa/Cairo", "America/Santiago", "Asia/Kathmandu"]
CRONS = [
    "0 2 * * *",
    "30 2 * * *",
    "30 1 * * *",
    "59 23 * * *",
    "0 0 * * *",
    "0 0 1 * *",
    "0 1 * * 0",
    "30 1,2 * * *",
    "30 0,23 * * *",
    "15,45 2 * * 1-5",
    "0 * * * *",
    "*/30 * * * *",
    "0 */2 * * *",
    "*/20 30 2 * * *",
    "@monthly",
]


def at(text, zone="UTC"):
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))).timestamp()


def walls(slots, zone):
    """Slots as wall clocks show them, with the offset that tells the repeated hour's two halves apart."""
    return [datetime.fromtimestamp(slot, ZoneInfo(zone)).strftime("%d %H:%M:%S %z") for slot in slots]


@pytest.mark.parametrize(
    ("zone", "start", "cron", "expected"),
    [
        # The hour from 02:00 is missing on 29 March, and comes twice on 25 October.
        ("Europe/Berlin", "2026-03-28", "0 2 * * *", ["28 02:00:00 +0100", "29 03:00:00 +0200"]),
        ("Europe/Berlin", "2026-03-28", "30 2 * * *", ["28 02:30:00 +0100", "29 03:00:00 +0200"]),
        ("Europe/Berlin", "2026-03-28", "30 0 2 * * *", ["28 02:00:30 +0100", "29 03:00:30 +0200"]),
        ("Europe/Berlin", "2026-10-24", "0 2 * * *", ["24 02:00:00 +0200", "25 02:00:00 +0200"]),
        ("Europe/Berlin", "2026-10-24", "30 2 * * *", ["24 02:30:00 +0200", "25 02:30:00 +0200"]),
        ("Europe/Berlin", "2026-10-24", "30 30 2 * * *", ["24 02:30:30 +0200", "25 02:30:30 +0200"]),
        ("America/New_York", "2026-03-07", "30 2 * * *", ["07 02:30:00 -0500", "08 03:00:00 -0400"]),
        ("America/New_York", "2026-10-31", "30 1 * * *", ["31 01:30:00 -0400", "01 01:30:00 -0400"]),
        ("America/New_York", "2026-10-25", "0 1 * * 0", ["25 01:00:00 -0400", "01 01:00:00 -0400"]),
        # Here midnight itself is missing, and the hour before it comes twice.
        ("Africa/Cairo", "2026-04-23", "0 0 * * *", ["24 01:00:00 +0300", "25 00:00:00 +0300"]),
        ("Africa/Cairo", "2026-10-29", "30 23 * * *", ["29 23:30:00 +0300", "30 23:30:00 +0200"]),
        ("America/Santiago", "2026-09-05", "@daily", ["06 01:00:00 -0300", "07 00:00:00 -0300"]),
        ("America/Santiago", "2026-04-04", "30 23 * * *", ["04 23:30:00 -0300", "05 23:30:00 -0400"]),
    ],
)
def test_a_fixed_time_runs_once_on_the_days_when_clocks_change(zone, start, cron, expected):
    after = at(start, zone)

    assert walls(slots_between(cron, after, after + 8 * DAY, ZoneInfo(zone), 2), zone) == expected


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("start", ["2026-03-28", "2026-04-04", "2026-04-23", "2026-09-05", "2026-10-24"])
def test_every_hour_means_every_real_hour(zone, start):
    after = at(start, zone)

    slots = slots_between("@hourly", after, after + 3 * DAY, ZoneInfo(zone), 100)

    assert [slot - after for slot in slots] == [HOUR * n for n in range(1, 73)]


@settings(deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    day=st.dates(date(2025, 1, 1), date(2027, 12, 1)),
)
def test_a_daily_job_has_one_slot_on_each_day_and_never_early(zone, hour, minute, day):
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    slots = slots_between(
        f"{minute} {hour} * * *",
        midnight.timestamp() - 1,
        (midnight + timedelta(days=7)).timestamp() - 1,
        ZoneInfo(zone),
        100,
    )

    shown = [datetime.fromtimestamp(slot, ZoneInfo(zone)) for slot in slots]
    assert [moment.date() for moment in shown] == [day + timedelta(days=n) for n in range(7)]
    for moment in shown:
        wanted = moment.replace(hour=hour, minute=minute, fold=0)
        before = datetime.fromtimestamp(moment.timestamp() - 1, moment.tzinfo)
        assert moment == wanted or moment.utcoffset() != before.utcoffset(), "moved, but not to the end of a gap"


@settings(deadline=None, max_examples=300)
@given(
    zone=st.sampled_from(ZONES),
    cron=st.sampled_from(CRONS),
    days=st.sampled_from(["2026-03-07", "2026-03-28", "2026-04-04", "2026-04-23", "2026-09-05", "2026-10-24"]),
    seconds=st.floats(0, 9 * DAY),
)
def test_the_newest_slot_and_the_next_one_are_neighbours(zone, cron, days, seconds):
    moment, where = at(days, zone) + seconds, ZoneInfo(zone)
    newest, following = last_slot(cron, moment, where), next_slot(cron, moment, where)

    ahead = slots_between(cron, moment, following + 3 * HOUR, where, 100)

    assert ahead == sorted(set(ahead))
    assert newest is not None
    assert newest <= moment < following
    assert next_slot(cron, newest, where) == following
    assert last_slot(cron, newest, where) == newest
    assert last_slot(cron, following, where) == following
    assert next_slot(cron, newest - 0.5, where) == newest


def test_slots_come_oldest_first_without_the_start_and_with_the_end_and_up_to_the_limit():
    start = at("2026-11-01")

    assert slots_between("@hourly", start, start + 3 * HOUR, UTC, 9) == [start + n * HOUR for n in (1, 2, 3)]
    assert slots_between("@hourly", start, start + 3 * HOUR, UTC, 2) == [start + n * HOUR for n in (1, 2)]
    assert slots_between("@hourly", start, start + 10, UTC, 9) == []


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("@hourly", "2026-11-23T11:00"),
        ("@daily", "2026-11-24T00:00"),
        (" @Weekly ", "2026-11-29T00:00"),
        ("@monthly", "2026-12-01T00:00"),
        ("@yearly", "2027-01-01T00:00"),
        ("*/10 * * * * *", "2026-11-23T10:00:10"),
        ("15,45 30 12 * * MON", "2026-11-23T12:30:15"),
        ("0 0 29 2 *", "2028-02-29T00:00"),
    ],
)
def test_five_fields_six_fields_and_aliases_are_cron_lines(cron, expected):
    assert next_slot(cron, at("2026-11-23T10:00"), UTC) == at(expected)


@pytest.mark.parametrize(
    "cron",
    ["", "60 * * * *", "* * * *", "0 0 0 2 * * *", "@reboot", "0 0 31 2 *", "9" * 5000 + " * * * *", "0 0 */8 2 MON#5"],
)
def test_a_line_that_names_no_moment_is_refused_with_a_hint(cron):
    with pytest.raises(BadConfig, match="cron line") as caught:
        describe(cron)

    assert "@daily" in caught.value.hint


FIELD = st.sampled_from(["*", "*/7", "0", "2", "5-9", "1,15", "L", "LW", "MON", "JAN-MAR", "5L", "FRI#5", "31", "x"])


@settings(deadline=None)
@given(st.lists(FIELD, min_size=5, max_size=6).map(" ".join) | st.text(max_size=9))
def test_any_text_is_described_or_refused(text):
    with suppress(BadConfig):
        assert describe(text)


def test_before_the_first_slot_of_a_rare_line_there_is_none():
    assert last_slot("0 0 */28 2 MON#5", at("2026-11-23"), UTC) == at("2016-02-29")
    assert last_slot("0 0 */28 2 SUN#5", at("2032-02-28"), UTC) == at("2004-02-29")
    assert last_slot("0 0 */28 2 TUE#5", at("1950-01-01"), UTC) == at("1944-02-29")


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 2 * * *", "At 02:00 every day"),
        ("@weekly", "At 00:00 on Sunday"),
        ("0 0 1 * *", "At 00:00 on the first day of every month"),
        ("*/10 * * * * *", "Every 10th second of every minute"),
    ],
)
def test_a_line_is_said_in_words(cron, words):
    assert describe(cron) == words


@pytest.mark.parametrize(
    ("cron", "start", "days"),
    [
        ("0 2 * * *", "2026-11-23", 1),
        ("0 2 * * 1-5", "2026-11-23", 3),
        ("0 0 1 * *", "2026-11-23", 31),
        ("0 2 * * *", "2026-10-23", 1 + 1 / 24),
    ],
)
def test_what_may_lie_between_two_slots_counts_weekends_and_long_days(cron, start, days):
    assert expected_every(cron, at(start), BERLIN) == days * DAY


DAILY = Appointment("daily", "0 2 * * *", UTC, catch_up=12 * HOUR)
LAST = at("2026-11-19T02:00")


def test_a_job_never_seen_has_missed_nothing():
    step = plan(DAILY, None, at("2026-11-23T10:00"))

    assert (step.due, step.missed, step.settled) == (None, None, at("2026-11-23T10:00"))
    assert step.wake == at("2026-11-24T02:00")


@pytest.mark.parametrize(
    ("now", "late", "caught_up"),
    [("2026-11-20T02:00:00", 0, False), ("2026-11-20T02:01:00", 60, False), ("2026-11-20T02:01:01", 61, True)],
)
def test_a_slot_is_due_once_with_its_lateness(now, late, caught_up):
    step = plan(DAILY, LAST, at(now))

    assert step.due == Due("daily", at("2026-11-20T02:00"), late, caught_up)
    assert step.missed is None
    again = plan(DAILY, step.settled, at(now))
    assert (again.due, again.missed, again.settled) == (None, None, step.settled)
    assert again.wake == step.wake == at("2026-11-21T02:00")


def test_after_four_days_only_the_newest_slot_is_made_up_for():
    step = plan(DAILY, LAST, at("2026-11-23T10:00"))

    assert step.due == Due("daily", at("2026-11-23T02:00"), 8 * HOUR, caught_up=True)
    assert step.missed is not None
    assert (step.missed.slots, step.missed.since, step.missed.newest) == (
        3,
        at("2026-11-20T02:00"),
        at("2026-11-22T02:00"),
    )
    assert step.missed.why == (
        "3 runs of daily did not start (Fri 20 Nov 02:00:00 to Sun 22 Nov 02:00:00): "
        "the agent was not awake then, and only the newest slot is made up for"
    )


def test_a_monthly_slot_older_than_the_window_is_reported_and_not_run():
    monthly = Appointment("monthly", "0 0 1 * *", UTC, catch_up=12 * HOUR)

    step = plan(monthly, at("2026-10-01"), at("2026-11-03T09:00"))

    assert step.due is None
    assert step.missed is not None
    assert (step.missed.slots, step.missed.newest) == (1, at("2026-11-01"))
    assert step.missed.why == (
        "1 run of monthly did not start (Sun 01 Nov 00:00:00): "
        "the agent was not awake then, and the newest slot is older than 12 h"
    )
    assert (step.settled, step.wake) == (at("2026-11-01"), at("2026-12-01"))


def test_without_a_catch_up_window_a_slot_on_time_still_runs():
    strict = Appointment("daily", "0 2 * * *", UTC, catch_up=0)

    assert plan(strict, LAST, at("2026-11-20T02:00:30")).due is not None
    assert plan(strict, LAST, at("2026-11-20T02:01:30")).due is None


def test_a_clock_that_goes_back_repeats_nothing():
    step = plan(DAILY, LAST, LAST - HOUR)

    assert (step.due, step.missed, step.settled) == (None, None, LAST)
    assert step.wake == LAST + DAY


def test_a_slot_from_the_far_future_is_reported_and_no_longer_believed():
    now = LAST - 2 * DAY - 1

    step = plan(DAILY, LAST, now)

    assert step.due is None
    assert step.missed is not None
    assert step.missed.slots == 0
    assert "dated 2026-11-19T02:00:00.000Z, 2 days ahead of the clock" in step.missed.why
    assert (step.settled, step.wake) == (now, next_slot("0 2 * * *", now, UTC))
    assert plan(DAILY, LAST, now + 1).missed is None


def test_five_years_ahead_a_job_runs_once_and_the_count_of_missed_slots_is_bounded():
    busy = Appointment("sweep", "* * * * *", UTC, catch_up=HOUR)

    step = plan(busy, LAST, at("2031-11-19T02:00:30"))

    assert step.due == Due("sweep", at("2031-11-19T02:00"), 30, caught_up=False)
    assert step.missed is not None
    assert step.missed.slots == COUNTED
    assert step.missed.newest == at("2031-11-19T01:59")
    assert step.missed.why.startswith("at least 1,000 runs of sweep")


def test_jitter_moves_the_start_and_never_the_slot():
    held = Appointment("daily", "0 2 * * *", UTC, catch_up=0, host="berta", jitter=900)
    slot = LAST + DAY
    start = slot + jitter("daily", slot, "berta", 900)

    assert start > slot
    assert plan(held, LAST, LAST).wake == start
    early = plan(held, LAST, start - 0.001)
    assert (early.due, early.missed, early.settled, early.wake) == (None, None, LAST, start)
    assert plan(held, LAST, start).due == Due("daily", slot, 0, caught_up=False)
    assert plan(held, LAST, start + 61).due is None


def test_a_jitter_wider_than_the_gap_loses_no_slot():
    held = Appointment("sweep", "* * * * *", UTC, catch_up=0, host="berta", jitter=900)
    fired, last, now = [], LAST, LAST
    for _ in range(60):
        now = plan(held, last, now).wake
        step = plan(held, last, now)
        assert step.due is not None
        assert step.missed is None
        fired.append(step.due.slot)
        last = step.settled

    assert fired == [LAST + 60 * n for n in range(1, 61)]


@given(st.text(max_size=5), st.integers(0, 2**33), st.text(max_size=5), st.floats(0.001, 1e6))
def test_jitter_is_the_same_after_a_restart_and_within_its_width(job, slot, host, width):
    seconds = jitter(job, float(slot), host, width)

    assert 0 <= seconds < width
    assert seconds == jitter(job, float(slot), host, width)


def test_jitter_spreads_hosts_and_jobs_and_is_absent_without_a_width():
    spread = {jitter("daily", LAST, f"host-{n}", 600) for n in range(200)}

    assert len(spread) == 200
    assert min(spread) < 60
    assert max(spread) > 540
    assert len({jitter(job, LAST, "berta", 600) for job in ("daily", "weekly", "report")}) == 3
    assert jitter("daily", LAST, "berta", 0) == 0


@settings(deadline=None)
@given(
    cron=st.sampled_from(CRONS),
    zone=st.sampled_from(ZONES),
    catch_up=st.sampled_from([0.0, HOUR, 12 * HOUR, 3 * DAY]),
    waits=st.lists(st.floats(0.1, 100) | st.floats(60, 2 * HOUR) | st.floats(HOUR, 9 * DAY), max_size=20),
)
def test_every_slot_is_run_or_reported_and_the_newest_in_reach_is_run(cron, zone, catch_up, waits):
    job = Appointment("job", cron, ZoneInfo(zone), catch_up)
    start = now = last = at("2026-10-23T12:00")
    fired, reported = [], 0
    for wait in waits:
        before, now = now, now + wait
        step = plan(job, last, now)
        newest = last_slot(cron, now, job.zone)
        if newest is not None and newest > before and now - newest <= catch_up:
            assert step.due is not None
            assert step.due.slot == newest
        if step.due:
            fired.append(step.due.slot)
        if step.missed:
            reported += step.missed.slots
        last = step.settled
        assert step.wake > now

    every = slots_between(cron, start, now, job.zone, 100_000)
    assert fired == sorted(set(fired))
    assert set(fired) <= set(every)
    assert len(fired) + reported == len(every)


@pytest.mark.parametrize(
    ("last_good", "now", "state", "expected"),
    [
        ("2026-11-22T02:00:05", "2026-11-22T23:00", "ok", "2026-11-23T02:00"),
        ("2026-11-22T02:00:00", "2026-11-23T02:59", "ok", "2026-11-23T02:00"),
        ("2026-11-22T02:00:05", "2026-11-23T03:00:00", "ok", "2026-11-23T02:00"),
        ("2026-11-22T02:00:05", "2026-11-23T03:00:01", "late", "2026-11-23T02:00"),
        ("2026-11-19T02:00:05", "2026-11-23T03:00:01", "late", "2026-11-21T02:00"),
        ("2026-11-22T13:00:00", "2026-11-23T02:30", "ok", "2026-11-23T02:00"),
        ("2031-11-22T02:00:00", "2026-11-22T02:30", "late", "2031-11-23T02:00"),
        (None, "2026-11-21T02:30", "waiting", "2026-11-21T02:00"),
        (None, "2026-11-21T03:01", "never", "2026-11-21T02:00"),
        (None, "2026-11-18T12:00", "never", "2026-11-21T02:00"),
    ],
)
def test_a_tier_is_fresh_while_a_good_backup_covers_the_newest_slot(last_good, now, state, expected):
    since = at("2026-11-20T12:00")

    found = freshness("0 2 * * *", last_good and at(last_good), since, at(now), UTC, HOUR)

    assert (found.state, found.expected) == (state, at(expected))


def test_freshness_says_what_is_there_and_what_is_wanted():
    good, since = at("2026-11-21T02:00:05"), at("2026-11-01")

    late = freshness("0 2 * * *", good, since, at("2026-11-22T05:00"), UTC, HOUR)
    ahead = freshness("0 2 * * *", at("2031-11-21"), since, good, UTC, HOUR)

    assert late.why == (
        "newest good backup: Sat 21 Nov 02:00:05; "
        "the one of Sun 22 Nov 02:00:00 was due by Sun 22 Nov 03:00:00, 2 h ago"
    )
    assert "2031-11-21T00:00:00.000Z is 1826 days ahead of the clock" in ahead.why
    assert freshness("0 2 * * *", None, since, since, UTC, HOUR).why == (
        "no good backup yet; the next is due from Sun 01 Nov 02:00:00 to Sun 01 Nov 03:00:00"
    )
