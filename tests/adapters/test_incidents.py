import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.adapters.ledger import blank, check, connect, incidents, outbox, writing
from agent.rules.finding import Finding, Level, ok
from agent.rules.incident import Change, Policy, Turn

NOW = 1_800_000_000.0
OK, WARNING, CRITICAL = Level.OK, Level.WARNING, Level.CRITICAL
POLICY = Policy(group_wait=10.0, repeat_interval=3600.0)
HELD = Policy(hold=300.0)
WHO = {"mail": WARNING, "chat": CRITICAL}


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(blank()) as opened:
        yield opened


def see(
    db: sqlite3.Connection,
    subject: str,
    level: Level,
    at: float = NOW,
    policy: Policy = POLICY,
    who: dict[str, Level] | None = None,
) -> list[Turn]:
    finding = Finding("archive_bad", subject, level, f"{subject} is {level.word}", "Look.")
    return incidents.observe(db, [finding], at, policy, WHO if who is None else who)


def changes(turns: list[Turn]) -> list[tuple[str, Change | None]]:
    return [(turn.incident.subject if turn.incident else "", turn.change) for turn in turns]


def heard(db: sqlite3.Connection) -> list[tuple[str, str, str, float, Level, str]]:
    """(target, subject, change, at, level, why) of all that was put into the outbox, in its order."""
    return [
        (target, subject, change, at, Level(level), why)
        for target, subject, change, at, level, why in db.execute(
            "SELECT target, subject, change, at, news.level, news.why FROM news"
            " JOIN notice ON notice.id = notice JOIN incident ON incident.id = incident ORDER BY news.id"
        )
    ]


def told(db: sqlite3.Connection, target: str) -> list[tuple[str, str]]:
    return [(subject, change) for name, subject, change, *_ in heard(db) if name == target]


def test_an_incident_and_its_notices_are_written_together(db: sqlite3.Connection) -> None:
    (turn,) = see(db, "c.gz", CRITICAL)
    (incident,) = incidents.active(db)
    assert turn == Turn(incident, Change.OPENED)
    assert (incident.rule, incident.subject, incident.level) == ("archive_bad", "c.gz", CRITICAL)
    assert (incident.why, incident.hint) == ("c.gz is critical", "Look.")
    assert (incident.since, incident.opened, incident.told, incident.resolved) == (NOW, NOW, NOW, None)
    assert heard(db) == [
        ("mail", "c.gz", "opened", NOW, CRITICAL, "c.gz is critical"),
        ("chat", "c.gz", "opened", NOW, CRITICAL, "c.gz is critical"),
    ]
    assert [(one.kind, one.created, one.next_try) for one in outbox.waiting(db)] == [("alert", NOW, NOW + 10)] * 2


def test_what_is_well_and_stays_well_leaves_no_trace(db: sqlite3.Connection) -> None:
    assert see(db, "c.gz", OK) == []
    assert incidents.recent(db, 99) == []
    assert outbox.waiting(db) == []


def test_the_same_trouble_again_is_one_incident_and_no_new_message(db: sqlite3.Connection) -> None:
    see(db, "c.gz", WARNING)
    again = Finding("archive_bad", "c.gz", WARNING, "still so", "Look again.")
    assert incidents.observe(db, [again], NOW + 60, POLICY, WHO) == []
    (incident,) = incidents.active(db)
    assert (incident.why, incident.hint, incident.since) == ("still so", "Look again.", NOW)
    assert told(db, "mail") == [("c.gz", "opened")]


def test_the_same_subject_under_another_rule_is_another_incident(db: sqlite3.Connection) -> None:
    see(db, "primary", CRITICAL)
    incidents.observe(db, [Finding("storage_space", "primary", CRITICAL, "")], NOW, POLICY, WHO)
    see(db, "primary", OK)
    assert [one.rule for one in incidents.active(db)] == ["storage_space"]


def test_findings_of_one_batch_are_applied_in_their_order(db: sqlite3.Connection) -> None:
    batch = [Finding("r", "s", level, "") for level in (WARNING, CRITICAL, OK, WARNING)]
    turns = incidents.observe(db, batch, NOW, POLICY, WHO)
    assert [turn.change for turn in turns] == [Change.OPENED, Change.WORSE, Change.RESOLVED, Change.OPENED]
    assert len(incidents.recent(db, 99)) == 2


