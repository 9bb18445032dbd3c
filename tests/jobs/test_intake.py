import contextlib
import gzip
import hashlib
import json
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest
from msgspec.structs import replace
from tars import UUID, collection, segment

import agent
from agent.adapters.ledger import catalogue, connect, incidents
from agent.adapters.ledger.catalogue import Archive, Key
from agent.adapters.shelf.look import pattern
from agent.jobs.intake import losses, sweep
from agent.jobs.intake.losses import Keeps
from agent.jobs.intake.reading import Outcome, Work, read_back
from agent.jobs.intake.survey import Place, Survey, survey
from agent.jobs.intake.verdicts import Telling, accept
from agent.rules import checksums
from agent.rules.archive import ARRIVED, INTACT, WELL_FORMED, Form, Reading, State, Stream
from agent.rules.finding import Level
from agent.rules.incident import Policy
from agent.rules.keeping import Age
from agent.rules.settle import Settling
from agent.rules.words import printable

NOW = 1_800_000_000.0
DAY = 86400.0
NAMES = pattern(("*.snapshot", "*.snapshot.gz", "*.tar.gz"))
TELLING = Telling(Policy(), {"ops": Level.WARNING})
KEEPS = Keeps({"daily": Age(30, "d")}, UTC)
MINIMUM = 64


def content(seed: int = 0, size: int = 4000) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311 - the same each time, not a secret


def archive(seed: int = 0) -> bytes:
    """A whole snapshot of a collection, which is another one for each `seed`."""
    return gzip.compress(collection(segment(more=[("seed", content(seed))])), compresslevel=1, mtime=0)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def manifest(**files: bytes) -> bytes:
    entries = [{"name": n, "file": f"{n}.snapshot.gz", "size": len(d), "sha256": sha(d)} for n, d in files.items()]
    engine = {"kind": "qdrant", "version": "1.17.0"}
    said = {"id": "20270115T080000Z", "tier": "daily", "engine": engine, "collections": entries}
    return json.dumps({**said, "started": "2027-01-15T08:00:00Z", "ended": "2027-01-15T08:00:05Z"}).encode()


