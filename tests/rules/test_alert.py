import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_week import BERLIN, local

from agent.adapters.ledger.incidents import News
from agent.cli import COMMANDS
from agent.rules.alert import Alert, clipped, command, inert, label, plain, tell, trial
from agent.rules.finding import Level
from agent.rules.incident import Change, Incident

AT = local("2026-11-23 02:00:00")
SUBJECT = "primary:daily/20261123T010000Z/alpha.snapshot.gz"


def incident(subject: str = SUBJECT, level: Level = Level.CRITICAL, rule: str = "archive_bad", **more) -> Incident:
    values = {"why": "corrupt: SHA-256 differs", "hint": "Do not restore from it.", "since": AT, "opened": AT, **more}
    return Incident(rule, subject, level, **values)


def news(one: Incident, change: Change = Change.OPENED, at: float = AT, why: str = "") -> News:
    return News(one, change, at, one.level, why or one.why)


def told(*what: News) -> Alert:
    return tell(what, "db1", BERLIN)


def test_one_problem_is_in_the_title_whole():
    alert = told(news(incident()))
    assert alert.title == f"[CRITICAL] db1: archive damaged: {SUBJECT}"
    assert (alert.level, alert.lead) == (Level.CRITICAL, "1 problem on db1 needs attention.")
    item = alert.items[0]
    assert (item.story, item.command) == ("since Mon 23 Nov 02:00:00", "snapward verify 20261123T010000Z")


def test_several_problems_are_counted_and_the_worst_come_first():
    over = incident("primary", rule="storage_space")
    alert = told(
        news(incident("a", Level.WARNING, "checksum_missing")),
        news(over),
        news(incident("b")),
        news(over, Change.RESOLVED, AT + 60),
        news(incident("c")),
    )
    assert alert.title == "[CRITICAL] db1: 3 problems, 1 resolved"
    assert [one.word for one in alert.items] == ["CRITICAL", "CRITICAL", "WARNING", "RESOLVED"]
    assert alert.lead == "3 problems on db1 need attention. 1 problem is over."


def test_a_full_disk_does_not_drown_among_hundreds_of_archives():
    archives = [news(incident(f"primary:daily/{number}.snapshot")) for number in range(200)]
    alert = told(*archives, news(incident("/var/lib/snapward", rule="state_dir_full")))
    assert alert.items[0].subject == "/var/lib/snapward"


def test_what_began_and_ended_in_one_message_is_one_resolved_item():
    one = incident()
    alert = told(news(one), news(one, Change.RESOLVED, AT + 14 * 60, why="size and SHA-256 equal manifest.json"))
    assert alert.title == f"[RESOLVED] db1: archive damaged: {SUBJECT}"
    assert alert.level is Level.OK
    item = alert.items[0]
    assert item.story == "opened Mon 23 Nov 02:00:00, resolved 02:14:00, lasted 14 min"
    assert item.why == "corrupt: SHA-256 differs → size and SHA-256 equal manifest.json"
    assert (item.hint, item.command) == ("", "")


def test_an_end_on_another_day_says_which_day():
    one = incident()
    story = told(news(one, Change.RESOLVED, AT + 86400)).items[0].story
    assert story == "opened Mon 23 Nov 02:00:00, resolved Tue 24 Nov 02:00:00, lasted 24 h"


def test_a_reminder_says_that_it_is_one():
    alert = told(news(incident(), Change.REPEATED, AT + 4 * 3600))
    assert alert.title == f"[CRITICAL] db1: still open: archive damaged: {SUBJECT}"
    assert alert.items[0].story == "still open after 4 h, since Mon 23 Nov 02:00:00"


def test_getting_worse_is_told_with_its_time():
    before, after = incident(level=Level.WARNING), incident(level=Level.CRITICAL)
    alert = told(news(before), news(after, Change.WORSE, AT + 600))
    assert alert.title.startswith("[CRITICAL]")
    assert alert.items[0].story == "since Mon 23 Nov 02:00:00, worse since 02:10:00"


