from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.rules.archive import Signature
from agent.rules.finding import Finding, Level
from agent.rules.tamper import RATED, Action, Arrival, Event, Run, Sealed, changed, foreign, tampering, vanished

AT = 1_795_485_600.0  # Tue 24 Nov 2026 02:00:00 UTC
HOUR, DAY = 3600.0, 86_400.0
NS = 10**9
WRITTEN = round((AT - 600) * NS)
SEEN = Signature(7, 4096, WRITTEN, WRITTEN)
SHA, OTHER = "ab" * 32, "cd" * 32
SEALED = Sealed(SEEN, SHA, AT)
LATER = round((AT + HOUR) * NS)
FOLDER, NAME = "daily/20261124T020000Z", "docs.snapshot.gz"
SUBJECT = f"primary:{FOLDER}/{NAME}"


def action(kind: str, **given_: Any) -> Action:
    usual = {"location": "primary", "path": FOLDER, "began": AT + HOUR - 30, "ended": AT + HOUR + 30}
    return Action(kind=kind, **(usual | given_))


def seen(found: Signature, sha256: str = SHA, *actions: Action) -> Finding | None:
    return changed("primary", FOLDER, NAME, SEALED, found, sha256, actions)


GROWN = Signature(7, 4108, LATER, LATER)
SHRUNK = Signature(7, 95, LATER, LATER)
REWRITTEN = Signature(7, 4096, LATER, LATER)
SET_BACK = Signature(7, 4096, WRITTEN, LATER)
REPLACED = Signature(8, 4096, WRITTEN, LATER)


@pytest.mark.parametrize(
    ("found", "sha256", "how"),
    [
        (GROWN, OTHER, "12 bytes more than the 4,096"),
        (GROWN, "", "12 bytes more than the 4,096"),
        (SHRUNK, "", "4,001 bytes fewer than the 4,096"),
        (REWRITTEN, OTHER, "its size is the same; it was written to at 2026-11-24T03:00:00.000Z"),
        (SET_BACK, OTHER, "its size is the same, and somebody has set its modification time back"),
        (SEEN, OTHER, "its size and times are the same: a failing disk does that, or who writes past the file system"),
    ],
)
def test_content_that_changed_after_it_was_proved_is_critical(found: Signature, sha256: str, how: str) -> None:
    finding = seen(found, sha256)
    assert finding is not None
    assert (finding.rule, finding.subject, finding.level) == ("archive_changed", SUBJECT, Level.CRITICAL)
    assert finding.why == f"its content changed after it was proved at 2026-11-24T02:00:00.000Z: {how}"


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (REPLACED, "change time and inode"),
        (SET_BACK, "change time"),
        (REWRITTEN, "modification time and change time"),
        (Signature(7, 4096, 5, WRITTEN), "modification time"),
    ],
)
def test_a_file_that_was_touched_and_holds_the_same_is_a_warning(found: Signature, what: str) -> None:
    finding = seen(found)
    assert finding is not None
    assert finding.level is Level.WARNING
    assert finding.why.startswith(f"not its content, but its {what} changed after it was proved at ")


def test_what_looks_as_it_did_is_no_alert() -> None:
    for finding in (seen(SEEN), seen(SEEN, ""), seen(Signature(99, *SEEN[1:])), seen(Signature(99, *SEEN[1:]), "")):
        assert finding is not None
        assert finding.level is Level.OK


def test_a_file_with_other_times_has_to_be_read_before_anything_is_said() -> None:
    assert seen(SET_BACK, "") is None
    assert seen(REWRITTEN, "") is None


@pytest.mark.parametrize(
    ("found", "sha256", "done", "level"),
    [
        (GROWN, OTHER, action("repair"), Level.OK),
        (GROWN, OTHER, action("repair", path=f"{FOLDER}/{NAME}"), Level.OK),
        (GROWN, OTHER, action("backup"), Level.OK),
        (GROWN, OTHER, action("repair", ended=None), Level.OK),
        (GROWN, OTHER, action("repair", began=AT + HOUR - 30, ended=AT + HOUR - 20), Level.OK),
        (GROWN, OTHER, action("repair", began=AT, ended=AT + 60), Level.CRITICAL),
        (GROWN, OTHER, action("repair", began=AT - 3 * DAY, ended=None), Level.CRITICAL),
        (GROWN, OTHER, action("repair", location="secondary"), Level.CRITICAL),
        (GROWN, OTHER, action("repair", path="daily/2026"), Level.CRITICAL),
        (GROWN, OTHER, action("repair", path=f"{FOLDER}/other"), Level.CRITICAL),
        (GROWN, OTHER, action("permissions"), Level.CRITICAL),
        (GROWN, OTHER, action("expire"), Level.CRITICAL),
        (SEEN, OTHER, action("backup", began=AT - 900, ended=AT - 300), Level.CRITICAL),
        (SET_BACK, SHA, action("permissions"), Level.OK),
        (REPLACED, SHA, action("repair"), Level.OK),
        (SET_BACK, SHA, action("permissions", began=AT, ended=AT + 1), Level.WARNING),
    ],
)
def test_only_what_the_agent_did_itself_at_that_time_and_place_excuses_a_change(
    found: Signature, sha256: str, done: Action, level: Level
) -> None:
    finding = seen(found, sha256, done)
    assert finding is not None
    assert finding.level is level


