import contextlib
import errno
import gc
import gzip
import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_disk import small_disk

from agent.adapters.press import Squeeze
from agent.adapters.shelf import direct, write
from agent.adapters.shelf.write import Permissions
from agent.errors import AgentError, BadConfig, CannotWrite, TryLater, Unreachable
from agent.jobs.backup.places import Places
from agent.jobs.backup.pour import Written, pour

PAGE, MIB = 4096, 1 << 20
PIECE = 2 * PAGE  # blocks are of two pieces
NAME = "a.gz"
GZIP = Squeeze()


def content(length: int, seed: int = 1) -> bytes:
    """Half of it cannot be compressed, half of it very much."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    return dice.randbytes(length // 2) + bytes(length - length // 2)


class Source:
    """Bytes in memory that come `most` at a time; before the n-th call something may happen."""

    def __init__(self, data: bytes, most: int = MIB, happens: Mapping[int, Callable[[], object]] | None = None) -> None:
        self.calls = 0
        self._rest = memoryview(data)
        self._most = most
        self._happens = happens or {}

    def readinto(self, buffer: memoryview, /) -> int:
        self.calls += 1
        if self.calls in self._happens:
            self._happens[self.calls]()
        got = min(len(buffer), self._most, len(self._rest))
        buffer[:got] = self._rest[:got]
        self._rest = self._rest[got:]
        return got


def fail(error: BaseException) -> Callable[[], object]:
    def action() -> None:
        raise error

    return action


class Shelves:
    """Two locations."""

    def __init__(self, folder: Path) -> None:
        self.roots = {name: folder / name for name in ("primary", "secondary")}
        for root in self.roots.values():
            root.mkdir()
        self.places = Places({name: str(root) for name, root in self.roots.items()})

    def pour(self, source: Source, squeeze: Squeeze = GZIP, *, piece: int = PIECE, **more: Any) -> Written:
        return pour(source, self.places, NAME, squeeze, Permissions(), piece=piece, **more)

    def path(self, name: str) -> Path:
        return self.roots[name] / NAME

    def there(self) -> set[str]:
        """The locations in which anything lies."""
        return {name for name, root in self.roots.items() if list(root.iterdir())}

    def hold(self, written: Written, data: bytes, *names: str) -> None:
        """Whether just these locations hold what was poured, and nothing else does."""
        assert self.there() == set(names) == set(self.places.left())
        assert (written.raw_size, written.raw_sha256) == (len(data), hashlib.sha256(data).hexdigest())
        for name in names:
            packed = self.path(name).read_bytes()
            assert (written.size, written.sha256) == (len(packed), hashlib.sha256(packed).hexdigest())


@pytest.fixture
def shelves(tmp_path: Path) -> Shelves:
    return Shelves(tmp_path)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No thread and no descriptor, whatever happened."""
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    yield
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


# What is poured.


