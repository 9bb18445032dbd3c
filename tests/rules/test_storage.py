from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.rules.finding import Finding, Level, ok
from agent.rules.storage import PATROL_RULES, Limits, Patrol, Root, Space, hung, judge, level, worst

OK, WARNING, CRITICAL = Level.OK, Level.WARNING, Level.CRITICAL
LIMITS = Limits()  # 80 %, 90 %, and 2 % to clear
GIB = 1 << 30
HALF = Space(100 * GIB, 50 * GIB, 50 * GIB, 50.0, 10.0)


def patrol(root: Root | None = None, space: Space | None = HALF, probe: str = "") -> Patrol:
    return Patrol("primary", "/backups", root or Root(), space, probe)


@pytest.mark.parametrize(
    ("percent", "before", "expected"),
    [
        (79.9, OK, OK),
        (80.0, OK, WARNING),
        (89.9, OK, WARNING),
        (90.0, OK, CRITICAL),
        (78.0, WARNING, OK),
        (78.1, WARNING, WARNING),
        (89.9, WARNING, WARNING),
        (90.0, WARNING, CRITICAL),
        (88.1, CRITICAL, CRITICAL),
        (88.0, CRITICAL, WARNING),
        (78.1, CRITICAL, WARNING),
        (78.0, CRITICAL, OK),
        (100.0, CRITICAL, CRITICAL),
        (0.0, CRITICAL, OK),
    ],
)
def test_an_alert_begins_at_its_limit_and_ends_clear_below_it(percent: float, before: Level, expected: Level) -> None:
    assert level(percent, before, LIMITS) is expected


@given(
    warn=st.integers(10, 98),
    gap=st.integers(1, 20),
    clear=st.integers(1, 10),
    low=st.integers(0, 1000),
    noise=st.lists(st.floats(0, 0.999), min_size=2, max_size=30),
    before=st.sampled_from(Level),
)
def test_noise_smaller_than_clear_never_makes_an_alert_come_back(
    warn: int, gap: int, clear: int, low: int, noise: list[float], before: Level
) -> None:
    limits = Limits(float(warn), float(warn + gap), float(clear))
    levels = [before]
    for part in noise:
        levels.append(level(low / 10 + part * clear, levels[-1], limits))
    steps = [after - earlier for earlier, after in pairwise(levels) if after != earlier]
    assert all(step > 0 for step in steps) or all(step < 0 for step in steps)


@given(st.floats(0, 100), st.floats(0, 100), st.sampled_from(Level))
def test_fuller_is_never_judged_better(one: float, other: float, before: Level) -> None:
    assume(one <= other)
    assert level(one, before, LIMITS) <= level(other, before, LIMITS)


def test_a_location_in_order_ends_all_four_incidents() -> None:
    found = [(one.rule, one.subject, one.level) for one in judge(patrol(), LIMITS, {})]
    assert found == [(rule, "primary", OK) for rule in PATROL_RULES]
    assert set(PATROL_RULES) == {"location_unavailable", "location_unwritable", "storage_space", "storage_inodes"}
    assert [one.why for one in judge(patrol(), LIMITS, {})[:2]] == ["/backups is there", "a test file could be written"]


def test_a_location_that_is_not_there_says_nothing_about_its_space() -> None:
    absent = patrol(Root(trouble="is not mounted", hint="Mount it."), probe="no such place")
    assert judge(absent, LIMITS, {}) == [
        Finding("location_unavailable", "primary", CRITICAL, "/backups is not mounted", "Mount it.")
    ]


def test_a_location_whose_space_is_unknown_is_still_judged_for_the_rest() -> None:
    assert [one.rule for one in judge(patrol(space=None), LIMITS, {})] == [
        "location_unavailable",
        "location_unwritable",
    ]


@pytest.mark.parametrize(
    ("root", "probe", "why"),
    [
        (Root(read_only=True), "", "/backups is mounted read-only: no backup can be written"),
        (Root(read_only=True), "EROFS", "/backups is mounted read-only: no backup can be written"),
        (Root(), "No space left", "a test file could not be written to /backups: No space left"),
    ],
)
def test_a_location_that_takes_no_data_is_critical(root: Root, probe: str, why: str) -> None:
    found = judge(patrol(root, probe=probe), LIMITS, {})[1]
    assert (found.rule, found.subject, found.level, found.why) == ("location_unwritable", "primary", CRITICAL, why)
    assert found.hint


@pytest.mark.parametrize(
    ("rule", "place", "others"), [("storage_space", 2, "storage_inodes"), ("storage_inodes", 3, "storage_space")]
)
def test_space_and_inodes_each_remember_only_their_own_level(rule: str, place: int, others: str) -> None:
    almost = Space(100 * GIB, 79 * GIB, 21 * GIB, 79.0, 79.0)
    assert judge(patrol(space=almost), LIMITS, {rule: WARNING})[place].level is WARNING
    assert judge(patrol(space=almost), LIMITS, {others: WARNING})[place].level is OK


def test_a_full_location_is_told_with_its_figures_and_limits() -> None:
    full = Space(100 * GIB, 91 * GIB, 9 * GIB, 91.04, 95.0)
    _, _, space, inodes = judge(patrol(space=full), LIMITS, {})
    assert (space.level, inodes.level) == (CRITICAL, CRITICAL)
    assert space.why == "91.0 % of 100 GiB used, 9 GiB free (limits 80 % and 90 %)"
    assert space.hint.startswith("Free space on /backups")
    assert inodes.why.startswith("95.0 % of the inodes used")


def test_a_file_system_without_inodes_is_never_short_of_them() -> None:
    endless = Space(100 * GIB, 50 * GIB, 50 * GIB, 50.0, None)
    found = judge(patrol(space=endless), LIMITS, {"storage_inodes": CRITICAL})[3]
    assert found == ok("storage_inodes", "primary", "this file system has no inode limit")


def test_a_location_that_does_not_answer_is_critical() -> None:
    found = hung("primary", "/backups", 90.0)
    assert (found.rule, found.subject, found.level) == ("location_hung", "primary", CRITICAL)
    assert found.why == "/backups has not answered for 90 s"


def test_the_worst_finding_is_the_first_among_equals() -> None:
    findings = [Finding("r", subject, bad, "") for subject, bad in (("a", OK), ("b", CRITICAL), ("c", CRITICAL))]
    assert worst(findings).subject == "b"
