import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.adapters.ledger import connect, incidents, outbox, writing
from agent.adapters.ledger.incidents import Notice
from agent.rules.delivery import INTERRUPTED, LONGEST_PLAN
from agent.rules.finding import Finding, Level, ok
from agent.rules.incident import Change, Policy

NOW = 1_800_000_000.0
POLICY = Policy(group_wait=10.0)
MAIL = {"mail": Level.WARNING}
BOTH = {"mail": Level.WARNING, "chat": Level.WARNING}


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(str(tmp_path), create=True)) as opened:
        yield opened


def see(
    db: sqlite3.Connection, subject: str, at: float, level: Level = Level.CRITICAL, who: dict[str, Level] | None = None
) -> None:
    finding = Finding("archive_bad", subject, level, f"{subject} is truncated") if level else ok("archive_bad", subject)
    with writing(db):
        incidents.observe(db, [finding], at, POLICY, who or MAIL)


def take(db: sqlite3.Connection, at: float) -> Notice:
    with writing(db):
        notice = outbox.claim(db, at)
    assert notice is not None
    return notice


def told(db: sqlite3.Connection, notice: int) -> list[tuple[str, Change]]:
    return [(one.incident.subject, one.change) for one in outbox.news(db, notice)]


def test_a_resolve_joins_its_opening_that_still_waits(db: sqlite3.Connection) -> None:
    see(db, "a", NOW)
    see(db, "a", NOW + 1, Level.OK)
    (notice,) = outbox.waiting(db)
    assert told(db, notice.id) == [("a", Change.OPENED), ("a", Change.RESOLVED)]


def test_a_message_in_hand_gets_no_more_news(db: sqlite3.Connection) -> None:
    see(db, "a", NOW)
    taken = take(db, NOW + 10)
    see(db, "b", NOW + 11)
    assert told(db, taken.id) == [("a", Change.OPENED)]
    assert [told(db, one.id) for one in outbox.waiting(db)] == [[("a", Change.OPENED)], [("b", Change.OPENED)]]


def test_a_resolve_never_overtakes_its_opening_that_failed_meanwhile(db: sqlite3.Connection) -> None:
    see(db, "a", NOW)
    taken = take(db, NOW + 10)
    see(db, "a", NOW + 11, Level.OK)
    with writing(db):
        outbox.postponed(db, taken.id, "Connection refused", NOW + 600)
    (notice,) = outbox.waiting(db)
    assert told(db, notice.id) == [("a", Change.OPENED), ("a", Change.RESOLVED)]
    assert notice.next_try == NOW + 21


def test_what_a_dead_deliverer_had_in_hand_keeps_its_place_before_newer_news(db: sqlite3.Connection) -> None:
    see(db, "a", NOW)
    take(db, NOW + 10)
    see(db, "a", NOW + 11, Level.OK)
    with writing(db):
        assert outbox.recover(db) == 1
    (notice,) = outbox.waiting(db)
    assert told(db, notice.id) == [("a", Change.OPENED), ("a", Change.RESOLVED)]
    assert notice.error == INTERRUPTED
    assert take(db, NOW + 11).id == notice.id


def test_a_postponed_report_joins_nothing(db: sqlite3.Connection) -> None:
    with writing(db):
        report = outbox.enqueue(db, "mail", "report", "2026-W47", NOW)
    assert take(db, NOW).id == report
    see(db, "a", NOW + 1)
    with writing(db):
        outbox.postponed(db, report or 0, "Connection refused", NOW + 30)
    assert [one.kind for one in outbox.waiting(db)] == ["report", "alert"]


def test_two_reports_stay_two(db: sqlite3.Connection) -> None:
    with writing(db):
        first = outbox.enqueue(db, "mail", "report", "2026-W46", NOW)
        outbox.enqueue(db, "mail", "report", "2026-W47", NOW + 1)
    assert take(db, NOW).id == first
    with writing(db):
        outbox.postponed(db, first or 0, "Connection refused", NOW + 30)
    assert [one.body for one in outbox.waiting(db)] == ["2026-W46", "2026-W47"]


