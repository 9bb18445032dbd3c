import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from standins import Mailbox, Sink, Slack

from agent.adapters.ledger import connect, incidents, outbox, writing
from agent.adapters.ledger.incidents import News, Notice
from agent.adapters.notify import Sent, send
from agent.jobs.deliver import Tally, Target, deliver
from agent.rules.finding import Finding, Level, ok
from agent.rules.incident import Incident, Policy
from agent.rules.message import Message

# Loading all of apprise's plugins loads what some of them use.
pytestmark = pytest.mark.filterwarnings("ignore:.imghdr. is deprecated:DeprecationWarning")

NOW = 1_800_000_000.0
POLICY = Policy(group_wait=10.0)


def told(notice: Notice, news: list[News]) -> Message:
    text = ", ".join(f"{one.incident.rule} {one.incident.subject} {one.change}" for one in news) or notice.kind
    return Message("title", text, text)


class World:
    """A ledger, a clock and targets that take what they are sent unless they are in `down`."""

    def __init__(self, folder: Path, *targets: str, fallback: dict[str, str] | None = None) -> None:
        self.db = connect(str(folder), create=True)
        self.now = NOW
        self.targets = {name: Target(f"test://{name}", Level.WARNING, (fallback or {}).get(name)) for name in targets}
        self.down: dict[str, str] = {}
        self.got: dict[str, list[Message]] = {name: [] for name in targets}

    @property
    def severities(self) -> dict[str, Level]:
        return {name: target.severity for name, target in self.targets.items()}

    def see(self, *subjects: str, level: Level = Level.CRITICAL) -> None:
        make = partial(Finding, "archive_bad", level=level, why="truncated") if level else partial(ok, "archive_bad")
        with writing(self.db):
            incidents.observe(self.db, [make(subject=one) for one in subjects], self.now, POLICY, self.severities)

    def tick(self) -> float:
        self.now += 0.001
        return self.now

    def send(self, url: str, message: Message) -> Sent:
        name = url.removeprefix("test://")
        if name in self.down:
            return Sent(False, self.down[name])
        self.got[name].append(message)
        return Sent(ok=True)

    def deliver(self, only: int | None = None, render: Callable[[Notice, list[News]], Message] = told) -> Tally:
        self.now += POLICY.group_wait
        return deliver(self.db, self.targets, render, self.send, self.tick, POLICY, self.severities, only=only)

    def rounds(self, count: int) -> list[Tally]:
        """Deliver whenever something is due, so many times."""
        done = []
        for _ in range(count):
            self.now = max(self.now, outbox.next_due(self.db, self.now) or self.now)
            done.append(self.deliver())
        return done

    def open(self) -> dict[tuple[str, str], Incident]:
        return {(one.rule, one.subject): one for one in incidents.active(self.db)}

    def texts(self, name: str) -> list[str]:
        return [message.text for message in self.got[name]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, "mail")
    with closing(world.db):
        yield world


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, "chat", "mail")  # in this order
    with closing(world.db):
        yield world


@pytest.fixture
def backed(tmp_path: Path) -> Iterator[World]:
    """Mail with the chat as its fallback; of itself the chat hears nothing but what is critical."""
    world = World(tmp_path, "mail", "chat", fallback={"mail": "chat"})
    world.targets["chat"] = Target("test://chat", Level.CRITICAL)
    with closing(world.db):
        yield world


def test_everything_due_is_sent_once(pair: World) -> None:
    pair.see("a", "b")
    assert pair.deliver() == Tally(delivered=2)
    assert pair.deliver() == Tally()
    assert pair.texts("mail") == pair.texts("chat") == ["archive_bad a opened, archive_bad b opened"]


def test_what_is_not_due_yet_waits(mail: World) -> None:
    with writing(mail.db):
        outbox.enqueue(mail.db, "mail", "report", "2026-W47", NOW + 60)
    assert mail.deliver() == Tally()


def test_only_one_message_is_sent_on_request_due_or_not(mail: World) -> None:
    mail.see("a")
    with writing(mail.db):
        wanted = outbox.enqueue(mail.db, "mail", "test", "", NOW + 60)
    assert mail.deliver(only=wanted) == Tally(delivered=1)
    assert mail.texts("mail") == ["test"]
    assert len(outbox.waiting(mail.db)) == 1


def test_one_message_on_request_is_tried_once(mail: World) -> None:
    mail.down = {"mail": "Connection refused"}
    with writing(mail.db):
        wanted = outbox.enqueue(mail.db, "mail", "test", "", NOW)
    assert mail.deliver(only=wanted) == Tally(postponed=1)


