import uuid
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rules.archive import State
from agent.rules.pings import (
    BODY,
    FAIL,
    LOG,
    START,
    SUCCESS,
    Ping,
    Proof,
    heartbeat,
    is_due,
    job_of,
    next_try,
    of_run,
    proof,
    run_id,
    url,
)

CHECK = "https://hc-ping.com/5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"
SLUG = "https://hc.example.org/ping/fqOOd6-F4MMNuCEnzTU01w/snapward-daily?create=1"
RID = "728b3763-ed80-4e54-9ba8-4e5b3e5a5d21"
NOW = 1_795_485_600.0


@pytest.mark.parametrize(
    ("base", "signal", "rid", "expected"),
    [
        (CHECK, SUCCESS, "", CHECK),
        (CHECK, START, RID, f"{CHECK}/start?rid={RID}"),
        (CHECK, SUCCESS, RID, f"{CHECK}?rid={RID}"),
        (CHECK, FAIL, RID, f"{CHECK}/fail?rid={RID}"),
        (CHECK, LOG, "", f"{CHECK}/log"),
        (CHECK, "75", RID, f"{CHECK}/75?rid={RID}"),
        (f"{CHECK}/", START, "", f"{CHECK}/start"),
        (SLUG, START, RID, f"{SLUG.partition('?')[0]}/start?create=1&rid={RID}"),
        (SLUG, SUCCESS, "", SLUG),
        (f"{CHECK}?rid=old", FAIL, RID, f"{CHECK}/fail?rid={RID}"),
        ("http://[::1]:8000/ping/a/b", FAIL, "", "http://[::1]:8000/ping/a/b/fail"),
    ],
)
def test_what_is_signalled_stands_behind_the_path_of_the_check(base: str, signal: str, rid: str, expected: str) -> None:
    assert url(base, signal, rid) == expected


def test_a_run_has_one_id_and_it_is_a_uuid() -> None:
    one = run_id("db1", "backup:daily", 41, NOW)
    assert one == run_id("db1", "backup:daily", 41, NOW)
    assert str(uuid.UUID(one)) == one
    assert (uuid.UUID(one).version, uuid.UUID(one).variant) == (8, uuid.RFC_4122)


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5), st.integers(0, 99)), unique=True, max_size=20))
def test_no_two_runs_have_the_same_id(runs: list[tuple[str, str, int]]) -> None:
    named = [one for one in runs if "\0" not in one[0] + one[1]]
    assert len({run_id(host, job, run, NOW) for host, job, run in named}) == len(named)


@pytest.mark.parametrize(
    ("outcome", "exit_code", "signal"),
    [
        ("running", None, "/start"),
        ("ok", 0, ""),
        ("incomplete", 0, "/fail"),
        ("interrupted", 75, "/fail"),
        ("missed", None, "/fail"),
        ("failed", None, "/fail"),
        ("failed", 0, "/fail"),
        ("failed", 69, "/69"),
        ("failed", 3000, "/255"),
        ("failed", -9, "/137"),
    ],
)
def test_every_outcome_of_a_run_has_its_ping(outcome: str, exit_code: int | None, signal: str) -> None:
    ping = of_run(CHECK, outcome, exit_code, "3 collections written", RID)
    assert ping == Ping(f"{CHECK}{signal}?rid={RID}", b"3 collections written")


@pytest.mark.parametrize("outcome", ["skipped", "something new"])
def test_a_run_that_never_was_is_not_told(outcome: str) -> None:
    assert of_run(CHECK, outcome, None, "", RID) is None


def test_a_success_is_none_before_it_is_proved() -> None:
    assert of_run(CHECK, "ok", 0, "", RID, proved=False) is None
    assert of_run(CHECK, "failed", 2, "", RID, proved=False) is not None
    assert of_run(CHECK, "running", None, "", RID, proved=False) is not None


def test_a_start_and_its_end_have_the_same_run_id() -> None:
    rid = run_id("db1", "backup:daily", 41, NOW)
    pings = [of_run(SLUG, outcome, 0, "", rid) for outcome in ("running", "ok")]
    queries = [parse_qs(urlsplit(one.url).query) for one in pings if one]
    assert queries == [{"create": ["1"], "rid": [rid]}] * 2


