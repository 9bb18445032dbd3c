import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from agent.adapters.ledger import (
    FILE,
    blank,
    check,
    connect,
    connect_reader,
    ours,
    replaced,
    runs,
    set_aside,
    translated,
    writing,
)
from agent.errors import AgentError, CannotWrite, Damaged, TryLater

ENDS = ("", "-wal", "-shm")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state folder with a ledger, in which one slot was taken."""
    with closing(connect(str(tmp_path), create=True)) as db, writing(db):
        runs.take_slot(db, "report", 1.0)
    return tmp_path


def slot(db: sqlite3.Connection) -> float | None:
    return runs.last_slot(db, "report")


@contextmanager
def altered(home: Path) -> Iterator[sqlite3.Connection]:
    """The ledger as another program sees it."""
    with closing(sqlite3.connect(home / FILE, isolation_level=None)) as db:
        yield db


def held_open(home: Path) -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that lists them is gone by now
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [path for path in found if path.startswith(f"{home}/")]


# Damage


@pytest.mark.parametrize("opened", [connect, connect_reader])
def test_a_file_that_is_no_database_is_damaged(home: Path, opened: Callable[[str], sqlite3.Connection]) -> None:
    (home / FILE).write_bytes(b"not a database " * 1000)
    with pytest.raises(Damaged, match=r"ledger\.db: file is not a database") as refused:
        opened(str(home))
    assert not held_open(home)
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
        assert {one.name for one in home.iterdir()} == {f"{FILE}.damaged-20261123T020000Z{end}" for end in ENDS}
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