def test_a_failing_target_is_retried_and_the_others_hear_of_it(pair: World) -> None:
    pair.down = {"mail": "Connection refused"}
    pair.see("a")
    assert pair.deliver() == Tally(delivered=1, postponed=1)
    failing = pair.open()["target_failing", "mail"]
    assert failing.level is Level.WARNING
    assert failing.why.startswith("mail did not take a message: Connection refused; 1 attempt, next try in ")
    assert failing.opened is None, "one refused connection is nothing to tell of yet"
    assert pair.rounds(2) == [Tally(postponed=1), Tally(postponed=1)]
    assert pair.open()["target_failing", "mail"].opened is not None
    assert pair.deliver() == Tally(delivered=1)
    assert pair.texts("chat") == ["archive_bad a opened", "target_failing mail opened"]
    pair.down = {}
    assert pair.rounds(2) == [Tally(delivered=1), Tally(delivered=1)]
    assert pair.texts("mail") == ["archive_bad a opened"]
    assert pair.texts("chat")[2:] == ["target_failing mail resolved"]
    assert ("target_failing", "mail") not in pair.open()


def test_no_message_is_tried_twice_in_one_call_whatever_the_clock_does(mail: World) -> None:
    mail.down = {"mail": "Connection refused"}
    mail.see("a")
    clock = iter(range(int(NOW), 0, -86400))  # it goes back a day each time it is looked at
    result = deliver(mail.db, mail.targets, told, mail.send, lambda: float(next(clock)), POLICY, mail.severities)
    assert result == Tally(postponed=1)


def test_a_resolve_arrives_with_its_opening_after_an_outage(mail: World) -> None:
    mail.down = {"mail": "Connection refused"}
    mail.see("a")
    mail.deliver()
    mail.see("a", level=Level.OK)
    mail.down = {}
    mail.rounds(2)
    assert mail.texts("mail") == ["archive_bad a opened, archive_bad a resolved"]


def test_a_target_that_stays_down_becomes_critical_and_its_fallback_is_used_once(backed: World) -> None:
    backed.down = {"mail": "Connection refused"}
    backed.see("a", level=Level.WARNING)
    backed.rounds(2)
    assert backed.texts("chat") == []
    backed.rounds(4)
    failing = backed.open()["target_failing", "mail"]
    assert failing.level is Level.CRITICAL
    assert sum("archive_bad a opened" in text for text in backed.texts("chat")) == 1
    assert sum("target_failing mail opened" in text for text in backed.texts("chat")) == 1
    backed.see("b", level=Level.WARNING)
    backed.rounds(2)
    assert sum("archive_bad b opened" in text for text in backed.texts("chat")) == 1


def test_a_test_message_never_goes_to_the_fallback(backed: World) -> None:
    backed.down = {"mail": "Connection refused"}
    with writing(backed.db):
        outbox.enqueue(backed.db, "mail", "test", "", NOW)
    backed.rounds(5)
    assert "test" not in backed.texts("chat")


def test_a_smaller_message_does_not_make_a_critical_target_look_better(mail: World) -> None:
    mail.down = {"mail": "Connection refused"}
    mail.see("a")
    mail.rounds(3)
    assert mail.open()["target_failing", "mail"].level is Level.CRITICAL
    with writing(mail.db):
        outbox.enqueue(mail.db, "mail", "report", "2026-W47", mail.now)
    mail.deliver()
    assert mail.open()["target_failing", "mail"].level is Level.CRITICAL


def test_a_message_to_a_target_that_is_gone_is_dropped_aloud(pair: World) -> None:
    pair.see("a")
    del pair.targets["mail"]
    assert pair.deliver() == Tally(delivered=1, dropped=1)
    lost = pair.open()["message_dropped", "mail"]
    assert (
        lost.why
        == "a message to mail with 1 change of incidents was given up: the configuration no longer names this target"
    )
    pair.deliver()
    assert pair.texts("chat")[1] == "message_dropped mail opened, message_dropped mail resolved"
    assert pair.open().keys() == {("archive_bad", "a")}


def test_a_target_that_failed_and_is_gone_is_no_longer_failing(pair: World) -> None:
    pair.down = {"mail": "Connection refused"}
    pair.see("a")
    pair.deliver()
    del pair.targets["mail"]
    pair.deliver()
    assert ("target_failing", "mail") not in pair.open()


