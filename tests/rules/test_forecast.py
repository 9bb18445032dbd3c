import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from agent.rules.forecast import DAY, Forecast, fits, forecast
from agent.rules.storage import Limits

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
BEGAN = 1_795_478_400.0  # Tue 24 Nov 2026 00:00:00 UTC
LIMITS = Limits()


class Reading(Struct, frozen=True):
    at: float
    used: int
    free: int


def readings(used: Callable[[float], float], days: float, every: float = DAY) -> list[Reading]:
    """What a location of 1 TiB shows; `used` is a share of it, by the day."""
    times = [BEGAN + number * every for number in range(int(days * DAY / every))]
    taken = [min(round(TIB * used((at - BEGAN) / DAY)), TIB) for at in times]
    return [Reading(at, one, TIB - one) for at, one in zip(times, taken, strict=True)]


def told(samples: Sequence[Reading]) -> Forecast:
    return forecast(samples, LIMITS, UTC)


def full(samples: Sequence[Reading]) -> float:
    """On which day it will be full."""
    found = told(samples).full
    assert found is not None
    return (found.at - BEGAN) / DAY


def noise(seed: int, share: float) -> Callable[[], float]:
    lot = random.Random(seed)  # noqa: S311 - figures to test with
    return lambda: lot.gauss(0, share)


@pytest.mark.parametrize("seed", range(12))
def test_a_year_of_growth_passes_each_limit_within_two_days_of_the_true_date(seed: int) -> None:
    jitter = noise(seed, 0.003)
    found = told(readings(lambda day: 0.1 + 0.65 * day / 365 + jitter(), 365))
    for share, one in ((0.8, found.warn), (0.9, found.critical), (1.0, found.full)):
        true = BEGAN + 365 * (share - 0.1) / 0.65 * DAY
        assert one is not None
        assert one.latest is not None
        assert abs(one.at - true) < 2 * DAY
        assert one.earliest <= true <= one.latest <= one.earliest + 14 * DAY


def test_fifty_thousand_readings_of_a_year_take_less_than_fifty_milliseconds() -> None:
    jitter = noise(3, 0.01)
    year = readings(lambda day: 0.1 + 0.7 * day / 365 + jitter(), 365, every=630.0)
    assert len(year) > 50_000
    took = []
    for _ in range(5):
        before = time.process_time()
        found = full(year)
        took.append(time.process_time() - before)
    assert abs(found - 365 * 0.9 / 0.7) < 2
    assert min(took) < 0.05


def test_of_ten_samples_of_noise_nothing_is_told() -> None:
    for seed in range(500):
        jitter = noise(seed, 0.05)
        found = told(readings(lambda _, jitter=jitter: 0.5 + jitter(), 10))
        assert found == Forecast(why="cannot tell: no trend is clear"), seed


@pytest.mark.parametrize(("days", "every", "words"), [(0, DAY, "0 days"), (7, DAY, "7 days"), (7, 300.0, "7 days")])
def test_of_a_week_or_less_nothing_is_told(days: int, every: float, words: str) -> None:
    found = told(readings(lambda day: 0.1 + 0.01 * day, days, every))
    assert found == Forecast(why=f"cannot tell: it was measured on {words}, and it takes 8")


def test_more_than_a_week_of_steady_growth_is_enough() -> None:
    assert full(readings(lambda day: 0.1 + 0.01 * day, 8)) == pytest.approx(90, abs=0.5)
    assert full(readings(lambda day: 0.1 + 0.01 * day, 8, every=300.0)) == pytest.approx(90, abs=0.6)


@pytest.mark.parametrize("days", [*range(8, 40), 60, 90, 120])
@pytest.mark.parametrize("phase", range(7))
def test_what_an_expiry_frees_every_week_is_no_growth(days: int, phase: int) -> None:
    jitter = noise(days, 0.002)
    sawtooth = readings(lambda day: 0.5 + 0.05 * ((day + phase) % 7) / 7 + jitter(), days)
    assert told(sawtooth).per_day is None


@pytest.mark.parametrize("days", [35, 61, 200])
@pytest.mark.parametrize("phase", range(7))
def test_growth_under_a_sawtooth_is_full_in_the_week_when_its_peak_is(days: int, phase: int) -> None:
    def used(day: float) -> float:
        return 0.3 + 0.002 * day + 0.03 * ((day + phase) % 7) / 6

    jitter = noise(days + phase, 0.0005)
    true = next(day for day in range(days, 2000) if used(day) >= 1)
    assert true - 8 < full(readings(lambda day: used(day) + jitter(), days)) < true + 1


def test_the_peak_of_each_night_is_what_makes_a_location_full() -> None:
    def used(day: float) -> float:
        return 0.3 + 0.002 * day + (0.1 if 2 <= day % 1 * 24 < 4 else 0)

    assert full(readings(used, 60, every=900.0)) == pytest.approx(300, abs=1.5)


