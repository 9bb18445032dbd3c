import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rules.retry import LONGEST, is_full, passes, pause

FULL = "Service internal error: No space left on device (os error 28)"
TABLE = [
    # status, text, passes, is full
    (200, "", False, False),
    (301, "", False, False),
    (400, "Wrong input", False, False),
    (400, FULL, False, False),
    (401, "Must provide an API key", False, False),
    (403, "Forbidden", False, False),
    (404, "Not found", False, False),
    (408, "Timeout", True, False),
    (409, "already exists", False, False),
    (412, "", False, False),
    (422, "", False, False),
    (425, "Too Early", True, False),
    (429, "Rate limiting exceeded", True, False),
    (500, "", True, False),
    (500, "Service internal error: task was cancelled", True, False),
    (500, "os error 285)", True, False),
    (500, FULL, False, True),
    (500, FULL.upper(), False, True),
    (500, "Disk quota exceeded (os error 122)", False, True),
    (500, "Permission denied (os error 13)", False, False),
    (500, "Read-only file system (os error 30)", False, False),
    (501, "", False, False),
    (502, "<html>Bad Gateway</html>", True, False),
    (503, "all shards are not ready", True, False),
    (503, FULL, False, True),
    (504, "", True, False),
    (507, "Insufficient storage", False, True),
]


@pytest.mark.parametrize(("status", "text", "again", "full"), TABLE)
def test_what_may_pass_and_what_is_a_full_disk(status: int, text: str, *, again: bool, full: bool) -> None:
    assert (passes(status, text), is_full(status, text)) == (again, full)


@given(st.integers(100, 599), st.text() | st.just(FULL))
def test_a_full_disk_does_not_pass_by_itself(status: int, text: str) -> None:
    assert not (passes(status, text) and is_full(status, text))


def test_pauses_double_up_to_half_a_minute() -> None:
    assert [pause(attempt) for attempt in range(9)] == [0.25, 0.5, 1, 2, 4, 8, 16, LONGEST, LONGEST]


@given(st.integers(0, 10**6), st.none() | st.floats(0, 1e9))
def test_a_pause_is_what_the_server_asks_for_or_longer(attempt: int, asked: float | None) -> None:
    assert pause(attempt, asked) == max(pause(attempt), asked or 0)
    assert 0 < pause(attempt) <= LONGEST