def test_the_end_is_told_to_all_who_heard_of_it_and_to_nobody_else(db: sqlite3.Connection) -> None:
    see(db, "c.gz", WARNING)
    see(db, "d.gz", CRITICAL)
    see(db, "d.gz", WARNING, NOW + 1)
    for subject in ("c.gz", "d.gz"):
        assert changes(see(db, subject, OK, NOW + 60)) == [(subject, Change.RESOLVED)]
    assert told(db, "chat") == [("d.gz", "opened"), ("d.gz", "resolved")]
    assert told(db, "mail") == [("c.gz", "opened"), ("d.gz", "opened"), ("c.gz", "resolved"), ("d.gz", "resolved")]
    assert incidents.active(db) == []


def test_a_target_that_left_the_configuration_hears_nothing_more(db: sqlite3.Connection) -> None:
    see(db, "c.gz", CRITICAL)
    see(db, "c.gz", OK, NOW + 60, who={"mail": WARNING})
    assert told(db, "chat") == [("c.gz", "opened")]
    assert told(db, "mail") == [("c.gz", "opened"), ("c.gz", "resolved")]


def test_who_heard_of_an_earlier_incident_does_not_hear_of_the_end_of_a_later_one(db: sqlite3.Connection) -> None:
    see(db, "c.gz", CRITICAL)
    see(db, "c.gz", OK, NOW + 1)
    see(db, "c.gz", WARNING, NOW + 2)
    see(db, "c.gz", OK, NOW + 3)
    assert told(db, "chat") == [("c.gz", "opened"), ("c.gz", "resolved")]


def test_better_is_written_down_and_told_to_nobody(db: sqlite3.Connection) -> None:
    see(db, "c.gz", CRITICAL)
    assert changes(see(db, "c.gz", WARNING, NOW + 60)) == [("c.gz", Change.BETTER)]
    assert [one.level for one in incidents.active(db)] == [WARNING]
    assert told(db, "mail") == [("c.gz", "opened")]
    assert changes(see(db, "c.gz", CRITICAL, NOW + 120)) == [("c.gz", Change.WORSE)]
    assert told(db, "chat") == [("c.gz", "opened"), ("c.gz", "worse")]


def test_a_message_tells_what_was_so_when_it_happened(db: sqlite3.Connection) -> None:
    see(db, "c.gz", WARNING)
    see(db, "c.gz", CRITICAL, NOW + 5)
    assert [row[2:] for row in heard(db) if row[0] == "mail"] == [
        ("opened", NOW, WARNING, "c.gz is warning"),
        ("worse", NOW + 5, CRITICAL, "c.gz is critical"),
    ]


def test_what_happens_within_the_group_wait_is_one_message(db: sqlite3.Connection) -> None:
    see(db, "c.gz", CRITICAL)
    see(db, "d.gz", CRITICAL, NOW + 9)
    assert sorted((one.target, one.created, one.next_try) for one in outbox.waiting(db)) == [
        ("chat", NOW, NOW + 10),
        ("mail", NOW, NOW + 10),
    ]


# Held back


def test_what_is_held_back_is_remembered_and_told_to_nobody_until_its_time(db: sqlite3.Connection) -> None:
    assert see(db, "c.gz", CRITICAL, policy=HELD) == []
    assert [(one.opened, one.told) for one in incidents.active(db)] == [(None, None)]
    assert incidents.active(db, held_back=True) == incidents.active(db)
    assert incidents.next_reminder(db, NOW, HELD) == NOW + 300
    assert incidents.remind(db, NOW + 299, HELD, WHO) == []
    assert outbox.waiting(db) == []
    assert changes(incidents.remind(db, NOW + 300, HELD, WHO)) == [("c.gz", Change.OPENED)]
    assert told(db, "chat") == [("c.gz", "opened")]
    assert incidents.active(db, held_back=True) == []


def test_trouble_that_stays_while_it_is_held_back_is_not_held_anew(db: sqlite3.Connection) -> None:
    see(db, "c.gz", WARNING, policy=HELD)
    see(db, "c.gz", CRITICAL, NOW + 200, HELD)
    assert [(one.level, one.since, one.opened) for one in incidents.active(db)] == [(CRITICAL, NOW, None)]
    assert changes(see(db, "c.gz", CRITICAL, NOW + 300, HELD)) == [("c.gz", Change.OPENED)]


