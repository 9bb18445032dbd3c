import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.adapters.ledger import connect, incidents, runs, writing
from agent.adapters.ledger.catalogue import Key
from agent.adapters.ledger.runs import Pulse
from agent.adapters.shelf.look import pattern
from agent.jobs import freshness, overview
from agent.jobs.intake import losses, sweep
from agent.jobs.intake.losses import Keeps
from agent.jobs.intake.survey import Place
from agent.jobs.intake.verdicts import Telling
from agent.rules.finding import Finding, Level
from agent.rules.incident import Policy
from agent.rules.keeping import Age

NOW = datetime(2027, 1, 20, 12, 0, tzinfo=UTC).timestamp()
DAY = 86400.0
NAMES = pattern(("*.tar", "*.tar.gz"))
TELLING = Telling(Policy(), {})
KEEPS = Keeps({"daily": Age(30, "d")}, UTC)


class Shelves:
    """Two locations with backups in them, and the ledger that knows of both."""

    def __init__(self, folder: Path) -> None:
        self.db = connect(str(folder / "state"), create=True)
        self.roots = {name: str(folder / name) for name in ("primary", "secondary")}
        self.places = {name: Place(name, path) for name, path in self.roots.items()}
        for path in self.roots.values():
            Path(path).mkdir()
        self.now = NOW

    def put(
        self,
        day: int,
        *,
        location: str = "primary",
        tier: str = "daily",
        collections: tuple[str, ...] = ("docs",),
        failed: tuple[str, ...] = (),
    ) -> Path:
        identity = f"202701{day:02}T020000Z"
        folder = Path(self.roots[location], tier, identity)
        folder.mkdir(parents=True)
        entries = []
        for name in collections:
            data = f"{name} ".encode() * 1000
            (folder / f"{name}.tar").write_bytes(data)
            sha = hashlib.sha256(data).hexdigest()
            entry = {"name": name, "file": f"{name}.tar", "size": len(data), "sha256": sha}
            entries.append({**entry, "raw_size": 2 * len(data), "points_after": 17})
        started = datetime(2027, 1, day, 2, tzinfo=UTC).isoformat()
        said = {
            "id": identity,
            "tier": tier,
            "engine": {"kind": "edge"},
            "started": started,
            "ended": started,
            "collections": entries,
            "failed": [{"name": name, "why": "it was locked"} for name in failed],
        }
        (folder / "manifest.json").write_text(json.dumps(said))
        return folder

    def look(self) -> None:
        """Find and prove everything, as the agent would have by now."""

        def now() -> float:
            return self.now

        for found in sweep.look_over(self.db, self.places.values(), NAMES, KEEPS, 1, now, TELLING):
            todo = sweep.works(self.db, found.place, found.changed, trust=True)
            for _ in sweep.prove(self.db, todo, NAMES, 1, now, TELLING):
                pass

    def backups(self) -> list[overview.Backup]:
        self.look()
        return overview.backups(self.db)

    def resolve(self, wanted: str) -> str | None:
        found = overview.resolve(self.backups(), wanted, self.roots)
        return found.id if found else None


@pytest.fixture
def shelves(tmp_path: Path) -> Iterator[Shelves]:
    made = Shelves(tmp_path)
    yield made
    made.db.close()


def states(one: overview.Backup) -> dict[str, str]:
    return {name: copy.state for name, copy in one.locations.items()}


def damage(folder: Path, name: str = "docs.tar") -> None:
    with (folder / name).open("r+b") as file:
        file.write(b"!")


# Which backups there are.


def test_a_backup_in_two_locations_is_one_backup_with_two_copies(shelves: Shelves) -> None:
    for location in shelves.roots:
        shelves.put(15, location=location, collections=("docs", "images"))
    (one,) = shelves.backups()
    assert (one.id, one.tier, one.engine, one.state) == ("20270115T020000Z", "daily", "edge", "good")
    assert states(one) == {"primary": "good", "secondary": "good"}
    copy = one.locations["secondary"]
    assert (copy.path, copy.level, copy.checked) == ("daily/20270115T020000Z", "intact", NOW)
    assert [(entry.name, entry.file, entry.points, entry.state) for entry in one.collections] == [
        ("docs", "docs.tar", 17, "good"),
        ("images", "images.tar", 17, "good"),
    ]
    assert one.collections[0].raw_size == 2 * one.collections[0].size


