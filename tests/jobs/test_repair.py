import contextlib
import gzip
import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace
from small_disk import small_disk
from tars import collection, segment

from agent.adapters import host
from agent.adapters.ledger import catalogue, connect, deeds, writing
from agent.adapters.ledger.catalogue import Folder, Key
from agent.adapters.shelf import look
from agent.adapters.shelf.read import read
from agent.adapters.shelf.write import Permissions
from agent.jobs.repair import known, rights
from agent.jobs.repair.mend import Bench, Done, Stopped, repair, settle, tidy
from agent.rules import archive as rules
from agent.rules import manifest
from agent.rules.archive import Promise
from agent.rules.names import backup_id
from agent.rules.repair import Item, Location, Plan, plan

NOW = 1_800_000_000.0
UTC = ZoneInfo("UTC")
PATH = "daily/20270115T080000Z"


def content(seed: int, size: int = 4000) -> bytes:
    seeded = random.Random(seed).randbytes(size)  # noqa: S311 - the same each time, not a secret
    return gzip.compress(collection(segment(more=[("seed", seeded)])), compresslevel=1, mtime=0)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def described(files: dict[str, bytes], tier: str = "daily", name: str = "20270115T080000Z") -> bytes:
    entries = [{"name": n, "file": f"{n}.snapshot.gz", "size": len(d), "sha256": sha(d)} for n, d in files.items()]
    said = {"id": name, "tier": tier, "engine": {"kind": "edge"}, "collections": entries}
    return json.dumps({**said, "started": "2027-01-15T08:00:00Z", "ended": "2027-01-15T08:00:05Z"}).encode()


class Pair:
    """Two locations and a ledger that knows what lies in them."""

    def __init__(self, folder: Path) -> None:
        self.roots = {name: folder / name for name in ("primary", "secondary")}
        for root in self.roots.values():
            root.mkdir()
        self.db: sqlite3.Connection = connect(str(folder), create=True)
        self.mounts: dict[str, str | None] = dict.fromkeys(self.roots)
        self.stop = False
        self.watch: Callable[[int], None] = lambda _: None

    def bench(self, **changed: object) -> Bench:
        places = {name: (str(root), self.mounts[name]) for name, root in self.roots.items()}

        def heard(more: int) -> None:
            self.watch(more)

        made = Bench(places, Permissions(), True, "tester", lambda: NOW, heard, lambda: self.stop)
        return replace(made, **changed)

    def put(self, location: str, files: dict[str, bytes], path: str = PATH) -> Path:
        folder = self.roots[location] / path
        folder.mkdir(parents=True)
        for name, data in files.items():
            (folder / f"{name}.snapshot.gz").write_bytes(data)
        sums = "".join(f"{sha(data)}  {name}.snapshot.gz\n" for name, data in files.items())
        (folder / "SHA256SUMS").write_text(sums, encoding="ascii")
        (folder / "RESTORE.md").write_text("how to", encoding="ascii")
        (folder / "manifest.json").write_bytes(described(files, *path.split("/")))
        return folder

    def learn(self, location: str, path: str = PATH) -> None:
        """Note what lies there, as intake does."""
        folder = self.roots[location] / path
        said = manifest.decode((folder / "manifest.json").read_bytes())
        promised = manifest.promises(said)
        entry = Folder(location, path, said.tier, said.id, "edge", NOW - 9000, NOW - 8000)
        with writing(self.db):
            catalogue.record_folder(self.db, replace(entry, manifest=manifest.encode(manifest.bare(said)).decode()))
            seen = look.signature(str(folder / "manifest.json"))
            assert seen is not None
            catalogue.record_sums(self.db, Key(location, path, "manifest.json"), seen, promised, "")
            for name, promise in promised.items():
                self._judge(Key(location, path, name), folder / name, promise)

    def _judge(self, key: Key, file: Path, promise: Promise) -> None:
        if not file.exists():
            catalogue.vanish(self.db, key, "it is not there", NOW)
            return
        reading, seen = read(str(file), None)
        verdict = rules.judge(reading, (promise,), 64, file.name)
        catalogue.record(self.db, key, seen, reading, verdict, NOW)

    def plan(self) -> Plan:
        here = [Location(name=name, policies={}) for name in self.roots]
        begun = [(one.location, one.path) for one in deeds.unfinished(self.db, "repair")]
        return plan(known.backups(self.db, list(self.roots), NOW), here, NOW, UTC, begun=begun)

    def repair(self, items: tuple[Item, ...] | None = None, **changed: object) -> list[Done]:
        return list(repair(self.db, self.plan().items if items is None else items, self.bench(**changed)))

    def deeds(self, kind: str = "repair") -> list[tuple[str, str]]:
        return [(one.path, one.outcome) for one in deeds.since(self.db, 0) if one.kind == kind]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.db.close()