@pytest.mark.parametrize("length", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE, 40 * PIECE + 5, 3 * MIB])
@pytest.mark.parametrize("form", ["gzip", "zstd", "none"])
def test_what_is_poured_comes_out_again(shelves: Shelves, form: str, length: int) -> None:
    data = content(length)
    written = shelves.pour(Source(data), Squeeze(form, 3))
    shelves.hold(written, data, "primary", "secondary")
    for name in shelves.roots:
        argv = {"gzip": ["gunzip", "--stdout"], "zstd": ["zstd", "--decompress", "--stdout"], "none": ["cat"]}[form]
        with shelves.path(name).open("rb") as file:
            told = subprocess.run(argv, stdin=file, capture_output=True, check=True)
        assert told.stdout == data
        assert oct(shelves.path(name).stat().st_mode & 0o777) == "0o640"


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(0, 300_000),
    pages=st.integers(1, 20),
    odd=st.integers(-5, 5),
    most=st.integers(1, 100_000),
    form=st.sampled_from(["gzip", "none"]),
)
def test_it_is_the_same_archive_however_the_stream_comes(
    length: int, pages: int, odd: int, most: int, form: str
) -> None:
    data, piece = content(length), pages * PAGE + odd
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "1"), Path(folder, "2")
        seen = []
        for one, step in ((first, most), (second, MIB)):
            one.mkdir()
            shelves = Shelves(one)
            written = shelves.pour(Source(data, max(step, length // 500)), Squeeze(form), piece=piece)
            shelves.hold(written, data, "primary", "secondary")
            seen.append(written)
        packed = (second / "primary" / NAME).read_bytes()
        assert (gzip.decompress(packed) if form == "gzip" else packed) == data
        assert seen[0] == seen[1]


def test_several_pours_at_once_do_not_mix(shelves: Shelves) -> None:
    kept: dict[int, Written] = {}

    def one(number: int) -> None:
        source = Source(content(200_000, number))
        kept[number] = pour(source, shelves.places, f"{number}.gz", Squeeze(), Permissions(), piece=PIECE)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(8):
        for root in shelves.roots.values():
            packed = (root / f"{number}.gz").read_bytes()
            assert gzip.decompress(packed) == content(200_000, number)
            assert kept[number].sha256 == hashlib.sha256(packed).hexdigest()


def test_the_whole_stream_is_confirmed_before_any_file_counts(shelves: Shelves) -> None:
    data, heard = content(20 * PIECE), []

    def confirm(size: int, sha256: str) -> None:
        heard.append((size, sha256))
        for name in shelves.there():
            assert oct(shelves.path(name).stat().st_mode & 0o777) == "0o600", "it is not finished yet"

    written = shelves.pour(Source(data), confirm=confirm)
    assert heard == [(len(data), hashlib.sha256(data).hexdigest())]
    shelves.hold(written, data, "primary", "secondary")


def test_memory_does_not_grow_with_the_stream() -> None:
    code = """
import resource, sys, tempfile
from agent.adapters.press import Squeeze
from agent.adapters.shelf.write import Permissions
from agent.jobs.backup.places import Places
from agent.jobs.backup.pour import pour

class Zeros:
    left = 0
    def readinto(self, buffer):
        got = min(self.left, len(buffer)); self.left -= got
        return got

zeros = Zeros()
with tempfile.TemporaryDirectory() as folder:
    for megabytes in (4, 4, 64):
        zeros.left = megabytes << 20
        pour(zeros, Places({"one": folder}), f"{zeros.left}-{megabytes}", Squeeze("none"), Permissions(), piece=1 << 16)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        import glob, os
        for one in glob.glob(folder + "/*"): os.unlink(one)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50)
    _, few, many = map(int, told.stdout.split())
    assert many - few < 2048, "KiB"


def test_the_memory_is_given_back_without_the_collector_however_it_ends(shelves: Shelves) -> None:
    def views() -> int:
        return sum(isinstance(one, memoryview) for one in gc.get_objects())

    def go_away() -> None:
        raise Unreachable("gone")

    def broken() -> None:
        with contextlib.suppress(Unreachable):
            shelves.pour(Source(content(MIB), PIECE, {9: go_away}))

    def degraded() -> None:
        shelves.path("secondary").write_bytes(b"")
        shelves.pour(Source(content(MIB)))
        assert set(shelves.places.failed) == {"secondary"}

    gc.collect()
    gc.disable()
    try:
        before = views()
        for how in (broken, broken, degraded):
            how()
            assert views() == before
    finally:
        gc.enable()


# Streams that fail.


@pytest.mark.parametrize("call", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("error", [Unreachable("gone"), KeyboardInterrupt(), ZeroDivisionError()], ids=repr)
def test_a_stream_that_fails_leaves_nothing(shelves: Shelves, error: BaseException, call: int) -> None:
    with pytest.raises(type(error)) as caught:
        shelves.pour(Source(content(MIB), PIECE, {call: fail(error)}))
    assert caught.value is error
    assert shelves.there() == set()
    assert set(shelves.places.left()) == {"primary", "secondary"}, "no location is to blame"
    data = content(5 * PIECE)
    shelves.hold(shelves.pour(Source(data)), data, "primary", "secondary")  # it can be begun anew


@pytest.mark.parametrize("error", [TryLater("another sum"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("length", [0, 100, 30 * PIECE])
def test_what_is_not_confirmed_leaves_nothing(shelves: Shelves, error: BaseException, length: int) -> None:
    with pytest.raises(type(error)) as caught:
        shelves.pour(Source(content(length)), confirm=lambda _size, _sha256: fail(error)())
    assert caught.value is error
    assert shelves.there() == set()


# One that comes while Python cleans up a weak reference is lost, with a warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_moment_leaves_nothing_or_all_of_it(shelves: Shelves) -> None:
    data = content(MIB)

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    finished, interrupted, threads = 0, 0, threading.active_count()
    try:
        for after in count(1):
            written = None
            with contextlib.suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, after * 0.0005)
                try:
                    written = shelves.pour(Source(data, PAGE))
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            assert threading.active_count() == threads
            assert shelves.there() in (set(), {"primary", "secondary"})
            interrupted += written is None
            finished += written is not None
            for name in shelves.there():
                assert gzip.decompress(shelves.path(name).read_bytes()) == data
                shelves.path(name).unlink()
            if finished > 5 or after > 300:
                break
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 3


def test_a_compression_that_is_not_installed_is_told_before_anything_is_done(
    shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    source = Source(content(MIB))
    with pytest.raises(BadConfig):
        shelves.pour(source, Squeeze("zstd", 3))
    assert source.calls == 0
    assert shelves.there() == set()


# Locations that fail.


def tamper(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        [byte] = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def wait_for(path: Path, length: int) -> None:
    """Until the writer has got so far; the test's own time limit is the end of patience."""
    while not path.exists() or path.stat().st_size < length:
        pass


def test_a_location_whose_disk_gives_back_other_bytes_drops_out(shelves: Shelves) -> None:
    block, path = 2 * PIECE, shelves.path("secondary")
    data = content(20 * block)

    def meddle() -> None:
        wait_for(path, 3 * block)
        tamper(path, 3 * block - 9)

    # Six pieces are three blocks; while the seventh is waited for, the third is written and not yet read back.
    written = shelves.pour(Source(data, PIECE, {7: meddle}), Squeeze("none"))
    shelves.hold(written, data, "primary")
    why = shelves.places.failed["secondary"]
    assert isinstance(why, CannotWrite)
    assert why.message == f"{path}: the disk gave back other bytes at 32 KiB to 48 KiB"
    assert "smartctl" in why.hint


def test_bytes_that_change_at_the_very_end_are_found_too(shelves: Shelves) -> None:
    data = content(9 * PIECE)
    path = shelves.path("primary")

    def confirm(_size: int, _sha256: str) -> None:
        wait_for(path, 8 * PIECE)
        tamper(path, 8 * PIECE - 1)

    written = shelves.pour(Source(data), Squeeze("none"), confirm=confirm)
    shelves.hold(written, data, "secondary")
    assert "gave back other bytes at 48 KiB to 64 KiB" in shelves.places.failed["primary"].message


def test_when_every_disk_gives_back_other_bytes_there_is_no_backup(shelves: Shelves) -> None:
    def confirm(_size: int, _sha256: str) -> None:
        for name in shelves.roots:
            wait_for(shelves.path(name), 8 * PIECE)
            tamper(shelves.path(name), 8 * PIECE - 1)

    with pytest.raises(CannotWrite, match=r"no location takes the backup: .*gave back other bytes") as caught:
        shelves.pour(Source(content(9 * PIECE)), Squeeze("none"), confirm=confirm)
    assert "smartctl" in caught.value.hint
    assert shelves.there() == set()


def test_a_file_that_exists_costs_its_location_and_stays(shelves: Shelves) -> None:
    shelves.path("secondary").write_bytes(b"kept")
    data = content(5 * PIECE)
    shelves.pour(Source(data))
    assert gzip.decompress(shelves.path("primary").read_bytes()) == data
    assert shelves.path("secondary").read_bytes() == b"kept"
    assert "File exists" in shelves.places.failed["secondary"].message
    with pytest.raises(CannotWrite, match="File exists"):
        shelves.pour(Source(data))
    assert gzip.decompress(shelves.path("primary").read_bytes()) == data, "nor is it ours to remove"


def test_a_location_that_dropped_out_before_is_left_alone(shelves: Shelves) -> None:
    shelves.places.fail("secondary", CannotWrite("full"))
    data = content(5 * PIECE)
    shelves.hold(shelves.pour(Source(data)), data, "primary")


def test_a_location_that_fills_up_drops_out_and_the_other_goes_on(shelves: Shelves) -> None:
    data = content(2 * MIB)
    with small_disk(shelves.roots["secondary"], "256k"):
        written = shelves.pour(Source(data))
        assert shelves.places.failed["secondary"].message == f"{shelves.path('secondary')}: No space left on device"
        shelves.hold(written, data, "primary")


def test_when_all_locations_are_full_nothing_is_left_and_the_stream_is_not_read_to_its_end(shelves: Shelves) -> None:
    source = Source(content(8 * MIB), PIECE)
    with small_disk(shelves.roots["primary"], "256k"), small_disk(shelves.roots["secondary"], "256k"):
        with pytest.raises(CannotWrite, match=r"no location takes the backup: .*No space left") as caught:
            shelves.pour(source)
        assert "Free space" in caught.value.hint
        assert shelves.there() == set()
    assert source.calls < 8 * MIB // PIECE


def test_a_stream_that_blocks_is_waited_for_when_something_fails(shelves: Shelves) -> None:
    """All locations fail while it blocks; it then returns, and is not asked again."""
    for root in shelves.roots.values():
        root.rmdir()

    def block() -> None:
        while len(shelves.places.failed) < 2:
            pass

    source = Source(content(MIB), PIECE, {1: block})
    with pytest.raises(CannotWrite, match="No such file or directory"):
        shelves.pour(source)
    assert source.calls <= 2
    for root in shelves.roots.values():
        root.mkdir()


def test_a_limit_of_the_process_is_told_as_a_full_disk_is(shelves: Shelves) -> None:
    """A real short write, then an error: files may have no more than so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * PIECE + 100, before[1]))
    try:
        with pytest.raises(CannotWrite, match="File too large"):
            shelves.pour(Source(content(9 * PIECE)), Squeeze("none"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert shelves.there() == set()


# Faults.


class FailingDisks:
    """The `os` module, in which calls on these places fail at the n-th such call; from then on too, if it lasts."""

    FAULTS = frozenset({"open", "write", "preadv", "fsync", "fdatasync", "fchmod", "posix_fadvise", "close"})

    def __init__(self, places: list[Path], nth: int, number: int, *, lasting: bool) -> None:
        self.calls = 0
        self._places = [f"{one}/" for one in places]
        self._nth, self._number, self._lasting = nth, number, lasting
        self._turn = threading.Lock()

    @property
    def failed(self) -> bool:
        return self.calls >= self._nth

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in self.FAULTS:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            where = args[0] if isinstance(args[0], str) else os.readlink(f"/proc/self/fd/{args[0]}")
            if not any(where.startswith(one) for one in self._places):
                return real(*args, **kwargs)
            with self._turn:
                self.calls += 1
                failing = self.calls == self._nth or (self.calls > self._nth and self._lasting)
            if not failing:
                return real(*args, **kwargs)
            if name == "close":
                real(*args)
            if name == "write" and len(args[1]) > PAGE:
                real(args[0], args[1][:PAGE])
            raise OSError(self._number, os.strerror(self._number))

        return call


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder that syncs at no cost, where there is one."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as made:
        yield Path(made)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize("names", [("secondary",), ("primary", "secondary")], ids="+".join)
@pytest.mark.parametrize("lasting", [False, True])
def test_whatever_call_fails_what_is_left_is_whole_and_matched(
    in_memory: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...],
    number: int,
    lasting: bool,  # noqa: FBT001
) -> None:
    data = content(7 * PIECE + 5)
    for nth in count(1):
        (in_memory / str(nth)).mkdir()
        shelves = Shelves(in_memory / str(nth))
        disks = FailingDisks([shelves.roots[name] for name in names], nth, number, lasting=lasting)
        raised, written = None, None
        threads = threading.active_count()
        with monkeypatch.context() as patch:
            patch.setattr(write, "os", disks)
            patch.setattr(direct, "os", disks)
            try:
                written = shelves.pour(Source(data, 3000), Squeeze("none"))
            except AgentError as error:
                raised = error
        assert threading.active_count() == threads
        if written is None:
            assert isinstance(raised, CannotWrite)
            assert lasting
            assert shelves.there() == set()
        else:
            left = shelves.places.left()
            assert len(left) == 2 - disks.failed
            assert "primary" in left or "primary" in names
            shelves.hold(written, data, *left)
        for error in shelves.places.failed.values():
            assert os.strerror(number) in error.message
        if not disks.failed:
            assert nth > 20 * len(names)
            break
