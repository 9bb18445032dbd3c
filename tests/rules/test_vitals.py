import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rules.finding import Level
from agent.rules.vitals import Beat, clock, jumped, stale

BEFORE = Beat(1_000_000.0, 500.0)


@pytest.mark.parametrize(
    ("wall", "steady", "jump"),
    [
        (1_000_010.0, 510.0, 0.0),
        (1_000_070.0, 510.0, 0.0),
        (1_000_071.0, 510.0, 61.0),
        (999_950.0, 510.0, 0.0),
        (999_949.0, 510.0, -61.0),
        (1_028_800.0, 29_300.0, 0.0),
    ],
)
def test_a_clock_jumps_when_it_shows_more_than_a_minute_more_or_less_than_passed(
    wall: float, steady: float, jump: float
) -> None:
    assert clock(BEFORE, Beat(wall, steady)) == jump


@given(st.integers(-86_400, 86_400), st.integers(0, 10**6))
def test_a_jump_and_the_jump_back_are_of_the_same_size(seconds: int, passed: int) -> None:
    there = Beat(BEFORE.wall + passed + seconds, BEFORE.steady + passed)
    back = Beat(BEFORE.wall + 2 * passed, BEFORE.steady + 2 * passed)
    assert clock(BEFORE, there) == -clock(there, back)
    assert abs(clock(BEFORE, there)) in {0.0, float(abs(seconds))}


def test_a_jump_is_told_with_its_direction() -> None:
    forward, back = jumped(7200.0), jumped(-7200.0)
    assert forward.why.startswith("the clock went forward by 2 h;")
    assert back.why.startswith("the clock went back by 2 h;")
    assert (forward.rule, forward.subject, forward.level) == ("clock_jumped", "clock", Level.WARNING)


@pytest.mark.parametrize(
    ("silent", "excused", "why"),
    [
        ({}, (), ""),
        ({"scan": 120.0, "read": 119.0}, (), ""),
        ({"scan": 121.0}, (), "scan has shown no sign of life for 2 min"),
        ({"scan": 121.0}, ("scan",), ""),
        ({"scan": 121.0, "read": 300.0}, ("scan",), "read has shown no sign of life for 5 min"),
        ({"slow": 600.0}, (), ""),
        ({"slow": 601.0}, (), "slow has shown no sign of life for 10 min"),
    ],
)
def test_a_part_is_stale_past_its_limit_unless_it_is_an_incident_already(
    silent: dict[str, float], excused: tuple[str, ...], why: str
) -> None:
    assert stale(silent, {"slow": 600.0}, frozenset(excused)) == why