def test_fresh_messages_go_before_those_of_a_target_that_did_not_answer(db: sqlite3.Connection) -> None:
    see(db, "a", NOW)
    hung = take(db, NOW + 10)
    with writing(db):
        outbox.postponed(db, hung.id, "no answer", NOW + 40)
    see(db, "b", NOW + 35, who={"chat": Level.WARNING})
    assert take(db, NOW + 50).target == "chat"
    assert take(db, NOW + 50).target == "mail"


def test_the_fallback_is_told_once_and_only_what_it_has_not_been_told(db: sqlite3.Connection) -> None:
    see(db, "a", NOW, who=BOTH)
    see(db, "b", NOW)
    mail = next(one for one in outbox.waiting(db) if one.target == "mail")
    with writing(db):
        outbox.send_to_fallback(db, mail, "chat", NOW + 100)
        outbox.send_to_fallback(db, mail, "chat", NOW + 200)
    (chat,) = (one for one in outbox.waiting(db) if one.target == "chat")
    assert told(db, chat.id) == [("a", Change.OPENED), ("b", Change.OPENED)]


def test_what_happens_while_a_target_is_down_reaches_its_fallback_too(db: sqlite3.Connection) -> None:
    see(db, "a", NOW)
    mail = take(db, NOW + 10)
    with writing(db):
        outbox.postponed(db, mail.id, "Connection refused", NOW + 40)
        outbox.send_to_fallback(db, mail, "chat", NOW + 10)
    copy = next(one for one in outbox.waiting(db) if one.target == "chat")
    assert copy.fallback_of == mail.id
    with writing(db):
        outbox.delivered(db, copy.id, NOW + 11)
    see(db, "b", NOW + 20)
    with writing(db):
        outbox.send_to_fallback(db, mail, "chat", NOW + 50)
    (second,) = (one for one in outbox.waiting(db) if one.target == "chat")
    assert told(db, second.id) == [("b", Change.OPENED)]


def test_a_report_goes_to_the_fallback_once(db: sqlite3.Connection) -> None:
    with writing(db):
        outbox.enqueue(db, "mail", "report", "2026-W47", NOW)
    report = take(db, NOW)
    with writing(db):
        outbox.send_to_fallback(db, report, "chat", NOW)
        outbox.send_to_fallback(db, report, "chat", NOW)
    assert [(one.target, one.body) for one in outbox.waiting(db)] == [("mail", "2026-W47"), ("chat", "2026-W47")]


def test_a_report_that_the_fallback_gets_anyway_is_not_sent_there_twice(db: sqlite3.Connection) -> None:
    with writing(db):
        outbox.enqueue(db, "mail", "report", "2026-W47", NOW)
        outbox.enqueue(db, "chat", "report", "2026-W47", NOW)
    report = take(db, NOW)
    with writing(db):
        outbox.send_to_fallback(db, report, "chat", NOW)
    assert len(outbox.waiting(db)) == 2


def test_a_target_that_left_the_configuration_is_not_told_of_the_end(db: sqlite3.Connection) -> None:
    see(db, "a", NOW, who=BOTH)
    see(db, "a", NOW + 1, Level.OK, who=MAIL)
    ends = {one.target: told(db, one.id)[-1][1] for one in outbox.waiting(db)}
    assert ends == {"mail": Change.RESOLVED, "chat": Change.OPENED}


def test_a_clock_that_went_back_does_not_hold_messages_back(db: sqlite3.Connection) -> None:
    see(db, "a", NOW)
    before = NOW - 86400
    assert outbox.next_due(db, before) == before
    assert outbox.next_due(db, NOW) == NOW + 10
    assert outbox.next_due(db, NOW + 10 - LONGEST_PLAN) == NOW + 10
    assert take(db, before).attempts == 1


def test_nothing_is_due_in_an_empty_outbox(db: sqlite3.Connection) -> None:
    assert outbox.next_due(db, NOW) is None
    with writing(db):
        assert outbox.claim(db, NOW) is None
