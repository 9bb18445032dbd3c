import logging
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
import schedule
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.clock import LONGEST_IDLE, Timetable
from agent.rules.timetable import Due, Missed, jitter, slots_between

HOUR, DAY = 3600.0, 86400.0
BERLIN = ZoneInfo("Europe/Berlin")


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


class Machine:
    """A host whose clocks are turned by hand; what is noted on its disk outlives the agent."""

    def __init__(self, start, *, catch_up=12 * HOUR, jitter=0.0):
        self.wall, self.uptime = start, 1000.0
        self.catch_up, self.jitter = catch_up, jitter
        self.noted = {}
        self.events = []
        self.passes = 0
        self.boot()

    def boot(self):
        self.timetable = Timetable(
            BERLIN, lambda: self.wall, lambda: self.uptime, self.catch_up, jitter=self.jitter, host="berta"
        )

    def note(self, job, slot):
        self.noted[job] = slot

    def add(self, name, cron, fire=None, missed=None, persist=None):
        keep = self.events.append
        self.timetable.add_cron(name, cron, self.noted.get(name), fire or keep, missed or keep, persist or self.note)

    def live(self, seconds):
        """Let time pass as the daemon's loop does: a pass, then a wait."""
        end = self.uptime + seconds
        while True:
            self.timetable.run_pending()
            self.passes += 1
            idle = self.timetable.idle_seconds()
            assert 0 < idle <= LONGEST_IDLE, "nothing is left to do after a pass"
            if self.uptime + idle >= end:
                break
            self.wall, self.uptime = self.wall + idle, self.uptime + idle
        self.wall, self.uptime = self.wall + end - self.uptime, end

    def slots(self, job):
        return [event.slot for event in self.events if isinstance(event, Due) and event.job == job]

    def lost(self, job):
        return [event for event in self.events if isinstance(event, Missed) and event.job == job]


@pytest.mark.parametrize("start", ["2026-03-24T12:34", "2026-10-20T12:34"])
def test_ten_days_over_a_change_of_clocks_have_240_hourly_runs_and_2880_samples(start):
    machine = Machine(at(start))
    samples = []
    machine.add("hourly", "@hourly")
    machine.timetable.add_every("sample", 300, lambda: samples.append(machine.uptime))

    machine.live(10 * DAY + 1)

    slots = machine.slots("hourly")
    assert len(slots) == 240
    assert {later - earlier for earlier, later in pairwise(slots)} == {HOUR}
    assert all(event.late < 1 and not event.caught_up for event in machine.events)
    assert samples == [1000 + 300 * n for n in range(1, 2881)]
    assert machine.passes < 10 * DAY / LONGEST_IDLE + 3 * 240 + 2880, "no hot loop in the repeated hour"


def test_tiers_run_at_their_times_across_the_autumn_night():
    machine = Machine(at("2026-10-24T12:00"))
    machine.add("daily", "30 2 * * *")
    machine.add("weekly", "0 1 * * 0")
    machine.add("monthly", "0 0 1 * *")

    machine.live(8 * DAY)

    assert machine.slots("daily") == [at(f"2026-10-{day}T02:30") for day in range(25, 32)] + [at("2026-11-01T02:30")]
    assert machine.slots("weekly") == [at("2026-10-25T01:00"), at("2026-11-01T01:00")]
    assert machine.slots("monthly") == [at("2026-11-01T00:00")]


def test_four_days_down_are_one_catch_up_run_and_three_slots_told_about():
    machine = Machine(at("2026-11-23T10:00"))
    machine.noted = {"daily": at("2026-11-19T02:00")}
    machine.add("daily", "0 2 * * *", persist=lambda job, slot: machine.events.append((job, slot)))
    assert machine.timetable.idle_seconds() == 0

    machine.live(60)

    missed, noted, due = machine.events
    assert (missed.slots, missed.since, missed.newest) == (3, at("2026-11-20T02:00"), at("2026-11-22T02:00"))
    assert noted == ("daily", at("2026-11-23T02:00"))
    assert due == Due("daily", at("2026-11-23T02:00"), 8 * HOUR, caught_up=True)


def test_a_monthly_slot_beyond_the_window_is_told_once_and_not_run():
    machine = Machine(at("2026-11-03T09:00"))
    machine.noted = {"monthly": at("2026-10-01T00:00")}
    for _ in range(3):
        machine.boot()
        machine.add("monthly", "0 0 1 * *")
        machine.live(HOUR)

    assert [lost.slots for lost in machine.lost("monthly")] == [1]
    assert machine.slots("monthly") == []