def test_an_old_message_is_given_up_aloud_and_its_own_target_hears_of_it_later(mail: World) -> None:
    mail.down = {"mail": "Connection refused"}
    mail.see("a")
    mail.see("a", level=Level.OK)
    while not (dropped := mail.rounds(1)[0].dropped):
        assert mail.now < NOW + 80 * 3600
    assert dropped == 1
    assert mail.now > NOW + 72 * 3600
    lost = mail.open()["message_dropped", "mail"]
    assert lost.level is Level.CRITICAL
    assert "with 2 changes of incidents was given up: Connection refused" in lost.why
    mail.down = {}
    mail.rounds(2)
    assert mail.texts("mail") == ["message_dropped mail opened", "message_dropped mail resolved"]
    assert mail.open() == {}


def test_a_report_outlives_a_weekend_without_mail(mail: World) -> None:
    mail.down = {"mail": "Connection refused"}
    with writing(mail.db):
        outbox.enqueue(mail.db, "mail", "report", "2026-W47", NOW)
    while mail.now < NOW + 60 * 3600:
        assert mail.rounds(1) == [Tally(postponed=1)]
    mail.down = {}
    mail.rounds(1)
    assert mail.texts("mail") == ["report"]


def test_a_message_that_still_gets_news_is_never_too_old(mail: World) -> None:
    mail.down = {"mail": "Connection refused"}
    mail.see("a")
    mail.rounds(12)
    mail.now = NOW + 100 * 3600
    mail.see("b")
    assert mail.rounds(1) == [Tally(postponed=1)]
    mail.down = {}
    mail.rounds(1)
    assert mail.texts("mail") == ["archive_bad a opened, archive_bad b opened"]


def test_news_that_comes_while_an_old_message_is_sent_keeps_it(mail: World) -> None:
    mail.down = {"mail": "Connection refused"}
    mail.see("a")
    mail.rounds(12)
    mail.now = NOW + 100 * 3600

    def fails_while_more_happens(_url: str, _message: Message) -> Sent:
        mail.see("b")
        return Sent(False, "Connection refused")

    tally = deliver(mail.db, mail.targets, told, fails_while_more_happens, mail.tick, POLICY, mail.severities)
    assert tally == Tally(postponed=1)
    mail.down = {}
    mail.rounds(1)
    assert mail.texts("mail") == ["archive_bad a opened, archive_bad b opened"]


def test_an_old_message_is_tried_before_it_is_given_up(mail: World) -> None:
    mail.see("a")
    mail.now = NOW + 30 * 86400
    assert mail.deliver() == Tally(delivered=1)


def test_an_alert_whose_template_fails_is_sent_in_plain_words(pair: World) -> None:
    def broken(notice: Notice, news: list[News]) -> Message:
        if notice.target == "mail":
            raise KeyError("host")
        return told(notice, news)

    pair.see("docs <!channel>")
    assert pair.deliver(render=broken) == Tally(delivered=2)
    (message,) = pair.got["mail"]
    assert "critical, opened: docs <!channel>: truncated" in message.text
    assert "<" not in message.chat
    assert message.level is Level.CRITICAL
    assert pair.texts("chat") == ["archive_bad docs <!channel> opened"]


def test_a_failing_template_is_a_finding_that_ends_when_it_works_again(mail: World) -> None:
    def broken(_notice: Notice, _news: list[News]) -> Message:
        raise KeyError("host")

    mail.see("a")
    mail.deliver(render=broken)
    assert "KeyError: 'host'" in mail.open()["render_failed", "alert"].why
    mail.see("b")
    mail.deliver()
    assert ("render_failed", "alert") not in mail.open()


@pytest.mark.parametrize("word", ["opened", "resolved"])
def test_a_template_that_fails_for_some_messages_only_does_not_talk_for_ever(mail: World, word: str) -> None:
    def broken(notice: Notice, news: list[News]) -> Message:
        if any(one.change == word for one in news):
            raise KeyError("host")
        return told(notice, news)

    mail.see("a")
    mail.deliver(render=broken)
    mail.see("a", level=Level.OK)
    for _ in range(20):
        mail.deliver(render=broken)
    assert 2 <= len(mail.got["mail"]) < 6
    assert outbox.waiting(mail.db) == []


def test_a_report_whose_template_fails_waits_and_holds_up_nothing(mail: World) -> None:
    def broken(notice: Notice, news: list[News]) -> Message:
        if notice.kind == "report":
            raise KeyError("weeks")
        return told(notice, news)

    with writing(mail.db):
        outbox.enqueue(mail.db, "mail", "report", "2026-W47", NOW - 1)
    mail.see("a")
    assert mail.deliver(render=broken) == Tally(delivered=1, postponed=1)
    assert mail.open().keys() == {("archive_bad", "a"), ("render_failed", "report")}
    mail.rounds(2)
    assert "report" in mail.texts("mail")
    assert ("render_failed", "report") not in mail.open()