def test_a_backup_is_as_good_as_its_best_copy(shelves: Shelves) -> None:
    damage(shelves.put(15, location="primary"))
    shelves.put(15, location="secondary")
    (one,) = shelves.backups()
    assert one.state == "good"
    assert states(one) == {"primary": "bad", "secondary": "good"}
    assert one.collections[0].state == "good"
    damage(Path(shelves.roots["secondary"], "daily/20270115T020000Z"))
    (one,) = shelves.backups()
    assert one.state == "bad"
    assert one.collections[0].state == "bad"
    assert one.collections[0].why.startswith("SHA-256 is")


def test_a_backup_without_all_its_collections_is_incomplete(shelves: Shelves) -> None:
    shelves.put(15, failed=("images",))
    (one,) = shelves.backups()
    assert one.state == "incomplete"
    assert one.failed == [{"name": "images", "why": "it was locked"}]


def test_a_backup_with_an_archive_that_nobody_has_read_yet_is_not_good(shelves: Shelves) -> None:
    folder = shelves.put(15, collections=("docs", "images"))
    found = sweep.look_over(shelves.db, shelves.places.values(), NAMES, KEEPS, 1, lambda: NOW, TELLING)
    todo = sweep.works(shelves.db, found[0].place, found[0].changed, trust=True)
    for wanted in ("manifest.json", "docs.tar"):
        some = [work for work in todo if work.key.name == wanted]
        list(sweep.prove(shelves.db, some, NAMES, 1, lambda: NOW, TELLING))
        (one,) = overview.backups(shelves.db)
        assert one.state == "unknown"
        assert one.locations["primary"].level == "arrived"
    assert shelves.resolve("latest-good") == folder.name


def test_a_backup_whose_manifest_is_broken_is_unknown_and_one_with_its_sound_copy(shelves: Shelves) -> None:
    (shelves.put(15) / "manifest.json").write_bytes(b'{"id": ')
    (one,) = shelves.backups()
    assert (one.id, one.tier, one.engine, one.state) == ("20270115T020000Z", "daily", "unknown", "unknown")
    shelves.put(15, location="secondary")
    (one,) = shelves.backups()
    assert one.state == "good"
    assert states(one) == {"primary": "unknown", "secondary": "good"}


def test_a_backup_whose_manifest_is_broken_is_unknown_although_its_archives_are_good(shelves: Shelves) -> None:
    folder = shelves.put(15)
    (folder / "manifest.json").write_bytes(b"[]")
    (folder / "docs.tar.sha256").write_text(hashlib.sha256((folder / "docs.tar").read_bytes()).hexdigest())
    (one,) = shelves.backups()
    assert (one.state, one.locations["primary"].level) == ("unknown", "arrived")
    assert [entry.state for entry in one.collections] == ["good"]


def test_a_copy_was_checked_when_its_first_archive_was(shelves: Shelves) -> None:
    shelves.put(15, collections=("docs", "images"))
    shelves.look()
    shelves.now += DAY
    again = [(Key("primary", "daily/20270115T020000Z", "docs.tar"), None)]
    todo = sweep.works(shelves.db, shelves.places["primary"], again, trust=True)
    list(sweep.prove(shelves.db, todo, NAMES, 1, lambda: shelves.now, TELLING))
    assert overview.backups(shelves.db)[0].locations["primary"].checked == NOW


def test_a_copy_that_is_gone_is_told_and_a_backup_that_is_wholly_gone_is_not_listed(shelves: Shelves) -> None:
    first, second = shelves.put(15), shelves.put(15, location="secondary")
    shelves.put(16)
    shelves.look()
    shutil.rmtree(first)
    assert states(shelves.backups()[1]) == {"primary": "gone", "secondary": "good"}
    shutil.rmtree(second)
    assert [one.id for one in shelves.backups()] == ["20270116T020000Z"]


