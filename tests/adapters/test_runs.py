import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.adapters.ledger import blank, catalogue, connect, incidents, outbox, runs
from agent.adapters.ledger.runs import Pulse, Run, Sample
from agent.rules.archive import Reading, Signature, State, Verdict
from agent.rules.finding import Finding, Level, ok
from agent.rules.incident import Policy

NOW = 1_800_000_000.0
DAY = 86_400.0


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(blank()) as opened:
        yield opened


def sample(location: str, at: float, used: float = 50.0) -> Sample:
    return Sample(location, at, 100, 50, 40, used, None, "ok", "half full")


def test_a_run_is_noted_when_it_begins_and_when_it_ends(db: sqlite3.Connection) -> None:
    run = runs.begin(db, "backup", "daily", NOW - 5, NOW)
    begun = Run(
        run, "backup", "daily", NOW - 5, os.getpid(), runs.life(), NOW, None, "running", None, "", {}, ""
    )  # fmt: skip
    assert runs.between(db, NOW, NOW + 1) == [begun]
    other = runs.begin(db, "backup", "daily", None, NOW + 1)
    runs.end(db, run, "failed", NOW + 9, why="no space", exit_code=73, figures={"raw_bytes": 7}, output="full")
    assert runs.between(db, NOW, NOW + 1) == [
        Run(
            run, "backup", "daily", NOW - 5, os.getpid(), runs.life(), NOW, NOW + 9, "failed", 73, "no space",
            {"raw_bytes": 7}, "full",
        )
    ]  # fmt: skip
    assert [one.id for one in runs.running(db)] == [other]


def test_a_run_that_ends_without_a_word_has_no_figures(db: sqlite3.Connection) -> None:
    run = runs.begin(db, "report", "", None, NOW)
    runs.end(db, run, "ok", NOW)
    (ended,) = runs.between(db, NOW, NOW + 1)
    assert (ended.outcome, ended.why, ended.exit_code, ended.figures, ended.output) == ("ok", "", None, {}, "")


def test_a_run_that_never_began_is_over_when_it_is_noted(db: sqlite3.Connection) -> None:
    runs.note(db, "backup", "daily", NOW - 60, "missed", "the machine was off", NOW)
    (noted,) = runs.between(db, 0.0, NOW + 1)
    assert (noted.slot, noted.pid, noted.started, noted.ended) == (NOW - 60, None, NOW, NOW)
    assert (noted.outcome, noted.why) == ("missed", "the machine was off")
    assert runs.orphans(db) == runs.running(db) == []


def test_a_run_whose_process_was_killed_is_an_orphan_and_no_other(tmp_path: Path) -> None:
    script = (
        "import sys; from agent.adapters.ledger import connect, runs\n"
        "db = connect(sys.argv[1]); print(runs.begin(db, 'backup', 'daily', None, 1.0), flush=True); sys.stdin.read()"
    )
    with closing(connect(str(tmp_path), create=True)) as db:
        ours = runs.begin(db, "backup", "weekly", None, NOW)
        with subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            theirs = int(child.stdout.readline())
            assert runs.orphans(db) == []
            assert [one.id for one in runs.running(db)] == [ours, theirs]
            child.kill()
        assert [one.id for one in runs.orphans(db)] == [theirs]
        assert [one.id for one in runs.running(db)] == [ours]
        runs.end(db, theirs, "interrupted", NOW)
        assert runs.orphans(db) == []


def test_a_run_of_an_earlier_boot_is_an_orphan_whoever_has_its_pid_now(db: sqlite3.Connection) -> None:
    run = runs.begin(db, "backup", "daily", None, NOW)
    db.execute("UPDATE run SET boot = 'an earlier one'")
    assert [one.id for one in runs.orphans(db)] == [run]
    assert runs.running(db) == []


def test_a_running_run_without_a_process_is_an_orphan(db: sqlite3.Connection) -> None:
    runs.begin(db, "backup", "daily", None, NOW)
    db.execute("UPDATE run SET pid = NULL")
    assert len(runs.orphans(db)) == 1


def test_a_process_of_somebody_else_is_alive(db: sqlite3.Connection) -> None:
    runs.begin(db, "backup", "daily", None, NOW)
    db.execute("UPDATE run SET pid = 1, boot = ?", (runs.life(1),))
    assert runs.orphans(db) == []


def test_a_process_that_has_the_pid_of_one_that_died_is_not_taken_for_it(db: sqlite3.Connection) -> None:
    run = runs.begin(db, "backup", "daily", None, NOW)
    db.execute("UPDATE run SET pid = 1")
    assert [one.id for one in runs.orphans(db)] == [run]


def test_runs_are_told_of_a_time_span_without_its_end_oldest_first(db: sqlite3.Connection) -> None:
    for at in (3.0, 1.0, 2.0, 4.0):
        runs.note(db, "report", "", None, "missed", "", at)
    assert [one.started for one in runs.between(db, 1.0, 4.0)] == [1.0, 2.0, 3.0]


def test_the_latest_run_is_the_newest_of_its_job_that_ended(db: sqlite3.Connection) -> None:
    assert runs.latest(db, "backup", "daily") is None
    for subject, outcome in (("daily", "failed"), ("daily", "ok"), ("weekly", "failed")):
        runs.end(db, runs.begin(db, "backup", subject, None, NOW), outcome, NOW)
    runs.note(db, "report", "daily", None, "missed", "", NOW)
    runs.begin(db, "backup", "daily", None, NOW)
    latest = runs.latest(db, "backup", "daily")
    assert latest is not None
    assert latest.outcome == "ok"


