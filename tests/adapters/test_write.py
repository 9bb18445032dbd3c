import errno
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import agent
from agent.adapters.shelf import write
from agent.adapters.shelf.write import (
    Permissions,
    created,
    explained,
    leftovers,
    make_folder,
    new_file,
    publish,
    settle,
    write_file,
)
from agent.errors import AgentError, CannotWrite, NoRights

MINE = Permissions()
DATA = b"what has to be kept" * 1000
FAULTS = frozenset({"open", "write", "fsync", "close", "fchmod", "chmod", "mkdir", "rename", "replace"})


class FailingOs:
    """The `os` module with a fault at its n-th call; from then on at each, if the disk is not to come back."""

    def __init__(self, nth: int, number: int, *, lasting: bool) -> None:
        self.calls: list[str] = []
        self._nth, self._number, self._lasting = nth, number, lasting

    @property
    def failed(self) -> bool:
        return len(self.calls) >= self._nth

    def __getattr__(self, name: str):
        real = getattr(os, name)
        if name not in FAULTS | {"unlink"}:
            return real

        def call(*args, **kwargs):
            self.calls.append(name)
            if len(self.calls) != self._nth and not (self.failed and self._lasting):
                return real(*args, **kwargs)
            if name == "close":
                real(*args)  # the descriptor is gone even then
            if name == "write" and len(args[1]) > 1:
                real(args[0], args[1][: len(args[1]) // 2])
            raise OSError(self._number, os.strerror(self._number))

        return call


def with_every_fault(
    monkeypatch: pytest.MonkeyPatch,
    action: Callable[[], None],
    check: Callable[[bool], None],
    reset: Callable[[], None],
) -> set[str]:
    """Fail each call of `action` once, in all ways; `check` hears whether it ended well. Returns what was failed."""
    failed = set()
    for number in (errno.EIO, errno.ENOSPC):
        for lasting in (False, True):
            for nth in range(1, 100):
                reset()
                before = descriptors()
                faulty = FailingOs(nth, number, lasting=lasting)
                raised = None
                with monkeypatch.context() as patch:
                    patch.setattr(write, "os", faulty)
                    try:
                        action()
                    except CannotWrite as error:
                        raised = error
                assert descriptors() == before, faulty.calls
                assert raised is None or (os.strerror(number) in raised.message and raised.hint)
                check(raised is None)
                if not faulty.failed:
                    assert raised is None
                    break
                failed.add(faulty.calls[nth - 1])
    return failed


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


def tree(path: Path) -> set[str]:
    return {str(one.relative_to(path)) for one in path.rglob("*")}


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@contextmanager
def mounted(path: Path, options: str) -> Iterator[Path]:
    """A small file system in memory; only root can have one."""
    if os.geteuid():
        pytest.skip("only root can mount a file system")
    path.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


# Faults.


def test_a_file_is_there_whole_or_not_at_all_whatever_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "manifest.json"

    def check(ended: bool) -> None:  # noqa: FBT001 - called by the loop above
        assert not path.exists() or path.read_bytes() == DATA
        assert path.exists() or not ended

    failed = with_every_fault(
        monkeypatch,
        lambda: write_file(str(path), DATA, MINE),
        check,
        lambda: path.unlink(missing_ok=True),
    )
    assert failed == {"unlink", "open", "write", "fchmod", "fsync", "close", "replace"}
    assert tree(tmp_path) == {"manifest.json"}


def test_a_file_that_is_replaced_keeps_its_old_content_or_has_its_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "manifest.json"

    def check(ended: bool) -> None:  # noqa: FBT001 - called by the loop above
        assert path.read_bytes() in ({DATA} if ended else {DATA, b"old"})

    with_every_fault(
        monkeypatch, lambda: write_file(str(path), DATA, MINE), check, lambda: bool(path.write_bytes(b"old"))
    )


def test_a_new_file_that_fails_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.snapshot.gz"

    def make() -> None:
        with new_file(str(path), MINE) as fd:
            write.write_all(fd, DATA)

    lost = set()

    def check(ended: bool) -> None:  # noqa: FBT001 - called by the loop above
        if not ended and path.exists():
            lost.add("left")  # a disk that does not come back takes no removal either
        assert not ended or path.read_bytes() == DATA

    with_every_fault(monkeypatch, make, check, lambda: path.unlink(missing_ok=True))
    assert lost == {"left"}
    path.unlink()

    class OurOwnError(Exception):
        pass

    with pytest.raises(OurOwnError), new_file(str(path), MINE):
        raise OurOwnError
    assert not path.exists()


def test_a_file_gets_its_rights_when_it_is_settled_and_is_nobody_elses_before(tmp_path: Path) -> None:
    path = tmp_path / "a.snapshot.gz"
    with created(str(path), os.O_RDWR) as fd:
        os.write(fd, DATA)
        assert os.pread(fd, len(DATA), 0) == DATA
        assert mode(path) == "0o600"
        settle(fd, Permissions(files=0o604))
        assert mode(path) == "0o604"
    with created(str(tmp_path / "b")):
        pass
    assert mode(tmp_path / "b") == "0o600"


def test_a_backup_is_published_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    incoming, final = tmp_path / ".incoming" / "1", tmp_path / "daily" / "1"
    final.parent.mkdir()
    incoming.mkdir(parents=True)
    (incoming / "manifest.json").write_bytes(DATA)

    def check(ended: bool) -> None:  # noqa: FBT001 - called by the loop above
        assert incoming.exists() != final.exists()
        assert final.exists() or not ended
        assert tree(final if final.exists() else incoming) == {"manifest.json"}

    def reset() -> None:
        if final.exists():
            final.rename(incoming)

    failed = with_every_fault(monkeypatch, lambda: publish(str(incoming), str(final)), check, reset)
    assert failed == {"open", "fsync", "close", "rename"}


@pytest.mark.usefixtures("umask")
def test_a_folder_is_never_open_to_more_than_it_is_meant_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "daily" / "1"

    def check(ended: bool) -> None:  # noqa: FBT001 - called by the loop above
        for one in (folder.parent, folder):
            assert one.exists() or not ended
            assert not one.exists() or mode(one) == "0o755" or (not ended and one.stat().st_mode & 0o022 == 0)

    def reset() -> None:
        for one in (folder, folder.parent):
            if one.exists():
                one.rmdir()

    failed = with_every_fault(monkeypatch, lambda: make_folder(str(folder), MINE, below=str(tmp_path)), check, reset)
    assert failed == {"mkdir", "chmod", "open", "fsync", "close"}


def test_what_is_written_is_on_the_disk_before_it_gets_its_name_and_the_name_is_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = FailingOs(1000, 0, lasting=False)
    with monkeypatch.context() as patch:
        patch.setattr(write, "os", watched)
        write_file(str(tmp_path / "a"), b"x", MINE)
    sync = ["open", "fsync", "close"]
    assert watched.calls == ["unlink", "open", "write", "fchmod", "fsync", "close", "replace", *sync]
    for folder in (".incoming/1", "daily"):
        (tmp_path / folder).mkdir(parents=True)
    watched.calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(write, "os", watched)
        publish(str(tmp_path / ".incoming/1"), str(tmp_path / "daily/1"))
    assert watched.calls == [*sync, "rename", *sync, *sync]


def test_what_takes_many_calls_is_written_whole(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        write.write_all(writer, bytes(1 << 20))
    os.close(reader)
    os.close(writer)
    write_file(str(tmp_path / "a"), memoryview(DATA)[5:], MINE)  # type: ignore[arg-type]
    assert (tmp_path / "a").read_bytes() == DATA[5:]


def test_what_a_writer_that_died_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS.part").write_bytes(b"half")
    write_file(str(tmp_path / "SHA256SUMS"), DATA, MINE)
    assert tree(tmp_path) == {"SHA256SUMS"}


# Rights.


@pytest.mark.usefixtures("umask")
def test_files_and_folders_have_exactly_the_rights_asked_for(tmp_path: Path) -> None:
    wanted = Permissions(files=0o604, folders=0o2751)
    make_folder(str(tmp_path / "a/b"), wanted, below=str(tmp_path))
    write_file(str(tmp_path / "a/b/c"), DATA, wanted)
    with new_file(str(tmp_path / "a/d"), wanted) as fd:
        assert stat.S_IMODE(os.fstat(fd).st_mode) & 0o077 == 0
    assert [mode(tmp_path / one) for one in ("a", "a/b", "a/b/c", "a/d")] == ["0o2751", "0o2751", "0o604", "0o604"]


def test_a_folder_that_is_there_already_keeps_its_rights(tmp_path: Path) -> None:
    (tmp_path / "daily").mkdir(mode=0o700)
    make_folder(str(tmp_path / "daily/1"), MINE, below=str(tmp_path))
    assert mode(tmp_path / "daily") == "0o700"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_owner_and_group_are_set_where_they_are_given(tmp_path: Path) -> None:
    make_folder(str(tmp_path / "a"), Permissions(owner=12345), below=str(tmp_path))
    write_file(str(tmp_path / "a/b"), DATA, Permissions(group=54321))
    write_file(str(tmp_path / "a/c"), DATA, Permissions(files=0o4750, owner=12345, group=54321))
    found = [(tmp_path / one).stat() for one in ("a", "a/b", "a/c")]
    assert [(one.st_uid, one.st_gid) for one in found] == [(12345, 0), (0, 54321), (12345, 54321)]


def test_a_place_without_rights_is_said_to_be_one() -> None:
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        code = (
            "import os, sys\n"
            "from agent.adapters.shelf import write\n"
            "from agent.errors import NoRights\n"
            "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "else: os.chmod(sys.argv[1], 0o555)\n"
            "path = sys.argv[1]; mine = write.Permissions()\n"
            "for action in (lambda: write.write_file(path + '/a', b'x', mine),\n"
            "               lambda: write.make_folder(path + '/a', mine, below=path)):\n"
            "    try: action()\n"
            "    except NoRights as error: print(error.message.removeprefix(path))"
        )
        told = subprocess.run(
            [sys.executable, "-c", code, made],
            env={**os.environ, "PYTHONPATH": str(Path(agent.__file__).parent.parent)},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        assert told.stdout.splitlines() == ["/a.part: Permission denied", "/a: Permission denied"]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, CannotWrite),
        (errno.EDQUOT, CannotWrite),
        (errno.EROFS, CannotWrite),
        (errno.ENOENT, CannotWrite),
        (errno.EIO, CannotWrite),
        (errno.ENAMETOOLONG, CannotWrite),
        (errno.EACCES, NoRights),
        (errno.EPERM, NoRights),
    ],
    ids=lambda one: one.__name__ if isinstance(one, type) else errno.errorcode[one],
)
def test_each_error_says_what_happened_to_what_and_what_to_do(number: int, kind: type[AgentError]) -> None:
    with pytest.raises(kind) as caught, explained("/some/place"):
        raise OSError(number, os.strerror(number))
    assert caught.value.message == f"/some/place: {os.strerror(number)}"
    assert caught.value.hint
    assert isinstance(caught.value.__cause__, OSError)


# Places that take nothing.


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=64k") as small:
        write_file(str(small / "old"), b"x" * 8192, MINE)
        before = descriptors()
        with pytest.raises(CannotWrite, match="No space left on device") as caught:
            write_file(str(small / "old"), bytes(1 << 20), MINE)
        assert "Free space" in caught.value.hint
        with pytest.raises(CannotWrite), new_file(str(small / "new"), MINE) as fd:
            write.write_all(fd, bytes(1 << 20))
        assert tree(small) == {"old"}
        assert (small / "old").read_bytes() == b"x" * 8192
        assert descriptors() == before
        write_file(str(small / "old"), bytes(40_000), MINE)


def test_a_disk_without_inodes_is_full_too(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=64k,nr_inodes=2") as small:
        write_file(str(small / "last"), b"x", MINE)
        with pytest.raises(CannotWrite, match="No space left"):
            write_file(str(small / "more"), b"x", MINE)
        with pytest.raises(CannotWrite, match="No space left"):
            make_folder(str(small / "daily"), MINE, below=str(small))
        assert tree(small) == {"last"}


def test_a_read_only_disk_is_named(tmp_path: Path) -> None:
    with mounted(tmp_path / "fixed", "size=64k") as fixed:
        (fixed / "1").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", str(fixed)], check=True)
        for action in (
            lambda: write_file(str(fixed / "a"), b"x", MINE),
            lambda: make_folder(str(fixed / "a"), MINE, below=str(fixed)),
            lambda: publish(str(fixed / "1"), str(fixed / "a")),
        ):
            with pytest.raises(CannotWrite, match="Read-only file system") as caught:
                action()
            assert "Mount it for writing" in caught.value.hint


def test_a_location_that_is_missing_is_never_made(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite, match="is not there") as caught:
        make_folder(str(tmp_path / "gone/daily/1"), MINE, below=str(tmp_path / "gone"))
    assert "mount" in caught.value.hint
    assert tree(tmp_path) == set()
    make_folder(str(tmp_path), MINE, below=str(tmp_path))


def test_a_file_in_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "daily").write_bytes(b"")
    for folder in ("daily", "daily/1"):
        with pytest.raises(CannotWrite, match=f"{folder}: File exists"):
            make_folder(str(tmp_path / folder), MINE, below=str(tmp_path))


def test_nothing_is_written_over_or_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"kept")
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "link.part").symlink_to("there")
    for name in ("there", "link"):
        with pytest.raises(CannotWrite, match="File exists"), new_file(str(tmp_path / name), MINE):
            pass
    write_file(str(tmp_path / "link"), b"new", MINE)
    assert (tmp_path / "there").read_bytes() == b"kept"
    assert not (tmp_path / "link").is_symlink()


def test_a_backup_is_not_published_over_another(tmp_path: Path) -> None:
    for folder in ("new", "old"):
        (tmp_path / folder).mkdir()
    with pytest.raises(CannotWrite, match="old exists already"):
        publish(str(tmp_path / "new"), str(tmp_path / "old"))
    assert tree(tmp_path) == {"new", "old"}


def test_leftovers_are_what_lies_in_incoming(tmp_path: Path) -> None:
    assert leftovers(str(tmp_path)) == []
    for name in ("2", "1"):
        (tmp_path / ".incoming" / name).mkdir(parents=True)
    assert leftovers(str(tmp_path)) == [str(tmp_path / ".incoming" / name) for name in ("1", "2")]
