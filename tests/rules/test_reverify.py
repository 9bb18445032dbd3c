import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.rules.finding import Level
from agent.rules.reverify import DAY, EVERY, OPENING, USUAL_SPEED, Archive, Work, finding, plan, speed

NOW = 1_795_485_600.0
GIB = 1 << 30
PACE = 100e6
HOURS = 3600.0
AMPLE = Work(24 * HOURS, 1 << 62)


def archive(key: str, days: float | None, size: int = GIB) -> Archive[str]:
    return Archive(key, size, None if days is None else NOW - days * DAY)


def test_the_oldest_is_read_first_and_what_was_never_read_before_it() -> None:
    archives = [archive("new", 1), archive("old", 40), archive("never", None), archive("older", 50)]
    assert plan(archives, PACE, AMPLE, Work(), NOW).now == ("never", "older", "old")


def test_what_is_not_due_is_left_alone() -> None:
    assert plan([archive("a", 1), archive("b", 12), archive("c", 26)], PACE, AMPLE, Work(), NOW).now == ()
    assert plan([archive("a", 1), archive("c", 27.5)], PACE, AMPLE, Work(), NOW).now == ("c",)


def test_of_many_that_were_read_on_one_day_each_day_reads_its_share() -> None:
    archives = [archive(f"{number:03}", 0) for number in range(280)]
    assert plan(archives, PACE, AMPLE, Work(), NOW).now == tuple(f"{number:03}" for number in range(10))


def test_what_was_read_today_counts_against_the_share_of_today() -> None:
    archives = [archive(f"{number:03}", 0) for number in range(280)]
    done = plan(archives, PACE, AMPLE, Work(), NOW).work
    left = [archive(f"{number:03}", 0) for number in range(10, 280)]
    assert plan(left, PACE, AMPLE, done, NOW).now == ()


@pytest.mark.parametrize(
    ("budget", "spent", "number"),
    [
        (Work(60.0, 1 << 62), Work(), 5),
        (Work(60.0, 1 << 62), Work(35.0, 0), 2),
        (Work(60.0, 1 << 62), Work(61.0, 0), 0),
        (Work(1e9, 3 * GIB), Work(), 3),
        (Work(1e9, 3 * GIB), Work(0.0, GIB), 2),
        (Work(0.0, 0), Work(), 0),
    ],
)
def test_no_more_is_read_than_the_budget_of_the_day_has_left(budget: Work, spent: Work, number: int) -> None:
    archives = [archive(str(one), 40 + one) for one in range(9, 0, -1)]
    found = plan(archives, PACE, budget, spent, NOW)
    assert len(found.now) == number
    assert found.now == tuple(str(one) for one in range(9, 9 - number, -1))


def test_an_archive_that_no_longer_fits_today_is_the_first_tomorrow() -> None:
    archives = [archive("large", 60, 5 * GIB), archive("small", 50), archive("tiny", 45, 1000)]
    budget = Work(60.0, 1 << 62)
    today = plan(archives, PACE, budget, Work(10.0, 0), NOW)
    assert today.now == ("small", "tiny")
    assert plan([archives[0], archive("small", 0), archive("tiny", 0)], PACE, budget, Work(), NOW).now == ("large",)


def test_an_archive_too_large_for_any_day_has_one_of_its_own_if_the_others_make_up_for_it() -> None:
    archives = [archive("huge", 60, 50 * GIB), archive("small", 50)]
    budget = Work(60.0, 1 << 62)
    assert plan(archives, PACE, budget, Work(), NOW).now == ("huge",)
    assert plan(archives, PACE, budget, Work(1.0, 0), NOW).now == ("small",)
    assert plan([archive("huge", 60, 900 * GIB), archive("small", 50)], PACE, budget, Work(), NOW).now == ("small",)


def test_a_budget_that_is_too_small_says_what_is_needed_and_how_seldom_it_will_be() -> None:
    archives = [archive(str(one), one % 30, 100 * GIB) for one in range(30)]
    found = plan(archives, 10e6, Work(HOURS, 10**15), Work(), NOW)
    assert not found.enough
    assert found.needs.seconds == pytest.approx(30 * (100 * GIB / 10e6 + OPENING) / 28)
    assert found.why == (
        "needs 3 h 12 min and 107 GiB a day, has 1 h and 909 TiB:"
        " each archive is read again only every 96 days, not every 30 days"
    )
    told = finding("primary", found)
    assert (told.level, told.why) == (Level.WARNING, found.why)


