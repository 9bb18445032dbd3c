import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rules.trend import median, rise, slopes, spread

FIGURES = st.floats(-1e12, 1e12)


@pytest.mark.parametrize(
    ("values", "middle"), [([3.0], 3.0), ([4.0, 2.0], 3.0), ([9.0, 1.0, 5.0], 5.0), ([1.0, 2.0, 3.0, 1e9], 2.5)]
)
def test_the_middle_of_values_is_found_whatever_their_order(values: list[float], middle: float) -> None:
    assert median(values) == middle
    assert median(reversed(values)) == middle


@given(st.lists(FIGURES, min_size=5), FIGURES, FIGURES)
def test_two_wild_values_never_move_the_middle_past_the_others(values: list[float], one: float, other: float) -> None:
    inner = sorted(values)[1:-1]
    assert min(inner) <= median([*values, one, other]) <= max(inner)


def test_the_spread_of_ordinary_noise_is_its_standard_deviation() -> None:
    noise = random.Random(5)  # noqa: S311 - figures to test with
    assert spread([noise.gauss(40, 3) for _ in range(5000)]) == pytest.approx(3, rel=0.05)


def test_values_that_are_alike_have_no_spread() -> None:
    assert spread([7.0, 7.0, 7.0, 900.0]) == 0


@pytest.mark.parametrize("wild", [0, 1, 6, 11])
def test_the_rise_of_a_line_is_its_slope_in_spite_of_a_wild_value(wild: int) -> None:
    times = [float(one) for one in range(12)]
    values = [5 + 0.5 * one for one in times]
    values[wild] = 1e6
    assert rise(times, values) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("times", [[4.0], [4.0, 4.0, 4.0]])
def test_without_any_time_between_them_values_do_not_rise(times: list[float]) -> None:
    assert rise(times, [1.0, 2.0, 9.0][: len(times)]) == 0


def test_slopes_are_those_of_pairs_within_a_group_only() -> None:
    first, second = [(0.0, 0.0), (1.0, 1.0), (2.0, 4.0)], [(0.0, 100.0), (10.0, 0.0)]
    assert slopes([first, second]) == [-10.0, 1.0, 2.0, 3.0]
    assert slopes([[(0.0, 1.0)], []]) == []
