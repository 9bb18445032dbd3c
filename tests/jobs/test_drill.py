"""Drills with the real engine: what passes, what fails, what cannot be told, and what is left behind."""

import fcntl
import hashlib
import json
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace
from small_disk import small_disk
from standin import StandIn

from agent.adapters import edge, snapshot_tar
from agent.adapters.ledger import catalogue, connect, drills, incidents, runs, writing
from agent.adapters.ledger.catalogue import Key
from agent.adapters.ledger.drills import Drill
from agent.adapters.qdrant.address import Address
from agent.adapters.shelf.look import pattern
from agent.adapters.shelf.write import Permissions
from agent.jobs import overview
from agent.jobs.backup.embedded import Embedded as Source
from agent.jobs.backup.engine import Order as BackupOrder
from agent.jobs.backup.take import take
from agent.jobs.drill import scratch, standing
from agent.jobs.drill.recorded import recorded
from agent.jobs.drill.rehearse import Order, Stopped
from agent.jobs.drill.run import drill
from agent.jobs.drill.server import OnServer
from agent.jobs.drill.stage import Embedded
from agent.jobs.intake import sweep
from agent.jobs.intake.losses import Keeps
from agent.jobs.intake.reading import Outcome
from agent.jobs.intake.survey import Place
from agent.jobs.intake.verdicts import Telling, accept
from agent.rules.archive import Reading, Signature
from agent.rules.incident import Policy
from agent.rules.subjects import Subject

NOW = datetime(2027, 1, 20, 2, tzinfo=UTC).timestamp()
DAY = 86_400.0
NAMES = pattern(("*.snapshot", "*.snapshot.gz"))
TELLING = Telling(Policy(), {})
ORDER = ("primary", "secondary")
POINTS = 60