def test_what_was_before_growth_changed_counts_no_more() -> None:
    faster = readings(lambda day: 0.1 + 0.001 * day + 0.009 * max(day - 150, 0), 210)
    assert full(faster) == pytest.approx(150 + 0.75 / 0.01, abs=3)
    stopped = readings(lambda day: 0.1 + 0.002 * min(day, 100) + 1e-4 * (day % 2), 200)
    assert told(stopped).why == "cannot tell: no trend is clear"


def test_something_large_that_came_to_stay_brings_the_day_nearer() -> None:
    jitter = noise(1, 0.001)
    samples = readings(lambda day: 0.1 + 0.002 * day + (0.2 if day >= 114 else 0) + jitter(), 120)
    assert full(samples) == pytest.approx(350, abs=5)


def test_less_and_less_in_use_is_called_shrinking() -> None:
    assert told(readings(lambda day: 0.9 - 0.001 * day, 60)).why == "cannot tell: it is shrinking"


def test_the_words_have_every_limit_with_its_range() -> None:
    jitter = noise(7, 0.001)
    samples = readings(lambda day: 0.5 + 0.005 * day + jitter(), 64)
    assert told(samples).why == (
        "grows by 5.12 GiB a day: 80 % now, 90 % around 12 Feb 2027 (11 Feb 2027 to 12 Feb 2027),"
        " full around 04 Mar 2027 (03 Mar 2027 to 04 Mar 2027)"
    )


def test_a_limit_that_is_passed_already_has_no_date() -> None:
    found = told(readings(lambda day: 0.85 + 0.001 * day, 30))
    assert found.warn is None
    assert found.critical is not None
    gone = told(readings(lambda day: 0.85 + 0.01 * day, 30))
    assert gone.full is gone.critical is None
    assert gone.why.endswith(": 80 % now, 90 % now, full now")


def test_what_is_more_than_five_years_away_has_no_date() -> None:
    found = told(readings(lambda day: 0.1 + 0.0001 * day, 60))
    assert found.full is None
    assert (
        found.why == "grows by 105 MiB a day: 80 % not within 5 years, 90 % not within 5 years, full not within 5 years"
    )


def test_a_disk_that_was_made_larger_counts_with_its_new_size() -> None:
    samples = readings(lambda day: 0.1 + 0.005 * day, 60)
    grown = [*samples[:-1], Reading(samples[-1].at, samples[-1].used, 2 * TIB - samples[-1].used)]
    assert full(grown) == pytest.approx(1.9 / 0.005, abs=1)


@given(
    st.lists(st.tuples(st.floats(0, 400), st.integers(0, TIB)), max_size=60),
    st.integers(0, TIB),
)
def test_any_readings_have_a_forecast_whose_range_holds_it(rows: list[tuple[float, int]], free: int) -> None:
    samples = [Reading(BEGAN + day * DAY, used, free) for day, used in sorted(rows)]
    found = told(samples)
    for one in (found.warn, found.critical, found.full):
        if one is not None:
            assert samples[-1].at <= one.earliest <= one.at
            assert one.latest is None or one.at <= one.latest
    assert (found.per_day is None) == found.why.startswith("cannot tell: ")


@pytest.mark.parametrize(
    ("recent", "free", "fit", "needs", "why"),
    [
        (
            [4 * GIB],
            9 * GIB,
            True,
            4 * GIB,
            "needs about 4 GiB, and 9 GiB are free: it fits, and so does 1 more like it",
        ),
        (
            [4 * GIB],
            12 * GIB,
            True,
            4 * GIB,
            "needs about 4 GiB, and 12 GiB are free: it fits, and so do 2 more like it",
        ),
        ([4 * GIB], 4 * GIB, True, 4 * GIB, "needs about 4 GiB, and 4 GiB are free: it fits, but no other after it"),
        ([4 * GIB], GIB, False, 4 * GIB, "needs about 4 GiB, and 1 GiB are free: 3 GiB too little"),
        ([GIB, 2 * GIB, 3 * GIB], 8 * GIB, True, 4 * GIB, "needs about 4 GiB, and 8 GiB are free"),
        ([9 * GIB, GIB, GIB, GIB, GIB, GIB], 5 * GIB, True, GIB, "needs about 1 GiB, and 5 GiB are free"),
        (
            [GIB, GIB, 6 * GIB, GIB, GIB],
            5 * GIB,
            False,
            6 * GIB,
            "needs about 6 GiB, and 5 GiB are free: 1 GiB too little",
        ),
        ([3 * GIB, 2 * GIB, GIB], 8 * GIB, True, 3 * GIB, "needs about 3 GiB"),
        ([0], 0, True, 0, "needs about 0 B, and 0 B are free: it fits"),
    ],
)
def test_whether_the_next_backup_fits(recent: list[int], free: int, fit: bool, needs: int, why: str) -> None:  # noqa: FBT001 - a table
    found = fits(recent, free)
    assert found is not None
    assert (found.fits, found.needs) == (fit, needs)
    assert found.why.startswith(f"the next backup {why}")


def test_without_any_backup_it_cannot_be_said_whether_one_fits() -> None:
    assert fits([], TIB) is None