def tree(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()}


def two(seed: int = 1) -> dict[str, bytes]:
    return {"a": content(seed), "b": content(seed + 1)}


def test_a_missing_copy_is_made_whole_with_all_that_belongs_to_it(pair: Pair) -> None:
    folder = pair.put("primary", two())
    (folder / "a.snapshot.gz.baseline.json").write_text("{}", encoding="ascii")
    (folder / "notes of somebody").write_text("private", encoding="ascii")
    os.utime(folder / "a.snapshot.gz", (NOW, NOW))
    pair.learn("primary")
    (done,) = pair.repair()
    assert (done.why, done.made, done.aside) == ("", 6, 0)
    copy = pair.roots["secondary"] / PATH
    expected = tree(folder)
    del expected["notes of somebody"]
    assert tree(copy) == expected
    assert (copy / "a.snapshot.gz").stat().st_mtime == NOW
    assert pair.deeds() == [(PATH, f"6 files, {rules.size(done.size)}, made from primary")]
    assert not (pair.roots["secondary"] / ".repairing").exists()


def test_a_source_that_is_not_what_was_proved_makes_nothing(pair: Pair) -> None:
    folder = pair.put("primary", two())
    pair.learn("primary")
    data = bytearray((folder / "b.snapshot.gz").read_bytes())
    data[99] ^= 1
    (folder / "b.snapshot.gz").write_bytes(data)
    (done,) = pair.repair()
    assert "has another SHA-256 than was proved" in done.why
    assert tree(pair.roots["secondary"]) == {}
    assert pair.deeds()[0][1].startswith("not done: ")


def test_a_manifest_that_is_not_the_one_that_was_read_comes_along_with_nothing(pair: Pair) -> None:
    folder = pair.put("primary", two())
    pair.learn("primary")
    (folder / "manifest.json").write_bytes(described(two(7)))
    (done,) = pair.repair()
    assert "is not the one that was read" in done.why
    assert tree(pair.roots["secondary"]) == {}
    assert pair.deeds() == []


def test_each_copy_mends_what_the_other_has_bad(pair: Pair) -> None:
    files = two()
    one, other = pair.put("primary", files), pair.put("secondary", files)
    (one / "a.snapshot.gz").write_bytes(files["a"][:-9])
    (other / "b.snapshot.gz").unlink()
    pair.learn("primary")
    pair.learn("secondary")
    assert [done.why for done in pair.repair()] == ["", ""]
    assert tree(one) == tree(other)
    assert (one / "a.snapshot.gz").read_bytes() == files["a"]
    aside = pair.roots["primary"] / ".quarantine" / PATH
    assert (aside / "a.snapshot.gz").read_bytes() == files["a"][:-9]
    assert json.loads((aside / "a.snapshot.gz.verdict.json").read_bytes())["state"] == "truncated"


def test_a_file_that_changed_since_it_was_judged_is_not_touched(pair: Pair) -> None:
    files = two()
    pair.put("primary", files)
    other = pair.put("secondary", files)
    (other / "a.snapshot.gz").write_bytes(b"bad" * 100)
    pair.learn("primary")
    pair.learn("secondary")
    (other / "a.snapshot.gz").write_bytes(files["a"])
    (done,) = pair.repair()
    assert "has changed since it was read" in done.why
    assert tree(other)["a.snapshot.gz"] == files["a"]
    assert not (pair.roots["secondary"] / ".quarantine").exists()


def test_a_second_bad_file_of_the_same_name_lies_beside_the_first(pair: Pair) -> None:
    files = two()
    pair.put("primary", files)
    other = pair.put("secondary", files)
    pair.learn("primary")
    for number in (1, 2):
        (other / "a.snapshot.gz").write_bytes(b"bad" * 100 * number)
        pair.learn("secondary")
        assert [done.why for done in pair.repair()] == [""]
    aside = pair.roots["secondary"] / ".quarantine" / PATH
    assert {path.name: path.stat().st_size for path in aside.iterdir() if not path.name.endswith(".json")} == {
        "a.snapshot.gz": 300,
        "a.snapshot.gz.2": 600,
    }
    assert (aside / "a.snapshot.gz.2.verdict.json").exists()