class Yard:
    """Two locations, an embedded Qdrant, a ledger, and a scratch folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.roots = {name: home / name for name in ORDER}
        for folder in (*self.roots.values(), home / "qdrant"):
            folder.mkdir()
        self.scratch = home / "scratch"
        self.db = connect(str(home / "state"), create=True)
        self.now = NOW
        self.memory = 2 << 30

    def build(self, *names: str, points: int = POINTS) -> None:
        for name in names:
            edge.build_sample(str(self.home / "qdrant"), name, points, 8)

    def backup(self, tier: str = "daily") -> str:
        """A new backup in both locations, a day after the last one."""
        self.now += DAY
        locations = {name: (str(root), None) for name, root in self.roots.items()}
        engine = Source(str(self.home / "qdrant"))
        taken = take(engine, BackupOrder(tier, locations), lambda: self.now, lambda _: "# Restore\n")
        self.look()
        return taken.id

    def look(self) -> None:
        """Find and prove everything, as the agent does."""
        places = [Place(name, str(root)) for name, root in self.roots.items()]
        for found in sweep.look_over(self.db, places, NAMES, Keeps({}, UTC), 1, lambda: self.now, TELLING):
            todo = sweep.works(self.db, found.place, found.changed, trust=True)
            for _ in sweep.prove(self.db, todo, NAMES, 1, lambda: self.now, TELLING):
                pass

    def accept(self, key: Key, seen: Signature, reading: Reading) -> None:
        accept(self.db, [Outcome(key, seen, reading=reading)], 1, self.now, TELLING)

    def subjects(self) -> list[Subject]:
        return list(standing.view(self.db, ORDER).subjects)

    def order(self, depth: str = "full", **more: object) -> Order:
        given: dict[str, object] = {
            "stage": Embedded(str(self.scratch), self.memory),
            "roots": {name: str(root) for name, root in self.roots.items()},
            "accept": self.accept,
            "depth": depth,
            "permissions": Permissions(),
            "now": lambda: self.now,
            "stopping": lambda: False,
            "progress": lambda _: None,
        }
        return Order(**(given | more))  # type: ignore[arg-type] # a test's shorthand

    def steps(
        self, subjects: list[Subject], order: Order | None = None, *, seconds: float = math.inf, deadline: float = 60.0
    ) -> Iterator[tuple[Subject, Drill | None]]:
        until = time.monotonic() + seconds
        return drill(
            self.db,
            subjects,
            order or self.order(),
            deadline=deadline,
            until=until,
            policy=TELLING.policy,
            severities=TELLING.severities,
        )

    def drill(self, collection: str = "docs", backup: str | None = None) -> Drill:
        """The newest backup of a collection, or the one named, drilled in full."""
        self.now += 60
        found = [one for one in self.subjects() if one.collection == collection and backup in {None, one.backup}]
        ((_, done),) = self.steps(found[:1])
        assert done is not None
        return done

    def archive(self, location: str, collection: str = "docs") -> Path:
        return next(self.roots[location].glob(f"daily/*/{collection}.snapshot.gz"))

    def manifests(self) -> list[Path]:
        return [next(root.glob("daily/*/manifest.json")) for root in self.roots.values()]

    def edit(self, change: Callable[[dict[str, object]], None]) -> None:
        """Change what the manifests say of the first collection."""
        for path in self.manifests():
            said = json.loads(path.read_bytes())
            change(said["collections"][0])
            path.write_text(json.dumps(said))
        self.look()

    def incidents(self) -> dict[tuple[str, str], str]:
        return {(one.rule, one.subject): one.why for one in incidents.active(self.db)}

    def levels(self) -> dict[str, tuple[str, str]]:
        (one, *_) = overview.backups(self.db)
        return {name: (copy.state, copy.level) for name, copy in one.locations.items()}


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path)
    with closing(made.db):
        yield made
    assert not made.scratch.exists() or not list(made.scratch.iterdir()), "a drill leaves nothing behind"


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(700)
        byte = file.read(1)[0]
        file.seek(700)
        file.write(bytes([byte ^ 1]))


# What passes


def test_a_sound_backup_is_proved_in_both_locations_by_one_drill(yard: Yard) -> None:
    yard.build("docs")
    backup = yard.backup()
    done = yard.drill()
    assert (done.state, done.level, done.points, done.low, done.high) == ("passed", "faithful", POINTS, POINTS, POINTS)
    assert (done.backup, done.location, done.matched) == (backup, "primary", done.asked)
    assert done.engine.startswith("qdrant-edge-py")
    assert done.raw_bytes > 0
    assert drills.between(yard.db, 0, math.inf) == [done]
    assert yard.levels() == {"primary": ("good", "faithful"), "secondary": ("good", "faithful")}
    assert yard.incidents() == {}


def test_a_light_drill_says_that_it_was_one(yard: Yard) -> None:
    yard.build("docs")
    yard.backup()
    ((_, done),) = yard.steps(yard.subjects(), yard.order("light"))
    assert done is not None
    assert (done.depth, done.state) == ("light", "passed")


def test_another_location_takes_the_place_of_a_copy_that_is_bad(yard: Yard) -> None:
    yard.build("docs")
    yard.backup()
    damage(yard.archive("primary"))
    done = yard.drill()
    assert (done.state, done.location) == ("passed", "secondary")
    assert any("primary: corrupt" in note for note in done.evidence["notes"])
    rules = [rule for rule, _ in yard.incidents()]
    assert rules == ["archive_bad", "archive_changed"], "what was read is a verdict, as everywhere"
    assert yard.levels()["primary"][0] == "bad"
    assert yard.levels()["secondary"] == ("good", "faithful")


# What fails


def test_a_backup_that_lacks_points_fails_and_the_next_one_that_is_whole_ends_it(yard: Yard) -> None:
    yard.build("docs")
    yard.backup()
    yard.edit(lambda entry: entry.update(points_before=POINTS + 9, points_after=POINTS + 9))
    done = yard.drill()
    assert done.state == "failed"
    assert f"{POINTS}" in done.why
    assert "would not restore" in yard.incidents()["drill_failed", "docs"]
    assert yard.levels() == {"primary": ("bad", "well-formed"), "secondary": ("bad", "well-formed")}
    roots = {name: str(root) for name, root in yard.roots.items()}
    assert overview.resolve(overview.backups(yard.db), "latest-good", roots) is None
    yard.backup()
    assert yard.drill().state == "passed"
    assert {rule for rule, _ in yard.incidents()} == {"archive_changed"}, "the manifest was edited"


def test_points_that_hold_something_else_are_found(yard: Yard) -> None:
    yard.build("docs")
    yard.backup()

    def forge(entry: dict[str, object]) -> None:
        points = entry["content"]["points"]  # type: ignore[index] # JSON
        points["7"] = "f" * 16

    yard.edit(forge)
    done = yard.drill()
    assert done.state == "failed"
    assert done.evidence["compared"] - done.evidence["same"] == 1


def test_an_older_backup_that_passes_does_not_end_the_failure_of_a_newer_one(yard: Yard) -> None:
    yard.build("docs")
    old = yard.backup()
    yard.backup()
    newest = max(yard.manifests()[0].parent.parent.glob("*/manifest.json"))
    for root in yard.roots.values():
        path = root / "daily" / newest.parent.name / "manifest.json"
        said = json.loads(path.read_bytes())
        said["collections"][0].update(points_before=1, points_after=1)
        path.write_text(json.dumps(said))
    yard.look()
    assert yard.drill().state == "failed"
    assert yard.drill(backup=old).state == "passed"
    assert ("drill_failed", "docs") in yard.incidents()


def test_when_no_copy_is_good_it_would_not_restore_and_a_mended_copy_is_not_blamed(yard: Yard) -> None:
    yard.build("docs")
    yard.backup()
    for location in ORDER:
        damage(yard.archive(location))
    done = yard.drill()
    assert (done.state, done.archives) == ("failed", {})
    assert "no copy of docs.snapshot.gz is good: primary: corrupt" in done.why
    for location in ORDER:
        damage(yard.archive(location))
    yard.look()
    assert yard.drill().state == "passed"
    assert yard.incidents() == {}


# What cannot be told


def test_a_scratch_disk_without_room_is_inconclusive_with_figures(yard: Yard) -> None:
    yard.build("docs")
    yard.backup()
    yard.scratch.mkdir()
    with small_disk(yard.scratch, "1m"):
        done = yard.drill()
        assert not list(yard.scratch.iterdir())
    assert done.state == "inconclusive"
    assert "1 MiB free" in done.why
    assert "are needed" in done.why
    assert yard.incidents() == {}
    assert yard.levels()["primary"] == ("good", "well-formed")


def test_a_disk_that_fills_up_on_the_way_is_inconclusive(yard: Yard) -> None:
    yard.build("docs")
    yard.backup()
    (subject,) = yard.subjects()
    unknown = replace(subject, pieces=(replace(subject.pieces[0], raw_size=0),))
    yard.scratch.mkdir()
    with small_disk(yard.scratch, "64m"):
        spare = yard.scratch / "other"
        room = os.statvfs(yard.scratch)
        done = None
        with spare.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - (64 << 10))
            original, scratch.need = scratch.need, lambda _root, _size: None
            try:
                ((_, done),) = yard.steps([unknown])
            finally:
                scratch.need = original
        spare.unlink()
        assert not list(yard.scratch.iterdir())
    assert done is not None
    assert done.state == "inconclusive"
    assert "space" in done.why


def test_what_takes_too_long_is_inconclusive_and_says_for_how_long(yard: Yard) -> None:
    yard.build("docs")
    yard.backup()
    ((_, done),) = yard.steps(yard.subjects(), deadline=0.0)
    assert done is not None
    assert (done.state, done.level) == ("inconclusive", "arrived")
    assert "0 ms" in done.why


def test_an_archive_that_is_gone_meanwhile_is_inconclusive(yard: Yard) -> None:
    yard.build("docs")
    yard.backup()
    for location in ORDER:
        yard.archive(location).rename(yard.home / location / "taken.away")
    done = yard.drill()
    assert done.state == "inconclusive"
    assert "can be read" in done.why


# Budget, and leaving off


def test_what_does_not_fit_into_the_time_that_is_left_is_not_begun(yard: Yard) -> None:
    yard.build("docs", "images")
    yard.backup()
    large = [replace(one, pieces=(replace(one.pieces[0], raw_size=1 << 44),)) for one in yard.subjects()]
    began = time.monotonic()
    steps = list(yard.steps([large[0], *yard.subjects()[1:]], seconds=30.0))
    assert [(subject.collection, done is not None) for subject, done in steps] == [("docs", False), ("images", True)]
    assert time.monotonic() - began < 30


def test_leaving_off_keeps_what_is_done_and_leaves_nothing_behind(yard: Yard) -> None:
    yard.build("docs", "images")
    yard.backup()
    asked: list[bool] = []
    steps = yard.steps(yard.subjects(), yard.order(stopping=lambda: bool(asked)))
    next(steps)
    asked.append(True)
    with pytest.raises(Stopped):
        next(steps)
    assert [one.collection for one in drills.between(yard.db, 0, math.inf)] == ["docs"]


# Archives of other programs


def loose(yard: Yard, name: str = "docs-20270121.snapshot") -> None:
    """A collection snapshot of another program, in both locations, without a word about it."""
    with edge.open_collection(str(yard.home / "qdrant"), "docs", snapshot_tar.plan) as source:
        data = b"".join(source.plan.chunks())
    for root in yard.roots.values():
        (root / "daily").mkdir(exist_ok=True)
        (root / "daily" / name).write_bytes(data)
    yard.look()


def test_the_first_drill_of_a_loose_archive_becomes_the_baseline_of_the_next(yard: Yard) -> None:
    yard.build("docs")
    loose(yard)
    first = yard.drill()
    assert (first.state, first.level, first.low) == ("passed", "restorable", None)
    paths = [root / "daily" / "docs-20270121.snapshot.baseline.json" for root in yard.roots.values()]
    assert json.loads(paths[0].read_bytes()) == json.loads(paths[1].read_bytes())
    second = yard.drill()
    assert (second.state, second.level, second.low) == ("passed", "faithful", POINTS)
    assert second.matched == second.asked > 0
    assert "first drill" in second.evidence["compared_with"]
    yard.look()
    assert yard.levels()["secondary"][1] == "faithful", "a baseline is no archive"


def test_a_baseline_that_is_of_another_archive_or_none_is_not_believed(yard: Yard) -> None:
    yard.build("docs")
    loose(yard)
    yard.drill()
    paths = [root / "daily" / "docs-20270121.snapshot.baseline.json" for root in yard.roots.values()]
    said = json.loads(paths[0].read_bytes())
    paths[0].write_text(json.dumps(said | {"sha256": "0" * 64, "points": 1}))
    paths[1].write_text("{" * 100_000)
    again = yard.drill()
    assert (again.state, again.level) == ("passed", "restorable")
    assert sum("cannot be used" in note for note in again.evidence["notes"]) == 2
    assert json.loads(paths[0].read_bytes())["points"] == POINTS, "it is made anew"


def test_a_baseline_that_cannot_be_kept_is_a_note(yard: Yard) -> None:
    yard.build("docs")
    loose(yard)
    (yard.roots["secondary"] / "daily" / "docs-20270121.snapshot.baseline.json").mkdir()
    done = yard.drill()
    assert done.state == "passed"
    assert any("could not be kept in secondary" in note for note in done.evidence["notes"])


# Manifests that mean harm


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"x" * ((16 << 20) + 1)])
def test_a_manifest_that_was_spoilt_costs_what_was_recorded_and_no_more(yard: Yard, content: bytes) -> None:
    yard.build("docs")
    yard.backup()
    roots = {name: str(root) for name, root in yard.roots.items()}
    (subject,) = yard.subjects()
    first, second = yard.manifests()
    first.write_bytes(content)
    found = recorded(subject, roots, subject.pieces[0].sha256)
    assert found.expected.low == POINTS, "the other location has it too"
    assert [note.partition(" ")[0] for note in found.notes] == [str(first)]
    second.write_bytes(content)
    found = recorded(subject, roots, subject.pieces[0].sha256)
    assert (found.expected.low, len(found.notes)) == (None, 2)


def test_a_manifest_that_is_a_link_or_speaks_of_other_archives_is_not_believed(yard: Yard) -> None:
    yard.build("docs")
    yard.backup()
    first, second = yard.manifests()
    elsewhere = yard.home / "elsewhere.json"
    first.rename(elsewhere)
    first.symlink_to(elsewhere)
    said = json.loads(second.read_bytes())
    said["collections"][0].update(sha256="0" * 64, points_after=1, points_before=1)
    second.write_text(json.dumps(said))
    done = yard.drill()
    assert (done.state, done.low) == ("passed", None)
    assert len(done.evidence["notes"]) == 2


# A cluster


def peers(yard: Yard) -> None:
    """One collection of two shards, each in the archive of a peer of its own."""
    yard.build("one", "two")
    nothing = yard.home / "nothing"
    (nothing / "segments").mkdir(parents=True)
    (nothing / "wal").mkdir()
    folder = "daily/20270121T020000Z"
    entries = []
    for peer, name in enumerate(("one", "two")):
        here = {peer: str(yard.home / "qdrant" / name), 1 - peer: str(nothing)}
        states = {
            shard: {
                "replica_state.json": json.dumps(
                    {"is_local": shard == peer, "this_peer_id": peer + 1, "peers": {str(shard + 1): "Active"}}
                ).encode(),
                "shard_config.json": b'{"type":"ReplicaSet"}',
            }
            for shard in (0, 1)
        }
        root_files = {
            "version.info": b"0.4.2",
            "config.json": b'{"params": {"vectors": {"size": 8, "distance": "Cosine"}, "shard_number": 2}}',
            "shard_key_mapping.json": b"[]",
            "payload_index.json": b'{"schema": {}}',
        }
        with edge.open_collection(str(yard.home / "qdrant"), name, snapshot_tar.plan):
            pass  # flushed, and closed again
        data = b"".join(snapshot_tar.plan(here, root_files, states).chunks())
        file = f"docs.peer-{peer + 1}.snapshot"
        for root in yard.roots.values():
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / file).write_bytes(data)
        entry = {"name": "docs", "file": file, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        entries.append({**entry, "raw_size": len(data), "peer": peer + 1, "shards": [peer]})
    counted = {"points_before": 2 * POINTS, "points_after": 2 * POINTS}
    said = {
        "id": "20270121T020000Z",
        "tier": "daily",
        "engine": {"kind": "qdrant", "version": "1.18.3"},
        "started": datetime(2027, 1, 21, 2, tzinfo=UTC).isoformat(),
        "cluster": {"shards": {"docs": {"0": {"1": "Active"}, "1": {"2": "Active"}}}},
        "collections": [{**one, **counted} for one in entries],
    }
    for root in yard.roots.values():
        (root / folder / "manifest.json").write_text(json.dumps(said))
    yard.look()


def test_the_archives_of_a_clusters_peers_are_one_collection(yard: Yard) -> None:
    peers(yard)
    done = yard.drill()
    assert (done.state, done.points, done.high) == ("passed", 2 * POINTS, 2 * POINTS), done.why
    assert sorted(done.archives.values()) == ["docs.peer-1.snapshot", "docs.peer-2.snapshot"]
    assert yard.levels()["primary"][1] == done.level


def test_a_peers_archive_that_is_bad_fails_the_collection(yard: Yard) -> None:
    peers(yard)
    for root in yard.roots.values():
        damage(root / "daily/20270121T020000Z/docs.peer-2.snapshot")
    done = yard.drill()
    assert done.state == "failed"
    assert "docs.peer-2.snapshot" in done.why


def test_a_single_scratch_server_takes_no_part_of_a_clusters_collection(yard: Yard) -> None:
    peers(yard)
    with StandIn(yard.home / "server") as server:
        stage = OnServer(Address(server.url), str(yard.home / "state"), lambda: False)
        ((_, done),) = yard.steps(yard.subjects(), yard.order(stage=stage))
        assert [one.path for one in server.requests if one.method != "GET"] == []
    assert done is not None
    assert done.state == "inconclusive"
    assert "a single server takes none" in done.why


# The scratch folder


def test_leftovers_of_dead_drills_go_and_what_lives_or_is_not_ours_stays(tmp_path: Path) -> None:
    dead, alive = tmp_path / "snapward-drill-dead", tmp_path / "snapward-drill-alive"
    other, link = tmp_path / "theirs", tmp_path / "snapward-drill-link"
    for folder in (dead / "0" / "segments", alive, other):
        folder.mkdir(parents=True)
    link.symlink_to(other)
    held = os.open(alive, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert scratch.clear(str(tmp_path)) == [str(dead)]
    finally:
        os.close(held)
    assert (alive.exists(), other.exists(), link.is_symlink(), dead.exists()) == (True, True, True, False)
    assert scratch.clear(str(tmp_path / "nowhere")) == []


def test_a_scratch_folder_is_ours_alone_and_gone_when_the_block_fails(tmp_path: Path) -> None:
    root = tmp_path / "scratch"

    def use() -> None:
        with scratch.folder(str(root)) as folder:
            assert Path(folder).stat().st_mode & 0o777 == 0o700
            (Path(folder) / "file").touch()
            assert scratch.clear(str(root)) == []
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    assert list(root.iterdir()) == []


# Who is overdue, and what is kept


def test_who_is_overdue_is_said_and_it_ends_with_a_drill_or_with_the_collection(yard: Yard) -> None:
    yard.build("docs", "images")
    yard.backup()

    def stand() -> None:
        found = standing.findings(yard.db, standing.view(yard.db, ORDER), 31 * DAY, yard.now)
        with writing(yard.db):
            incidents.observe(yard.db, found, yard.now, TELLING.policy, {})

    stand()
    assert yard.incidents() == {}
    yard.now += 40 * DAY
    stand()
    assert set(yard.incidents()) == {("drill_overdue", "docs"), ("drill_overdue", "images")}
    yard.drill("docs")
    assert set(yard.incidents()) == {("drill_overdue", "images")}
    edge_folder = yard.home / "qdrant" / "images"
    edge_folder.rename(yard.home / "images")
    yard.backup()
    stand()
    assert set(yard.incidents()) == {("drill_overdue", "images")}, "it may come back"
    yard.backup()
    stand()
    assert yard.incidents() == {}


def test_a_drill_is_kept_for_as_long_as_its_archive_is_there(yard: Yard) -> None:
    yard.build("docs")
    yard.backup()
    yard.drill()
    yard.now += 400 * DAY
    with writing(yard.db):
        runs.trim(yard.db, yard.now - 180 * DAY)
    assert yard.levels()["primary"][1] == "faithful"
    for location in ORDER:
        key = Key(location, f"daily/{yard.archive(location).parent.name}", "docs.snapshot.gz")
        with writing(yard.db):
            catalogue.vanish(yard.db, key, "gone", yard.now)
    with writing(yard.db):
        runs.trim(yard.db, yard.now - 180 * DAY)
    assert drills.between(yard.db, 0, math.inf) == []
    assert not sqlite3_rows(yard.db)


def sqlite3_rows(db: sqlite3.Connection) -> list[tuple[int]]:
    return db.execute("SELECT drill FROM drilled").fetchall()