class House:
    """One location with its ledger, looked after as the agent does it, but all at once."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "location"
        self.root.mkdir()
        self.db = connect(str(folder), create=True)
        self.place = Place("primary", str(self.root))
        self.now = NOW
        self.bytes_read = 0
        self.files_read: list[str] = []

    def put(self, name: str, data: bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (NOW, NOW))  # by which a loose archive's age is counted
        return path

    def survey(self, only: set[str] | None = None) -> Survey:
        return survey(self.db, self.place, NAMES, only)

    def read(self, found: Survey) -> list[Outcome]:
        outcomes = []
        for work in sweep.works(self.db, self.place, found.changed, trust=False):
            self.files_read.append(work.key.name)
            outcomes.append(read_back(work, NAMES, self._count))
        return outcomes

    def _count(self, more: int) -> None:
        self.bytes_read += more

    def round(self, only: set[str] | None = None) -> Survey:
        """Look, note what is gone, read what is new, judge it."""
        found = self.survey(only)
        if not found.root.trouble:
            losses.part_with(self.db, found, KEEPS, MINIMUM, self.now, TELLING)
            losses.returned(self.db, self.place.name, self.now, TELLING)
        accept(self.db, self.read(found), MINIMUM, self.now, TELLING)
        return found

    def get(self, name: str) -> Archive:
        folder, _, last = name.rpartition("/")
        found = catalogue.archive(self.db, Key("primary", printable(folder), printable(last)))
        assert found is not None
        return found

    def state(self, name: str) -> State:
        return self.get(name).state

    def trouble(self) -> dict[tuple[str, str], str]:
        """Every incident that is not over: its rule and subject, and why."""
        return {(one.rule, one.subject.removeprefix("primary:")): one.why for one in incidents.active(self.db)}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.db.close()


# What is promised.


def test_an_archive_that_is_as_promised_is_good(house: House) -> None:
    data = archive()
    house.put("daily/1/docs.snapshot.gz", data)
    house.put("daily/1/SHA256SUMS", checksums.line(sha(data), "docs.snapshot.gz"))
    house.put("daily/1/manifest.json", manifest(docs=data))
    house.round()
    found = house.get("daily/1/docs.snapshot.gz")
    assert (found.state, found.level) == (State.GOOD, WELL_FORMED)
    assert found.why == (
        "size and SHA-256 equal manifest.json and SHA256SUMS; gzip read to its end;"
        " a whole snapshot: 1 shard with 1 segment"
    )
    assert found.reading is not None
    assert (found.reading.size, found.reading.sha256, found.checked) == (len(data), sha(data), NOW)
    assert house.trouble() == {}
    assert house.round().changed == []


@pytest.mark.parametrize(
    "line",
    [
        "{sha}  {name}\n",
        "{sha} *{name}\n",
        "{sha}  ./{name}\r\n",
        "SHA256 ({name}) = {sha}\n",
        "# made by hand\n\n{upper}  {name}",
    ],
)
def test_sums_are_read_in_every_style_of_coreutils(house: House, line: str) -> None:
    data = archive()
    house.put("daily/a.snapshot.gz", data)
    said = line.format(sha=sha(data), upper=sha(data).upper(), name="a.snapshot.gz")
    house.put("daily/SHA256SUMS", said.encode())
    house.round()
    assert house.state("daily/a.snapshot.gz") is State.GOOD


@pytest.mark.parametrize(
    "name", [b"caf\xe9", b"two\nlines", b"back\\slash", b"return\r", b"n" * 242, "städte ☃".encode(), b" blanks "]
)
def test_sha256sum_and_the_agent_mean_the_same_file_by_every_name(house: House, name: bytes) -> None:
    file = os.fsdecode(name + b".snapshot.gz")
    house.put(f"daily/{file}", archive())
    sums = subprocess.run(["sha256sum", file], cwd=house.root / "daily", capture_output=True, check=True)
    house.put("daily/SHA256SUMS", sums.stdout)
    house.round()
    assert house.state(f"daily/{file}") is State.GOOD
    assert house.trouble() == {}
    house.put(f"daily/{file}", archive(1))
    house.round()
    assert house.state(f"daily/{file}") is State.CORRUPT
    (house.root / "daily" / file).unlink()
    house.round()
    assert house.state(f"daily/{file}") is State.VANISHED


def test_a_checksum_file_of_its_own_counts_whatever_path_it_names(house: House) -> None:
    for folder in ("a", "b"):
        house.put(f"{folder}/x.snapshot.gz", archive())
    house.put("a/x.snapshot.gz.sha256", f"{sha(archive())}  /srv/backups/x.snapshot.gz\n".encode())
    house.put("b/x.snapshot.gz.sha256", f"{sha(archive(1))}\n".encode())
    house.round()
    assert house.state("a/x.snapshot.gz") is State.GOOD
    assert house.state("b/x.snapshot.gz") is State.CORRUPT


def test_promises_that_contradict_each_other_make_an_archive_bad(house: House) -> None:
    data = archive()
    house.put("daily/1/docs.snapshot.gz", data)
    house.put("daily/1/SHA256SUMS", checksums.line(sha(archive(1)), "docs.snapshot.gz"))
    house.put("daily/1/manifest.json", manifest(docs=data))
    house.round()
    assert house.state("daily/1/docs.snapshot.gz") is State.CORRUPT
    assert "SHA256SUMS promises" in house.get("daily/1/docs.snapshot.gz").why
    (house.root / "daily/1/SHA256SUMS").unlink()
    house.round()
    assert house.state("daily/1/docs.snapshot.gz") is State.GOOD
    assert house.trouble() == {}


def test_a_promise_that_comes_later_needs_no_second_reading(house: House) -> None:
    data = archive()
    house.put("daily/a.snapshot.gz", data)
    house.round()
    assert house.state("daily/a.snapshot.gz") is State.NO_CHECKSUM
    assert ("checksum_missing", "daily") in house.trouble()
    house.put("daily/SHA256SUMS", checksums.line(sha(data), "a.snapshot.gz"))
    house.round()
    assert house.state("daily/a.snapshot.gz") is State.GOOD
    assert house.trouble() == {}
    house.put("daily/SHA256SUMS", checksums.line(sha(archive(1)), "a.snapshot.gz"))
    house.round()
    assert house.state("daily/a.snapshot.gz") is State.CORRUPT
    assert house.files_read == ["a.snapshot.gz", "SHA256SUMS", "SHA256SUMS"]
    assert house.bytes_read == len(data)


def test_a_promise_that_is_withdrawn_leaves_an_archive_uncompared_and_says_so(house: House) -> None:
    house.put("daily/a.snapshot.gz", archive())
    sums = house.put("daily/SHA256SUMS", checksums.line(sha(archive()), "a.snapshot.gz"))
    house.round()
    sums.unlink()
    house.round()
    assert house.state("daily/a.snapshot.gz") is State.NO_CHECKSUM
    assert set(house.trouble()) == {("checksum_missing", "daily")}
    house.put("daily/SHA256SUMS", checksums.line(sha(archive()), "a.snapshot.gz"))
    house.round()
    assert house.state("daily/a.snapshot.gz") is State.GOOD
    assert house.trouble() == {}


def test_an_archive_without_a_promise_that_is_gone_is_not_missed_any_more(house: House) -> None:
    house.put("daily/a.snapshot.gz", archive()).touch()
    house.round()
    assert set(house.trouble()) == {("checksum_missing", "daily")}
    (house.root / "daily/a.snapshot.gz").unlink()
    house.now += 40 * DAY
    house.round()
    assert house.trouble() == {}


def test_a_line_that_is_withdrawn_takes_back_only_its_own_promise(house: House) -> None:
    lines = [checksums.line(sha(archive(n)), f"{n}.snapshot.gz") for n in range(3)]
    for number in range(3):
        house.put(f"daily/{number}.snapshot.gz", archive(number))
    house.put("daily/SHA256SUMS", b"".join(lines))
    house.round()
    house.put("daily/SHA256SUMS", b"".join(lines[:2]))
    house.round()
    states = [house.state(f"daily/{number}.snapshot.gz") for number in range(3)]
    assert states == [State.GOOD, State.GOOD, State.NO_CHECKSUM]


@pytest.mark.parametrize(
    "name", ["docs.snapshot.gz", "caf\udce9.snapshot.gz", "two\nlines.snapshot.gz", "back\\x41.snapshot.gz"]
)
def test_what_is_promised_and_not_there_has_vanished(house: House, name: str) -> None:
    house.put("daily/here.snapshot.gz", archive())
    sums = checksums.line(sha(archive()), "here.snapshot.gz") + checksums.line(sha(b""), name)
    house.put("daily/SHA256SUMS", sums + checksums.line(sha(b""), "notes.txt"))
    house.round()
    assert house.state("daily/here.snapshot.gz") is State.GOOD
    assert house.state(f"daily/{name}") is State.VANISHED
    assert house.trouble() == {
        ("archive_bad", f"daily/{printable(name)}"): "vanished: SHA256SUMS promises it, but it is not there"
    }
    house.put(f"daily/{name}", b"")
    house.round()
    assert house.state(f"daily/{name}") is State.TRUNCATED
    house.put(f"daily/{name}", archive())
    house.put("daily/SHA256SUMS", sums.replace(sha(b"").encode(), sha(archive()).encode()))
    house.round()
    assert house.state(f"daily/{name}") is State.GOOD
    assert house.trouble() == {}


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (manifest(docs=b"")[:100], "Input data was truncated"),
        (b"", "Input data was truncated"),
        (b"[]", "Expected `object`"),
        (b'{"id": "x"}', "missing required field"),
        (b"\xff\xfe", "malformed"),
        (b'{"id": "a", "tier": "b", "engine": {}, "later": ' + b"1" * 5000 + b"}", "Integer value out of range"),
        (b"x" * (17 << 20), "17 MiB, more than the 16 MiB"),
    ],
)
def test_a_manifest_that_cannot_be_read_makes_its_backup_unknown_and_not_its_archives_strangers(
    house: House, broken: bytes, says: str
) -> None:
    house.put("daily/20270115T080000Z/docs.snapshot.gz", archive())
    path = house.put("daily/20270115T080000Z/manifest.json", broken)
    house.round()
    entry = catalogue.folder(house.db, "primary", "daily/20270115T080000Z")
    assert entry is not None
    assert (entry.backup, entry.tier, entry.engine) == ("20270115T080000Z", "daily", "unknown")
    assert says in entry.problem
    assert says in house.trouble()["checksums_unreadable", "daily/20270115T080000Z/manifest.json"]
    assert house.state("daily/20270115T080000Z/docs.snapshot.gz") is State.NO_CHECKSUM
    path.write_bytes(manifest(docs=archive()))
    house.round()
    entry = catalogue.folder(house.db, "primary", "daily/20270115T080000Z")
    assert entry is not None
    assert (entry.problem, entry.engine) == ("", "qdrant")
    assert house.state("daily/20270115T080000Z/docs.snapshot.gz") is State.GOOD
    assert house.trouble() == {}


@pytest.mark.parametrize("size", [-1, 2**62, 2**63, 2**64, 10**30])
@pytest.mark.parametrize("file", ["docs.snapshot.gz", "../../up.snapshot.gz", "", "a\x00b.snapshot.gz", "x" * 5000])
def test_no_manifest_keeps_others_from_being_judged(house: House, file: str, size: int) -> None:
    said = json.loads(manifest(docs=archive()))
    said["collections"][0] |= {"file": file, "size": size}
    house.put("daily/1/manifest.json", json.dumps(said).encode())
    house.put("daily/1/docs.snapshot.gz", archive())
    house.put("daily/2/docs.snapshot.gz", archive())
    house.put("daily/2/SHA256SUMS", checksums.line(sha(archive()), "docs.snapshot.gz"))
    house.round()
    assert house.state("daily/2/docs.snapshot.gz") is State.GOOD
    assert house.state("daily/1/docs.snapshot.gz") is not State.GOOD


def test_sums_that_nobody_can_read_are_told_and_compare_nothing(house: House) -> None:
    house.put("daily/a.snapshot.gz", archive())
    house.put("daily/SHA256SUMS", b"not a checksum\n" + checksums.line(sha(archive()), "a.snapshot.gz")[:-30])
    house.put("daily/b.snapshot.gz.sha256", b"")
    house.round()
    assert house.state("daily/a.snapshot.gz") is State.NO_CHECKSUM
    why = house.trouble()
    assert why["checksums_unreadable", "daily/SHA256SUMS"].startswith("SHA256SUMS line 1 is no checksum line")
    assert "promises nothing" in why["checksums_unreadable", "daily/b.snapshot.gz.sha256"]
    for name in ("SHA256SUMS", "b.snapshot.gz.sha256"):
        (house.root / "daily" / name).unlink()
    house.round()
    assert set(house.trouble()) == {("checksum_missing", "daily")}


def test_a_checksum_file_that_is_still_being_written_promises_nothing_yet(house: House) -> None:
    house.put("daily/a.snapshot.gz", archive())
    with (house.root / "daily/SHA256SUMS").open("wb") as slow:  # as `sha256sum * > SHA256SUMS` does while it hashes
        slow.write(checksums.line(sha(archive()), "a.snapshot.gz")[:50])
        slow.flush()
        house.round()
        assert ("checksums_unreadable", "daily/SHA256SUMS") not in house.trouble()
        slow.write(checksums.line(sha(archive()), "a.snapshot.gz")[50:])
    house.round()
    assert house.state("daily/a.snapshot.gz") is State.GOOD


# What is found.


def test_each_kind_of_damage_is_told_by_its_name(house: House) -> None:
    whole = archive()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    files = {
        "corrupt": bytes(flipped),
        "truncated": whole[:-20],
        "empty": b"",
        "longer": whole + b"x",
        "small": gzip.compress(b"", mtime=0),
    }
    lines = [checksums.line(sha(whole), f"{name}.snapshot.gz") for name in files if name != "small"]
    for name, data in files.items():
        house.put(f"daily/{name}.snapshot.gz", data)
    house.put("daily/SHA256SUMS", b"".join(lines) + checksums.line(sha(files["small"]), "small.snapshot.gz"))
    house.round()
    assert {name: str(house.state(f"daily/{name}.snapshot.gz")) for name in files} == {
        "corrupt": "corrupt",
        "truncated": "truncated",
        "empty": "truncated",
        "longer": "corrupt",
        "small": "undersized",
    }
    assert len(house.trouble()) == 5
    assert all(one.level is Level.CRITICAL for one in incidents.active(house.db))


LOST = f"0/segments/{UUID}.tar has no version.info, and a server would lose the segment"
STRANGER = gzip.compress(b"PGP MESSAGE " * 5 + content(9), mtime=0)
NONE = f"no Qdrant snapshot was found in it: does not begin as a GNU tar does, but with {('PGP MESSAGE ' * 5).strip()}"


def test_a_snapshot_that_is_not_whole_is_malformed_although_its_bytes_are_the_promised_ones(house: House) -> None:
    broken = gzip.compress(collection(segment(without="version.info")), mtime=0)
    house.put("daily/1/docs.snapshot.gz", broken)
    house.put("daily/1/manifest.json", manifest(docs=broken))
    house.put("loose/docs.snapshot.gz", broken)
    house.put("loose/other.tar.gz", broken)
    house.round()
    for name in ("daily/1/docs.snapshot.gz", "loose/docs.snapshot.gz", "loose/other.tar.gz"):
        assert (house.get(name).state, house.get(name).why) == (State.MALFORMED, LOST)
        assert house.trouble()["archive_bad", name] == f"malformed: {LOST}"
    house.put("daily/1/docs.snapshot.gz", archive())
    house.put("daily/1/manifest.json", manifest(docs=archive()))
    house.round()
    assert house.get("daily/1/docs.snapshot.gz").level == WELL_FORMED
    assert ("archive_bad", "daily/1/docs.snapshot.gz") not in house.trouble()


def test_what_is_no_snapshot_is_trouble_only_where_our_own_manifest_promises_one(house: House) -> None:
    other = STRANGER
    for folder in ("ours", "theirs"):
        house.put(f"{folder}/docs.snapshot.gz", other)
        house.put(f"{folder}/config.tar.gz", other)
    said = json.loads(manifest(docs=other))
    said["files"] = [{"file": "config.tar.gz", "size": len(other), "sha256": sha(other)}]
    house.put("ours/manifest.json", json.dumps(said).encode())
    sums = [checksums.line(sha(other), name) for name in ("docs.snapshot.gz", "config.tar.gz")]
    house.put("theirs/SHA256SUMS", b"".join(sums))
    house.round()
    found = {one.key: (one.state, one.level, one.why) for one in catalogue.archives(house.db)}
    equal = "size and SHA-256 equal {}; gzip read to its end"
    assert {f"{key.folder}/{key.name}": one for key, one in found.items()} == {
        "ours/docs.snapshot.gz": (State.MALFORMED, ARRIVED, f"manifest.json promises a snapshot, but {NONE}"),
        "ours/config.tar.gz": (State.GOOD, INTACT, equal.format("manifest.json")),
        "theirs/docs.snapshot.gz": (State.GOOD, INTACT, f"{equal.format('SHA256SUMS')}; {NONE}"),
        "theirs/config.tar.gz": (State.GOOD, INTACT, equal.format("SHA256SUMS")),
    }
    assert set(house.trouble()) == {("archive_bad", "ours/docs.snapshot.gz")}


def test_an_archive_that_is_mended_is_good_again(house: House) -> None:
    house.put("daily/a.snapshot.gz", archive()[:-1])
    house.put("daily/SHA256SUMS", checksums.line(sha(archive()), "a.snapshot.gz"))
    house.round()
    assert set(house.trouble()) == {("archive_bad", "daily/a.snapshot.gz")}
    house.put("daily/a.snapshot.gz", archive())
    house.round()
    assert house.trouble() == {}
    history = [state for _, _, state, _, _ in catalogue.verdicts(house.db, 0, NOW + 1)]
    assert history == [State.TRUNCATED, State.GOOD]


def test_bit_rot_under_an_unchanged_signature_is_found_by_reading_again(house: House) -> None:
    path = house.put("daily/a.snapshot.gz", archive())
    house.put("daily/SHA256SUMS", checksums.line(sha(archive()), "a.snapshot.gz"))
    house.round()
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"\0")
    found = list(sweep.prove(house.db, again(house), NAMES, MINIMUM, lambda: house.now, TELLING))
    assert len(found) == 1
    assert house.state("daily/a.snapshot.gz") is State.CORRUPT


def again(house: House, *, trust: bool = True) -> list[Work]:
    keys = [(one.key, None) for one in catalogue.archives(house.db)]
    return sweep.works(house.db, house.place, keys, trust=trust)


def test_what_is_no_archive_is_told_and_never_opened(house: House) -> None:
    (house.root / "daily").mkdir()
    os.mkfifo(house.root / "daily/pipe.snapshot")
    (house.root / "daily/folder.snapshot").mkdir()
    (house.root / "daily/link.snapshot").symlink_to("/etc/passwd")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(house.root / "daily/socket.snapshot"))
        house.put("daily/notes.txt", b"no archive")
        house.put("daily/.hidden.snapshot", b"no archive")
        house.round()
        assert house.files_read == []
        names = {subject: why for (rule, subject), why in house.trouble().items() if rule == "not_an_archive"}
        pipe = "is named like an archive, but is a pipe, socket or device"
        assert names == {
            "daily/pipe.snapshot": pipe,
            "daily/socket.snapshot": pipe,
            "daily/folder.snapshot": "is named like an archive, but is a folder",
            "daily/link.snapshot": "is named like an archive, but is a symbolic link; links are not followed",
        }
    for one in list((house.root / "daily").iterdir()):
        shutil.rmtree(one) if one.is_dir() else one.unlink()
    house.round({"daily"})
    assert len(house.trouble()) == 4, "only a look at everything ends them"
    house.round()
    assert house.trouble() == {}


@pytest.mark.parametrize("kind", ["a link", "a folder", "a pipe"])
def test_an_archive_in_whose_place_something_else_lies_has_vanished(house: House, kind: str) -> None:
    path = house.put("daily/a.snapshot.gz", archive())
    house.put("daily/SHA256SUMS", checksums.line(sha(archive()), "a.snapshot.gz"))
    house.round()
    assert house.state("daily/a.snapshot.gz") is State.GOOD
    path.rename(house.root / "elsewhere")
    if kind == "a link":
        path.symlink_to(house.root / "elsewhere")
    elif kind == "a folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    house.round()
    assert house.state("daily/a.snapshot.gz") is State.VANISHED
    rules = {"archive_vanished", "not_an_archive"}
    assert set(house.trouble()) == {(rule, "daily/a.snapshot.gz") for rule in rules}
    path.rmdir() if kind == "a folder" else path.unlink()
    (house.root / "elsewhere").rename(path)
    house.round()
    assert house.state("daily/a.snapshot.gz") is State.GOOD
    assert house.trouble() == {}


def test_a_file_that_is_being_written_is_not_judged(house: House) -> None:
    with house.put("daily/a.snapshot.gz", b"").open("wb") as writer:
        writer.write(archive()[:1000])
        writer.flush()
        found = house.survey()
        (outcome,) = house.read(found)
        assert outcome.moved
        assert outcome.signature == found.changed[0][1]
        accept(house.db, [outcome], MINIMUM, NOW, TELLING)
        assert catalogue.archive(house.db, outcome.key) is None
        writer.write(archive()[1000:])
    house.round()
    assert house.state("daily/a.snapshot.gz") is State.NO_CHECKSUM


def test_a_file_comes_to_rest_before_it_is_read(house: House) -> None:
    settling: Settling[Key] = Settling(2.0)
    path = house.put("daily/a.snapshot.gz", archive()[:1000])
    for moment in (0.0, 1.5, 3.0):
        for key, signature in house.survey().changed:
            settling.see(key, signature, moment)
        assert settling.ready(moment) == []
        with path.open("ab") as file:
            file.write(b"more")
    for key, signature in house.survey().changed:
        settling.see(key, signature, 4.0)
    assert settling.ready(5.9) == []
    ((key, signature),) = settling.ready(6.0)
    (work,) = sweep.works(house.db, house.place, [(key, signature)], trust=False)
    assert not read_back(work, NAMES).moved
    path.write_bytes(archive())
    assert read_back(work, NAMES).moved


def test_a_file_that_went_before_it_was_read_leaves_no_trace(house: House) -> None:
    path = house.put("daily/a.snapshot.gz", archive())
    found = house.survey()
    path.unlink()
    (outcome,) = house.read(found)
    assert (outcome.moved, outcome.signature) == (True, None)
    accept(house.db, [outcome], MINIMUM, NOW, TELLING)
    assert list(catalogue.archives(house.db)) == []


def test_sums_that_changed_since_they_were_seen_are_left_until_they_are_at_rest(house: House) -> None:
    house.put("daily/SHA256SUMS", checksums.line(sha(archive()), "a.snapshot.gz"))
    found = house.survey()
    house.put("daily/SHA256SUMS", checksums.line(sha(archive()), "b.snapshot.gz"))
    (outcome,) = house.read(found)
    assert outcome.moved


def test_an_archive_that_comes_with_its_sums_is_judged_once(house: House) -> None:
    house.put("daily/a.snapshot.gz", archive())
    house.put("daily/a.snapshot.gz.sha256", sha(archive()).encode())
    outcomes = sorted(house.read(house.survey()), key=lambda one: one.key.name)
    assert outcomes[0].reading is not None
    accept(house.db, outcomes, MINIMUM, NOW, TELLING)
    assert [state for _, _, state, _, _ in catalogue.verdicts(house.db, 0, NOW + 1)] == [State.GOOD]


def test_a_survey_of_some_folders_sees_no_others(house: House) -> None:
    for folder in ("daily/1", "daily/2", "weekly/1"):
        house.put(f"{folder}/a.snapshot.gz", archive())
    assert {key.folder for key, _ in house.survey({"daily/1"}).changed} == {"daily/1"}
    assert {key.folder for key, _ in house.survey({"daily"}).changed} == {"daily/1", "daily/2"}
    house.round()
    for folder in ("daily/1", "daily/2", "weekly/1"):
        (house.root / folder / "a.snapshot.gz").unlink()
    assert {key.folder for key in house.survey({"daily/1", "weekly"}).gone} == {"daily/1", "weekly/1"}


# What is gone.


def fill(house: House, number: int, folder: str = "daily") -> None:
    lines = [checksums.line(sha(archive(one)), f"{one}.snapshot.gz") for one in range(number)]
    for one in range(number):
        house.put(f"{folder}/{one}.snapshot.gz", archive(one))
    house.put(f"{folder}/SHA256SUMS", b"".join(lines))
    house.round()


def test_an_archive_that_is_gone_is_told_and_found_again(house: House) -> None:
    fill(house, 6)
    path = house.root / "daily/3.snapshot.gz"
    path.rename(house.root / "3.hidden")
    house.round()
    assert house.state("daily/3.snapshot.gz") is State.VANISHED
    why = "it was proved at 2027-01-15T08:00:00.000Z, and is gone; the agent has not removed it"
    assert house.trouble() == {("archive_vanished", "daily/3.snapshot.gz"): why}
    assert house.round().gone == []
    (house.root / "3.hidden").rename(path)
    house.round()
    assert house.state("daily/3.snapshot.gz") is State.GOOD
    assert house.trouble() == {}


def test_a_folder_that_is_removed_takes_its_archives_with_it(house: House) -> None:
    fill(house, 20)
    fill(house, 3, "weekly/1")
    shutil.rmtree(house.root / "weekly")
    house.round({"weekly/1"})
    gone = {subject for rule, subject in house.trouble() if rule == "archive_vanished"}
    assert gone == {f"weekly/1/{number}.snapshot.gz" for number in range(3)}
    assert len(list(catalogue.folders(house.db, "primary"))) == 1


def test_an_archive_older_than_its_tier_keeps_goes_without_a_word(house: House) -> None:
    fill(house, 3)
    fill(house, 3, "weekly")
    house.now += 31 * DAY
    for folder in ("daily", "weekly"):
        for number in range(3):
            (house.root / folder / f"{number}.snapshot.gz").unlink()
    house.round()
    assert {subject for _, subject in house.trouble()} == {f"weekly/{number}.snapshot.gz" for number in range(3)}
    assert house.get("daily/0.snapshot.gz").why == "gone at the age of 31 days; daily backups are kept 30 days"


def test_no_age_excuses_that_a_backup_of_ours_is_gone(house: House) -> None:
    house.put("daily/20270115T080000Z/docs.snapshot.gz", archive())
    house.put("daily/20270115T080000Z/manifest.json", manifest(docs=archive()))
    house.round()
    house.now = NOW + 31 * DAY
    shutil.rmtree(house.root / "daily/20270115T080000Z")
    house.round()
    assert set(house.trouble()) == {("archive_vanished", "daily/20270115T080000Z/docs.snapshot.gz")}


def test_a_bad_archive_that_is_too_old_ends_its_incident_by_going(house: House) -> None:
    house.put("daily/a.snapshot.gz", archive()[:-1])
    house.round()
    assert set(house.trouble()) == {("archive_bad", "daily/a.snapshot.gz")}
    house.now += 31 * DAY
    (house.root / "daily/a.snapshot.gz").unlink()
    house.round()
    assert house.trouble() == {}


def test_when_most_is_gone_at_once_it_is_one_incident_until_most_is_back(house: House) -> None:
    fill(house, 12)
    (house.root / "daily").rename(house.root / ".daily")
    house.round()
    assert house.trouble() == {("archives_vanished", "primary"): "12 archives of 12 vanished at once"}
    assert house.state("daily/0.snapshot.gz") is State.VANISHED
    (house.root / "daily").mkdir()
    for number in range(7):
        (house.root / f".daily/{number}.snapshot.gz").rename(house.root / f"daily/{number}.snapshot.gz")
    house.round()
    house.round()
    assert ("archives_vanished", "primary") in house.trouble()
    for number in range(7, 12):
        (house.root / f".daily/{number}.snapshot.gz").rename(house.root / f"daily/{number}.snapshot.gz")
    (house.root / ".daily/SHA256SUMS").rename(house.root / "daily/SHA256SUMS")
    house.round()
    house.round()
    assert house.trouble() == {}
    assert all(house.state(f"daily/{number}.snapshot.gz") is State.GOOD for number in range(12))


def test_when_half_is_gone_each_is_told(house: House) -> None:
    fill(house, 12)
    for number in range(6):
        (house.root / f"daily/{number}.snapshot.gz").unlink()
    house.round()
    assert {rule for rule, _ in house.trouble()} == {"archive_vanished"}
    assert len(house.trouble()) == 6


# Locations that cannot be looked at.


def everything_is_known(house: House) -> bool:
    return all(one.state is State.GOOD and one.vanished is None for one in catalogue.archives(house.db))


def test_a_location_that_is_missing_has_lost_nothing(house: House) -> None:
    fill(house, 6)
    house.root.rename(house.root.with_name("moved"))
    found = house.round()
    assert (found.root.trouble, found.gone) == ("does not exist", [])
    house.root.write_bytes(b"a file")
    found = house.round()
    assert (found.root.trouble, found.gone) == ("is not a folder", [])
    house.root.unlink()
    house.root.symlink_to("nowhere")
    assert house.round().gone == []
    assert everything_is_known(house)
    assert house.trouble() == {}


def test_a_location_whose_disk_is_not_mounted_has_lost_nothing(house: House) -> None:
    if os.geteuid():
        pytest.skip("only root can mount a file system")
    house.place = Place("primary", str(house.root / "backups"), str(house.root))
    mount = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(house.root)], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        for number in range(6):
            house.put(f"backups/daily/{number}.snapshot.gz", archive(number))
        house.round()
        assert len(list(catalogue.archives(house.db))) == 6
    finally:
        subprocess.run(["umount", str(house.root)], check=True)
    (house.root / "backups").mkdir()
    found = house.round()
    assert "nothing is mounted" in found.root.trouble
    assert found.gone == []
    assert catalogue.present(house.db, "primary") == 6


@pytest.mark.parametrize("how", ["is moved away", "is replaced", "becomes a file"])
def test_a_location_that_goes_while_it_is_looked_at_has_lost_nothing(house: House, how: str) -> None:
    fill(house, 6)
    fill(house, 6, "weekly")
    todo = [how]

    def meddle(_: str) -> None:
        if todo:
            todo.clear()
            house.root.rename(house.root.with_name("moved"))
            if how == "is replaced":
                house.root.mkdir()
            elif how == "becomes a file":
                house.root.write_bytes(b"")

    house.db.set_trace_callback(meddle)
    found = house.survey()
    house.db.set_trace_callback(None)
    assert not todo
    assert (found.gone, found.whole) == ([], False)
    losses.part_with(house.db, found, KEEPS, MINIMUM, NOW, TELLING)
    assert everything_is_known(house)
    if house.root.is_dir():
        house.root.rmdir()
    elif house.root.exists():
        house.root.unlink()
    house.root.with_name("moved").rename(house.root)
    assert house.survey().changed == []


@pytest.fixture
def open_house() -> Iterator[House]:
    """A house that every user can enter; pytest's own folders are closed."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        opened = House(Path(made))
        yield opened
        opened.db.close()