def test_a_backup_that_was_let_go_does_not_come_back(shelves: Shelves) -> None:
    folder = shelves.put(3, failed=("images",))
    shelves.put(16)
    shelves.look()
    shelves.now += 60 * DAY
    shutil.rmtree(folder)
    shelves.look()
    assert losses.let_go(shelves.db, KEEPS, shelves.now, TELLING, everything=True, who="ann") == 1
    assert [one.id for one in shelves.backups()] == ["20270116T020000Z"]
    assert shelves.resolve("oldest") == "20270116T020000Z"
    assert shelves.resolve("last-failed") is None


def test_a_backup_with_its_manifest_and_none_of_its_archives_is_bad(shelves: Shelves) -> None:
    folder = shelves.put(15, collections=("docs", "images"))
    for name in ("docs", "images"):
        (folder / f"{name}.tar").unlink()
    (one,) = shelves.backups()
    assert one.state == "bad"
    assert {entry.why for entry in one.collections} == {"manifest.json promises it, but it is not there"}


def test_loose_archives_are_backups_of_their_own(shelves: Shelves) -> None:
    for location, name in (("primary", "a"), ("secondary", "a"), ("primary", "b")):
        folder = Path(shelves.roots[location], "weekly")
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.tar"
        path.write_bytes(b"content")
        os.utime(path, (NOW - DAY, NOW - DAY if name == "a" else NOW - 2 * DAY))
    Path(shelves.roots["primary"], "weekly/b.tar.sha256").write_text(hashlib.sha256(b"content").hexdigest())
    first, second = shelves.backups()
    assert (first.id, first.tier, first.engine, first.state) == ("a.tar", "weekly", "foreign", "unknown")
    assert states(first) == {"primary": "unknown", "secondary": "unknown"}
    assert (second.id, second.state, second.started) == ("b.tar", "good", NOW - 2 * DAY)
    assert [entry.name for entry in second.collections] == ["b.tar"]
    Path(shelves.roots["primary"], "weekly/b.tar").unlink()
    assert [one.id for one in shelves.backups()] == ["a.tar"]


def test_what_lies_in_a_backup_and_is_not_of_it_is_not_shown_as_its_collection(shelves: Shelves) -> None:
    (shelves.put(15) / "stranger.tar").write_bytes(b"content")
    (one,) = shelves.backups()
    assert [entry.name for entry in one.collections] == ["docs"]
    assert one.state == "unknown"


# Which one is meant.


def test_words_mean_backups_by_age_and_by_state(shelves: Shelves) -> None:
    for word in ("latest", "latest-good", "oldest", "last-failed"):
        assert shelves.resolve(word) is None
    shelves.put(11)
    damage(shelves.put(12))
    shelves.put(13, tier="weekly")
    shelves.put(14, failed=("images",))
    damage(shelves.put(15))
    (shelves.put(16) / "manifest.json").write_bytes(b"{")
    shelves.look()
    assert {word: shelves.resolve(word) for word in ("latest-good", "oldest", "last-failed")} == {
        "latest-good": "20270113T020000Z",
        "oldest": "20270116T020000Z",  # nobody knows how old it is
        "last-failed": "20270115T020000Z",
    }
    assert shelves.resolve("latest") == "20270115T020000Z"


def test_an_id_or_a_path_means_its_backup(shelves: Shelves) -> None:
    shelves.put(15)
    shelves.put(16, location="secondary")
    for number, folder in enumerate(("weekly", "")):
        path = Path(shelves.roots["primary"], folder, f"{number}.tar")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"content")
    primary, secondary = shelves.roots["primary"], shelves.roots["secondary"]
    meant = {
        "20270115T020000Z": "20270115T020000Z",
        f"{primary}/daily/20270115T020000Z": "20270115T020000Z",
        f"{primary}/daily/20270115T020000Z/": "20270115T020000Z",
        f"{secondary}/daily/20270116T020000Z": "20270116T020000Z",
        f"{secondary}/daily/20270115T020000Z": None,
        f"{primary}/weekly/0.tar": "0.tar",
        f"{primary}/1.tar": "1.tar",
        "0.tar": "0.tar",
        f"{primary}/weekly": None,
        primary: None,
        "20270117T020000Z": None,
        "": None,
        "/": None,
    }
    assert {wanted: shelves.resolve(wanted) for wanted in meant} == meant


