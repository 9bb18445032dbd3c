"""Backups that are signed and chained: what somebody else does to them is told, and what the agent does is not."""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path

import pytest

from agent.adapters import edge
from agent.adapters.ledger import catalogue, connect, deeds, incidents, runs, writing
from agent.adapters.shelf.look import pattern
from agent.jobs import sealing
from agent.jobs.backup.book import Book
from agent.jobs.backup.embedded import Embedded
from agent.jobs.backup.engine import Order
from agent.jobs.backup.take import take
from agent.jobs.intake import losses, sweep
from agent.jobs.intake.losses import Keeps
from agent.jobs.intake.survey import Place
from agent.jobs.intake.verdicts import Telling
from agent.rules import manifest
from agent.rules.finding import Finding, Level, ok
from agent.rules.incident import Policy

KEY, OLD = b"k" * 64, b"o" * 64
NAMES = pattern(("*.snapshot.gz", "*.tar.gz"))
TELLING = Telling(Policy(), {"ops": Level.WARNING})
KEEPS = Keeps({}, UTC)
ARCHIVE = "docs.snapshot.gz"


class Yard:
    """Two locations with an engine of one small collection, and the agent's books."""

    def __init__(self, home: Path) -> None:
        self.roots = {name: home / name for name in ("primary", "secondary")}
        for root in self.roots.values():
            root.mkdir()
        self.db = connect(str(home / "state"), create=True)
        self.engine = Embedded(str(home / "qdrant"))
        edge.build_sample(str(home / "qdrant"), "docs", 10, 4)
        self.keys: tuple[bytes, ...] = (KEY,)
        self.later = 0.0

    def now(self) -> float:
        return time.time() + self.later

    def backup(self, tier: str = "daily", *, run: bool = True, away: str = "", key: bytes | None = None) -> str:
        self.later += 2.0  # ids are whole seconds
        chosen = (self.keys[0] if self.keys else b"") if key is None else key
        locations = {name: (f"{root}{'-away' * (name == away)}", None) for name, root in self.roots.items()}
        with writing(self.db):
            begun = runs.begin(self.db, "backup" if run else "restore", tier, None, self.now())
        book = Book(self.db, "ann", "a test", chosen)
        done = take(self.engine, Order(tier, locations), self.now, lambda _: "", book=book)
        with writing(self.db):
            runs.end(self.db, begun, "ok", self.now(), figures={"id": done.id} if run else {})
        return done.id

    def look(self) -> None:
        """What the agent does: survey, read what changed, go through the books."""
        for name, root in self.roots.items():
            place = Place(name, str(root))
            for found in sweep.look_over(self.db, [place], NAMES, KEEPS, 1, self.now, TELLING):
                todo = sweep.works(self.db, place, found.changed, trust=True)
                list(sweep.prove(self.db, todo, NAMES, 1, self.now, TELLING))
        found = sealing.look(self.db, self.keys, self.roots, self.now())
        told = {(one.rule, one.subject) for one in found}
        over = [ok(one.rule, one.subject) for one in self.active() if one.rule in sealing.RULES]
        self.observe([*found, *(one for one in over if (one.rule, one.subject) not in told)])

    def observe(self, found: list[Finding]) -> None:
        with writing(self.db):
            incidents.observe(self.db, found, self.now(), TELLING.policy, TELLING.severities)

    def active(self) -> list[incidents.Incident]:
        return incidents.active(self.db)

    def trouble(self) -> set[tuple[str, str]]:
        self.look()
        self.look()
        return {(one.rule, one.subject) for one in self.active()}

    def told(self, rule: str) -> list[str]:
        sql = "SELECT change FROM news JOIN incident ON incident.id = incident WHERE rule = ? ORDER BY news.id"
        return [row[0] for row in self.db.execute(sql, (rule,))]

    def reconcile(self) -> None:
        self.look()
        losses.let_go(self.db, KEEPS, self.now(), TELLING, everything=True, who="ann")

    def folder(self, backup: str, location: str = "primary", tier: str = "daily") -> Path:
        return self.roots[location] / tier / backup

    def deed(self, kind: str, path: str, action: Callable[[], object], location: str = "primary") -> None:
        """Something that the agent itself does."""
        with writing(self.db):
            number = deeds.begin(self.db, kind, location, path, "a test", "schedule", self.now())
        action()
        with writing(self.db):
            deeds.end(self.db, number, self.now())


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    (tmp_path / "state").mkdir()
    made = Yard(tmp_path)
    yield made
    made.db.close()