def test_what_ends_while_it_is_held_back_was_never_an_incident(db: sqlite3.Connection) -> None:
    see(db, "c.gz", CRITICAL, policy=HELD)
    assert see(db, "c.gz", OK, NOW + 60, HELD) == []
    assert incidents.recent(db, 99) == []
    assert db.execute("SELECT count(*) FROM incident").fetchone() == (0,)
    see(db, "c.gz", CRITICAL, NOW + 299, HELD)
    assert incidents.remind(db, NOW + 300, HELD, WHO) == []


def test_a_clock_that_went_back_holds_nothing_back_and_silences_nothing(db: sqlite3.Connection) -> None:
    see(db, "held", CRITICAL, policy=HELD)
    see(db, "open", CRITICAL)
    for earlier in (NOW - 60, NOW - 0.5):
        assert incidents.remind(db, earlier, HELD, WHO) == []
        assert (incidents.next_reminder(db, earlier, HELD) or 0) > earlier
    long_ago = NOW - 10**8
    assert incidents.next_reminder(db, long_ago, HELD) == long_ago
    assert changes(incidents.remind(db, long_ago, HELD, WHO)) == [
        ("held", Change.OPENED),
        ("open", Change.REPEATED),
    ]
    assert incidents.next_reminder(db, long_ago, HELD) == long_ago + HELD.repeat_interval
    assert incidents.remind(db, long_ago, HELD, WHO) == []


def test_an_incident_told_by_a_clock_that_has_gone_back_is_due(db: sqlite3.Connection) -> None:
    see(db, "old", CRITICAL, NOW - 100)
    see(db, "new", CRITICAL, NOW)
    assert incidents.next_reminder(db, NOW - 60, POLICY) == NOW - 100 + 3600
    assert incidents.next_reminder(db, NOW - 61, POLICY) == NOW - 61
    assert changes(incidents.remind(db, NOW - 61, POLICY, WHO)) == [("new", Change.REPEATED)]


# Repeated


def test_an_open_incident_is_repeated_once_every_interval(db: sqlite3.Connection) -> None:
    see(db, "c.gz", CRITICAL)
    see(db, "d.gz", WARNING, NOW + 600)
    assert incidents.next_reminder(db, NOW + 600, POLICY) == NOW + 3600
    assert incidents.remind(db, NOW + 3599, POLICY, WHO) == []
    assert changes(incidents.remind(db, NOW + 3600, POLICY, WHO)) == [("c.gz", Change.REPEATED)]
    assert incidents.remind(db, NOW + 3601, POLICY, WHO) == []
    assert incidents.next_reminder(db, NOW + 3601, POLICY) == NOW + 4200
    assert told(db, "chat") == [("c.gz", "opened"), ("c.gz", "repeated")]
    assert changes(incidents.remind(db, NOW + 7200, POLICY, WHO)) == [
        ("c.gz", Change.REPEATED),
        ("d.gz", Change.REPEATED),
    ]


def test_nothing_is_due_when_nothing_is_open(db: sqlite3.Connection) -> None:
    assert incidents.next_reminder(db, NOW, POLICY) is None
    see(db, "c.gz", CRITICAL)
    see(db, "c.gz", OK)
    assert incidents.next_reminder(db, NOW, POLICY) is None
    assert incidents.remind(db, NOW + 10**6, POLICY, WHO) == []


@pytest.mark.parametrize("passed", [-100.0, -59.0, 0.0, 299.0, 300.0, 3599.0, 3600.0, 10**6])
def test_a_reminder_comes_exactly_when_it_is_planned(db: sqlite3.Connection, passed: float) -> None:
    policy = Policy(hold=300.0, repeat_interval=3600.0)
    see(db, "held", WARNING, policy=policy)
    see(db, "open", WARNING, policy=Policy())
    planned = incidents.next_reminder(db, NOW + passed, policy)
    assert planned is not None
    assert bool(incidents.remind(db, NOW + passed, policy, WHO)) is (planned <= NOW + passed)