def test_without_quarantine_a_bad_file_stays_and_its_place_is_taken(pair: Pair) -> None:
    files = two()
    pair.put("primary", files)
    other = pair.put("secondary", files)
    (other / "a.snapshot.gz").write_bytes(b"bad" * 100)
    pair.learn("primary")
    pair.learn("secondary")
    (done,) = pair.repair(quarantine=False)
    assert "repair.quarantine keeps them" in done.why
    assert (other / "a.snapshot.gz").read_bytes() == b"bad" * 100


def test_what_somebody_asked_for_is_finished_by_itself_after_a_death(pair: Pair) -> None:
    files = two()
    pair.put("primary", files)
    other = pair.put("secondary", files)
    pair.learn("primary")
    pair.learn("secondary")
    (other / "a.snapshot.gz").write_bytes(b"bad" * 100)
    pair.learn("secondary")
    assert pair.plan().automatic == ()
    with writing(pair.db):
        deeds.begin(pair.db, "repair", "secondary", PATH, "corrupt", "tester", NOW - 60)
    assert [done.why for done in pair.repair(pair.plan().automatic)] == [""]
    assert (other / "a.snapshot.gz").read_bytes() == files["a"]
    assert len(pair.deeds()) == 1
    assert deeds.unfinished(pair.db, "repair") == []


def test_a_death_after_the_bad_file_was_moved_aside_moves_it_no_second_time(pair: Pair) -> None:
    files = two()
    pair.put("primary", files)
    other = pair.put("secondary", files)
    (other / "a.snapshot.gz").write_bytes(b"bad" * 100)
    pair.learn("primary")
    pair.learn("secondary")
    aside = pair.roots["secondary"] / ".quarantine" / PATH
    aside.mkdir(parents=True)
    os.link(other / "a.snapshot.gz", aside / "a.snapshot.gz")
    with writing(pair.db):
        deeds.begin(pair.db, "repair", "secondary", PATH, "corrupt", "tester", NOW - 60)
        deeds.begin(pair.db, "quarantine", "secondary", f"{PATH}/a.snapshot.gz", "corrupt", "tester", NOW - 60)
    assert [done.why for done in pair.repair(pair.plan().automatic)] == [""]
    assert (other / "a.snapshot.gz").read_bytes() == files["a"]
    assert (aside / "a.snapshot.gz").read_bytes() == b"bad" * 100
    assert {path.name for path in aside.iterdir()} == {"a.snapshot.gz", "a.snapshot.gz.verdict.json"}
    assert deeds.unfinished(pair.db, "repair") == deeds.unfinished(pair.db, "quarantine") == []


def test_a_death_after_all_was_in_its_place_is_noted_as_done(pair: Pair) -> None:
    files = two()
    for name in pair.roots:
        pair.put(name, files)
        pair.learn(name)
    with writing(pair.db):
        deeds.begin(pair.db, "repair", "secondary", PATH, "corrupt", "tester", NOW - 60)
        deeds.begin(pair.db, "quarantine", "secondary", f"{PATH}/a.snapshot.gz", "corrupt", "tester", NOW - 60)
    settle(pair.db, {("secondary", PATH)}, pair.bench())
    assert len(deeds.unfinished(pair.db, "repair")) == len(deeds.unfinished(pair.db, "quarantine")) == 1
    settle(pair.db, set(), pair.bench())
    assert deeds.unfinished(pair.db, "repair") == deeds.unfinished(pair.db, "quarantine") == []


def test_what_a_dead_repair_left_is_taken_away(pair: Pair) -> None:
    left = pair.roots["secondary"] / ".repairing" / PATH
    left.mkdir(parents=True)
    (left / "a.snapshot.gz").write_bytes(b"half")
    tidy(pair.bench())
    assert list(pair.roots["secondary"].iterdir()) == []