def test_a_slot_missed_before_the_very_first_run_is_noticed():
    machine = Machine(at("2026-11-27T10:00"))
    machine.add("weekly", "0 1 * * 0")
    machine.wall = at("2026-11-30T10:00")
    machine.boot()
    machine.add("weekly", "0 1 * * 0")

    machine.live(60)

    assert [lost.newest for lost in machine.lost("weekly")] == [at("2026-11-29T01:00")]


def test_an_hour_back_runs_nothing_twice():
    machine = Machine(at("2026-11-23T01:30"))
    machine.add("daily", "0 2 * * *")
    machine.add("hourly", "@hourly")
    machine.live(HOUR)
    machine.wall -= HOUR

    machine.live(25 * HOUR)

    assert machine.slots("daily") == [at("2026-11-23T02:00"), at("2026-11-24T02:00")]
    hourly = machine.slots("hourly")
    assert hourly == sorted(set(hourly))
    assert len(hourly) == 25
    assert machine.lost("daily") == machine.lost("hourly") == []


def test_samples_go_on_when_the_clock_is_set_back():
    machine = Machine(at("2026-11-23T01:30"))
    samples = []
    machine.timetable.add_every("sample", 60, lambda: samples.append(machine.uptime))
    machine.live(90)
    machine.wall -= DAY

    machine.live(300)

    assert samples == [1060, 1120, 1180, 1240, 1300, 1360]


def test_beats_that_were_overslept_are_dropped_and_the_phase_is_kept():
    machine = Machine(at("2026-11-23T01:30"))
    samples = []
    machine.timetable.add_every("sample", 60, lambda: samples.append(machine.uptime))
    machine.uptime += 200

    machine.live(60)

    assert samples == [1200, 1240]


def test_five_years_ahead_and_back_again_run_once_and_say_that_the_clock_was_wrong():
    machine = Machine(at("2026-11-23T01:30"))
    machine.add("daily", "0 2 * * *")
    machine.live(HOUR)
    machine.wall += 5 * 365 * DAY
    machine.live(60)

    assert machine.slots("daily") == [at("2026-11-23T02:00"), at("2031-11-22T02:00")]
    assert [lost.slots for lost in machine.lost("daily")] == [1000]

    machine.wall -= 5 * 365 * DAY
    machine.live(2 * DAY)

    assert machine.slots("daily")[2:] == [at("2026-11-24T02:00"), at("2026-11-25T02:00")]
    assert [lost.slots for lost in machine.lost("daily")] == [1000, 0]
    assert "ahead of the clock" in machine.lost("daily")[1].why


def test_a_suspended_machine_makes_up_for_a_slot_at_the_first_look():
    machine = Machine(at("2026-11-23T01:30"))
    machine.add("daily", "0 2 * * *")
    machine.live(60)
    machine.wall += 3 * HOUR

    machine.live(LONGEST_IDLE)

    (due,) = machine.events
    assert due.slot == at("2026-11-23T02:00")
    assert due.caught_up


def test_a_job_that_raises_disturbs_no_other_and_is_not_tried_again_before_its_next_slot(caplog):
    machine = Machine(at("2026-11-23T01:30"))
    tried = []

    def burst(due):
        tried.append(due.slot)
        raise RuntimeError("full inbox")

    machine.add("burst", "0 2 * * *", fire=burst)
    machine.timetable.add_every("crash", 600, lambda: 1 / 0)
    machine.add("daily", "0 2 * * *")

    machine.live(25 * HOUR)

    assert tried == machine.slots("daily") == [at("2026-11-23T02:00"), at("2026-11-24T02:00")]
    assert machine.noted["burst"] == at("2026-11-24T02:00")
    failures = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert failures.count("The timed job burst could not be handed over.") == 2
    assert failures.count("The timed job crash could not be handed over.") == 149


def test_a_job_starts_also_when_its_slot_cannot_be_noted(caplog):
    machine = Machine(at("2026-11-23T01:30"))
    machine.noted = {"daily": at("2026-11-22T02:00")}
    machine.add("daily", "0 2 * * *", persist=lambda *_: 1 / 0)

    machine.live(HOUR)

    assert machine.slots("daily") == [at("2026-11-23T02:00")]
    assert "ZeroDivisionError" in caplog.text


def test_a_slot_is_noted_before_it_is_started_so_that_a_crash_does_not_repeat_it():
    machine = Machine(at("2026-11-23T01:30"))

    def crash(due):
        raise SystemExit

    machine.add("daily", "0 2 * * *", fire=crash)
    with pytest.raises(SystemExit):
        machine.live(HOUR)
    machine.boot()
    machine.add("daily", "0 2 * * *")
    machine.live(HOUR)

    assert machine.noted == {"daily": at("2026-11-23T02:00")}
    assert machine.events == []