# Listed


def test_the_worst_is_listed_first_then_the_oldest(db: sqlite3.Connection) -> None:
    for subject, level, at in (("a", WARNING, 1.0), ("b", CRITICAL, 3.0), ("c", CRITICAL, 2.0), ("d", CRITICAL, 2.0)):
        see(db, subject, level, at)
    assert [one.subject for one in incidents.active(db)] == ["c", "d", "b", "a"]


def test_recent_are_all_that_are_open_and_the_newest_that_are_over(db: sqlite3.Connection) -> None:
    for number in range(4):
        see(db, f"over {number}", WARNING, NOW)
        see(db, f"over {number}", OK, NOW + number)
    see(db, "open", WARNING, NOW)
    see(db, "held", WARNING, NOW, HELD)
    assert [one.subject for one in incidents.recent(db, 2)] == ["open", "held", "over 3", "over 2"]
    assert [one.subject for one in incidents.recent(db, 0)] == ["open", "held"]


def test_an_incident_belongs_to_every_span_in_which_it_was_open(db: sqlite3.Connection) -> None:
    see(db, "held", WARNING, 10.0, HELD)
    see(db, "open", WARNING, 10.0)
    see(db, "over", WARNING, 5.0)
    see(db, "over", OK, 20.0)

    def named(since: float, until: float) -> list[str]:
        return [one.subject for one in incidents.between(db, since, until)]

    assert named(0.0, 5.0) == []
    assert named(0.0, 6.0) == ["over"]
    assert named(6.0, 10.0) == ["over"]
    assert named(12.0, 13.0) == ["over", "open"]
    assert named(20.0, 30.0) == ["over", "open"]
    assert named(20.5, 30.0) == ["open"]


# All or nothing


_DIES = """
import os, signal, sys
from agent.adapters.ledger import connect, incidents, writing
from agent.rules.finding import Finding, Level
from agent.rules.incident import Policy

db = connect(sys.argv[1])
with writing(db):
    finding = Finding("archive_bad", "c.gz", Level.CRITICAL, "is truncated")
    assert incidents.observe(db, [finding], 1.0, Policy(), {"mail": Level.WARNING})
    if sys.argv[2] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("moment", "number"), [("before", 0), ("after", 1)])
def test_a_kill_leaves_the_incident_and_its_notice_or_neither(tmp_path: Path, moment: str, number: int) -> None:
    connect(str(tmp_path), create=True).close()
    died = subprocess.run(
        [sys.executable, "-c", _DIES, str(tmp_path), moment], capture_output=True, text=True, check=False
    )
    assert (died.returncode, died.stderr) == (-9, "")
    with closing(connect(str(tmp_path))) as db:
        check(db)
        assert (len(incidents.active(db)), len(outbox.waiting(db)), len(heard(db))) == (number, number, number)
        with writing(db):
            again = see(db, "c.gz", CRITICAL)
        assert len(again) == 1 - number


@pytest.mark.parametrize("statement", ["INSERT INTO incident", "INSERT INTO notice", "INSERT INTO news"])
def test_a_statement_that_fails_undoes_the_whole_turn(db: sqlite3.Connection, statement: str) -> None:
    table = statement.rpartition(" ")[2]
    db.execute(f"CREATE TEMP TRIGGER broken BEFORE INSERT ON main.{table} BEGIN SELECT raise(ABORT, 'broken'); END")
    with pytest.raises(sqlite3.IntegrityError, match="broken"), writing(db):
        see(db, "c.gz", CRITICAL)
    db.execute("DROP TRIGGER broken")
    assert incidents.active(db) == []
    assert outbox.waiting(db) == []
    assert changes(see(db, "c.gz", CRITICAL)) == [("c.gz", Change.OPENED)]


def test_there_is_never_more_than_one_open_incident_about_a_subject(db: sqlite3.Connection) -> None:
    see(db, "c.gz", CRITICAL)
    copy = (
        "INSERT INTO incident(rule, subject, level, why, hint, since) SELECT rule, subject, 1, '', '', 2 FROM incident"
    )
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        db.execute(copy)
    incidents.observe(db, [ok("archive_bad", "c.gz")], NOW, POLICY, WHO)
    db.execute(copy)