def test_a_message_that_may_have_arrived_says_so_when_it_is_repeated(mail: World) -> None:
    mail.down = {"mail": "no answer within 60 s"}
    mail.see("a")
    mail.deliver()
    mail.down = {}
    mail.rounds(1)
    assert [one.title for one in mail.got["mail"]] == ["title (may be a repeat)"]


def test_a_message_that_was_refused_is_no_repeat(mail: World) -> None:
    mail.down = {"mail": "Connection refused"}
    mail.see("a")
    mail.deliver()
    mail.down = {}
    mail.rounds(1)
    assert [one.title for one in mail.got["mail"]] == ["title"]


# --- with the real way out


def real(db: sqlite3.Connection, now: float, **urls: str) -> Tally:
    targets = {name: Target(url, Level.WARNING) for name, url in urls.items()}
    severities = dict.fromkeys(urls, Level.WARNING)
    quick = partial(send, timeout=1.0)
    return deliver(db, targets, told, quick, lambda: now, POLICY, severities)


def raise_alert(db: sqlite3.Connection, *names: str) -> None:
    with writing(db):
        finding = Finding("archive_bad", "docs.snapshot.gz", Level.CRITICAL, "truncated")
        incidents.observe(db, [finding], NOW - POLICY.group_wait, POLICY, dict.fromkeys(names, Level.WARNING))


def test_a_mail_that_found_no_server_arrives_once_when_there_is_one(smtp_server: Mailbox, folder: Path) -> None:
    with closing(connect(str(folder), create=True)) as db:
        raise_alert(db, "mail")
        smtp_server.stop()
        assert real(db, NOW, mail=smtp_server.url()) == Tally(postponed=1)
        assert outbox.waiting(db)[0].error == "Connection refused"
        smtp_server.start()
        assert real(db, NOW + 60, mail=smtp_server.url()) == Tally(delivered=1)
        assert real(db, NOW + 600, mail=smtp_server.url()) == Tally()
    assert [mail["Subject"] for mail in smtp_server.mails] == ["title"]


def test_a_target_that_never_answers_does_not_keep_the_others_waiting_for_ever(
    http_sink: Sink, slack_server: Slack, folder: Path
) -> None:
    http_sink.hangs = True
    with closing(connect(str(folder), create=True)) as db:
        raise_alert(db, "hook", "chat")
        assert real(db, NOW, hook=http_sink.url(), chat=slack_server.url()) == Tally(delivered=1, postponed=1)
        assert len(slack_server.arrived) == 1
        assert "no answer within 1" in outbox.waiting(db)[0].error


def test_the_secrets_of_a_url_get_into_no_row_and_no_log(
    http_sink: Sink, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    http_sink.status, http_sink.body = 403, b"TOKENtoken123 is not known"
    with closing(connect(str(folder), create=True)) as db:
        raise_alert(db, "hook")
        real(db, NOW, hook=f"json://agent:hunter2%2F@127.0.0.1:{http_sink.port}/TOKENtoken123")
        assert "*** is not known" in outbox.waiting(db)[0].error
        stored = "\n".join(db.iterdump())
    for secret in ("TOKENtoken123", "hunter2"):
        assert secret not in stored
        assert secret not in caplog.text


KILLED = """
import os, signal, sys
from agent.adapters.ledger import connect
from agent.adapters.notify import send
from agent.jobs.deliver import Target, deliver
from agent.rules.finding import Level
from agent.rules.incident import Policy
from agent.rules.message import Message

def send_and_die(url, message):
    assert send(url, message).ok
    os.kill(os.getpid(), signal.SIGKILL)

folder, url, now = sys.argv[1:]
deliver(connect(folder), {"hook": Target(url, Level.WARNING)}, lambda notice, news: Message("title", "text", "chat"),
        send_and_die, lambda: float(now), Policy(group_wait=0.0), {"hook": Level.WARNING})
"""


def test_a_kill_between_sending_and_marking_repeats_the_message_once(http_sink: Sink, folder: Path) -> None:
    with closing(connect(str(folder), create=True)) as db:
        raise_alert(db, "hook")
        argv = [sys.executable, "-c", KILLED, str(folder), http_sink.url(), str(NOW)]
        assert subprocess.run(argv, check=False, cwd=os.getcwd()).returncode == -signal.SIGKILL
        assert len(http_sink.arrived) == 1
        assert real(db, NOW + 1, hook=http_sink.url()) == Tally(delivered=1)
        assert real(db, NOW + 9999, hook=http_sink.url()) == Tally()
    assert [one["title"] for one in http_sink.arrived] == ["title", "title (may be a repeat)"]