def test_it_leaves_off_when_asked_and_goes_on_next_time(pair: Pair) -> None:
    pair.put("primary", two())
    pair.learn("primary")

    def stop(_more: int) -> None:
        pair.stop = True

    pair.watch = stop
    with pytest.raises(Stopped):
        pair.repair()
    assert tree(pair.roots["secondary"]) == {}
    assert len(deeds.unfinished(pair.db, "repair")) == 1
    pair.stop, pair.watch = False, lambda _: None
    assert [done.why for done in pair.repair()] == [""]
    assert len(pair.deeds()) == 1


def test_what_was_left_of_a_copy_stays_or_is_moved_aside(pair: Pair) -> None:
    folder = pair.put("primary", two())
    pair.learn("primary")
    left = pair.roots["secondary"] / PATH
    left.mkdir(parents=True)
    (left / "RESTORE.md").write_text("how not to", encoding="ascii")
    shutil.copy(folder / "SHA256SUMS", left)
    assert [done.why for done in pair.repair()] == [""]
    assert tree(left) == tree(folder)
    aside = pair.roots["secondary"] / ".quarantine" / PATH
    assert {path.name for path in aside.iterdir()} == {"RESTORE.md", "RESTORE.md.verdict.json"}


def test_a_copy_that_went_meanwhile_is_not_published_in_part(pair: Pair) -> None:
    files = two()
    pair.put("primary", files)
    other = pair.put("secondary", files)
    (other / "a.snapshot.gz").write_bytes(b"bad" * 100)
    pair.learn("primary")
    pair.learn("secondary")
    items = pair.plan().items
    shutil.rmtree(other)
    (done,) = pair.repair(items)
    assert "has gone meanwhile" in done.why
    assert tree(pair.roots["secondary"]) == {}


def test_an_archive_that_has_come_meanwhile_is_not_written_over(pair: Pair) -> None:
    files = two()
    pair.put("primary", files)
    pair.learn("primary")
    items = pair.plan().items
    (pair.roots["secondary"] / PATH).mkdir(parents=True)
    (pair.roots["secondary"] / PATH / "a.snapshot.gz").write_bytes(b"somebody's")
    (done,) = pair.repair(items)
    assert "has come meanwhile" in done.why
    assert tree(pair.roots["secondary"]) == {f"{PATH}/a.snapshot.gz": b"somebody's"}


@pytest.fixture
def on_disk(pair: Pair) -> Iterator[Pair]:
    """The secondary is a disk of its own."""
    pair.mounts["secondary"] = str(pair.roots["secondary"])
    with small_disk(pair.roots["secondary"], "2m"):
        yield pair


def test_a_disk_that_goes_away_in_the_middle_has_nothing_written_below_its_mount_point(on_disk: Pair) -> None:
    pair = on_disk
    pair.put("primary", two())
    pair.learn("primary")

    def pull(_more: int) -> None:
        if os.path.ismount(pair.roots["secondary"]):
            subprocess.run(["umount", "--lazy", str(pair.roots["secondary"])], check=True)

    pair.watch = pull
    (done,) = pair.repair()
    assert "went away in the middle" in done.why
    assert list(pair.roots["secondary"].iterdir()) == []
    (done,) = pair.repair()
    assert "nothing is mounted at" in done.why
    assert list(pair.roots["secondary"].iterdir()) == []


def test_two_days_without_the_secondary_are_caught_up_when_it_is_back(pair: Pair, tmp_path: Path) -> None:
    """Backups at 02:00 and 14:00, and the agent's look every ten minutes, all the time that the disk is away."""
    disk, point = tmp_path / "disk", pair.roots["secondary"]
    disk.mkdir()
    pair.mounts["secondary"] = str(point)
    hour, now, made = 3600.0, NOW, 0
    with small_disk(disk, "8m"):
        for tick in range(6 * 49):
            now = NOW + tick * 600
            if tick % 72 == 0:
                path = f"daily/{backup_id(now)}"
                pair.put("primary", two(made), path)
                pair.learn("primary", path)
                made += 1
            if tick == 6 * 48:
                subprocess.run(["mount", "--bind", str(disk), str(point)], check=True)
            away = host.root(str(point), str(point)).trouble
            here = [Location(name="primary", policies={}), Location(name="secondary", policies={}, away=away)]
            found = plan(known.backups(pair.db, list(pair.roots), now), here, now, UTC)
            for done in pair.repair(found.automatic):
                assert done.why == ""
                pair.learn("secondary", done.item.backup.path)
            assert bool(list(point.iterdir())) == (tick >= 6 * 48)
        assert made == 5
        assert now - NOW > 48 * hour
        assert tree(point) == tree(pair.roots["primary"])
        subprocess.run(["umount", str(point)], check=True)
    assert list(point.iterdir()) == []


