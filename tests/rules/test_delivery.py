import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rules.delivery import (
    FALLBACK_AFTER,
    INTERRUPTED,
    LONGEST_PLAN,
    NO_ANSWER,
    expired,
    failing,
    given_up,
    maybe_arrived,
    next_try,
    unrendered,
)
from agent.rules.finding import Level

HOUR = 3600.0


@pytest.mark.parametrize(
    ("attempts", "wait"), [(1, 30), (2, 60), (3, 120), (4, 240), (7, 1920), (8, 3600), (9, 3600), (10**6, 3600)]
)
def test_the_wait_doubles_from_half_a_minute_to_an_hour(attempts: int, wait: float) -> None:
    assert next_try(attempts, 1000.0, 0.5) == 1000.0 + wait


@given(st.integers(0, 10**9), st.floats(0, 1), st.floats(0, 4e9))
def test_the_wait_is_spread_by_a_fifth_and_never_beyond_what_may_be_planned(
    attempts: int, jitter: float, now: float
) -> None:
    middle = next_try(attempts, 0.0, 0.5)
    wait = next_try(attempts, now, jitter) - now
    assert 0.8 * middle - 0.001 <= wait <= 1.2 * middle + 0.001
    assert 24 - 0.001 <= wait < LONGEST_PLAN


@pytest.mark.parametrize(
    ("hours", "critical", "attempts", "over"),
    [
        (23.9, False, 30, False),
        (24.1, False, 30, True),
        (24.1, True, 30, False),
        (71.9, True, 80, False),
        (72.1, True, 80, True),
        (500, True, 1, False),
        (-500, True, 80, False),
    ],
)
def test_a_message_is_given_up_when_it_is_old_and_was_tried(
    *, hours: float, critical: bool, attempts: int, over: bool
) -> None:
    assert expired(0.0, attempts, hours * HOUR, critical=critical) is over


def test_a_failing_target_is_a_warning_until_its_fallback_is_used() -> None:
    first = failing("ops-mail", "Connection refused", 1, 30.0)
    assert (first.rule, first.subject, first.level) == ("target_failing", "ops-mail", Level.WARNING)
    assert first.why == "ops-mail did not take a message: Connection refused; 1 attempt, next try in 30 s"
    third = failing("ops-mail", "Connection refused", FALLBACK_AFTER, 240.0)
    assert third.level is Level.CRITICAL
    assert third.why.endswith("3 attempts, next try in 4 min")


def test_what_is_given_up_is_as_bad_as_what_it_told_and_never_fine() -> None:
    assert given_up("ops-mail", "452 full", Level.CRITICAL, 3).level is Level.CRITICAL
    report = given_up("ops-mail", "452 full", Level.OK, 0)
    assert report.level is Level.WARNING
    assert report.why == "a message to ops-mail was given up: 452 full"
    assert "with 3 changes of incidents" in given_up("ops-mail", "452 full", Level.CRITICAL, 3).why


def test_only_an_attempt_without_an_answer_may_have_arrived() -> None:
    assert maybe_arrived(f"{NO_ANSWER} within 60 s")
    assert maybe_arrived(INTERRUPTED)
    assert not maybe_arrived("")
    assert not maybe_arrived("Connection refused")


def test_a_failing_template_says_what_became_of_the_message() -> None:
    assert "it was sent in plain words" in unrendered("alert", "KeyError: 'x'").why
    assert "it waits" in unrendered("report", "KeyError: 'x'").why
