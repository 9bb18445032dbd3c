import contextlib
import errno
import gzip
import hashlib
import json
import os
import random
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from small_disk import small_disk
from tars import collection, segment

from agent.adapters import edge
from agent.adapters.ledger import catalogue, connect
from agent.adapters.shelf import direct, write
from agent.adapters.shelf.look import pattern
from agent.adapters.shelf.write import Permissions
from agent.errors import AgentError, BadConfig, CannotWrite, Refused, TryLater, Unreachable
from agent.jobs.backup import command
from agent.jobs.backup.embedded import Embedded, Pieces
from agent.jobs.backup.engine import About, Halted, Order, Piece, Surroundings
from agent.jobs.backup.take import Taken, clean_leftovers, take
from agent.jobs.intake import sweep
from agent.jobs.intake.losses import Keeps
from agent.jobs.intake.survey import Place
from agent.jobs.intake.verdicts import Telling
from agent.rules.archive import INTACT, WELL_FORMED, State
from agent.rules.incident import Policy
from agent.rules.manifest import Failure, Manifest, decode

NOW = datetime(2027, 1, 15, 2, tzinfo=UTC).timestamp()
IDENTITY = "20270115T020000Z"
NAMES = pattern(("*.snapshot.gz", "*.tar.gz"))
MIB = 1 << 20


# An engine whose collections are bytes in memory.


class Stream(Struct, frozen=True):
    raw_size: int
    pieces: tuple[bytes | AgentError | Callable[[], object], ...]

    def chunks(self) -> Iterator[bytes]:
        for one in self.pieces:
            if isinstance(one, bytes):
                yield one
            elif isinstance(one, AgentError):
                raise one
            else:
                one()


class Held:
    tries = 1

    def __init__(self, plan: Stream) -> None:
        self._plan = plan
        self.size = plan.raw_size

    @contextlib.contextmanager
    def stream(self) -> Iterator[Pieces]:
        yield Pieces(self._plan.chunks())

    def confirm(self, size: int, sha256: str) -> None:
        if size != self.size:
            raise TryLater(f"{size} bytes came instead of {self.size}")

    def about(self) -> About:
        return About(points_before=7, points_after=7, shards=(0, 1), payload_schema={"city": "keyword"})


class Memory:
    def __init__(self, plans: Mapping[str, Stream | AgentError], sizes: Mapping[str, int] | None = None) -> None:
        self._plans = plans
        self._sizes = sizes or {}

    def collections(self) -> list[str]:
        return sorted(self._plans)

    def pieces(self, names: list[str]) -> tuple[list[Piece], list[Failure]]:
        return [Piece(name) for name in names], []

    def sizes(self, names: list[str]) -> Mapping[str, int]:
        return self._sizes

    def room(self, sizes: Mapping[str, int], parallel: int) -> None:
        pass

    @contextlib.contextmanager
    def open(self, piece: Piece, halted: Halted) -> Iterator[Held]:
        plan = self._plans[piece.collection]
        if isinstance(plan, AgentError):
            raise plan
        yield Held(plan)

    def surroundings(self) -> Surroundings:
        return Surroundings(engine={"kind": "memory", "version": "memory 1"})

    def gaps(self, done: list[tuple[Piece, tuple[int, ...]]]) -> list[Failure]:
        return []


def stream(*pieces: bytes | AgentError | Callable[[], object], size: int | None = None) -> Stream:
    length = sum(len(one) for one in pieces if isinstance(one, bytes))
    return Stream(length if size is None else size, pieces)