def test_what_the_agent_was_done_with_before_it_was_proved_excuses_nothing() -> None:
    soon = Signature(SEEN.inode, SEEN.size, SEEN.mtime_ns, int((AT + 30) * 1e9))
    for ended, level in ((AT - 5, Level.CRITICAL), (AT + 5, Level.OK)):
        finding = seen(soon, OTHER, action("backup", began=AT - 60, ended=ended))
        assert finding is not None
        assert finding.level is level


def test_an_excuse_says_what_it_was() -> None:
    finding = seen(GROWN, OTHER, action("repair"))
    assert finding is not None
    assert finding.why == (f"changed by the agent itself: repair of {FOLDER} at 2026-11-24T02:59:30.000Z, for 60 s")


@pytest.mark.parametrize(
    ("done", "level"),
    [
        (None, Level.CRITICAL),
        (action("expire"), Level.OK),
        (action("expire", ended=None), Level.OK),
        (action("expire", began=AT - DAY, ended=None), Level.OK),
        (action("quarantine"), Level.OK),
        (action("quarantine", path=f"{FOLDER}/{NAME}"), Level.OK),
        (action("expire", path=FOLDER[:-1]), Level.CRITICAL),
        (action("expire", location="secondary"), Level.CRITICAL),
        (action("backup"), Level.CRITICAL),
        (action("expire", began=AT - DAY, ended=AT - DAY + 60), Level.CRITICAL),
    ],
)
def test_an_archive_that_is_gone_is_critical_unless_we_removed_it(done: Action | None, level: Level) -> None:
    finding = vanished("primary", FOLDER, NAME, SEALED, [done] if done else [])
    assert (finding.rule, finding.subject, finding.level) == ("archive_vanished", SUBJECT, level)


def test_an_archive_that_is_gone_says_when_it_was_last_proved() -> None:
    lost = vanished("primary", "", NAME, SEALED, [])
    assert lost.subject == f"primary:{NAME}"
    assert lost.why == "it was proved at 2026-11-24T02:00:00.000Z, and is gone; the agent has not removed it"


ARRIVED = Arrival("primary", FOLDER, "daily", "20261124T020000Z", AT, AT + 300)
OURS = Run("daily", AT - 1, AT + 301, "20261124T020000Z")
SHIFTED = replace(ARRIVED, started=AT + HOUR, ended=AT + HOUR + 300)


@pytest.mark.parametrize(
    ("arrival", "runs", "why"),
    [
        (ARRIVED, [OURS], ""),
        (ARRIVED, [replace(OURS, ended=None)], ""),
        (ARRIVED, [replace(OURS, backup="")], ""),
        (ARRIVED, [Run("daily", AT - DAY, AT - DAY + 300, "20261123T020000Z"), OURS], ""),
        (ARRIVED, [], "no run of ours made it from 2026-11-24T02:00:00.000Z to 2026-11-24T02:05:00.000Z"),
        (ARRIVED, [replace(OURS, tier="weekly")], "no run of ours made it from"),
        (ARRIVED, [replace(OURS, backup="", ended=AT + 60)], "no run of ours made it from"),
        (SHIFTED, [OURS], "it says that it was made from 2026-11-24T03:00:00.000Z to"),
        (SHIFTED, [OURS, Run("daily", AT + HOUR, AT + 2 * HOUR)], "it says that it was made from"),
        (replace(ARRIVED, ended=AT - 5), [OURS], "it says that it was made from"),
        (replace(ARRIVED, path="daily/20261125T020000Z"), [OURS], "its manifest is that of 20261124T020000Z"),
        (replace(ARRIVED, path="weekly/20261124T020000Z"), [OURS], "its manifest is that of a daily backup"),
        (replace(ARRIVED, started=None), [OURS], "its manifest does not say when it was made"),
        (replace(ARRIVED, started=AT - 9 * DAY, ended=AT - 9 * DAY + 5), [], ""),
    ],
)
def test_a_folder_that_came_without_a_run_is_foreign(arrival: Arrival, runs: list[Run], why: str) -> None:
    finding = foreign(arrival, runs, [], AT - 7 * DAY)
    assert (finding.rule, finding.subject) == ("archive_foreign", f"primary:{arrival.path}")
    assert finding.level is (Level.WARNING if why else Level.OK)
    assert finding.why.startswith(f"it is in the form of our backups, but {why}") or not why


