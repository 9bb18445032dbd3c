"""When the daemon asks for a drill."""

from collections.abc import Iterator

import pytest
from program import Program

from agent.adapters.ledger import incidents, runs
from agent.daemon import calls, slots
from agent.daemon.children import Children, Ended
from agent.daemon.desk import Clocks, Desk
from agent.daemon.events import Called, Overslept, Tick
from agent.daemon.run import open_desk
from agent.rules.timetable import Due, Missed
from agent.settings import load

NOW = 1_790_000_000.0


class Noted(Children):
    """Children that are asked for and never started."""

    def __init__(self, config: str) -> None:
        super().__init__(config)
        self.asked: dict[str, tuple[str, list[str], float]] = {}

    def request(self, lane: str, job: str, argv: list[str], deadline: float) -> bool:
        if job in self.asked:
            return False
        self.asked[job] = lane, argv, deadline
        return True


def opened(program: Program, more: str = "") -> tuple[Desk, Noted]:
    program.write(more=more)
    children = Noted(str(program.config))
    return open_desk(load(str(program.config)), children, Clocks(lambda: NOW, lambda: 1000.0, lambda: 1000.0)), children


@pytest.fixture
def desk(program: Program) -> Iterator[Desk]:
    made, _ = opened(program, "drills: {}\n")
    yield made
    made.db.close()


def asked(desk: Desk) -> dict[str, tuple[str, list[str], float]]:
    assert isinstance(desk.children, Noted)
    return desk.children.asked


@pytest.mark.parametrize(("code", "drills"), [(0, True), (1, True), (2, False), (75, False), (-9, False)])
def test_a_backup_that_was_written_is_drilled(desk: Desk, code: int, drills: bool) -> None:  # noqa: FBT001 - a table's column
    slots.ended(desk, Ended("backup:daily", 1, code))
    assert ("drill:after" in asked(desk)) == drills
    if drills:
        lane, argv, deadline = asked(desk)["drill:after"]
        assert (lane, argv) == ("drill", ["drill", "--after"])
        assert deadline > 600


def test_no_drill_after_backups_where_none_is_wanted(program: Program) -> None:
    desk, children = opened(program, "drills: {after_backup: 0s}\n")
    slots.ended(desk, Ended("backup:daily", 1, 0))
    assert children.asked == {}
    desk.db.close()


def test_a_slot_is_a_full_drill_with_all_of_its_budget(desk: Desk) -> None:
    slots.called(desk, Called(Due("drill", NOW, 0.0, caught_up=False)))
    lane, argv, deadline = asked(desk)["drill"]
    assert (lane, argv) == ("drill", ["drill", "--due", "--slot", str(NOW)])
    assert deadline > 6 * 3600


def test_a_slot_during_another_drill_is_noted_and_no_alert(desk: Desk) -> None:
    slots.called(desk, Called(Due("drill", NOW - 60, 0.0, caught_up=False)))
    slots.called(desk, Called(Due("drill", NOW, 0.0, caught_up=False)))
    assert [(one.job, one.outcome) for one in runs.between(desk.db, 0, NOW + 1)] == [("drill", "skipped")]
    assert incidents.active(desk.db) == []


def test_slots_that_were_overslept_are_noted_and_no_alert(desk: Desk) -> None:
    slots.overslept(desk, Overslept(Missed("drill", 1, NOW - 90, NOW - 90, "the agent was not awake")))
    assert [(one.job, one.outcome) for one in runs.between(desk.db, 0, NOW + 1)] == [("drill", "missed")]
    assert incidents.active(desk.db) == []


def test_a_slot_whose_run_never_began_is_noted_and_no_alert(desk: Desk) -> None:
    slots.called(desk, Called(Due("drill", NOW, 0.0, caught_up=False)))
    slots.ended(desk, Ended("drill", 1, 65))
    (one,) = runs.between(desk.db, 0, NOW + 1)
    assert (one.job, one.outcome, one.slot) == ("drill", "missed", NOW)
    assert incidents.active(desk.db) == []


def test_a_slot_that_found_the_lock_held_is_tried_again(desk: Desk) -> None:
    slots.called(desk, Called(Due("drill", NOW, 0.0, caught_up=False)))
    slots.ended(desk, Ended("drill", 1, 75))
    assert [one.due.job for _, one in desk.again] == ["drill"]


def test_who_is_overdue_is_looked_for_now_and_then(desk: Desk) -> None:
    calls.ticked(desk, Tick("trim"))
    assert asked(desk)["drill:overdue"][:2] == ("overdue", ["drill", "--overdue"])
