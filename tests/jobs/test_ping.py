"""What watchers outside are told of runs, from a real ledger; the sending is noted here."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from agent.adapters.ledger import catalogue, connect, incidents, runs, writing
from agent.adapters.ledger.catalogue import Folder, Key
from agent.jobs import ping
from agent.rules.archive import Reading, Signature, State, Verdict
from agent.rules.drilling import AFTER
from agent.rules.incident import Policy
from agent.rules.pings import KEPT, Ping

NOW = 1_795_485_600.0
DAILY, REPORT = "https://hc.example.org/5bf66975", "https://hc.example.org/41aa0b"
CHECKS = {"backup:daily": DAILY, "report": REPORT, "drill": "https://hc.example.org/d4"}
MANIFEST = '{"id": "b1", "tier": "daily", "engine": {}, "started": "", "ended": "", "collections": [%s]}'
ENTRY = '{"name": "%s", "file": "%s.tar", "size": 9, "sha256": "00"}'


class Watchers:
    """A ledger, a clock, and what the watchers heard; those in `down` do not answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.db = connect(self.folder, create=True)
        self.now = NOW
        self.down: set[str] = set()
        self.heard: list[Ping] = []

    def send(self, one: Ping) -> str:
        parts = urlsplit(one.url)
        if any(one.url.startswith(base) for base in self.down):
            return "connection refused"
        assert parts.scheme == "https"
        self.heard.append(one)
        return ""

    def tell(self) -> list[str]:
        """A round of `snapward ping`: the paths that were pinged."""
        before = len(self.heard)
        ping.tell(self.db, CHECKS, "db1", self.send, lambda: self.now, Policy(), {})
        return [urlsplit(one.url).path for one in self.heard[before:]]

    def begin(self, job: str = "report", subject: str = "") -> int:
        with writing(self.db):
            return runs.begin(self.db, job, subject, None, self.now)

    def end(self, run: int, outcome: str = "ok", **more: Any) -> None:
        with writing(self.db):
            runs.end(self.db, run, outcome, self.now, **more)

    def backup(self, *collections: str, locations: tuple[str, ...] = ("primary", "secondary")) -> None:
        self.end(self.begin("backup", "daily"), why="written", figures={"id": "b1", "locations": list(locations)})
        for location in locations:
            text = MANIFEST % ", ".join(ENTRY % (one, one) for one in collections)
            entry = Folder(location, "daily/b1", "daily", "b1", "edge", self.now, self.now, 0, text)
            with writing(self.db):
                catalogue.record_folder(self.db, entry)

    def judge(self, location: str, name: str, state: State = State.GOOD) -> None:
        key, seen = Key(location, "daily/b1", name), Signature(1, 9, 1, 1)
        reading = Reading(9, "00")
        with writing(self.db):
            catalogue.record(self.db, key, seen, reading, Verdict(state, "intact", ""), self.now)


@pytest.fixture
def watchers(tmp_path: Path) -> Iterator[Watchers]:
    made = Watchers(tmp_path)
    yield made
    made.db.close()


def rids(watchers: Watchers) -> list[str]:
    return [parse_qs(urlsplit(one.url).query)["rid"][0] for one in watchers.heard]


def test_a_run_is_told_when_it_begins_and_when_it_ends_each_once_and_with_one_id(watchers: Watchers) -> None:
    run = watchers.begin()
    assert watchers.tell() == ["/41aa0b/start"]
    assert watchers.tell() == []
    watchers.end(run, why="2026-W47 for ops")
    assert watchers.tell() == ["/41aa0b"]
    assert watchers.tell() == []
    assert watchers.heard[-1].body == b"2026-W47 for ops"
    assert len(set(rids(watchers))) == 1


def test_runs_that_follow_each_other_have_ids_of_their_own(watchers: Watchers) -> None:
    for _ in range(2):
        watchers.end(watchers.begin())
    assert watchers.tell() == ["/41aa0b/start", "/41aa0b"] * 2
    first, again, second, _ = rids(watchers)
    assert first == again != second


@pytest.mark.parametrize(
    ("outcome", "code", "path"),
    [
        ("ok", 2, "/2"),
        ("failed", 73, "/73"),
        ("failed", None, "/fail"),
        ("interrupted", 130, "/fail"),
        ("incomplete", 2, "/fail"),
    ],
)
def test_what_went_wrong_is_told_with_its_exit_code(
    watchers: Watchers, outcome: str, code: int | None, path: str
) -> None:
    watchers.end(watchers.begin(), outcome, exit_code=code, why="no space")
    assert watchers.tell() == ["/41aa0b/start", f"/41aa0b{path}"]
    assert watchers.heard[-1].body == b"no space"


def test_a_slot_that_was_missed_is_a_failure_without_a_start_and_one_skipped_is_nothing(watchers: Watchers) -> None:
    with writing(watchers.db):
        runs.note(watchers.db, "report", "", NOW, "missed", "the agent was not awake", NOW)
        runs.note(watchers.db, "report", "", NOW, "skipped", "the run before it had not ended", NOW)
    assert watchers.tell() == ["/41aa0b/fail"]


def test_jobs_without_a_watcher_and_the_quick_drill_are_told_to_nobody(watchers: Watchers) -> None:
    for job, subject in (("backup", "weekly"), ("cleanup", ""), ("drill", AFTER), ("restore", "articles")):
        watchers.end(watchers.begin(job, subject))
    assert watchers.tell() == []
    watchers.end(watchers.begin("drill", "due"))
    assert watchers.tell() == ["/d4/start", "/d4"]


