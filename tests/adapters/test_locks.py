import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import agent
from agent.adapters.locks import held
from agent.errors import CannotWrite, TryLater

HOLDING = """
import sys
from agent.adapters.locks import held
with held(sys.argv[1], sys.argv[2]):
    print("held", flush=True)
    input()
"""


@contextmanager
def another_process_holds(state: Path, name: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(state), name],
        env={**os.environ, "PYTHONPATH": str(Path(agent.__file__).parent.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        try:
            yield other
        finally:
            other.kill()


def take(state: Path, name: str = "backup") -> None:
    with held(str(state), name):
        pass


def test_who_comes_second_is_told_who_is_first(tmp_path: Path) -> None:
    with another_process_holds(tmp_path, "backup") as other:
        with pytest.raises(TryLater) as caught:
            take(tmp_path)
        assert caught.value.message == f"another snapward is busy with this: backup, process {other.pid}"
        assert "snapward status" in caught.value.hint
        with pytest.raises(TryLater, match=f"process {other.pid}"):
            take(tmp_path)


def test_a_lock_is_free_again_when_its_holder_was_killed(tmp_path: Path) -> None:
    with another_process_holds(tmp_path, "backup") as other:
        other.kill()
        other.wait()
        take(tmp_path)


def test_a_lock_is_free_again_when_its_block_ended_or_failed(tmp_path: Path) -> None:
    take(tmp_path)
    with pytest.raises(ZeroDivisionError), held(str(tmp_path), "backup"):
        _ = 1 / 0
    take(tmp_path)


def test_locks_of_other_names_and_folders_are_free(tmp_path: Path) -> None:
    with held(str(tmp_path), "backup"):
        take(tmp_path, "agent")
        take(tmp_path / "other")


def test_the_same_process_cannot_hold_a_lock_twice(tmp_path: Path) -> None:
    with held(str(tmp_path), "backup"), pytest.raises(TryLater, match=f"process {os.getpid()}"):
        take(tmp_path)
    take(tmp_path)


def test_a_child_does_not_inherit_a_lock(tmp_path: Path) -> None:
    with held(str(tmp_path), "backup"):
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    take(tmp_path)
    child.communicate()


def test_a_lock_names_its_holder_and_nothing_of_a_longer_number_before(tmp_path: Path) -> None:
    take(tmp_path)
    path = tmp_path / "locks" / "backup.lock"
    path.write_text("1234567890\n")
    with held(str(tmp_path), "backup"):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_holder_that_wrote_nothing_is_unknown(tmp_path: Path) -> None:
    with held(str(tmp_path), "backup"):
        (tmp_path / "locks" / "backup.lock").write_bytes(b"")
        with pytest.raises(TryLater, match="process unknown"):
            take(tmp_path)


def test_no_descriptor_is_left_by_locks(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    take(tmp_path)
    with held(str(tmp_path), "backup"), pytest.raises(TryLater):
        take(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_place_where_no_lock_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CannotWrite, match=r"file/locks/backup\.lock: Not a directory"):
        take(tmp_path / "file")
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks/backup.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CannotWrite, match="Too many levels of symbolic links"):
        take(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_does_not_keep_a_lock_from_being_taken(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can mount a small disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "large").write_bytes(bytes(1 << 20))
        with held(str(tmp_path), "backup"), pytest.raises(TryLater, match="process unknown"):
            take(tmp_path)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
