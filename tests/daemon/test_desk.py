"""The thread that decides, with clocks of our own: jumps, hangs, and a disk that is full."""

import threading
from collections.abc import Iterator

import pytest
from program import Program, until

from agent.adapters.ledger import incidents
from agent.daemon import calls
from agent.daemon.children import Children
from agent.daemon.desk import Clocks, Desk
from agent.daemon.locations import Location
from agent.daemon.run import open_desk
from agent.settings import load

NOW = 1_790_000_000.0


class Hands:
    """The hands of three clocks, moved by the test."""

    def __init__(self) -> None:
        self.wall = NOW
        self.passed = 1000.0

    def wait(self, seconds: float) -> None:
        self.wall += seconds
        self.passed += seconds

    def clocks(self) -> Clocks:
        return Clocks(lambda: self.wall, lambda: self.passed, lambda: self.passed)


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def desk(program: Program, hands: Hands) -> Iterator[Desk]:
    made = open_desk(load(str(program.config)), Children(str(program.config)), hands.clocks())
    yield made
    for location in made.locations.values():
        location.stop(5)
    made.db.close()


def open_rules(desk: Desk) -> list[str]:
    return [one.rule for one in incidents.active(desk.db)]


@pytest.mark.parametrize(("jump", "word"), [(7200.0, "forward"), (-7200.0, "back")])
def test_a_clock_that_jumps_is_told_and_forgotten_after_an_hour(
    desk: Desk, hands: Hands, jump: float, word: str
) -> None:
    calls.watch_clock(desk)
    hands.wait(30)
    calls.watch_clock(desk)
    assert open_rules(desk) == []
    hands.wall += jump
    calls.watch_clock(desk)
    (one,) = incidents.active(desk.db)
    assert one.rule == "clock_jumped"
    assert f"{word} by 2 h" in one.why
    hands.wait(3599)
    calls.watch_clock(desk)
    assert open_rules(desk) == ["clock_jumped"]
    hands.wait(1)
    calls.watch_clock(desk)
    assert open_rules(desk) == []


def test_a_jump_back_starts_no_slot_twice_and_a_jump_ahead_starts_one(desk: Desk, hands: Hands) -> None:
    started: list[float] = []
    desk.timetable.remove_all()
    desk.timetable.add_cron(
        "backup:daily",
        "0 2 * * *",
        None,
        lambda due: started.append(due.slot),
        lambda _: None,
        lambda _job, _slot: None,
    )
    for _ in range(48):
        hands.wait(1800)
        desk.timetable.run_pending()
    assert len(started) == 1
    hands.wall -= 12 * 3600
    for _ in range(30):
        hands.wait(1800)
        desk.timetable.run_pending()
    assert len(started) == len(set(started))


def test_a_location_that_does_not_answer_is_told_and_excuses_its_worker(desk: Desk, hands: Hands) -> None:
    release = threading.Event()
    for place in desk.places.values():
        desk.locations[place.name] = Location(place, desk.inbox.put)
    primary = desk.locations["primary"]
    primary.scout.give("survey", release.wait)
    until(lambda: primary.scout.beat is not None)
    primary.scout.beat = hands.passed - 50
    assert calls.watch_workers(desk) == ""
    assert open_rules(desk) == []
    primary.scout.beat = hands.passed - 300
    assert calls.watch_workers(desk) == "", "a restart would not wake a dead disk: the watchdog is fed on"
    assert open_rules(desk) == ["location_hung"]
    release.set()
    until(lambda: primary.scout.beat is None)
    assert calls.watch_workers(desk) == ""
    assert open_rules(desk) == []


def test_a_thread_that_is_gone_starves_the_watchdog(desk: Desk) -> None:
    for place in desk.places.values():
        desk.locations[place.name] = Location(place, desk.inbox.put)
    assert calls.watch_workers(desk) == ""
    desk.locations["primary"].reader.stop(5)
    assert "reader of primary is gone" in calls.watch_workers(desk)


def test_a_pulse_from_the_future_is_a_clock_that_went_back(program: Program, hands: Hands, desk: Desk) -> None:
    from agent.daemon.loop import _open_up

    calls.pulse(desk)
    hands.wall -= 86400
    _open_up(desk)
    assert "clock_jumped" in open_rules(desk)