def flip(path: Path) -> None:
    """Change one byte in place, and put the times back; a second call undoes it."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[100] ^= 0x20
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


# What is written.


def test_a_backup_names_the_one_before_it_and_is_signed_the_same_everywhere(yard: Yard) -> None:
    first, second = yard.backup(), yard.backup()
    files = [(root / "daily" / second / "manifest.json").read_bytes() for root in yard.roots.values()]
    assert files[0] == files[1]
    before = (yard.folder(first) / "manifest.json").read_bytes()
    read = manifest.decode(files[0])
    assert read.previous == manifest.Previous(first, hashlib.sha256(before).hexdigest())
    assert manifest.decode(before).previous is None
    assert re.fullmatch(r"hmac-sha256:[0-9a-f]{8}:[0-9a-f]{64}", read.signature)


def test_each_tier_has_a_chain_of_its_own(yard: Yard) -> None:
    yard.backup()
    weekly = yard.backup("weekly")
    assert json.loads((yard.folder(weekly, tier="weekly") / "manifest.json").read_bytes())["previous"] is None


def test_without_a_key_nothing_is_signed_and_backups_are_chained_all_the_same(yard: Yard) -> None:
    yard.keys = ()
    first, second = yard.backup(), yard.backup()
    read = manifest.decode((yard.folder(second) / "manifest.json").read_bytes())
    assert read.signature == ""
    assert read.previous is not None
    assert read.previous.id == first
    assert yard.trouble() == set()


def test_each_location_has_a_deed_with_what_came_of_it(yard: Yard) -> None:
    done = yard.backup()
    found = [(one.kind, one.location, one.path, one.who, one.outcome) for one in deeds.since(yard.db, 0.0)]
    assert found == [("backup", name, f"daily/{done}", "ann", "good") for name in ("primary", "secondary")]


def test_a_location_that_fails_while_it_is_published_says_so_in_its_deed(yard: Yard) -> None:
    (yard.roots["secondary"] / "daily").write_bytes(b"in the way")
    yard.backup()
    outcomes = {one.location: one.outcome for one in deeds.since(yard.db, 0.0)}
    assert outcomes["primary"] == "degraded"
    assert outcomes["secondary"].startswith("not done: ")


def test_a_location_that_was_away_still_has_what_the_next_backup_follows(yard: Yard) -> None:
    yard.backup()
    yard.look()
    yard.later += 60.0
    only = yard.backup(away="primary")
    yard.look()
    yard.later += 60.0
    last = yard.backup(away="secondary")
    read = manifest.decode((yard.folder(last) / "manifest.json").read_bytes())
    assert read.previous is not None
    assert read.previous.id == only
    assert yard.trouble() == set()


# What somebody else does.


def test_an_archive_that_is_changed_is_told_although_its_time_was_put_back(yard: Yard) -> None:
    path = yard.folder(yard.backup()) / ARCHIVE
    yard.look()
    flip(path)
    about = f"primary:daily/{path.parent.name}/{ARCHIVE}"
    assert yard.trouble() == {("archive_bad", about), ("archive_changed", about)}
    whys = [one.why for one in yard.active() if one.rule == "archive_changed"]
    assert "somebody has set its modification time back" in whys[0]
    flip(path)
    assert yard.trouble() == set()
    assert yard.told("archive_changed") == ["opened", "resolved"]


def test_an_archive_that_is_made_anew_with_its_checksums_is_told_until_that_is_accepted(yard: Yard) -> None:
    folder = yard.folder(yard.backup())
    yard.look()
    before = hashlib.sha256((folder / ARCHIVE).read_bytes()).hexdigest()
    flip(folder / ARCHIVE)
    after = hashlib.sha256((folder / ARCHIVE).read_bytes()).hexdigest()
    for name in ("SHA256SUMS", "manifest.json"):
        edit(folder / name, before, after)
    where = f"primary:daily/{folder.name}"
    assert {one for one in yard.trouble() if one[0] != "archive_bad"} == {
        ("archive_changed", f"{where}/{ARCHIVE}"),
        ("archive_changed", f"{where}/manifest.json"),
        ("manifest_forged", f"{where}/manifest.json"),
        ("tampering", "primary"),
    }
    yard.reconcile()
    assert {one for one in yard.trouble() if one[0] != "archive_bad"} == set()
    assert yard.told("manifest_forged") == ["opened", "resolved"]
    edit(folder / "manifest.json", '"host"', '"hots"')
    assert ("manifest_forged", f"{where}/manifest.json") in yard.trouble(), "that is another one than was accepted"


@pytest.mark.parametrize("end", ["accepted", "a day"])
def test_an_archive_that_was_only_touched_is_told_for_a_day(yard: Yard, end: str) -> None:
    path = yard.folder(yard.backup()) / ARCHIVE
    yard.look()
    path.touch()
    yard.look()
    assert [(one.rule, one.level) for one in yard.active()] == [("archive_changed", Level.WARNING)]
    if end == "accepted":
        yard.reconcile()
    else:
        yard.later += 86_500.0
    assert yard.trouble() == set()
    assert yard.told("archive_changed") == ["opened", "resolved"]


def test_an_archive_that_is_gone_is_told_until_it_is_back(yard: Yard) -> None:
    path = yard.folder(yard.backup()) / ARCHIVE
    yard.look()
    path.rename(path.with_name("hidden"))
    assert yard.trouble() == {("archive_vanished", f"primary:daily/{path.parent.name}/{ARCHIVE}")}
    path.with_name("hidden").rename(path)
    assert yard.trouble() == set()
    assert yard.told("archive_vanished") == ["opened", "resolved"]


def test_a_manifest_that_is_gone_is_told_until_it_is_back(yard: Yard) -> None:
    path = yard.folder(yard.backup()) / "manifest.json"
    yard.look()
    path.rename(path.with_name("hidden"))
    assert yard.trouble() == {("archive_vanished", f"primary:daily/{path.parent.name}/manifest.json")}
    path.with_name("hidden").rename(path)
    assert yard.trouble() == set()


def test_a_folder_that_is_dropped_in_is_told_until_it_is_gone(yard: Yard) -> None:
    real = yard.backup()
    yard.look()
    shutil.copytree(yard.folder(real), yard.folder("20261101T020000Z"))
    assert ("archive_foreign", "primary:daily/20261101T020000Z") in yard.trouble()
    shutil.rmtree(yard.folder("20261101T020000Z"))
    assert yard.trouble() == set()
    assert yard.told("archive_foreign") == ["opened", "resolved"]


def test_no_manifest_that_is_dropped_in_makes_our_archives_anybodys(yard: Yard) -> None:
    folder = yard.folder(yard.backup())
    yard.look()
    yard.later += 60.0
    yard.db.execute("DELETE FROM deed")  # as after half a year
    (folder / "manifest.json").rename(folder / "hidden")
    yard.look()
    (folder / "manifest.json").write_bytes(manifest.encode(manifest.Manifest(id="other", tier="daily", engine={})))
    yard.look()
    (folder / ARCHIVE).unlink()
    where = f"primary:daily/{folder.name}"
    assert {("archive_foreign", where), ("archive_vanished", f"{where}/{ARCHIVE}")} <= yard.trouble()


def test_a_backup_that_no_run_of_ours_made_is_told_until_that_is_accepted(yard: Yard) -> None:
    yard.backup()
    elsewhere = Order("daily", {"primary": (str(yard.roots["primary"]), None)})
    yard.later = 3600.0
    other = take(yard.engine, elsewhere, yard.now, lambda _: "", book=Book(key=KEY)).id
    yard.later = 7200.0
    assert yard.trouble() == {("archive_foreign", f"primary:daily/{other}")}
    yard.reconcile()
    assert yard.trouble() == set()


def test_a_manifest_that_is_edited_is_told_until_it_is_as_it_was(yard: Yard) -> None:
    path = yard.folder(yard.backup()) / "manifest.json"
    yard.look()
    before = path.read_text(encoding="utf-8")
    edit(path, '"points_after": 10', '"points_after": 11')
    about = f"primary:daily/{path.parent.name}/manifest.json"
    assert yard.trouble() == {("archive_changed", about), ("manifest_forged", about)}
    path.write_text(before, encoding="utf-8")
    assert yard.trouble() == set()
    assert yard.told("manifest_forged") == ["opened", "resolved"]


def test_a_manifest_without_a_signature_is_told_once_there_were_signed_ones(yard: Yard) -> None:
    first, second = yard.backup(key=b""), yard.backup()
    third = yard.backup(key=b"")
    yard.look()
    assert yard.trouble() == {("manifest_unsigned", f"{place}:daily/{third}/manifest.json") for place in yard.roots}, (
        f"{first} was made before {second}"
    )
    yard.reconcile()
    assert yard.trouble() == set()


def test_when_the_ledger_is_new_the_oldest_signed_manifest_tells_since_when_there_is_a_key(
    yard: Yard, tmp_path: Path
) -> None:
    yard.backup(key=b"")
    yard.backup()
    third = yard.backup(key=b"")
    (tmp_path / "other").mkdir()
    yard.db.close()
    yard.db = connect(str(tmp_path / "other"), create=True)
    assert {subject for _, subject in yard.trouble()} == {f"{one}:daily/{third}/manifest.json" for one in yard.roots}


def test_a_backup_that_is_taken_out_of_the_chain_is_told_by_the_one_behind_it(yard: Yard) -> None:
    _, second, third = yard.backup(), yard.backup(), yard.backup()
    yard.look()
    for place in yard.roots:
        yard.folder(second, place).rename(yard.roots[place] / f".{second}")
    vanished = {("archive_vanished", f"{place}:daily/{second}/{ARCHIVE}") for place in yard.roots}
    assert yard.trouble() == vanished | {("chain_broken", f"daily/{third}")}
    yard.reconcile()
    assert yard.trouble() == set()
    assert yard.told("chain_broken") == ["opened", "resolved"]


def test_a_manifest_that_was_exchanged_while_nobody_looked_is_told_by_the_one_behind_it(yard: Yard) -> None:
    yard.keys = ()
    first, _ = yard.backup(), yard.backup()
    edit(yard.folder(first) / "manifest.json", '"points_after": 10', '"points_after": 11')
    assert yard.trouble() == {("chain_broken", f"daily/{first}")}
    edit(yard.folder(first) / "manifest.json", '"points_after": 11', '"points_after": 10')
    assert ("chain_broken", f"daily/{first}") not in yard.trouble()


def test_a_backup_that_nobody_has_looked_at_yet_is_not_missed_for_an_hour(yard: Yard) -> None:
    yard.backup()
    yard.look()
    second = yard.backup()
    third = yard.backup()
    for place, root in yard.roots.items():
        yard.folder(second, place).rename(root / f".{second}")
    assert yard.trouble() == set()
    yard.later += 4000.0
    assert yard.trouble() == {("chain_broken", f"daily/{third}")}


def test_a_new_ledger_does_not_know_what_became_of_older_backups_and_says_nothing(yard: Yard, tmp_path: Path) -> None:
    first, second, third = yard.backup(), yard.backup(), yard.backup()
    for place in yard.roots:
        shutil.rmtree(yard.folder(first, place))
    (tmp_path / "other").mkdir()
    yard.db.close()
    yard.db = connect(str(tmp_path / "other"), create=True)
    assert yard.trouble() == set()
    for place in yard.roots:
        shutil.rmtree(yard.folder(second, place))
    assert ("chain_broken", f"daily/{third}") in yard.trouble(), "that one it knew"


def test_a_location_that_is_no_longer_configured_still_has_what_others_follow(yard: Yard) -> None:
    yard.backup()
    yard.backup(away="primary")
    yard.look()
    yard.backup()
    yard.look()
    del yard.roots["secondary"]
    assert yard.trouble() == set()


def test_much_of_it_at_once_is_an_alert_of_its_own_for_a_day(yard: Yard) -> None:
    made = [yard.backup() for _ in range(4)]
    yard.look()
    for one in made[:3]:
        flip(yard.folder(one) / ARCHIVE)
    found = yard.trouble()
    assert ("tampering", "primary") in found
    assert ("tampering", "secondary") not in found
    for one in made[:3]:
        flip(yard.folder(one) / ARCHIVE)
    assert yard.trouble() == {("tampering", "primary")}, "that it was undone makes it no better"
    yard.later += 86_500.0
    assert yard.trouble() == set()
    assert yard.told("tampering") == ["opened", "resolved"]


def test_somebody_who_accepts_it_ends_the_alert_about_much_of_it(yard: Yard) -> None:
    made = [yard.backup() for _ in range(3)]
    yard.look()
    for _ in range(2):
        for one in made:
            flip(yard.folder(one) / ARCHIVE)
        yard.look()
    assert yard.trouble() == {("tampering", "primary")}
    yard.reconcile()
    assert yard.trouble() == set()


# What the agent itself does.


def test_backups_of_every_kind_alert_nobody(yard: Yard) -> None:
    for tier in ("daily", "weekly", "manual", "daily"):
        yard.backup(tier)
    yard.backup("pre-restore", run=False)
    assert yard.trouble() == set()


def test_what_the_agent_removes_alerts_nobody_and_is_forgotten(yard: Yard) -> None:
    first, second, third = yard.backup(), yard.backup(), yard.backup()
    yard.look()
    yard.deed("expire", f"daily/{first}", lambda: shutil.rmtree(yard.folder(first)))
    yard.deed("quarantine", f"daily/{second}/{ARCHIVE}", (yard.folder(second) / ARCHIVE).unlink)
    assert yard.trouble() == set()
    assert [one.key.folder for one in catalogue.archives(yard.db, "primary")] == [f"daily/{third}"]
    manifest = yard.folder(second) / "manifest.json"
    yard.deed("permissions", f"daily/{second}", lambda: manifest.chmod(0o600))
    assert yard.trouble() == set(), "it is read again, and promises what was moved aside"
    yard.deed("quarantine", f"daily/{second}", lambda: shutil.rmtree(yard.folder(second)))
    yard.deed("expire", f"daily/{second}", lambda: shutil.rmtree(yard.folder(second, "secondary")), "secondary")
    assert yard.trouble() == set()


def test_what_the_agent_repairs_alerts_nobody_and_ends_what_it_repaired(yard: Yard) -> None:
    first, second = yard.backup(), yard.backup()
    yard.look()
    flip(yard.folder(first) / ARCHIVE)
    (yard.folder(second) / ARCHIVE).unlink()
    assert {rule for rule, _ in yard.trouble()} >= {"archive_changed", "archive_vanished"}

    def again(one: str) -> None:
        shutil.rmtree(yard.folder(one))
        shutil.copytree(yard.folder(one, "secondary"), yard.folder(one))

    for one in (first, second):
        yard.deed("repair", f"daily/{one}", lambda one=one: again(one))  # type: ignore[misc] # bound at once
    assert {rule for rule, _ in yard.trouble()} <= {"tampering"}


def test_permissions_that_the_agent_mends_and_baselines_that_it_writes_alert_nobody(yard: Yard) -> None:
    one = yard.backup()
    yard.look()
    path = yard.folder(one) / ARCHIVE
    yard.deed("permissions", f"daily/{one}", lambda: path.chmod(0o600))
    yard.deed("baseline", f"daily/{one}", lambda: path.with_name("docs.baseline.json").write_text("{}"))
    assert yard.trouble() == set()


def test_a_copy_that_somebody_brings_over_from_the_other_location_is_one_of_ours(yard: Yard) -> None:
    one = yard.backup(away="secondary")
    shutil.copytree(yard.folder(one), yard.folder(one, "secondary"))
    assert yard.trouble() == set()


def test_a_key_that_was_exchanged_is_still_believed_and_one_that_is_forgotten_is_not(yard: Yard) -> None:
    yard.keys = (OLD,)
    first = yard.backup()
    yard.keys = (KEY, OLD)
    yard.backup()
    assert yard.trouble() == set()
    yard.keys = (KEY,)
    assert yard.trouble() == {("manifest_forged", f"{place}:daily/{first}/manifest.json") for place in yard.roots}
    yard.keys = ()
    assert yard.trouble() == set()


def test_a_backup_that_died_while_it_was_published_is_closed_by_the_next(yard: Yard) -> None:
    from agent.jobs.backup.book import close_orphans

    Book(yard.db, "ann", "a test").begin("primary", "daily/20261101T020000Z", yard.now())
    with writing(yard.db):
        close_orphans(yard.db, yard.now())
    assert [one.outcome for one in deeds.since(yard.db, 0.0)] == ["interrupted: its process died before it was done"]
