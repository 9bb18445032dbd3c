import errno
import fcntl
import os
import random
import shutil
import stat
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.adapters.shelf import direct, write
from agent.adapters.shelf.direct import Matched, checksum, memory, new_file
from agent.adapters.shelf.write import Permissions
from agent.errors import AgentError, CannotWrite

MINE = Permissions()
PAGE, MIB = 4096, 1 << 20


def content(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)  # noqa: S311 - no secret


def put(file: Matched, data: bytes, block: int) -> None:
    [room] = memory(1, -(-block // PAGE) * PAGE)
    crc32 = checksum()
    for at in range(0, len(data), block):
        part = data[at : at + block]
        room[: len(part)] = part
        file.append(room[: len(part)], crc32(room[: len(part)], 0))


def make(path: Path, data: bytes, block: int = PAGE, *, look: bool = False) -> None:
    with new_file(str(path), MINE, memory(1, 2 * PAGE)[0]) as file:
        for at in range(0, len(data), block):
            put(file, data[at : at + block], block)
            while look and file.look_back():
                pass


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def mode(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT


@contextmanager
def mounted(path: Path, kind: str, *options: str) -> Iterator[Path]:
    """A file system of our own in memory; only root can have one."""
    path.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", kind, *options, kind, str(path)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.fixture(params=["disk", "tmpfs", "ramfs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk, and on file systems that know no disk; ramfs refuses direct writes altogether."""
    if request.param == "disk":
        yield tmp_path
        return
    with mounted(tmp_path / "mounted", request.param, "-o", "size=64m") as path:
        yield path


# What is written.


@pytest.mark.parametrize("length", [0, 1, PAGE - 1, PAGE, PAGE + 1, 5 * PAGE, 20 * PAGE + 7])
@pytest.mark.parametrize("look", [False, True])
def test_what_is_written_lies_there_on_every_file_system(place: Path, length: int, look: bool) -> None:  # noqa: FBT001
    make(place / "a", content(length), look=look)
    assert (place / "a").read_bytes() == content(length)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(0, 200_000), pages=st.integers(1, 9), odd=st.integers(-7, 7), look=st.booleans())
def test_a_file_is_whole_whatever_the_length_of_its_blocks(
    tmp_path: Path,
    length: int,
    pages: int,
    odd: int,
    look: bool,  # noqa: FBT001 - drawn
) -> None:
    make(tmp_path / "a", content(length), pages * PAGE + odd, look=look)
    assert (tmp_path / "a").read_bytes() == content(length)
    (tmp_path / "a").unlink()


def test_a_file_has_its_rights_when_it_is_whole_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "a"
    owner = os.geteuid(), os.getegid()
    with new_file(str(path), Permissions(0o604, 0o755, *owner), memory(1, PAGE)[0]) as file:
        put(file, content(PAGE), PAGE)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert (path.stat().st_uid, path.stat().st_gid) == owner


def test_nothing_is_written_over_nor_through_a_link_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"kept")
    (tmp_path / "link").symlink_to("there")
    for name in ("there", "link"):
        with pytest.raises(CannotWrite, match="File exists"):
            make(tmp_path / name, b"new")
    assert (tmp_path / "there").read_bytes() == b"kept"
    assert (tmp_path / "link").is_symlink()


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    before = descriptors()

    def give_up() -> None:
        with new_file(str(tmp_path / "a"), MINE, memory(1, PAGE)[0]) as file:
            put(file, content(3 * PAGE), PAGE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give_up()
    assert not list(tmp_path.iterdir())
    assert descriptors() == before


# Past the page cache.


def cached(path: Path) -> int:
    argv = ["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)]
    return int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


def has_a_cache(path: Path) -> bool:
    told = subprocess.run(["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True, check=True)
    return told.stdout.strip() not in {"tmpfs", "overlayfs"}


@pytest.mark.skipif(not shutil.which("fincore"), reason="fincore of util-linux tells what the page cache holds")
@pytest.mark.parametrize("refused", [False, True])
def test_the_page_cache_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool) -> None:  # noqa: FBT001
    if not has_a_cache(tmp_path):
        pytest.skip("the temporary folder is on a file system without a cache of its own")
    monkeypatch.setattr(direct, "_WINDOW", 2 * MIB)
    if refused:
        monkeypatch.setattr(direct, "fcntl", Refusing())
    path, most = tmp_path / "a", 0
    with new_file(str(path), MINE, memory(1, MIB)[0]) as file:
        for seed in range(12):
            put(file, content(MIB, seed), MIB)
            most = max(most, cached(path))
        put(file, content(9999), MIB)
    assert cached(path) == 0
    assert most <= (4 * MIB if refused else 0)
    assert path.read_bytes() == b"".join(content(MIB, seed) for seed in range(12)) + content(9999)


class Refusing:
    """The `fcntl` module of a file system that takes no direct writes."""

    F_GETFL, F_SETFL = fcntl.F_GETFL, fcntl.F_SETFL

    @staticmethod
    def fcntl(fd: int, command: int, flags: int = 0) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return fcntl.fcntl(fd, command, flags)


def test_a_file_system_that_refuses_direct_writes_only_when_it_is_written_to_is_written_to_all_the_same(
    tmp_path: Path,
) -> None:
    # A disk refuses what does not lie at a multiple of its sectors, in the file or in memory.
    [room] = memory(1, 4 * PAGE)
    room[:] = content(4 * PAGE)
    path = tmp_path / "a"
    with new_file(str(path), MINE, memory(1, PAGE)[0]) as file:
        assert mode(file._fd) == os.O_DIRECT
        block = room[1 : 1 + PAGE]
        file.append(block, zlib.crc32(block))
        assert mode(file._fd) == 0
        for at in (PAGE, 2 * PAGE):
            file.append(room[at : at + PAGE], zlib.crc32(room[at : at + PAGE]))
    assert path.read_bytes() == content(4 * PAGE)[1 : 1 + PAGE] + content(4 * PAGE)[PAGE : 3 * PAGE]


# What the disk gives back.


def tamper(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        [byte] = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("block", range(4))
def test_a_byte_that_changed_behind_the_writer_is_found_in_whatever_block(place: Path, block: int) -> None:
    path, data = place / "a", content(4 * MIB - 9)

    def write_and_tamper() -> None:
        with new_file(str(path), MINE, memory(1, MIB)[0]) as file:
            for at in range(0, len(data), MIB):
                put(file, data[at : at + MIB], MIB)
                if at == block * MIB:
                    tamper(path, at + 999)
                while file.look_back():
                    pass

    with pytest.raises(CannotWrite) as caught:
        write_and_tamper()
    where = ("0 B to 1 MiB", "1 MiB to 2 MiB", "2 MiB to 3 MiB", "3 MiB to 4 MiB")[block]
    assert caught.value.message == f"{path}: the disk gave back other bytes at {where}"
    assert "dmesg" in caught.value.hint
    assert "smartctl" in caught.value.hint
    assert not path.exists()


@pytest.mark.parametrize("length", [0, 1, PAGE, 3 * PAGE - 1])
def test_a_file_that_was_cut_behind_the_writer_is_found(place: Path, length: int) -> None:
    path = place / "a"

    def write_and_cut() -> None:
        with new_file(str(path), MINE, memory(1, PAGE)[0]) as file:
            put(file, content(3 * PAGE), PAGE)
            os.truncate(path, length)

    with pytest.raises(CannotWrite, match="gave back other bytes"):
        write_and_cut()
    assert not path.exists()


def test_the_newest_block_is_not_read_back_before_the_end(tmp_path: Path) -> None:
    with new_file(str(tmp_path / "a"), MINE, memory(1, PAGE)[0]) as file:
        assert not file.look_back()
        put(file, content(PAGE), PAGE)
        assert not file.look_back()
        put(file, content(PAGE), PAGE)
        assert [file.look_back(), file.look_back()] == [True, False]


# Faults.

FAULTS = frozenset({"open", "write", "preadv", "fsync", "fdatasync", "fchmod", "posix_fadvise", "close"})


class FailingOs:
    """The `os` module with a fault at its n-th call, and from then on at each if it is to last."""

    def __init__(self, nth: int, number: int, *, lasting: bool) -> None:
        self.calls: list[str] = []
        self._nth, self._number, self._lasting = nth, number, lasting

    @property
    def failed(self) -> bool:
        return len(self.calls) >= self._nth

    def __getattr__(self, name: str):
        real = getattr(os, name)
        if name not in FAULTS:
            return real

        def call(*args, **kwargs):
            self.calls.append(name)
            if len(self.calls) != self._nth and not (self.failed and self._lasting):
                return real(*args, **kwargs)
            if name == "close":
                real(*args)  # the descriptor is gone even then
            if name == "write" and len(args[1]) > PAGE and self._number != errno.EINVAL:
                real(args[0], args[1][:PAGE])
            raise OSError(self._number, os.strerror(self._number))

        return call


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EINVAL], ids=errno.errorcode.get)
@pytest.mark.parametrize("refused", [False, True])
def test_whatever_call_fails_a_file_is_there_whole_or_not_at_all(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    refused: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(direct, "_WINDOW", 2 * PAGE)
    if refused:
        monkeypatch.setattr(direct, "fcntl", Refusing())
    path, data, failed = tmp_path / "a", content(9 * PAGE + 5), set()
    for lasting in (False, True):
        for nth in count(1):
            path.unlink(missing_ok=True)
            before = descriptors()
            faulty = FailingOs(nth, number, lasting=lasting)
            raised = None
            with monkeypatch.context() as patch:
                patch.setattr(write, "os", faulty)
                patch.setattr(direct, "os", faulty)
                try:
                    make(path, data, 2 * PAGE, look=True)
                except AgentError as error:
                    raised = error
            assert descriptors() == before
            assert path.exists() == (raised is None)
            assert raised is not None or path.read_bytes() == data
            assert raised is None or (os.strerror(number) in raised.message and raised.hint)
            if not faulty.failed:
                assert raised is None
                assert nth > 20
                break
            failed.add(faulty.calls[nth - 1])
    assert failed >= FAULTS - {"fdatasync"}
    assert "fdatasync" in failed or not refused


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_disk_that_is_full_is_told_and_the_file_is_gone(tmp_path: Path, kind: str) -> None:
    with small(tmp_path, kind) as path:
        with pytest.raises(CannotWrite, match="No space left on device") as caught:
            make(path / "a", content(4 * MIB), 64 * PAGE)
        assert "Free space" in caught.value.hint
        assert not (path / "a").exists()


@contextmanager
def small(tmp_path: Path, kind: str) -> Iterator[Path]:
    """A file system of two megabytes; an ext4 in a file is one that writes directly."""
    path = tmp_path / "small"
    if kind == "tmpfs":
        with mounted(path, "tmpfs", "-o", "size=2m"):
            yield path
        return
    if os.geteuid() or not shutil.which("mkfs.ext4"):
        pytest.skip("only root can mount a file system")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(2 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", str(image)], check=True)
    path.mkdir()
    if subprocess.run(["mount", "-o", "loop", str(image), str(path)], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield path
    finally:
        with suppress(subprocess.CalledProcessError):
            subprocess.run(["umount", str(path)], check=True)


# Memory and sums.


def test_memory_is_aligned_as_disks_ask_for() -> None:
    buffers = memory(3, 2 * PAGE)
    assert [len(one) for one in buffers] == [2 * PAGE] * 3
    for number, one in enumerate(buffers):
        one[:] = bytes([number]) * len(one)
    assert [set(one) for one in buffers] == [{0}, {1}, {2}]


@given(st.binary(max_size=500), st.binary(max_size=500))
def test_the_checksum_is_the_one_of_gzip(first: bytes, second: bytes) -> None:
    crc32 = checksum()
    assert crc32(memoryview(second), crc32(memoryview(first), 0)) == zlib.crc32(first + second)


def test_without_isal_the_checksum_is_zlibs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "isal.isal_zlib", None)
    assert checksum() is zlib.crc32