def test_a_slot_that_was_taken_stays_taken(db: sqlite3.Connection) -> None:
    assert runs.last_slot(db, "report") is None
    runs.take_slot(db, "report", NOW)
    runs.take_slot(db, "backup:daily", NOW + 1)
    runs.take_slot(db, "report", NOW + 7 * DAY)
    assert runs.last_slot(db, "report") == NOW + 7 * DAY
    assert runs.last_slot(db, "backup:daily") == NOW + 1


def test_the_newest_slot_is_told_of_which_it_is_on_record_what_became_of_it(db: sqlite3.Connection) -> None:
    runs.begin(db, "backup", "daily", NOW, NOW + 1)
    runs.note(db, "backup", "daily", NOW - DAY, "missed", "the machine was off", NOW + 1)
    runs.begin(db, "backup", "monthly", None, NOW)
    assert runs.settled(db, "backup", "daily", NOW - DAY - 1) is None
    assert runs.settled(db, "backup", "daily", NOW - 1) == NOW - DAY
    assert runs.settled(db, "backup", "daily", NOW) == NOW
    assert runs.settled(db, "backup", "daily", NOW + DAY) == NOW
    assert runs.settled(db, "backup", "monthly", NOW + DAY) is None
    assert runs.settled(db, "report", "daily", NOW + DAY) is None


def test_the_last_pulse_of_every_part_is_kept(db: sqlite3.Connection) -> None:
    runs.beat(db, [Pulse("agent", NOW, "idle"), Pulse("scan:primary", NOW, "scanned")])
    runs.beat(db, [Pulse("agent", NOW + 1, "backup")])
    assert runs.pulses(db) == {
        "agent": Pulse("agent", NOW + 1, "backup"),
        "scan:primary": Pulse("scan:primary", NOW, "scanned"),
    }


def test_readings_of_a_location_are_kept_in_their_order(db: sqlite3.Connection) -> None:
    assert runs.last_sample(db, "primary") is None
    for at in (3.0, 1.0, 2.0):
        runs.add_sample(db, sample("primary", at))
    runs.add_sample(db, sample("secondary", 9.0))
    runs.add_sample(db, sample("primary", 3.0, used=60.0))
    assert runs.last_sample(db, "primary") == sample("primary", 3.0, used=60.0)
    assert runs.samples(db, "primary", 1.0, 3.0) == [sample("primary", 1.0), sample("primary", 2.0)]


def alert(db: sqlite3.Connection, subject: str, at: float, *, over: bool, arrived: bool) -> None:
    """One incident, told to one target in a message of its own."""
    name = f"{subject} {at}"
    policy, who = Policy(), {f"mail about {name}": Level.WARNING}
    incidents.observe(db, [Finding("r", name, Level.WARNING, "")], at, policy, who)
    if over:
        incidents.observe(db, [ok("r", name)], at, policy, who)
    if arrived:
        for notice in outbox.waiting(db):
            if notice.target in who:
                outbox.delivered(db, notice.id, at)


def test_what_is_too_old_is_forgotten_and_what_is_open_or_on_its_way_is_not(db: sqlite3.Connection) -> None:
    old, new = NOW - 8 * DAY, NOW - 7 * DAY
    key = catalogue.Key("primary", "daily/x", "c.gz")
    for at in (old, new):
        runs.add_sample(db, sample("primary", at))
        catalogue.record(db, key, Signature(1, 2, 3, 4), Reading(2), Verdict(State.GOOD, "intact", ""), at)
        runs.end(db, runs.begin(db, "backup", "daily", None, at), "ok", at)
        runs.begin(db, "backup", "weekly", None, at)
        alert(db, "over", at, over=True, arrived=True)
        alert(db, "open", at, over=False, arrived=True)
        alert(db, "late", at, over=False, arrived=False)
        for kind in ("report", "test"):
            notice = outbox.enqueue(db, "mail", kind, f"{kind} of {at}", at)
            assert notice is not None
            outbox.delivered(db, notice, at)

    runs.trim(db, new)

    assert [one.at for one in runs.samples(db, "primary", 0, NOW)] == [new]
    assert [at for _, at, *_ in catalogue.verdicts(db, 0, NOW)] == [new]
    assert catalogue.archive(db, key) is not None
    assert [(one.started, one.outcome) for one in runs.between(db, 0, NOW)] == [
        (old, "running"),
        (new, "ok"),
        (new, "running"),
    ]
    known = {f"{name} {at}" for name in ("over", "open", "late") for at in (old, new)} - {f"over {old}"}
    assert {one.subject for one in incidents.recent(db, 99)} == known
    kept = sorted(one.kind for one in outbox.between(db, 0, NOW) if one.created == old)
    assert kept == ["alert", "alert", "report"]
    assert len([one for one in outbox.between(db, 0, NOW) if one.created == new]) == 5
    assert len(outbox.waiting(db)) == 2
    assert db.execute("SELECT count(*) FROM news").fetchone() == (6,)
    assert db.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_message_is_kept_as_long_as_its_copy_to_another_target(db: sqlite3.Connection) -> None:
    first = outbox.enqueue(db, "mail", "test", "", NOW)
    (notice,) = outbox.waiting(db)
    outbox.send_to_fallback(db, notice, "chat", NOW + DAY)
    outbox.delivered(db, notice.id, NOW)
    runs.trim(db, NOW + 1)
    assert [one.fallback_of for one in outbox.between(db, 0, NOW + 2 * DAY)] == [None, first]
    assert db.execute("PRAGMA foreign_key_check").fetchall() == []