# How things stand.


def test_a_tier_is_as_fresh_as_its_schedule_wants(shelves: Shelves) -> None:
    shelves.put(20)
    shelves.put(10, tier="weekly")
    damage(shelves.put(19, tier="weekly"))
    with writing(shelves.db):
        runs.take_slot(shelves.db, "backup:yearly", NOW - 400 * DAY)
    lines = {"daily": "0 2 * * *", "weekly": "0 2 * * 0", "monthly": "0 2 1 * *", "yearly": "0 2 1 1 *"}
    crons = {name: (cron, 3600.0) for name, cron in lines.items()}
    found = freshness.tiers(shelves.db, crons, overview.made(shelves.backups()), UTC, NOW)
    assert {name: one.state for name, one in found.items()} == {
        "daily": "ok",
        "weekly": "critical",
        "monthly": "unknown",
        "yearly": "critical",
    }
    daily = found["daily"]
    assert daily.last_good == datetime(2027, 1, 20, 2, tzinfo=UTC).timestamp()
    assert daily.next_run == datetime(2027, 1, 21, 2, tzinfo=UTC).timestamp()
    assert daily.expected_every_seconds == DAY
    assert found["weekly"].last_good == datetime(2027, 1, 10, 2, tzinfo=UTC).timestamp()
    assert found["monthly"].last_good is None


def findings(db: sqlite3.Connection, known: list[overview.Backup], now: float = NOW) -> dict[str, tuple[str, str]]:
    return {one["rule"]: (one["level"], one["why"]) for one in overview.findings(db, known, now)}


def test_silence_of_the_agent_comes_first_of_all_that_is_wrong(shelves: Shelves) -> None:
    shelves.put(20)
    known = shelves.backups()
    assert findings(shelves.db, known) == {"agent_silent": ("unknown", "the agent has never run here")}
    with writing(shelves.db):
        runs.beat(shelves.db, [Pulse("agent", NOW, "all is well")])
        trouble = [Finding("x", "a", Level.WARNING, "so so"), Finding("y", "b", Level.CRITICAL, "bad", "mend it")]
        incidents.observe(shelves.db, trouble, NOW - 60, Policy(), {})
    assert findings(shelves.db, known, NOW + 180) == {"y": ("critical", "bad"), "x": ("warning", "so so")}
    late = overview.findings(shelves.db, known, NOW + 181)
    assert [one["rule"] for one in late] == ["agent_silent", "y", "x"]
    assert (late[0]["why"], late[0]["since"]) == ("the agent does not run", NOW)
    assert (late[1]["hint"], late[1]["since"]) == ("mend it", NOW - 60)


def test_nothing_to_restore_from_is_told(shelves: Shelves) -> None:
    with writing(shelves.db):
        runs.beat(shelves.db, [Pulse("agent", NOW, "all is well")])
    damage(shelves.put(20))
    assert findings(shelves.db, shelves.backups())["no_backup"][0] == "warning"
    shelves.put(21)
    assert "no_backup" not in findings(shelves.db, shelves.backups())


def test_an_empty_ledger_has_nothing_to_tell(tmp_path: Path) -> None:
    with closing(connect(str(tmp_path), create=True)) as db:
        assert overview.backups(db) == []


@pytest.mark.parametrize(
    ("levels", "state"),
    [
        ([], "ok"),
        (["ok", "ok"], "ok"),
        (["ok", "warning"], "warning"),
        (["warning", "unknown"], "unknown"),
        (["unknown", "critical", "warning"], "critical"),
    ],
)
def test_the_worst_of_many_states_is_the_state(levels: list[str], state: str) -> None:
    assert overview.state(levels) == state