def content(seed: int, size: int = 100_000) -> bytes:
    return random.Random(seed).randbytes(size // 2) + bytes(size - size // 2)  # noqa: S311 - no secret


# Two locations, and what must hold of them whatever happened.


class Shelves:
    def __init__(self, folder: Path) -> None:
        self.roots = {name: folder / name for name in ("primary", "secondary")}
        for root in self.roots.values():
            root.mkdir()

    def order(self, **more: Any) -> Order:
        locations = {name: (str(root), None) for name, root in self.roots.items()}
        return Order(**{"tier": "daily", "locations": locations, "parallel": 2, **more})

    def take(self, collections: Mapping[str, Stream | AgentError], **more: Any) -> Taken:
        given = {name: more.pop(name) for name in ("stopping", "progress") if name in more}
        return take(
            Memory(collections, more.pop("sizes", None)),
            self.order(**more),
            lambda: NOW,
            lambda _: "# Restore\n",
            **given,
        )

    def folder(self, location: str) -> Path:
        return self.roots[location] / "daily" / IDENTITY

    def published(self) -> set[str]:
        return {name for name in self.roots if self.folder(name).exists()}

    def content(self, location: str, collection: str) -> bytes:
        return gzip.decompress((self.folder(location) / f"{collection}.snapshot.gz").read_bytes())


@pytest.fixture
def shelves(tmp_path: Path) -> Shelves:
    return Shelves(tmp_path)


def tree(root: Path) -> set[str]:
    return {str(one.relative_to(root)) for one in root.rglob("*")}


def is_sound(folder: Path, collections: Mapping[str, bytes]) -> Manifest:
    """Whether a published folder holds what it says, and nothing else, as coreutils and gunzip see it."""
    described = decode((folder / "manifest.json").read_bytes())
    files = [one.file for one in described.collections] + [one.file for one in described.files]
    assert tree(folder) == {*files, "manifest.json", "SHA256SUMS", "RESTORE.md"}
    assert {one.name for one in described.collections} == set(collections)
    if files:
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
        subprocess.run(["gunzip", "--test", *files], cwd=folder, check=True)
    for one in described.collections:
        raw = collections[one.name]
        packed = (folder / one.file).read_bytes()
        assert gzip.decompress(packed) == raw
        assert (one.size, one.sha256) == (len(packed), hashlib.sha256(packed).hexdigest())
        assert (one.raw_size, one.raw_sha256) == (len(raw), hashlib.sha256(raw).hexdigest())
    return described


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


FAILING = frozenset(
    ["open", "write", "fsync", "fchmod", "chmod", "mkdir", "rename", "replace", "unlink", "preadv", "fdatasync"]
)


class FailingDisks:
    """The `os` module, in which every call that touches one of these places fails from the n-th such call on."""

    def __init__(self, places: list[Path], nth: int, number: int) -> None:
        self.calls = 0
        self._places = [f"{one}/" for one in places]
        self._nth, self._number = nth, number
        self._turn = threading.Lock()

    @property
    def failed(self) -> bool:
        return self.calls >= self._nth

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in FAILING:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            where = args[0] if isinstance(args[0], str) else os.readlink(f"/proc/self/fd/{args[0]}")
            if not any(f"{where}/".startswith(one) for one in self._places):
                return real(*args, **kwargs)
            with self._turn:
                self.calls += 1
                failed = self.failed
            if not failed:
                return real(*args, **kwargs)
            if name == "write" and len(args[1]) > 1:
                real(args[0], args[1][: len(args[1]) // 2])
            raise OSError(self._number, os.strerror(self._number))

        return call


# What is written.


def test_a_backup_is_the_same_in_every_location_and_can_be_checked_without_us(shelves: Shelves) -> None:
    collections = {"docs": content(1), "images/2": content(2), "empty": b"", "städte ☃": content(3)}
    streams = {name: stream(raw[:40_000], raw[40_000:]) for name, raw in collections.items()}
    taken = shelves.take(streams)
    assert (taken.id, taken.tier, taken.state) == (IDENTITY, "daily", "good")
    assert (taken.locations, taken.failed_locations) == (("primary", "secondary"), {})
    for location in shelves.roots:
        assert is_sound(shelves.folder(location), collections) == taken.manifest
        assert (shelves.folder(location) / "RESTORE.md").read_text() == "# Restore\n"
        assert tree(shelves.roots[location] / ".incoming") == set()
    described = taken.manifest
    assert (described.id, described.tier, described.started) == (IDENTITY, "daily", "2027-01-15T02:00:00.000Z")
    assert described.engine == {"kind": "memory", "version": "memory 1"}
    first = described.collections[0]
    assert (first.name, first.file, first.points_before, first.points_after) == ("docs", "docs.snapshot.gz", 7, 7)
    assert (first.shards, first.payload_schema) == ([0, 1], {"city": "keyword"})


def test_the_agent_finds_its_own_backup_good(shelves: Shelves, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("telemetry_disabled: true\n")
    made = {name: collection(segment(more=[("seed", content(seed))])) for seed, name in enumerate(("docs", "a%2F b"))}
    shelves.take({name: stream(raw) for name, raw in made.items()}, config_files=(f"{tmp_path}/config.yaml",))
    with contextlib.closing(connect(str(tmp_path / "state"), create=True)) as db:
        places = [Place(name, str(root)) for name, root in shelves.roots.items()]
        telling = Telling(Policy(), {})
        for found in sweep.look_over(db, places, NAMES, Keeps({}, UTC), 64, lambda: NOW, telling):
            todo = sweep.works(db, found.place, found.changed, trust=False)
            for _ in sweep.prove(db, todo, NAMES, 64, lambda: NOW, telling):
                pass
        assert [one.state for one in catalogue.archives(db)] == [State.GOOD] * 6
        levels = {one.key.name: one.level for one in catalogue.archives(db)}
        assert levels.pop("server-config.tar.gz") == INTACT
        assert [*levels.values()] == [WELL_FORMED] * 2


def test_collections_of_the_real_engine_are_tar_archives_in_gzip(shelves: Shelves, tmp_path: Path) -> None:
    pytest.importorskip("qdrant_edge")
    path = str(tmp_path / "engine")
    for name, points in (("docs", 300), ("städte ☃", 20)):
        edge.build_sample(path, name, points, 8)
    engine = Embedded(path)
    seen: dict[str, tuple[int, int]] = {}

    def progress(name: str, done: int, total: int) -> None:
        assert done >= seen.get(name, (0, 0))[0]
        seen[name] = (done, total)

    taken = take(engine, shelves.order(), lambda: NOW, lambda _: "# Restore\n", progress=progress)
    assert taken.state == "good"
    assert {one.name: one.points_after for one in taken.manifest.collections} == {"docs": 300, "städte ☃": 20}
    assert set(seen) == {"docs", "städte ☃"}
    assert all(done == total for done, total in seen.values())
    for location in shelves.roots:
        folder = shelves.folder(location)
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
        for entry in taken.manifest.collections:
            listed = ["sh", "-c", 'gunzip --stdout "$0" | tar --list', entry.file]
            told = subprocess.run(listed, cwd=folder, capture_output=True, text=True, check=True)
            assert {"config.json", "version.info", "0/replica_state.json"} <= set(told.stdout.split())


def test_only_the_collections_that_are_meant_are_written(shelves: Shelves) -> None:
    streams = {name: stream(content(number)) for number, name in enumerate(("docs", "docs-old", "images", "tmp"))}
    taken = shelves.take(streams, include=("docs*", "tmp"), exclude=("*-old",))
    assert [one.name for one in taken.manifest.collections] == ["docs", "tmp"]
    is_sound(shelves.folder("primary"), {"docs": content(0), "tmp": content(3)})


def test_configuration_files_are_an_archive_of_their_own(shelves: Shelves, tmp_path: Path) -> None:
    config = tmp_path / "config"
    (config / "deep").mkdir(parents=True)
    (config / "config.yaml").write_text("a: 1\n")
    (config / "deep/tls.pem").write_text("key\n")
    (config / "link").symlink_to("config.yaml")
    os.mkfifo(config / "pipe")
    taken = shelves.take({"docs": stream(content(1))}, config_files=(str(config), str(config / "config.yaml")))
    assert taken.state == "good"
    is_sound(shelves.folder("secondary"), {"docs": content(1)})
    target = tmp_path / "restored"
    target.mkdir()
    archive = shelves.folder("secondary") / "server-config.tar.gz"
    subprocess.run(["tar", "-xzf", str(archive), "-C", str(target)], check=True)
    assert (target / str(config)[1:] / "deep/tls.pem").read_text() == "key\n"


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=oct)
def test_files_and_folders_have_the_rights_asked_for(shelves: Shelves, umask: int) -> None:
    before = os.umask(umask)
    try:
        shelves.take({"docs": stream(content(1))}, permissions=Permissions(files=0o604, folders=0o750))
    finally:
        os.umask(before)
    folder = shelves.folder("primary")
    assert {oct(stat.S_IMODE(one.stat().st_mode)) for one in folder.iterdir()} == {"0o604"}
    parents = (folder, folder.parent, shelves.roots["primary"] / ".incoming")
    assert {oct(stat.S_IMODE(one.stat().st_mode)) for one in parents} == {"0o750"}


def test_collections_are_written_at_the_same_time_but_no_more_than_allowed(shelves: Shelves) -> None:
    meeting = threading.Barrier(3, timeout=10)
    at_once, most, turn = 0, 0, threading.Lock()

    def enter() -> None:
        nonlocal at_once, most
        with turn:
            at_once += 1
            most = max(most, at_once)
        meeting.wait()

    def leave() -> None:
        nonlocal at_once
        with turn:
            at_once -= 1

    streams = {f"c{number}": stream(content(number), enter, b"end", leave) for number in range(6)}
    assert shelves.take(streams, parallel=3).state == "good"
    assert most == 3


# Collections that fail.


def cut_short() -> Stream:
    return stream(content(9), Unreachable("the engine went away"))


BROKEN: dict[str, tuple[Callable[[], Stream | AgentError], str]] = {
    "cannot be opened": (lambda: TryLater("it is open elsewhere"), "it is open elsewhere"),
    "finds its own disk full": (lambda: CannotWrite("its own disk is full"), "its own disk is full"),
    "ends at once": (lambda: stream(Unreachable("the engine went away"), size=9), "the engine went away"),
    "ends halfway": (cut_short, "the engine went away"),
    "is too short": (lambda: stream(b"x" * 10, size=11), "10 bytes came instead of 11"),
    "is too long": (lambda: stream(b"x" * 12, size=11), "12 bytes came instead of 11"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_collection_that_fails_leaves_the_others_and_no_half_file(shelves: Shelves, how: str) -> None:
    make, why = BROKEN[how]
    before = descriptors()
    taken = shelves.take({"a": stream(content(1)), "broken": make(), "z": stream(content(2))}, parallel=1)
    assert taken.state == "incomplete"
    for location in shelves.roots:
        described = is_sound(shelves.folder(location), {"a": content(1), "z": content(2)})
        assert [(one.name, one.why) for one in described.failed] == [("broken", why)]
        assert tree(shelves.roots[location] / ".incoming") == set()
    assert descriptors() == before


def test_an_archive_of_which_nothing_is_known_in_the_end_is_not_published(shelves: Shelves) -> None:
    class Speechless(Held):
        def about(self) -> About:
            raise Unreachable("the engine went away")

    class Losing(Memory):
        @contextlib.contextmanager
        def open(self, piece: Piece, halted: Halted) -> Iterator[Held]:
            yield (Speechless if piece.collection == "a" else Held)(stream(content(1)))

    engine = Losing({"a": stream(), "b": stream()})
    taken = take(engine, shelves.order(), lambda: NOW, lambda _: "# Restore\n")
    assert [(one.name, one.why) for one in taken.manifest.failed] == [("a", "the engine went away")]
    for location in shelves.roots:
        is_sound(shelves.folder(location), {"b": content(1)})


def test_when_every_collection_fails_the_backup_says_so(shelves: Shelves) -> None:
    taken = shelves.take({"a": cut_short(), "b": Unreachable("gone")})
    assert taken.state == "incomplete"
    assert [one.name for one in is_sound(shelves.folder("primary"), {}).failed] == ["a", "b"]


def test_without_a_collection_there_is_nothing_to_back_up(shelves: Shelves) -> None:
    for collections in ({}, {"docs": stream(content(1))}):
        with pytest.raises(Refused, match="there is no collection to back up"):
            shelves.take(collections, exclude=("docs",))
    assert all(tree(root) == set() for root in shelves.roots.values())


def test_an_engine_that_cannot_be_reached_leaves_nothing(shelves: Shelves) -> None:
    class Silent(Memory):
        def collections(self) -> list[str]:
            raise Unreachable("nobody answers")

    with pytest.raises(Unreachable):
        take(Silent({}), shelves.order(), lambda: NOW, lambda _: "# Restore")
    assert all(tree(root) == set() for root in shelves.roots.values())


def test_a_mistake_in_the_program_is_not_swallowed_and_leaves_nothing(shelves: Shelves) -> None:
    def stumble() -> None:
        raise ZeroDivisionError

    before = descriptors()
    with pytest.raises(ZeroDivisionError):
        shelves.take({"docs": stream(content(1), stumble), "other": stream(content(2))})
    assert shelves.published() == set()
    assert all(tree(root) == {".incoming"} for root in shelves.roots.values())
    assert descriptors() == before


def test_a_configuration_file_that_cannot_be_read_does_not_cost_the_collections(
    shelves: Shelves, tmp_path: Path
) -> None:
    (tmp_path / "good.yaml").write_text("a: 1\n")
    wanted = (str(tmp_path / "good.yaml"), str(tmp_path / "gone.yaml"))
    taken = shelves.take({"docs": stream(content(1))}, config_files=wanted)
    assert taken.state == "incomplete"
    why = f"the configuration file {wanted[1]} cannot be read: No such file or directory"
    assert [(one.name, one.why) for one in taken.manifest.failed] == [("server-config.tar.gz", why)]
    is_sound(shelves.folder("primary"), {"docs": content(1)})


# Stopped.


def test_a_backup_that_is_stopped_breaks_off_at_once_and_publishes_nothing(shelves: Shelves) -> None:
    asked = threading.Event()
    read = []

    def more() -> None:
        read.append(1)
        if len(read) == 3:
            asked.set()

    pieces = [piece for _ in range(100) for piece in (b"x" * MIB, more)]
    before = descriptors()
    with pytest.raises(TryLater, match="nothing was published"):
        shelves.take({"long": stream(*pieces), "other": stream(content(1))}, stopping=asked.is_set, parallel=1)
    assert len(read) < 6
    assert shelves.published() == set()
    assert all(tree(root) == {".incoming"} for root in shelves.roots.values())
    assert descriptors() == before


def test_what_is_not_written_by_the_deadline_is_missing_and_the_rest_is_published(shelves: Shelves) -> None:
    until = time.monotonic() + 1.0

    def take_long() -> None:
        while time.monotonic() <= until:
            pass

    streams = {
        "a": stream(content(1)),
        "b": stream(bytes(MIB), take_long, bytes(MIB), bytes(MIB)),
        "c": stream(content(2)),
    }
    taken = shelves.take(streams, deadline=0.9, parallel=1)
    assert taken.state == "incomplete"
    assert {one.name: one.why for one in taken.manifest.failed} == {
        "b": "broken off after 2 MiB of 3 MiB: the deadline of 900 ms has passed",
        "c": "its turn did not come: the deadline of 900 ms has passed",
    }
    is_sound(shelves.folder("primary"), {"a": content(1)})


# Locations that fail.


def test_a_location_that_is_missing_leaves_the_backup_degraded(shelves: Shelves) -> None:
    shelves.roots["secondary"].rmdir()
    taken = shelves.take({"docs": stream(content(1))})
    assert (taken.state, taken.locations) == ("degraded", ("primary",))
    assert taken.failed_locations == {"secondary": f"{shelves.roots['secondary']} does not exist"}
    is_sound(shelves.folder("primary"), {"docs": content(1)})
    assert not shelves.roots["secondary"].exists(), "a mount point is never made"


def test_without_any_location_there_is_no_backup(shelves: Shelves) -> None:
    shelves.roots["primary"].rmdir()
    shelves.roots["secondary"].rmdir()
    shelves.roots["secondary"].write_bytes(b"")
    with pytest.raises(CannotWrite) as caught:
        shelves.take({"docs": stream(content(1))})
    assert "primary: " in caught.value.message
    assert "does not exist" in caught.value.message
    assert "secondary" in caught.value.message
    assert "is not a folder" in caught.value.message


def test_without_room_for_what_is_known_nothing_is_opened(shelves: Shelves) -> None:
    class Large(Memory):
        @contextlib.contextmanager
        def open(self, piece: Piece, halted: Halted) -> Iterator[Held]:
            raise AssertionError(f"{piece.label} was opened")
            yield

    with pytest.raises(CannotWrite, match=r"primary: .*free; the backup needs 454747 TiB or more.*secondary: "):
        take(Large({"docs": stream(b"x")}, {"docs": 10**18}), shelves.order(), lambda: NOW, lambda _: "# Restore")
    assert all(tree(root) == {".incoming"} for root in shelves.roots.values())


def test_a_location_that_fills_up_midway_is_left_as_it_was(shelves: Shelves) -> None:
    with small_disk(shelves.roots["secondary"]):
        taken = shelves.take({"small": stream(content(1, 1000)), "large": stream(content(2, MIB))}, parallel=1)
        assert taken.state == "degraded"
        where = shelves.roots["secondary"] / ".incoming" / IDENTITY / "large.snapshot.gz"
        assert taken.failed_locations == {"secondary": f"{where}: No space left on device"}
        assert tree(shelves.roots["secondary"]) == {".incoming"}
    is_sound(shelves.folder("primary"), {"small": content(1, 1000), "large": content(2, MIB)})


def test_locations_that_are_full_leave_nothing_behind(shelves: Shelves) -> None:
    with small_disk(shelves.roots["primary"]), small_disk(shelves.roots["secondary"]):
        for root in shelves.roots.values():
            with pytest.raises(OSError, match="No space left"):
                (root / "old").write_bytes(bytes(MIB))
        with pytest.raises(CannotWrite, match=r"no location takes the backup.*No space left") as caught:
            shelves.take({"docs": stream(content(1))})
        assert caught.value.hint
        assert all(tree(root) == {".incoming", "old"} for root in shelves.roots.values())


def test_a_disk_that_goes_away_midway_is_not_written_under(shelves: Shelves) -> None:
    if os.geteuid():
        pytest.skip("only root can mount a file system")
    root = shelves.roots["secondary"]
    (root / "below").touch()
    with small_disk(root):
        unmount = ["umount", "--lazy", str(root)]
        taken = shelves.take({"docs": stream(b"x", lambda: subprocess.run(unmount, check=True), b"y")})
    assert taken.state == "degraded"
    assert tree(root) == {"below"}
    is_sound(shelves.folder("primary"), {"docs": b"xy"})


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder that syncs at no cost, where there is one."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as made:
        yield Path(made)


COLLECTIONS = {"docs": content(1, 3000), "images": content(2, 3000)}


def failing(
    shelves: Shelves, monkeypatch: pytest.MonkeyPatch, names: list[str], nth: int, number: int
) -> tuple[Taken | None, bool]:
    disks = FailingDisks([shelves.roots[name] for name in names], nth, number)
    streams = {name: stream(raw[:1500], raw[1500:]) for name, raw in COLLECTIONS.items()}
    before = descriptors()
    taken = None
    with monkeypatch.context() as patch, contextlib.suppress(CannotWrite):
        patch.setattr(write, "os", disks)
        patch.setattr(direct, "os", disks)
        taken = shelves.take(streams)
    assert descriptors() == before
    return taken, disks.failed


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
def test_one_disk_that_fails_at_any_moment_costs_only_its_own_copy(
    in_memory: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    for nth in count(1):
        (in_memory / str(nth)).mkdir()
        shelves = Shelves(in_memory / str(nth))
        taken, failed = failing(shelves, monkeypatch, ["secondary"], nth, number)
        assert taken is not None
        is_sound(shelves.folder("primary"), COLLECTIONS)
        for name in shelves.published():
            is_sound(shelves.folder(name), COLLECTIONS)
        assert tree(shelves.roots["secondary"]) <= {".incoming", "daily"} or "secondary" in shelves.published()
        assert tree(shelves.roots["secondary"] / ".incoming") == set()
        if not failed:
            assert taken.state == "good"
            assert nth > 30
            break
        assert taken.state == "degraded"
        assert os.strerror(number) in taken.failed_locations["secondary"]


def test_disks_that_both_fail_at_any_moment_leave_nothing_half(
    in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for nth in count(1):
        (in_memory / str(nth)).mkdir()
        shelves = Shelves(in_memory / str(nth))
        taken, failed = failing(shelves, monkeypatch, ["primary", "secondary"], nth, errno.EIO)
        for name in shelves.published():
            is_sound(shelves.folder(name), COLLECTIONS)
        for root in shelves.roots.values():
            assert tree(root / ".incoming") == set()
        if not failed:
            assert taken is not None
            assert taken.state == "good"
            assert nth > 60
            break


def test_two_backups_in_one_second_do_not_mix(shelves: Shelves) -> None:
    first = shelves.take({"docs": stream(content(1))})
    second = shelves.take({"docs": stream(content(2))})
    assert first.id < second.id, "the second takes the next second's name"
    is_sound(shelves.folder("primary"), {"docs": content(1)})
    assert all(tree(root / ".incoming") == set() for root in shelves.roots.values())


def test_what_a_dead_backup_left_is_removed(shelves: Shelves) -> None:
    left = [root / ".incoming" / IDENTITY for root in shelves.roots.values()]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "docs.snapshot.gz").write_bytes(b"half")
    locations = {name: (str(root), None) for name, root in shelves.roots.items()}
    absent = {"gone": (str(shelves.roots["primary"] / "gone"), None)}
    assert clean_leftovers({**locations, **absent}) == [str(folder) for folder in left]
    assert all(tree(root) == {".incoming"} for root in shelves.roots.values())
    assert clean_leftovers(locations) == []


# A site's own program.


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "backup.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def trigger(shelves: Shelves, tmp_path: Path, text: str, deadline: float = 20.0, **more: Any) -> command.Triggered:
    locations = {name: str(root) for name, root in shelves.roots.items()}
    argv = (script(tmp_path, text), "{tier}", str(shelves.roots["primary"]))
    return command.trigger(argv, {"TOKEN": "given"}, "weekly", deadline, locations, NAMES, **more)


def test_a_program_that_leaves_an_archive_made_a_backup(shelves: Shelves, tmp_path: Path) -> None:
    old = shelves.roots["primary"] / "old.tar.gz"
    old.write_bytes(b"old")
    while time.time() < old.stat().st_ctime + 0.05:
        pass  # a change time is coarse, so that what came just before counts as new
    text = (
        'echo "$SNAPWARD_TIER $TOKEN"; mkdir "$2/$1"; printf 12345 >"$2/$1/new.tar.gz"\ntouch -d @1 "$2/$1/new.tar.gz"'
    )
    done = trigger(shelves, tmp_path, text)
    assert done.ok
    assert (done.why, done.exit_code, done.output) == ("1 archive arrived", 0, "weekly given\n")
    assert done.arrived == {"primary:weekly/new.tar.gz": 5}


@pytest.mark.parametrize(
    ("text", "exit_code", "why"),
    [
        ("exit 0", 0, "ended with exit code 0, but no archive arrived in any location"),
        ('echo x >"$2/notes.txt"', 0, "ended with exit code 0, but no archive arrived in any location"),
        ('echo x >"$2/.half.tar.gz"', 0, "ended with exit code 0, but no archive arrived in any location"),
        ('mkdir "$2/a.tar.gz"', 0, "ended with exit code 0, but no archive arrived in any location"),
        ('mkdir "$2/.incoming"; echo x >"$2/.incoming/a.tar.gz"', 0, "exit code 0, but no archive arrived"),
        ('echo x >"$2/a.tar.gz"; exit 3', 3, "ended with exit code 3"),
        ('echo x >"$2/a.tar.gz"; kill -KILL $$', -9, "was ended by signal 9"),
    ],
)
def test_a_program_is_not_believed_without_an_archive_nor_with_an_error(
    shelves: Shelves, tmp_path: Path, text: str, exit_code: int, why: str
) -> None:
    done = trigger(shelves, tmp_path, text)
    assert not done.ok
    assert done.exit_code == exit_code
    assert why in done.why
    assert done.why.startswith(str(tmp_path / "backup.sh"))


def test_a_program_that_takes_too_long_or_is_stopped_made_no_backup(shelves: Shelves, tmp_path: Path) -> None:
    late = trigger(shelves, tmp_path, 'echo x >"$2/a.tar.gz"; sleep 600', 0.1)
    assert (late.ok, late.exit_code) == (False, -15)
    assert late.why.endswith("backup.sh was ended: it had not finished within 100 ms")
    assert list(late.arrived) == ["primary:a.tar.gz"]
    stopped = trigger(shelves, tmp_path, "sleep 600", stopping=lambda: True)
    assert stopped.why.endswith("was ended because the agent was asked to stop")
    assert not stopped.ok


def test_a_program_that_is_missing_is_a_mistake_in_the_configuration(shelves: Shelves) -> None:
    with pytest.raises(BadConfig):
        command.trigger(("/no/such/program",), {}, "daily", 1.0, {}, NAMES)


def test_a_location_that_is_missing_does_not_keep_a_program_from_running(shelves: Shelves, tmp_path: Path) -> None:
    shelves.roots["secondary"].rmdir()
    done = trigger(shelves, tmp_path, 'echo x >"$2/a.tar.gz"')
    assert done.ok
    assert json.dumps(done.arrived) == '{"primary:a.tar.gz": 2}'