def test_another_disk_in_its_place_is_not_written_to(on_disk: Pair) -> None:
    pair = on_disk
    pair.put("primary", two())
    pair.learn("primary")

    def swap(_more: int) -> None:
        pair.watch = lambda _: None
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(pair.roots["secondary"])], check=True)

    pair.watch = swap
    (done,) = pair.repair()
    assert "went away in the middle" in done.why
    assert list(pair.roots["secondary"].iterdir()) == []
    subprocess.run(["umount", str(pair.roots["secondary"])], check=True)


def test_a_disk_without_room_is_not_begun_with(on_disk: Pair) -> None:
    pair = on_disk
    pair.put("primary", {"a": content(1, 1_200_000)})
    pair.learn("primary")
    (done,) = pair.repair()
    assert "free; the repair needs" in done.why
    assert list(pair.roots["secondary"].iterdir()) == []
    assert pair.deeds() == []


def test_a_disk_that_fills_up_in_the_middle_keeps_no_half_copy(on_disk: Pair) -> None:
    pair = on_disk
    subprocess.run(["mount", "-o", "remount,size=4m", str(pair.roots["secondary"])], check=True)
    pair.put("primary", {"a": content(1, 1_500_000), "b": content(2, 1_000_000)})
    pair.learn("primary")

    def fill(_more: int) -> None:
        pair.watch = lambda _: None
        with (pair.roots["secondary"] / "somebody's").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 12))

    pair.watch = fill
    (done,) = pair.repair()
    assert "No space left" in done.why
    assert str(pair.roots["secondary"]) in done.why
    assert [one.name for one in pair.roots["secondary"].iterdir()] == ["somebody's"]


def test_rights_are_looked_at_once_an_hour_and_those_of_strangers_never(pair: Pair) -> None:
    folder = pair.put("primary", two())
    pair.learn("primary")
    stranger = pair.roots["primary"] / "stranger"
    stranger.mkdir(mode=0o777)
    for path in [folder, folder.parent]:
        path.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o640)
    assert rights.due(pair.db, NOW)
    assert not rights.due(pair.db, NOW + 3599)
    assert rights.due(pair.db, NOW + 3600)
    root = str(pair.roots["primary"])
    seen = rights.look(pair.db, "primary", root, None, Permissions())
    assert seen is not None
    assert (seen.found, seen.seen) == ((), 7)
    folder.chmod(0o2755)
    inherited = rights.look(pair.db, "primary", root, None, Permissions())
    assert inherited is not None
    assert inherited.found == ()
    other = rights.look(pair.db, "primary", root, None, Permissions(owner=os.geteuid() + 1))
    assert other is not None
    assert len(other.found) == 7
    assert "belongs to user" in rights.finding(other).why


def test_a_link_in_the_place_of_a_file_is_not_followed_when_rights_are_set(pair: Pair, tmp_path: Path) -> None:
    folder = pair.put("primary", two())
    pair.learn("primary")
    secret = tmp_path / "secret"
    secret.write_text("private", encoding="ascii")
    secret.chmod(0o600)
    (folder / "RESTORE.md").unlink()
    (folder / "RESTORE.md").symlink_to(secret)
    root = str(pair.roots["primary"])
    seen = rights.look(pair.db, "primary", root, None, Permissions())
    assert seen is not None
    rights.mend(pair.db, seen, (root, None), Permissions(), "tester", NOW)
    assert secret.stat().st_mode & 0o777 == 0o600
    again = rights.look(pair.db, "primary", root, None, Permissions())
    assert again is not None
    assert again.found == ()


def test_what_vanished_under_an_hour_of_copying_is_found_by_the_next_look(pair: Pair) -> None:
    pair.put("primary", two())
    pair.learn("primary")
    items = pair.plan().items
    shutil.rmtree(pair.roots["primary"] / PATH)
    (done,) = pair.repair(items)
    assert "cannot be read" in done.why
    assert tree(pair.roots["secondary"]) == {}
