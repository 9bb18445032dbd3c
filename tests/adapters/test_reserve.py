import os
import resource
import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from agent.adapters.ledger import (
    FILE,
    check,
    connect,
    reserve,
    runs,
    writing,
)
from agent.errors import CannotWrite


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state folder with a ledger, in which one slot was taken."""
    with closing(connect(str(tmp_path), create=True)) as db, writing(db):
        runs.take_slot(db, "report", 1.0)
    return tmp_path


def slot(db: sqlite3.Connection) -> float | None:
    return runs.last_slot(db, "report")


def stored(home: Path) -> float | None:
    with closing(connect(str(home))) as db:
        check(db)
        return slot(db)


def test_a_ledger_that_cannot_grow_says_so_and_loses_nothing(home: Path) -> None:
    with closing(connect(str(home))) as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(CannotWrite, match="disk is full") as refused, writing(db):  # noqa: PT012 - whichever grows first
            runs.take_slot(db, "report", 2.0)
            runs.note(db, "report", "", None, "missed", "x" * 100_000, 1.0)
        assert refused.value.hint == "Free space where state_dir lies."
        assert not db.in_transaction
        assert slot(db) == 1.0
    assert stored(home) == 1.0


_LIMITED = """
import os, resource, sys
from agent.adapters.ledger import check, connect, reserve, runs, writing
from agent.errors import CannotWrite

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

refused = made = 0
for number, size in enumerate([0, 1, 512, 4096, 8192, 30_000, 60_000, 100_000, 120_000, 150_000, 200_000, 400_000]):
    home = os.path.join(sys.argv[1], str(number))
    os.mkdir(home)
    limit(size)
    assert not reserve.keep(home) and os.listdir(home) == [], os.listdir(home)
    try:
        connect(home, create=True).close()
        made += 1
    except CannotWrite:
        refused += 1
    limit(resource.RLIM_INFINITY)
    db = connect(home, create=True)
    check(db)
    with writing(db):
        runs.take_slot(db, "report", 1.0)
    limit(os.path.getsize(os.path.join(home, "ledger.db-wal")) + 5000)
    try:
        with writing(db):
            runs.take_slot(db, "report", 2.0)
            runs.note(db, "report", "", None, "missed", "x" * 100_000, 1.0)
        raise SystemExit("written past the limit")
    except CannotWrite:
        assert not db.in_transaction and runs.last_slot(db, "report") == 1.0
    limit(resource.RLIM_INFINITY)
    with writing(db):
        runs.take_slot(db, "report", 3.0)
    check(db)
assert refused and made, (refused, made)
print("fine")
"""

_FULL = """
import os, sys
from agent.adapters.ledger import check, connect, reserve, runs, writing
from agent.errors import CannotWrite

def fill():
    with open(os.path.join(home, "filler"), "ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                pass

home = sys.argv[1]
fill()
try:
    connect(home, create=True)
    raise SystemExit("made on a full disk")
except CannotWrite as error:
    print(error.message)
assert not reserve.keep(home) and not os.path.exists(os.path.join(home, reserve.FILE))
os.unlink(os.path.join(home, "filler"))
db = connect(home, create=True)
assert reserve.keep(home)
with writing(db):
    runs.take_slot(db, "report", 1.0)
fill()
written = 0
try:
    while True:
        with writing(db):
            runs.note(db, "report", "", None, "missed", "x" * 10_000, 1.0)
        written += 1
except CannotWrite as error:
    print(error.message)
assert not db.in_transaction
assert len(runs.between(db, 0, 2)) == written
assert reserve.spend(home)
with writing(db):
    runs.take_slot(db, "report", 2.0)
check(db)
assert not reserve.keep(home) or reserve.spend(home)
print("fine")
"""


def _run(script: str, folder: Path, *before: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave its own rights behind")
def test_a_ledger_of_somebody_else_is_told() -> None:
    script = "import os, sys; from agent.adapters import ledger; os.setuid(65534); ledger.connect(sys.argv[1])"
    with tempfile.TemporaryDirectory() as home:
        connect(home, create=True).close()
        os.chmod(home, 0o777)  # noqa: S103 - so that only the owner differs
        os.chmod(os.path.join(home, FILE), 0o666)  # noqa: S103 - the same
        done = _run(script, Path(home))
    assert f"agent.errors.CannotWrite: {home}/ledger.db: Operation not permitted" in done.stderr


def test_whatever_size_a_file_may_have_a_ledger_is_refused_cleanly_and_made_later(tmp_path: Path) -> None:
    done = _run(_LIMITED, tmp_path)
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_a_full_disk_refuses_cleanly_and_the_reserve_lets_the_alert_through(tmp_path: Path) -> None:
    mounted = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs -o size=4m none "$0" && "$@"',
    ]
    if subprocess.run([*mounted, str(tmp_path), "true"], capture_output=True, check=False).returncode:
        pytest.skip("a file system of our own cannot be mounted here")
    done = _run(_FULL, tmp_path, *mounted, str(tmp_path))
    full = f"{tmp_path}/{FILE}: database or disk is full\nthe ledger: database or disk is full\nfine\n"
    assert (done.stdout, done.stderr) == (full, "")


def test_the_reserve_holds_real_blocks_and_can_be_spent_once(tmp_path: Path) -> None:
    home, file = str(tmp_path), tmp_path / reserve.FILE
    assert reserve.keep(home)
    assert file.stat().st_blocks * 512 >= reserve.SIZE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    made = file.stat()
    assert reserve.keep(home)
    assert file.stat().st_mtime_ns == made.st_mtime_ns
    os.truncate(file, 10)
    assert reserve.keep(home)
    assert file.stat().st_size == reserve.SIZE
    assert reserve.spend(home)
    assert not file.exists()
    assert not reserve.spend(home)


def test_no_reserve_is_kept_where_nothing_can_be_written(tmp_path: Path) -> None:
    assert not reserve.keep(str(tmp_path / "nowhere"))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY  # the limits above were a child's