def test_a_copy_that_a_repair_made_is_not_foreign() -> None:
    copy = replace(ARRIVED, location="secondary")
    assert foreign(copy, [], [action("repair", location="secondary")], 0.0).level is Level.OK
    assert foreign(copy, [], [action("repair")], 0.0).level is Level.WARNING
    assert foreign(copy, [], [action("expire", location="secondary")], 0.0).level is Level.WARNING


def events(*ages: float, rule: str = "archive_changed") -> list[Event]:
    return [Event(rule, f"primary:daily/b/{number}", AT - age) for number, age in enumerate(ages)]


@pytest.mark.parametrize(
    ("told", "archives", "level"),
    [
        ([], 100, Level.OK),
        (events(60), 1, Level.OK),
        (events(60, 120), 100, Level.OK),
        (events(60, 120, 180), 1000, Level.CRITICAL),
        (events(HOUR, 0, 60), 1000, Level.CRITICAL),
        (events(HOUR + 1, 0, 60), 1000, Level.OK),
        (events(23 * HOUR, 23.5 * HOUR, 22.9 * HOUR), 1000, Level.CRITICAL),
        (events(25 * HOUR, 25.5 * HOUR, 24.9 * HOUR), 1000, Level.OK),
        (events(5 * HOUR, 9 * HOUR), 20, Level.OK),
        (events(5 * HOUR, 9 * HOUR), 19, Level.CRITICAL),
        (events(*(HOUR * 2 * one for one in range(11))), 110, Level.OK),
        (events(*(HOUR * 2 * one for one in range(11))), 109, Level.CRITICAL),
        (events(1, 2, 3, rule="archive_bad"), 10, Level.OK),
        ([Event(rule, "primary:daily/b/x", AT - 5) for rule in sorted(RATED)], 100, Level.OK),
    ],
)
def test_three_in_an_hour_or_a_tenth_in_a_day_is_tampering(told: list[Event], archives: int, level: Level) -> None:
    finding = tampering("primary", told, archives, AT)
    assert (finding.rule, finding.subject, finding.level) == ("tampering", "primary", level)


def test_tampering_says_how_much_and_what() -> None:
    found = tampering("primary", events(60, 120, 180, 240, 300), 40, AT)
    assert found.why == (
        "5 archives or manifests were changed, taken away or added by somebody else within a day, up to 5 within an"
        " hour, among 40 archives: primary:daily/b/4, primary:daily/b/3, primary:daily/b/2 and 2 more"
    )


def test_a_hundred_thousand_events_are_judged_at_once() -> None:
    flood = [Event("archive_changed", str(number), AT - number % 3000) for number in range(100_000)]
    assert tampering("primary", flood, 100_000, AT).level is Level.CRITICAL


@given(
    st.lists(st.tuples(st.sampled_from(["repair", "backup", "expire", "quarantine"]), st.integers(0, 100)), max_size=9),
    st.integers(0, 100),
)
def test_what_the_agent_removes_and_makes_anew_alerts_nobody(steps: list[tuple[str, int]], when: int) -> None:
    done = [action(kind, began=AT + start * 60.0, ended=AT + start * 60.0 + 59) for kind, start in steps]
    moment = round((AT + when * 60.0 + 30) * NS)
    for one in done:
        if one.kind in {"repair", "backup"}:
            rewritten = Signature(9, 5000, round((one.began + 5) * NS), round((one.began + 5) * NS))
            finding = seen(rewritten, OTHER, *done)
            assert finding is not None
            assert finding.level is Level.OK
        if one.kind in {"expire", "quarantine"}:
            assert vanished("primary", FOLDER, NAME, SEALED, done).level is Level.OK
    strange = seen(Signature(9, 5000, moment, moment), OTHER, *done)
    ours = any(kind in {"repair", "backup"} and abs(start - when) <= 2 for kind, start in steps)
    assert strange is not None
    assert strange.level is Level.CRITICAL or ours