def test_jitter_delays_the_start_but_not_the_slot_and_survives_a_restart_in_between():
    machine = Machine(at("2026-11-23T01:30"), jitter=900)
    slot = at("2026-11-23T02:00")
    start = slot + jitter("daily", slot, "berta", 900)
    assert start > slot + 60
    started = []
    for _ in range(2):
        machine.boot()
        machine.add("daily", "0 2 * * *", fire=lambda due: started.append((machine.wall, due)))
        assert machine.timetable.next_runs() == {"daily": pytest.approx(start)}
        machine.live(1830)

    ((moment, due),) = started
    assert moment == pytest.approx(start)
    assert due.slot == machine.noted["daily"] == slot
    assert not due.caught_up


def test_the_wait_is_never_negative_and_never_longer_than_a_clock_step_may_stay_unseen():
    machine = Machine(at("2026-11-23T01:30"))
    assert machine.timetable.idle_seconds() == LONGEST_IDLE

    machine.add("daily", "0 2 * * *")
    assert machine.timetable.idle_seconds() == LONGEST_IDLE
    machine.wall += 1790
    assert machine.timetable.idle_seconds() == 10
    machine.wall += 3000
    assert machine.timetable.idle_seconds() == 0
    machine.wall -= DAY
    assert machine.timetable.idle_seconds() == 0

    machine.timetable.remove_all()
    machine.timetable.add_every("sample", 20, list)
    assert machine.timetable.idle_seconds() == 20
    machine.uptime += 50
    assert machine.timetable.idle_seconds() == 0


def test_next_runs_name_every_job():
    machine = Machine(at("2026-11-23T01:30"))
    machine.add("daily", "0 2 * * *")
    machine.timetable.add_every("sample", 300, list)

    assert machine.timetable.next_runs() == {"daily": at("2026-11-23T02:00"), "sample": at("2026-11-23T01:35")}


def test_removed_jobs_are_gone_and_their_names_are_free():
    machine = Machine(at("2026-11-23T01:30"))
    machine.add("daily", "0 2 * * *")
    machine.timetable.add_every("sample", 300, list)
    with pytest.raises(ValueError, match="'daily'"):
        machine.add("daily", "0 3 * * *")
    with pytest.raises(ValueError, match="'sample'"):
        machine.timetable.add_every("sample", 300, list)

    machine.timetable.remove_all()
    machine.add("daily", "0 3 * * *")
    machine.live(2 * HOUR)

    assert machine.slots("daily") == [at("2026-11-23T03:00")]


def test_jobs_do_not_leak_into_the_schedulers_of_others():
    machine = Machine(at("2026-11-23T01:30"))
    machine.add("daily", "0 2 * * *")

    assert schedule.jobs == []
    assert Machine(machine.wall).timetable.next_runs() == {}


MOVES = st.one_of(
    st.tuples(st.just("live"), st.floats(1, 3 * HOUR)),
    st.tuples(st.just("set"), st.floats(-30 * HOUR, 30 * HOUR) | st.floats(-400 * DAY, 400 * DAY)),
    st.tuples(st.just("restart"), st.floats(0, 3 * DAY)),
)


@settings(deadline=None)
@given(
    cron=st.sampled_from(["@hourly", "30 2 * * *", "*/20 * * * *", "0 1 * * 0"]),
    width=st.sampled_from([0.0, 1000.0]),
    moves=st.lists(MOVES, max_size=12),
)
def test_however_the_clock_jumps_no_slot_comes_twice_unless_the_clock_was_said_to_be_wrong(cron, width, moves):
    machine = Machine(at("2026-10-24T12:00"), jitter=width)
    machine.add("job", cron)
    for move, seconds in moves:
        if move == "live":
            machine.live(seconds)
        elif move == "set":
            machine.wall += seconds
        else:
            machine.wall += seconds
            machine.boot()
            machine.add("job", cron)
        machine.live(1)

    newest = None
    for event in machine.events:
        if isinstance(event, Missed) and event.slots == 0:
            newest = None
        elif isinstance(event, Due):
            assert newest is None or event.slot > newest
            newest = event.slot


@settings(deadline=None)
@given(
    cron=st.sampled_from(["@hourly", "30 2 * * *", "*/20 * * * *", "0 1 * * 0"]),
    width=st.sampled_from([0.0, 1000.0]),
    lives=st.lists(st.floats(1, 6 * HOUR), max_size=8),
)
def test_on_a_clock_that_keeps_time_every_slot_comes_whenever_the_agent_is_restarted(cron, width, lives):
    machine = Machine(at("2026-10-24T22:00"), jitter=width)
    start = machine.wall
    for seconds in lives:
        machine.boot()
        machine.add("job", cron)
        machine.live(seconds)

    begun = slots_between(cron, start, machine.wall - width - LONGEST_IDLE, BERLIN, 1000)
    assert machine.slots("job")[: len(begun)] == begun
    assert machine.lost("job") == []
