"""Late, missed and never run: real backups in folders, a real ledger, and its incidents over days."""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.adapters.ledger import connect, incidents, runs, writing
from agent.adapters.shelf.look import pattern
from agent.jobs import freshness, overview
from agent.jobs.intake import sweep
from agent.jobs.intake.survey import Place
from agent.jobs.intake.verdicts import Telling
from agent.rules.drilling import AFTER
from agent.rules.finding import Finding, Level, ok
from agent.rules.incident import Policy

HOUR, DAY = 3600.0, 86_400.0
SET_UP = datetime(2027, 1, 10, 12, tzinfo=UTC).timestamp()
NAMES = pattern(("*.tar",))
CRONS = {
    "backup:daily": ("0 2 * * *", HOUR),
    "report": ("0 5 * * 1", HOUR),
    "drill": ("0 6 * * *", HOUR),
    "cleanup": ("0 4 * * *", HOUR),
    "reread": ("30 6 * * *", HOUR),
}
JOBS = ("report", "drill", "cleanup", "reread")


class Site:
    """One location, its ledger, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.state, self.root = str(folder / "state"), folder / "primary"
        self.root.mkdir()
        self.db = connect(self.state, create=True)
        self.now = SET_UP
        self.crons = dict(CRONS)

    def put(self, day: int, *collections: str, failed: tuple[str, ...] = (), tier: str = "daily") -> Path:
        identity = f"202701{day:02}T020000Z"
        folder = self.root / tier / identity
        folder.mkdir(parents=True)
        entries = []
        for name in collections:
            data = f"{name} ".encode() * 1000
            (folder / f"{name}.tar").write_bytes(data)
            sha = hashlib.sha256(data).hexdigest()
            entries.append({"name": name, "file": f"{name}.tar", "size": len(data), "sha256": sha})
        when = datetime(2027, 1, day, 2, tzinfo=UTC).isoformat()
        broken = [{"name": name, "why": "it was locked"} for name in failed]
        told = {"id": identity, "tier": tier, "engine": {"kind": "edge"}, "started": when, "ended": when}
        (folder / "manifest.json").write_text(json.dumps({**told, "collections": entries, "failed": broken}))
        return folder

    def ran(self, job: str, at: float, outcome: str = "ok", subject: str = "") -> None:
        with writing(self.db):
            run = runs.begin(self.db, job, subject, None, at)
            runs.end(self.db, run, outcome, at + 60)

    def prove(self) -> None:
        places, telling = [Place("primary", str(self.root))], Telling(Policy(), {})
        for found in sweep.look_over(self.db, places, NAMES, {}, 1, lambda: self.now, telling):
            todo = sweep.works(self.db, found.place, found.changed, trust=True)
            for _ in sweep.prove(self.db, todo, NAMES, 1, lambda: self.now, telling):
                pass

    def look(self, at: float | None = None) -> dict[str, str]:
        """A round of `upkeep` at that moment: what is open then."""
        self.now = self.now if at is None else at
        made = overview.made(overview.backups(self.db))
        found = freshness.look(self.db, self.crons, made, ["primary"], UTC, self.now)
        spoken = {(one.rule, one.subject) for one in found}
        over = [ok(one.rule, one.subject) for one in incidents.active(self.db) if (one.rule, one.subject) not in spoken]
        with writing(self.db):
            self.turns = incidents.observe(self.db, [*found, *over], self.now, Policy(), {})
        return {f"{one.rule} {one.subject}": one.why for one in incidents.active(self.db)}

    def restart(self) -> None:
        self.db.close()
        self.db = connect(self.state, create=False)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    for job in JOBS:
        made.crons.pop(job)
    yield made
    made.db.close()


def jan(day: int, hour: int = 0, minute: int = 0) -> float:
    return datetime(2027, 1, day, hour, minute, tzinfo=UTC).timestamp()


def test_a_tier_without_backups_is_told_once_survives_a_restart_and_ends_by_itself(site: Site) -> None:
    assert site.look() == {}
    assert site.look(jan(11, 3)) == {}
    site.restart()
    assert list(site.look(jan(11, 3, 10))) == ["backup_late daily"]
    assert [turn.change for turn in site.turns] == ["opened"]
    site.restart()
    for hour in range(4, 24):
        assert list(site.look(jan(11, hour))) == ["backup_late daily"]
        assert site.turns == [], "it was told before"
    site.put(12, "articles")
    site.prove()
    assert site.look(jan(12, 2, 10)) == {}
    assert [turn.change for turn in site.turns] == ["resolved"]


def test_a_backup_that_turns_out_bad_later_makes_its_tier_late(site: Site) -> None:
    site.look()
    site.put(11, "articles")
    good = site.put(12, "articles")
    site.prove()
    assert site.look(jan(12, 4)) == {}
    with (good / "articles.tar").open("r+b") as file:
        file.write(b"!")
    site.prove()
    assert list(site.look(jan(12, 5))) == ["backup_late daily"]


def test_a_backup_that_is_being_read_back_is_not_called_late(site: Site) -> None:
    site.look()
    site.put(11, "articles")
    site.prove()
    with writing(site.db):
        site.db.execute("DELETE FROM archive")
    assert site.look(jan(11, 2, 59)) == {}


def test_a_collection_that_is_left_behind_is_told_by_its_name(site: Site) -> None:
    site.look()
    site.put(11, "articles", "images")
    site.put(12, "articles", failed=("images",))
    with writing(site.db):
        run = runs.begin(site.db, "backup", "daily", jan(12, 2), jan(12, 2))
        runs.end(site.db, run, "incomplete", jan(12, 2, 1), figures={"id": "20270112T020000Z"})
    site.put(13, "articles")  # somebody made one of this collection only, by hand
    site.prove()
    (about,) = site.look(jan(13, 4))
    assert about == "collection_late daily/images"
    site.put(14, "articles", "images")
    site.prove()
    assert site.look(jan(14, 3)) == {}


def test_a_change_of_schedule_makes_nothing_late_in_hindsight(site: Site) -> None:
    site.crons["backup:daily"] = ("0 2 * * 0", HOUR)
    site.look()
    site.put(10, "articles")
    site.prove()
    assert site.look(jan(13)) == {}
    site.crons["backup:daily"] = ("0 2 * * *", HOUR)
    assert site.look(jan(13, 1)) == {}
    assert list(site.look(jan(13, 3, 1))) == ["backup_late daily"]


def test_a_tier_that_is_taken_out_and_comes_back_counts_from_then(site: Site) -> None:
    site.look()
    line = site.crons.pop("backup:daily")
    assert site.look(jan(15)) == {}
    site.crons["backup:daily"] = line
    assert site.look(jan(16, 12)) == {}
    assert list(site.look(jan(17, 12))) == ["backup_late daily"]


def test_a_backup_that_failed_is_told_and_not_called_late_as_well(site: Site) -> None:
    site.look()
    with writing(site.db):
        why = Finding("backup_failed", "daily", Level.CRITICAL, "no space")
        incidents.observe(site.db, [why], jan(11, 2), Policy(), {})
    made = overview.made(overview.backups(site.db))
    assert freshness.look(site.db, site.crons, made, ["primary"], UTC, jan(11, 4)) == []
    shown = freshness.tiers(site.db, {"daily": site.crons["backup:daily"]}, made, UTC, jan(11, 4))["daily"]
    assert shown.state == "critical"
    assert shown.why.endswith("it follows from backup_failed")


@pytest.mark.parametrize("job", JOBS)
def test_a_job_is_late_when_its_own_slot_is_over_and_well_when_it_has_run_well(site: Site, job: str) -> None:
    site.crons = {job: ("0 6 * * *", HOUR)}
    site.look()
    assert site.look(jan(11, 6, 59)) == {}
    assert list(site.look(jan(11, 7, 1))) == [f"{job}_late {job}"]
    site.restart()
    assert list(site.look(jan(11, 8))) == [f"{job}_late {job}"]
    assert site.turns == []
    site.ran(job, jan(11, 9), "failed")
    assert list(site.look(jan(11, 9, 10))) == [f"{job}_late {job}"]
    site.ran(job, jan(11, 10))
    assert site.look(jan(11, 10, 10)) == {}
    assert list(site.look(jan(12, 7, 1))) == [f"{job}_late {job}"]


def test_the_quick_drill_after_a_backup_is_not_the_drill_that_is_planned(site: Site) -> None:
    site.crons = {"drill": ("0 6 * * *", HOUR)}
    site.look()
    site.ran("drill", jan(11, 6, 30), subject=AFTER)
    assert list(site.look(jan(11, 7, 1))) == ["drill_late drill"]


@pytest.mark.parametrize("outcome", ["missed", "skipped"])
def test_a_slot_that_was_not_run_is_told_until_a_later_run_goes_well(site: Site, outcome: str) -> None:
    site.crons = {"cleanup": ("0 4 * * *", HOUR)}
    site.look()
    site.ran("cleanup", jan(11, 4))
    with writing(site.db):
        runs.note(site.db, "cleanup", "", jan(12, 4), outcome, "1 run of cleanup did not start", jan(12, 4))
    assert site.look(jan(12, 4, 10)) == {"cleanup_late cleanup": "1 run of cleanup did not start"}
    site.ran("cleanup", jan(12, 5))
    assert site.look(jan(12, 5, 10)) == {}


def test_a_tier_is_not_called_late_while_its_backup_is_made_or_not_seen_yet_and_ends_only_by_a_good_one(
    site: Site,
) -> None:
    site.look()
    with writing(site.db):
        run = runs.begin(site.db, "backup", "daily", jan(11, 2), jan(11, 13))
    assert site.look(jan(11, 13, 30)) == {}
    with writing(site.db):
        runs.end(site.db, run, "ok", jan(11, 13, 40), figures={"id": "20270111T130000Z"})
    assert site.look(jan(11, 13, 50)) == {}
    assert list(site.look(jan(11, 14, 1))) == ["backup_late daily"]
    with writing(site.db):
        run = runs.begin(site.db, "backup", "daily", jan(12, 2), jan(12, 2))
    assert list(site.look(jan(12, 2, 10))) == ["backup_late daily"], "it has to arrive first"
    site.put(12, "articles")
    with writing(site.db):
        runs.end(site.db, run, "ok", jan(12, 2, 20), figures={"id": "20270112T020000Z"})
    assert list(site.look(jan(12, 2, 30))) == ["backup_late daily"]
    site.prove()
    assert site.look(jan(12, 2, 40)) == {}


def test_a_slot_that_was_missed_is_not_told_while_a_run_makes_up_for_it(site: Site) -> None:
    site.crons = {"drill": ("0 6 * * *", 6 * HOUR)}
    site.look()
    with writing(site.db):
        runs.note(site.db, "drill", "", jan(11, 6), "missed", "1 run of drill did not start", jan(12, 6))
        run = runs.begin(site.db, "drill", "due", jan(12, 6), jan(12, 6))
    assert site.look(jan(12, 6, 10)) == {}
    with writing(site.db):
        runs.end(site.db, run, "ok", jan(12, 8))
    assert site.look(jan(12, 8, 10)) == {}


def test_a_history_that_is_shorter_than_a_jobs_period_makes_it_not_late(site: Site) -> None:
    site.crons = {"report": ("0 5 1 * *", HOUR)}
    site.look()
    site.ran("report", jan(31, 5))
    assert site.look(jan(31, 6)) == {}
    with writing(site.db):
        site.db.execute("DELETE FROM run")
    assert site.look(jan(31, 7)) == {}
    assert freshness.since(site.db) == {"report": jan(31, 5)}


def test_a_ledger_that_is_begun_anew_counts_from_then(site: Site) -> None:
    site.look()
    with writing(site.db):
        site.db.execute("DELETE FROM pulse")
    assert site.look(jan(20, 12)) == {}
    assert list(site.look(jan(21, 3, 1))) == ["backup_late daily"]


def test_a_clock_that_went_back_lets_slots_count_from_now(site: Site) -> None:
    site.look(jan(31))
    assert site.look(SET_UP) == {}
    assert list(site.look(jan(11, 3, 1))) == ["backup_late daily"]


def test_a_thousand_archives_are_looked_through_in_a_moment(site: Site) -> None:
    site.look()
    folder = site.put(11, "articles")
    site.prove()
    _multiply(site.db, 1000)
    began = time.process_time()
    site.look(jan(11, 3))
    assert time.process_time() - began < 0.5
    assert folder.exists()


def _multiply(db: sqlite3.Connection, times: int) -> None:
    """The one backup so many times more, each with an archive."""
    with writing(db):
        for table in ("folder", "archive"):
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            values = ", ".join({"id": "NULL", "folder": "folder || ?1"}.get(one, one) for one in columns)
            if table == "folder":
                values = values.replace("backup", "backup || ?1")
            for number in range(times):
                db.execute(f"INSERT INTO {table} SELECT {values} FROM {table} LIMIT 1", (f"-{number}",))
