import os
import sqlite3
import stat
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
    runs,
    translated,
    writing,
)
from agent.errors import CannotWrite, Damaged, TryLater

ENDS = ("", "-wal", "-shm")


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


def held_open(home: Path) -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that lists them is gone by now
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [path for path in found if path.startswith(f"{home}/")]


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
    assert found == dict.fromkeys([FILE + end for end in ENDS], 0o600)
    assert (tmp_path / MARK).exists()


def test_a_state_folder_that_is_missing_is_made_and_kept_from_others(tmp_path: Path) -> None:
    connect(str(tmp_path / "var" / "state"), create=True).close()
    assert (tmp_path / "var" / "state" / FILE).exists()
    assert stat.S_IMODE((tmp_path / "var" / "state").stat().st_mode) & 0o027 == 0


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
    with pytest.raises(Damaged, match="is gone") as refused:
        connect(str(home), create=True)
    assert refused.value.hint
    with pytest.raises(TryLater):
        connect(str(home))
    (home / MARK).unlink()
    assert not lost(str(home))


@pytest.mark.parametrize("create", [True, False])
def test_a_ledger_that_was_emptied_is_never_begun_anew_in_silence(home: Path, *, create: bool) -> None:
    os.truncate(home / FILE, 0)
    with pytest.raises(Damaged, match="is empty") as refused:
        connect(str(home), create=create)
    assert refused.value.hint
    assert not held_open(home)
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
def test_a_transaction_that_fails_leaves_nothing_and_keeps_its_reason(home: Path, error: type[BaseException]) -> None:
    with closing(connect(str(home))) as db:
        with pytest.raises(error), writing(db):  # noqa: PT012 - it fails after it has written
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
        with pytest.raises(TryLater, match=f"has schema 99, this snapward (knows|reads) {len(MIGRATIONS)}") as refused:
            opened(str(home))
        assert refused.value.hint
        assert not held_open(home)
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
