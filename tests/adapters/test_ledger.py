import os
import resource
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from agent.adapters import ledger
from agent.adapters.ledger import (
    FILE,
    MARK,
    MIGRATIONS,
    blank,
    check,
    connect,
    connect_reader,
    lost,
    ours,
    replaced,
    reserve,
    runs,
    set_aside,
    translated,
    writing,
)
from agent.errors import AgentError, CannotWrite, Damaged, TryLater


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


@contextmanager
def altered(home: Path) -> Iterator[sqlite3.Connection]:
    """The ledger as another program sees it."""
    with closing(sqlite3.connect(home / FILE, isolation_level=None)) as db:
        yield db


# Opening


def test_a_new_ledger_is_durable_private_and_remembered(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with closing(connect(str(tmp_path), create=True)) as db:
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert db.execute("PRAGMA synchronous").fetchone() == (2,)
            assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
            check(db)
            found = {one.name: stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir() if one.name != MARK}
    finally:
        os.umask(before)
    assert found == dict.fromkeys([FILE, f"{FILE}-wal", f"{FILE}-shm"], 0o600)
    assert (tmp_path / MARK).exists()


def test_what_was_committed_is_there_when_it_is_opened_again(home: Path) -> None:
    assert stored(home) == 1.0
    with closing(connect(str(home), create=True)) as db:
        assert slot(db) == 1.0
    with closing(connect_reader(str(home))) as db:
        assert slot(db) == 1.0


@pytest.mark.parametrize("opened", [connect, connect_reader])
def test_opening_never_makes_a_ledger_unasked(opened: Callable[[str], sqlite3.Connection], tmp_path: Path) -> None:
    with pytest.raises(TryLater, match="there is no ledger") as refused:
        opened(str(tmp_path))
    assert "snapward reconcile" in refused.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_that_was_lost_is_never_begun_anew_in_silence(home: Path) -> None:
    assert not lost(str(home))
    (home / FILE).unlink()
    assert lost(str(home))
    with pytest.raises(Damaged, match="is gone"):
        connect(str(home), create=True)
    with pytest.raises(TryLater):
        connect(str(home))
    (home / MARK).unlink()
    assert not lost(str(home))


@pytest.mark.parametrize("create", [True, False])
def test_a_ledger_that_was_emptied_is_never_begun_anew_in_silence(home: Path, create: bool) -> None:
    os.truncate(home / FILE, 0)
    with pytest.raises(Damaged, match="is empty"):
        connect(str(home), create=create)
    assert os.path.getsize(home / FILE) == 0


def test_a_ledger_whose_making_was_cut_short_is_made(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    with closing(connect(str(tmp_path))) as db:
        assert slot(db) is None


def test_processes_that_start_together_make_one_ledger_or_are_asked_to_try_later(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def start(home: Path, together: threading.Barrier) -> None:
        together.wait()
        try:
            while True:
                with suppress(TryLater), closing(connect(str(home), create=True)) as db, writing(db):
                    runs.note(db, "report", "", None, "missed", "", 1.0)
                    return
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            failures.append(error)

    for number in range(8):
        home = tmp_path / str(number)
        home.mkdir()
        together = threading.Barrier(4)
        threads = [threading.Thread(target=start, args=(home, together)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        with closing(connect_reader(str(home))) as db:
            assert len(runs.between(db, 0.0, 2.0)) == 4


@pytest.mark.parametrize("name", ["a b", "100%41", "what?mode=rwc", "a#b", "Größe"])
def test_a_state_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    home.mkdir()
    connect(str(home), create=True).close()
    with closing(connect_reader(str(home))) as db:
        assert slot(db) is None
    assert {one.name for one in home.iterdir()} >= {FILE, MARK}
    assert [one.name for one in tmp_path.iterdir()] == [name]


# Readers and writers


def test_a_reader_cannot_write(home: Path) -> None:
    with closing(connect_reader(str(home))) as db, pytest.raises(CannotWrite, match="readonly"), translated():
        runs.take_slot(db, "report", 2.0)
    assert stored(home) == 1.0


def test_a_reader_sees_the_last_commit_while_a_writer_is_at_work(home: Path) -> None:
    with closing(connect(str(home))) as writer:
        with writing(writer):
            runs.take_slot(writer, "report", 2.0)
            with closing(connect_reader(str(home))) as reader:
                reader.execute("PRAGMA busy_timeout=0")
                assert slot(reader) == 1.0
        with closing(connect_reader(str(home))) as reader:
            assert slot(reader) == 2.0


def test_a_reader_in_the_middle_of_its_reading_never_holds_up_the_writer(home: Path) -> None:
    with closing(connect_reader(str(home))) as reader, closing(connect(str(home))) as writer:
        reader.execute("BEGIN")
        assert slot(reader) == 1.0
        writer.execute("PRAGMA busy_timeout=0")
        with writing(writer):
            runs.take_slot(writer, "report", 2.0)
        assert slot(reader) == 1.0
        reader.execute("COMMIT")
        assert slot(reader) == 2.0


def test_a_second_writer_is_asked_to_try_later(home: Path) -> None:
    with closing(connect(str(home))) as first, closing(connect(str(home))) as second:
        second.execute("PRAGMA busy_timeout=0")
        with writing(first), pytest.raises(TryLater, match="locked"), writing(second):
            pytest.fail("two writers at once")
        with writing(second):
            runs.take_slot(second, "report", 3.0)
        assert slot(first) == 3.0


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, PermissionError])
def test_a_transaction_that_fails_leaves_nothing_and_keeps_its_reason(
    home: Path, error: type[BaseException]
) -> None:
    with closing(connect(str(home))) as db:
        with pytest.raises(error), writing(db):
            runs.take_slot(db, "report", 2.0)
            raise error
        assert not db.in_transaction
        assert slot(db) == 1.0
        with writing(db):
            runs.take_slot(db, "report", 3.0)
        assert not db.in_transaction
    assert stored(home) == 3.0


# Schema


def test_a_ledger_of_a_newer_version_is_left_alone(home: Path) -> None:
    with altered(home) as db:
        db.execute("PRAGMA user_version=99")
    for opened in (connect, connect_reader):
        with pytest.raises(TryLater, match=f"has schema 99, this snapward (knows|reads) {len(MIGRATIONS)}"):
            opened(str(home))
    with altered(home) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (99,)


def test_a_reader_waits_for_a_ledger_that_is_not_made_yet(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    with pytest.raises(TryLater, match="has schema 0"):
        connect_reader(str(tmp_path))


def test_an_older_ledger_is_brought_up_to_date_and_keeps_what_it_holds(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE a(b);\nCREATE TABLE c(d)", "DROP TABLE a"))
    with closing(connect(str(home))) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 2,)
        assert db.execute("SELECT name FROM sqlite_schema WHERE name IN ('a', 'c')").fetchall() == [("c",)]
        assert slot(db) == 1.0


def test_a_migration_that_fails_is_undone_whole(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE a(b);\nCREATE TABLE archive(again)"))
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            connect(str(home))
    assert stored(home) == 1.0
    with altered(home) as db:
        assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'a'").fetchone() == (0,)


def test_a_blank_ledger_takes_everything_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(blank()) as db:
        with writing(db):
            runs.take_slot(db, "report", 1.0)
        assert slot(db) == 1.0
        check(db)
    assert list(tmp_path.iterdir()) == []


# Damage


@pytest.mark.parametrize("opened", [connect, connect_reader])
def test_a_file_that_is_no_database_is_damaged(home: Path, opened: Callable[[str], sqlite3.Connection]) -> None:
    (home / FILE).write_bytes(b"not a database " * 1000)
    with pytest.raises(Damaged, match=r"ledger\.db: file is not a database") as refused:
        opened(str(home))
    assert "snapward reconcile" in refused.value.hint


def test_pages_that_were_overwritten_are_found_by_a_check(home: Path) -> None:
    with open(home / FILE, "r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (os.path.getsize(home / FILE) - 4096))
    with pytest.raises(Damaged, match="malformed"), closing(connect(str(home))) as db:
        check(db)


def test_what_contradicts_the_schema_is_found_by_a_check(home: Path) -> None:
    with altered(home) as db:
        db.execute("CREATE TABLE odd(a)")
        db.execute("INSERT INTO odd VALUES(NULL)")
        db.execute("PRAGMA writable_schema=ON")
        db.execute("UPDATE sqlite_schema SET sql = 'CREATE TABLE odd(a NOT NULL)' WHERE name = 'odd'")
    with (
        closing(connect(str(home))) as db,
        pytest.raises(Damaged, match=r"the ledger is inconsistent: NULL value in odd\.a"),
    ):
        check(db)


def test_a_damaged_ledger_is_set_aside_whole_and_begun_anew(home: Path) -> None:
    with closing(connect(str(home))) as db:
        with writing(db):
            runs.take_slot(db, "report", 2.0)  # only in the journal, as long as it is open
        kept = set_aside(str(home), "20261123T020000Z")
    assert kept == str(home / f"{FILE}.damaged-20261123T020000Z")
    with closing(connect(str(home), create=True)) as db:
        assert slot(db) is None
    with closing(sqlite3.connect(kept)) as old:
        assert slot(old) == 2.0


def test_a_lost_ledger_is_set_aside_as_nothing(home: Path) -> None:
    (home / FILE).unlink()
    assert set_aside(str(home), "x") is None
    with closing(connect(str(home), create=True)) as db:
        assert slot(db) is None
    assert set_aside(str(home / "nowhere"), "x") is None


@pytest.mark.parametrize("done", range(5))
def test_a_setting_aside_that_is_cut_short_is_never_taken_for_a_sound_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    db = connect(str(tmp_path), create=True)
    with writing(db):
        runs.take_slot(db, "report", 2.0)
    calls = [0]

    def dies(step: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*args: str) -> None:
            if calls[0] >= done:
                raise SystemExit
            calls[0] += 1
            step(*args)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dies(os.replace))
        patch.setattr(os, "unlink", dies(os.unlink))
        if done < 4:
            with pytest.raises(SystemExit):
                set_aside(str(tmp_path), "x")
        else:
            set_aside(str(tmp_path), "x")
    if done == 0:
        assert not replaced(db, str(tmp_path))
    elif done < 4:
        with pytest.raises(Damaged):
            connect(str(tmp_path), create=True)
        set_aside(str(tmp_path), "y")
    db.close()
    with closing(connect(str(tmp_path), create=True)) as after:
        assert slot(after) == (2.0 if done == 0 else None)


def test_a_ledger_that_was_removed_or_replaced_under_us_is_noticed(home: Path) -> None:
    with closing(connect(str(home))) as db:
        assert not replaced(db, str(home))
        os.rename(home / FILE, home / "moved.db")
        assert replaced(db, str(home))
        (home / FILE).write_bytes((home / "moved.db").read_bytes())
        assert replaced(db, str(home))
        os.rename(home / "moved.db", home / FILE)
        assert not replaced(db, str(home))


def test_a_state_folder_behind_a_link_is_not_taken_for_a_replaced_one(home: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(home)
    with closing(connect(str(link))) as db:
        assert not replaced(db, str(link))
        (home / FILE).unlink()
        assert replaced(db, str(link))


def test_a_blank_ledger_is_never_taken_for_one_in_the_folder(home: Path) -> None:
    with closing(blank()) as db:
        assert not replaced(db, str(home))


# Errors


def _error(code: int) -> sqlite3.DatabaseError:
    error = sqlite3.OperationalError("so it is")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_CORRUPT, Damaged),
        (sqlite3.SQLITE_CORRUPT_INDEX, Damaged),
        (sqlite3.SQLITE_NOTADB, Damaged),
        (sqlite3.SQLITE_FULL, CannotWrite),
        (sqlite3.SQLITE_IOERR, CannotWrite),
        (sqlite3.SQLITE_IOERR_FSYNC, CannotWrite),
        (sqlite3.SQLITE_READONLY, CannotWrite),
        (sqlite3.SQLITE_READONLY_DBMOVED, CannotWrite),
        (sqlite3.SQLITE_CANTOPEN, CannotWrite),
        (sqlite3.SQLITE_PERM, CannotWrite),
        (sqlite3.SQLITE_BUSY, TryLater),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, TryLater),
        (sqlite3.SQLITE_LOCKED, TryLater),
    ],
)
def test_each_error_of_sqlite_is_told_by_what_to_do_about_it(code: int, kind: type[AgentError]) -> None:
    found = ours(_error(code), "/x/ledger.db")
    assert type(found) is kind
    assert found.message == "/x/ledger.db: so it is"
    assert found.hint


@pytest.mark.parametrize("code", [sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISUSE])
def test_a_mistake_of_our_own_stays_what_it_is(code: int) -> None:
    error = _error(code)
    assert ours(error) is error


def test_a_mistake_in_our_sql_ends_the_step_with_its_own_name(home: Path) -> None:
    with closing(connect(str(home))) as db:
        with pytest.raises(sqlite3.OperationalError, match="no such table"), writing(db):
            db.execute("SELECT * FROM nowhere")
        with pytest.raises(sqlite3.IntegrityError), writing(db):
            db.execute("INSERT INTO slot VALUES('report', 1.0)")
    with pytest.raises(sqlite3.ProgrammingError), translated():
        db.execute("SELECT 1")


def test_a_place_where_no_ledger_can_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite, match="/file cannot be made: File exists"):
        connect(str(tmp_path / "file"), create=True)
    (tmp_path / FILE).mkdir()
    with pytest.raises(CannotWrite, match="unable to open"):
        connect(str(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave its own rights behind")
def test_a_ledger_of_somebody_else_is_told() -> None:
    script = "import os, sys; from agent.adapters import ledger; os.setuid(65534); ledger.connect(sys.argv[1])"
    with tempfile.TemporaryDirectory() as home:
        connect(home, create=True).close()
        os.chmod(home, 0o777)
        os.chmod(os.path.join(home, FILE), 0o666)
        done = _run(script, Path(home))
    assert f"agent.errors.CannotWrite: {home}/ledger.db: Operation not permitted" in done.stderr


# Full disks


def test_a_ledger_that_cannot_grow_says_so_and_loses_nothing(home: Path) -> None:
    with closing(connect(str(home))) as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(CannotWrite, match="disk is full") as refused, writing(db):
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


def test_whatever_size_a_file_may_have_a_ledger_is_refused_cleanly_and_made_later(tmp_path: Path) -> None:
    done = _run(_LIMITED, tmp_path)
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_a_full_disk_refuses_cleanly_and_the_reserve_lets_the_alert_through(tmp_path: Path) -> None:
    mounted = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs -o size=4m none "$0" && "$@"']
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