def test_a_budget_of_nothing_reads_nothing_ever() -> None:
    found = plan([archive("a", 3)], PACE, Work(), Work(), NOW)
    assert found.why.endswith(": each archive is read again never, not every 30 days")


def test_a_budget_that_is_enough_ends_the_finding() -> None:
    found = plan([archive("a", 3), archive("b", 20)], PACE, Work(60.0, 10 * GIB), Work(), NOW)
    assert found.enough
    assert found.why == "needs 768 ms and 73.1 MiB a day, has 60 s and 10 GiB"
    assert finding("primary", found).level is Level.OK


def test_archives_that_have_waited_for_too_long_are_told_although_the_budget_is_enough() -> None:
    found = plan([archive("a", 31), archive("b", 45), archive("c", None)], PACE, AMPLE, Work(), NOW)
    told = finding("primary", found)
    assert (found.overdue, told.level, told.rule) == (2, Level.WARNING, "reverify_behind")
    assert told.why.endswith("; 2 archives not read for longer than that")
    assert told.hint == "The oldest are read first; at this budget it will catch up by itself."


def test_without_any_archive_there_is_nothing_to_read_and_nothing_needed() -> None:
    found = plan([], PACE, Work(1.0, 1), Work(), NOW)
    assert (found.now, found.needs, found.enough) == ((), Work(0.0, 0), True)


def test_speed_is_the_middle_of_what_was_measured_with_large_files() -> None:
    readings = [Work(1.0, 100 << 20), Work(2.0, 100 << 20), Work(0.5, 100 << 20), Work(5.0, 10), Work(0.0, 1 << 40)]
    assert speed(readings) == 100 << 20
    assert speed([]) == speed([Work(9.0, 100)]) == USUAL_SPEED


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 40 * GIB), min_size=1, max_size=60),
    ages=st.lists(st.floats(0, 29), min_size=60, max_size=60),
    room=st.floats(2.0, 5.0),
)
def test_no_proof_grows_older_than_thirty_days_if_the_budget_is_twice_the_need(
    sizes: list[int], ages: list[float], room: float
) -> None:
    checked = {key: NOW - ages[key] * DAY for key in range(len(sizes))}
    costs = {key: OPENING + size / PACE for key, size in enumerate(sizes)}
    need = sum(costs.values()) / 28
    budget = Work(max(room * need, *costs.values()), 1 << 62)
    # Those that were due all at once have to be read at once: they get their first round.
    busiest = 0.0
    for day in range(90):
        now = NOW + day * DAY
        archives = [Archive(key, sizes[key], at) for key, at in checked.items()]
        found = plan(archives, PACE, budget, Work(), now)
        assert found.work.seconds <= budget.seconds
        assert found.enough
        for key in found.now:
            checked[key] = now
        if day >= 60:
            assert found.overdue == 0
            busiest = max(busiest, found.work.seconds)
    assert busiest <= budget.seconds


@given(
    st.lists(st.tuples(st.integers(0, 1 << 45), st.none() | st.floats(0, 2e9)), max_size=30),
    st.floats(1e3, 1e10),
    st.floats(0, 1e5),
    st.integers(0, 1 << 50),
)
def test_a_plan_never_costs_more_than_the_budget_but_for_one_that_is_too_large(
    rows: list[tuple[int, float | None]], pace: float, seconds: float, size: int
) -> None:
    archives = [Archive(key, one, checked) for key, (one, checked) in enumerate(rows)]
    found = plan(archives, pace, Work(seconds, size), Work(), NOW, EVERY)
    assert len(set(found.now)) == len(found.now)
    assert found.work.bytes == sum(rows[key][0] for key in found.now)
    within = found.work.seconds <= seconds and found.work.bytes <= size
    assert within or (len(found.now) == 1 and found.enough)