def seen_by_nobody(house: House) -> tuple[str, int, dict[str, str]]:
    """What a survey finds without the superuser's rights: trouble of the root, how many are gone, what is unread."""
    code = (
        "import json, os, sys\n"
        "from agent.adapters.ledger import connect_reader\n"
        "from agent.adapters.shelf.look import pattern\n"
        "from agent.jobs.intake.survey import Place, survey\n"
        "db = connect_reader(os.path.dirname(sys.argv[1]))\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "found = survey(db, Place('primary', sys.argv[1]), pattern(('*.snapshot.gz',)))\n"
        "print(json.dumps([found.root.trouble, len(found.gone), found.unread]))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(house.root)],
        env={**os.environ, "PYTHONPATH": str(Path(agent.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    trouble, gone, unread = json.loads(told.stdout)
    return trouble, gone, unread


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_a_location_that_may_not_be_read_has_lost_nothing(open_house: House, mode: int) -> None:
    fill(open_house, 6)
    open_house.root.chmod(mode)
    try:
        assert seen_by_nobody(open_house) == ("cannot be read by the agent's user", 0, {})
    finally:
        open_house.root.chmod(0o755)


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_a_folder_that_may_not_be_read_has_lost_nothing_and_is_told(open_house: House, mode: int) -> None:
    fill(open_house, 6, "daily/1")
    fill(open_house, 6, "weekly")
    (open_house.root / "daily").chmod(mode)
    try:
        trouble, gone, unread = seen_by_nobody(open_house)
    finally:
        (open_house.root / "daily").chmod(0o755)
    assert (trouble, gone) == ("", 0)
    assert list(unread.values()) == ["Permission denied"]
    found = open_house.survey()
    losses.part_with(open_house.db, Survey(found.place, found.root, whole=True, unread=unread), {}, 1, NOW, TELLING)
    (((rule, _), why),) = open_house.trouble().items()
    assert rule == "folder_unreadable"
    assert "cannot be listed: Permission denied" in why
    open_house.round()
    assert open_house.trouble() == {}


def test_an_archive_that_may_not_be_read_is_unreadable(open_house: House) -> None:
    fill(open_house, 2)
    path = open_house.root / "daily/1.snapshot.gz"
    path.chmod(0)
    if os.geteuid() == 0:
        with as_nobody():
            outcomes = open_house.read(open_house.survey())
    else:
        outcomes = open_house.read(open_house.survey())
    accept(open_house.db, outcomes, MINIMUM, NOW, TELLING)
    assert open_house.get("daily/1.snapshot.gz").why == "cannot be read: Permission denied"
    assert open_house.state("daily/1.snapshot.gz") is State.UNREADABLE


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


# All at once, as `verify` and `reconcile` do it.


def prove(house: House, *, trust: bool = True, stop_after: int = 10**6) -> tuple[list[Outcome], int]:
    read = [0]

    def count(more: int) -> None:
        read[0] += more

    outcomes = []
    sweeping = sweep.prove(
        house.db,
        again(house, trust=trust),
        NAMES,
        MINIMUM,
        lambda: house.now,
        TELLING,
        progress=count,
        stopping=lambda: len(outcomes) >= stop_after,
    )
    for one in sweeping:
        outcomes.append(one)  # noqa: PERF402 - it is looked at meanwhile
    return outcomes, read[0]


def test_a_sweep_reads_everything_once_and_sums_first(house: House) -> None:
    size = 0
    for number in range(6):
        data = gzip.compress(content(number, 300_000 * number), compresslevel=1, mtime=0)
        house.put(f"daily/{number}.snapshot.gz", data)
        house.put(f"daily/{number}.snapshot.gz.sha256", f"{sha(data)}\n".encode())
        size += len(data)
    todo = sweep.works(house.db, house.place, house.survey().changed, trust=True)
    read: list[int] = []
    outcomes = list(sweep.prove(house.db, todo, NAMES, 1, lambda: NOW, TELLING, progress=read.append))
    assert len(outcomes) == 12
    assert [one.promised is not None for one in outcomes[:6]] == [True] * 6
    assert sum(read) == size
    assert everything_is_known(house)


def test_what_was_inflated_once_is_only_hashed_after_that(house: House) -> None:
    fill(house, 2)
    outcomes, read = prove(house)
    assert [one.reading.stream for one in outcomes if one.reading] == [Stream.COMPLETE] * 2
    assert read == len(archive(0)) + len(archive(1))
    house.put("daily/1.snapshot.gz", archive(1)[:-1])
    outcomes, read = prove(house)
    assert read == len(archive(0)) + 2 * len(archive(1)[:-1]), "what hashes to something else is inflated after all"
    assert house.state("daily/1.snapshot.gz") is State.TRUNCATED


def test_what_is_trusted_is_not_inflated(house: House) -> None:
    # Proof by a trick: a file that is no gzip, under the hash of one that was inflated to its end.
    path = house.put("a.snapshot.gz", b"plain " * 100)
    key = Key("primary", "", "a.snapshot.gz")
    earlier = Reading(600, sha(path.read_bytes()), Stream.COMPLETE, "", "", 9.0, Form.SNAPSHOT, "a whole snapshot")
    trusted = read_back(Work(key, str(path), None, earlier), NAMES)
    assert trusted.reading is not None
    assert replace(trusted.reading, seconds=9.0) == earlier
    assert trusted.reading.seconds < 9
    bomb = gzip.compress(bytes(100 << 20), compresslevel=9, mtime=0)
    path.write_bytes(bomb)
    hashed = read_back(Work(key, str(path), None, replace(earlier, sha256=sha(bomb))), NAMES).reading
    inflated = read_back(Work(key, str(path), None), NAMES).reading
    assert hashed is not None
    assert inflated is not None
    assert hashed.seconds < inflated.seconds / 5
    path.write_bytes(b"plain " * 100)
    other = read_back(Work(key, str(path), None, replace(earlier, sha256=sha(b"other"))), NAMES)
    assert other.reading is not None
    assert (other.reading.stream, other.reading.form) == (Stream.PLAIN, Form.OTHER)


def forget_the_form(house: House) -> None:
    """Leave the readings as a version that knew nothing of them has written them."""
    rows = house.db.execute("SELECT id, reading FROM archive").fetchall()
    for number, reading in rows:
        older = {name: value for name, value in json.loads(reading).items() if not name.startswith("form")}
        house.db.execute("UPDATE archive SET reading = ?, level = 'intact' WHERE id = ?", (json.dumps(older), number))


def test_what_an_older_version_has_read_is_inflated_once_more_and_then_believed(house: House) -> None:
    fill(house, 2)
    forget_the_form(house)
    assert [one.proved for one in again(house)] == [None, None]
    for _ in range(2):
        prove(house)
        assert {one.level for one in catalogue.archives(house.db)} == {WELL_FORMED}
        assert all(one.proved is not None and one.proved.form is Form.SNAPSHOT for one in again(house))
    assert [one.proved for one in again(house, trust=False)] == [None, None]


def test_after_an_upgrade_nothing_is_read_before_somebody_asks(house: House) -> None:
    fill(house, 2)
    forget_the_form(house)
    house.files_read.clear()
    assert house.round().changed == []
    house.put("daily/SHA256SUMS", (house.root / "daily/SHA256SUMS").read_bytes() + b"# again\n")
    house.round()
    assert house.files_read == ["SHA256SUMS"]
    assert [(one.state, one.level) for one in catalogue.archives(house.db)] == [(State.GOOD, INTACT)] * 2


def test_content_that_was_no_snapshot_stays_none_when_it_is_only_hashed(house: House) -> None:
    house.put("daily/a.snapshot.gz", STRANGER)
    house.put("daily/SHA256SUMS", checksums.line(sha(STRANGER), "a.snapshot.gz"))
    house.round()
    first = house.get("daily/a.snapshot.gz")
    house.now += DAY
    prove(house)
    second = house.get("daily/a.snapshot.gz")
    assert (first.state, first.level, first.why) == (second.state, second.level, second.why)
    assert second.level == INTACT
    assert second.checked == house.now


def test_a_sweep_that_is_stopped_keeps_what_it_has_judged(house: House) -> None:
    fill(house, 10)
    house.now += DAY
    outcomes, _ = prove(house, stop_after=0)
    assert outcomes == []
    for number in range(12):
        house.put(f"large/{number}.snapshot", content(number, 1_200_000))
    house.round()
    house.now += DAY
    outcomes, _ = prove(house, stop_after=1)
    assert 1 <= len(outcomes) <= 14, "ten small ones, and large ones that were in somebody's hands"
    checked = [one for one in catalogue.archives(house.db) if one.checked == house.now]
    assert len(checked) == len(outcomes)


def test_a_look_over_all_locations_goes_past_the_one_that_is_missing(house: House, tmp_path: Path) -> None:
    fill(house, 3)
    (house.root / "daily/1.snapshot.gz").unlink()
    places = [Place("secondary", str(tmp_path / "gone")), house.place]
    found = sweep.look_over(house.db, places, NAMES, KEEPS, MINIMUM, lambda: NOW, TELLING)
    assert [(one.root.trouble, len(one.gone)) for one in found] == [("does not exist", 0), ("", 1)]
    assert set(house.trouble()) == {("archive_vanished", "daily/1.snapshot.gz")}


def test_a_verdict_that_cannot_be_written_down_is_written_down_not_at_all(house: House) -> None:
    fill(house, 3)
    house.put("daily/1.snapshot.gz", archive(1)[:-1])
    house.put("daily/9.snapshot.gz", b"")
    outcomes = house.read(house.survey())
    house.db.execute("CREATE TRIGGER full BEFORE INSERT ON news BEGIN SELECT raise(ABORT, 'no'); END")
    with pytest.raises(sqlite3.IntegrityError):
        accept(house.db, outcomes, MINIMUM, NOW, TELLING)
    assert everything_is_known(house)
    assert house.trouble() == {}
    house.db.execute("DROP TRIGGER full")
    accept(house.db, outcomes, MINIMUM, NOW, TELLING)
    assert sorted(house.trouble()) == [
        ("archive_bad", "daily/1.snapshot.gz"),
        ("archive_bad", "daily/9.snapshot.gz"),
        ("archive_changed", "daily/1.snapshot.gz"),
    ]