@given(st.text(max_size=20), st.integers(0, 3))
def test_a_body_is_never_too_long_nor_cut_within_a_character(text: str, more: int) -> None:
    told = text + "é" * (BODY // 2 + more)
    ping = of_run(CHECK, "failed", 2, told, RID)
    assert ping is not None
    assert BODY - 4 < len(ping.body) <= BODY
    assert told.encode("utf-8", "replace").startswith(ping.body)
    assert ping.body.decode()


def test_a_job_is_called_as_the_configuration_calls_it() -> None:
    assert (job_of("backup", "daily"), job_of("report", "2026-W47")) == ("backup:daily", "report")


def test_a_watcher_that_stays_away_is_asked_less_and_less_often_and_once_an_hour_at_least() -> None:
    waits = [next_try(tries, NOW) - NOW for tries in range(12)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (30.0, 3600.0)
    assert next_try(100_000, NOW) == NOW + 3600


@pytest.mark.parametrize(("ahead", "due"), [(-1, True), (0, True), (1, False), (3600, False), (3601, True)])
def test_a_try_that_a_clock_planned_which_has_gone_back_is_due(ahead: float, due: bool) -> None:  # noqa: FBT001 - a table
    assert is_due(NOW + ahead, NOW) == due


GOOD, BAD, BARE = State.GOOD, State.CORRUPT, State.NO_CHECKSUM


@pytest.mark.parametrize(
    ("states", "after", "proved", "why"),
    [
        ([GOOD, GOOD], 0, True, ""),
        ([GOOD, BARE], 0, True, ""),
        ([GOOD, None], 3600, False, ""),
        ([GOOD, None], 3601, False, "1 archive not read back within 1 h"),
        ([GOOD, BAD, None], 0, False, "1 archive of 3 turned out bad when read back"),
        ([], 0, True, ""),
    ],
)
def test_a_backup_is_proved_by_all_of_its_archives(
    states: list[State | None],
    after: float,
    proved: bool,  # noqa: FBT001 - a table
    why: str,
) -> None:
    assert proof(states, 60.0, NOW, NOW + after) == Proof(proved, why)


def test_a_backup_that_took_long_may_take_long_to_be_read_back() -> None:
    assert proof([None], 5 * 3600.0, NOW, NOW + 10 * 3600) == Proof(proved=False)
    assert proof([None], 5 * 3600.0, NOW, NOW + 10 * 3600 + 1).why


PARTS = frozenset({"loop", "scout primary", "reader primary"})
FRESH = {"loop": 1.0, "scout primary": 60.0, "reader primary": 119.0}


def beat(
    silent: dict[str, float], *, parts: frozenset[str] = PARTS, last: float | None = None, now: float = NOW
) -> Ping | None:
    return heartbeat(CHECK, silent, parts, {"scout primary": 300.0}, last, now, 60.0)


def test_the_agent_gives_a_sign_of_life_while_all_its_parts_are_fresh() -> None:
    assert beat(FRESH) == Ping(CHECK, b"3 parts work")
    assert beat(FRESH | {"scout primary": 299.0}) is not None


@pytest.mark.parametrize(
    ("silent", "parts"),
    [
        (FRESH | {"loop": 121.0}, PARTS),
        (FRESH | {"scout primary": 301.0}, PARTS),
        (FRESH | {"scout secondary": 200.0}, PARTS),
        ({"loop": 1.0, "scout primary": 60.0}, PARTS),
        ({}, PARTS),
        ({}, frozenset()),
        (FRESH, frozenset()),
    ],
)
def test_the_agent_is_silent_when_one_part_is_or_was_never_heard_of(
    silent: dict[str, float], parts: frozenset[str]
) -> None:
    assert beat(silent, parts=parts) is None


@pytest.mark.parametrize(
    ("last", "due"),
    [(None, True), (NOW - 61, True), (NOW - 60, True), (NOW - 59, False), (NOW, False), (NOW + 9, True)],
)
def test_a_sign_of_life_comes_once_a_minute_and_a_clock_that_went_back_does_not_stop_it(
    last: float | None,
    due: bool,  # noqa: FBT001 - a table
) -> None:
    assert (beat(FRESH, last=last) is not None) == due