def test_the_same_trouble_twice_stays_two_items():
    first, second = incident(since=AT), incident(since=AT + 600)
    alert = told(news(first), news(first, Change.RESOLVED, AT + 300), news(second, at=AT + 600))
    assert [one.word for one in alert.items] == ["CRITICAL", "RESOLVED"]


def test_an_end_of_everything_is_counted():
    ended = [news(incident(name), Change.RESOLVED, AT + 60) for name in "abc"]
    assert told(*ended).title == "[RESOLVED] db1: 3 problems over"
    assert told().title == "[OK] db1: nothing new"


def test_a_test_message_names_its_target():
    alert = trial("db1", "ops-mail")
    assert alert.title == "[TEST] db1: messages get through"
    assert "alerts from db1 reach ops-mail" in alert.lead
    assert alert.level is Level.OK


def test_titles_are_short_single_lines_that_call_nobody():
    name = "primary:daily/<!channel>\n@here `x` " + "long" * 100 + ".snapshot.gz"
    title = told(news(incident(name))).title
    assert len(title) <= 200
    assert title.isprintable()
    assert title.endswith(".snapshot.gz")
    assert not set("<>@`") & set(title)


@pytest.mark.parametrize(
    ("why", "expected"),
    [
        ("vanished: it was here, and is gone", "archive vanished"),
        ("truncated: 5 bytes are missing", "archive truncated"),
        ("corrupt: other bytes", "archive damaged"),
        ("", "archive damaged"),
    ],
)
def test_what_befell_an_archive_is_in_its_label(why: str, expected: str):
    assert label("archive_bad", why) == expected


def test_a_rule_without_a_label_is_called_by_its_name():
    assert label("some_new_rule") == "some new rule"


@pytest.mark.parametrize(
    ("rule", "subject", "expected"),
    [
        ("archive_bad", SUBJECT, "snapward verify 20261123T010000Z"),
        ("archive_bad", "primary:daily/my export.tar.gz", "snapward verify 'my export.tar.gz'"),
        ("archive_bad", "primary:x.tgz", "snapward verify x.tgz"),
        ("drill_failed", "articles", "snapward drill --collection articles"),
        ("drill_overdue", "my docs", "snapward drill --collection 'my docs'"),
        ("drill_failed", "--yes", "snapward drill"),
        ("drill_failed", "a\nb", "snapward drill"),
        ("archive_bad", "primary:daily/--yes.tgz", "snapward list"),
        ("archive_bad", "primary:daily/$(reboot).tgz", "snapward verify '$(reboot).tgz'"),
        ("archive_bad", "primary:daily/" + "x" * 200, "snapward list"),
        ("backup_failed", "daily", "snapward backup daily"),
        ("backup_failed", "da;ly", "snapward status"),
        ("location_hung", "primary", "snapward check"),
        ("target_failing", "ops", "snapward alert test"),
        ("some_new_rule", "x", "snapward status"),
    ],
)
def test_the_command_to_begin_with_is_safe_to_paste(rule: str, subject: str, expected: str):
    assert command(rule, subject) == expected
    assert command(rule, subject).split()[1] in COMMANDS


@given(st.text(max_size=120))
def test_no_subject_can_break_out_of_its_command(subject: str):
    line = command("archive_bad", f"primary:daily/{subject}")
    assert line.isprintable()
    assert shlex.split(line)[:2] in (["snapward", "verify"], ["snapward", "list"])
    assert len(shlex.split(line)) <= 3


@given(st.text(max_size=600), st.integers(1, 300))
def test_a_clipped_text_keeps_both_its_ends(text: str, limit: int):
    short = clipped(text, limit)
    assert len(short) <= limit
    assert short == text or ("…" in short and text.startswith(short.partition("…")[0]))


@given(st.text(max_size=600))
def test_plain_text_is_one_printable_line(text: str):
    assert plain(text).isprintable()


@pytest.mark.parametrize(
    "trap", ["<!channel>", "<@U123>", "@everyone", "@here", "`code`", "http://evil", "[x](y)", "||x||"]
)
def test_inert_text_has_no_character_that_a_chat_acts_on(trap: str):
    assert not set("<>@`*|[]") & set(inert(trap))
    assert "://" not in inert(trap)