def test_a_backup_has_succeeded_only_when_every_archive_was_read_back(watchers: Watchers) -> None:
    watchers.backup("articles", "images")
    assert watchers.tell() == ["/5bf66975/start"]
    for location in ("primary", "secondary"):
        watchers.judge(location, "articles.tar")
    watchers.judge("primary", "images.tar")
    assert watchers.tell() == []
    watchers.judge("secondary", "images.tar")
    assert watchers.tell() == ["/5bf66975"]


def test_a_backup_that_turns_out_bad_has_failed(watchers: Watchers) -> None:
    watchers.backup("articles")
    watchers.judge("primary", "articles.tar")
    watchers.judge("secondary", "articles.tar", State.CORRUPT)
    assert watchers.tell() == ["/5bf66975/start", "/5bf66975/fail"]
    assert watchers.heard[-1].body == b"written; 1 archive of 2 turned out bad when read back"


def test_a_backup_that_nobody_reads_back_has_failed_after_an_hour(watchers: Watchers) -> None:
    watchers.backup("articles")
    watchers.judge("primary", "articles.tar")
    watchers.tell()
    watchers.now += 3600
    assert watchers.tell() == []
    watchers.now += 1
    assert watchers.tell() == ["/5bf66975/fail"]
    assert b"1 archive not read back within 1 h" in watchers.heard[-1].body


def test_a_backup_of_the_sites_own_program_is_proved_by_what_it_left(watchers: Watchers) -> None:
    run = watchers.begin("backup", "daily")
    watchers.end(run, figures={"arrived": {"primary:daily/b1/a.tar": 9, "primary:daily/b1/b.tar": 9}})
    watchers.judge("primary", "a.tar")
    assert watchers.tell() == ["/5bf66975/start"]
    watchers.judge("primary", "b.tar", State.NO_CHECKSUM)
    assert watchers.tell() == ["/5bf66975"]


def test_what_a_watcher_missed_is_told_later_in_its_order_and_others_are_not_held_up(watchers: Watchers) -> None:
    watchers.down = {REPORT}
    watchers.end(watchers.begin())
    watchers.end(watchers.begin())
    watchers.end(watchers.begin("drill", "due"))
    assert watchers.tell() == ["/d4/start", "/d4"]
    (one,) = incidents.active(watchers.db)
    assert (one.rule, one.subject) == ("ping_failing", "report")
    assert one.opened is None, "one lost ping is nothing yet"
    watchers.down = set()
    assert watchers.tell() == [], "the second has to wait for the first"
    watchers.now += 31
    assert watchers.tell() == ["/41aa0b/start", "/41aa0b"] * 2
    assert rids(watchers)[2:] == sorted(rids(watchers)[2:], key=rids(watchers).index)
    assert incidents.active(watchers.db) == []


def test_a_watcher_that_stays_away_is_tried_seldom_and_not_for_ever(watchers: Watchers) -> None:
    watchers.down = {REPORT}
    watchers.end(watchers.begin())
    tries = 0
    began = watchers.now
    while ping.look(watchers.db, CHECKS, watchers.now).news or watchers.now < began + KEPT:
        tries += bool(ping.look(watchers.db, CHECKS, watchers.now).news)
        watchers.tell()
        watchers.now += 60
    assert 20 < tries < 40
    assert watchers.now <= began + KEPT + 120


def test_a_run_that_takes_days_is_told_when_it_is_over(watchers: Watchers) -> None:
    run = watchers.begin()
    assert watchers.tell() == ["/41aa0b/start"]
    watchers.now += 3 * KEPT
    assert watchers.tell() == []
    watchers.end(run)
    assert watchers.tell() == ["/41aa0b"]


def test_a_clock_that_went_back_does_not_put_a_try_off(watchers: Watchers) -> None:
    watchers.down = {REPORT}
    watchers.end(watchers.begin())
    watchers.tell()
    watchers.down = set()
    watchers.now -= 86_000
    assert watchers.tell() == ["/41aa0b/start", "/41aa0b"]


def test_whoever_is_killed_after_a_ping_says_it_twice_and_forgets_none(watchers: Watchers, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    watchers.end(watchers.begin())
    real = watchers.send

    def once(one: Ping) -> str:
        real(one)
        raise Killed

    watchers.send = once  # type: ignore[method-assign]
    with pytest.raises(Killed):
        watchers.tell()
    watchers.send = real  # type: ignore[method-assign]
    with closing(connect(str(tmp_path), create=False)):
        assert watchers.tell() == ["/41aa0b/start", "/41aa0b"]
    assert len(set(rids(watchers))) == 1


def test_numbers_of_runs_that_come_again_are_told_again(watchers: Watchers) -> None:
    watchers.end(watchers.begin())
    watchers.tell()
    with writing(watchers.db):
        runs.trim(watchers.db, NOW + 1)
    watchers.end(watchers.begin())
    assert watchers.tell() == ["/41aa0b/start", "/41aa0b"]


def test_the_agents_own_sign_of_life_has_its_own_incident(watchers: Watchers) -> None:
    def beat(base: str) -> str:
        return ping.beat(watchers.db, base, "9 parts work", watchers.send, lambda: watchers.now, Policy(), {})

    watchers.down = {DAILY}
    assert beat(DAILY) == "connection refused"
    assert [(one.rule, one.subject) for one in incidents.active(watchers.db)] == [("ping_failing", "agent")]
    assert DAILY not in incidents.active(watchers.db)[0].why
    assert beat(REPORT) == ""
    assert watchers.heard == [Ping(REPORT, b"9 parts work")]
    assert incidents.active(watchers.db) == []
