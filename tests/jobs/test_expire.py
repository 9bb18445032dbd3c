"""Removals: written down first, done once, and ended; what is not as it was judged stays."""

import errno
import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from madeup import DAY, made_up, tree

from agent.adapters import ledger
from agent.adapters.ledger import catalogue, deeds, writing
from agent.adapters.ledger.catalogue import Key
from agent.adapters.shelf import look, remove
from agent.errors import CannotWrite, Refused
from agent.jobs.expire.carry import FAILED, KEPT, REMOVED, Gone, Shelf, Work, carry_out, finish
from agent.jobs.intake import sweep
from agent.jobs.intake.losses import Keeps
from agent.jobs.intake.survey import Place
from agent.jobs.intake.verdicts import Telling
from agent.rules.incident import Policy
from agent.rules.keeping import Backup, Reason
from agent.rules.retention import Decision

NOW = 1_795_000_000.0
NAMES = look.pattern(("*.tar.gz",))


_FAULTS = frozenset({"open", "stat", "scandir", "mkdir", "rename", "unlink", "rmdir", "fsync", "dup", "fstat"})


class FailingOs:
    """The `os` module with a fault at its n-th call; from then on at each, if the disk is not to come back."""

    def __init__(self, nth: int, *, lasting: bool) -> None:
        self.calls = 0
        self._nth, self._lasting = nth, lasting

    @property
    def failed(self) -> bool:
        return self.calls >= self._nth

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in _FAULTS:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == self._nth or (self.failed and self._lasting):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(*args, **kwargs)

        return call


class Shelves:
    """Two locations with a backup a day that the ledger knows."""

    def __init__(self, home: Path) -> None:
        self.db = ledger.connect(str(home / "state"), create=True)
        self.roots = {name: home / name for name in ("primary", "secondary")}
        self.paths = []
        for root in self.roots.values():
            self.paths = [f"daily/{made_up(root, 'daily', NOW - day * DAY).name}" for day in range(4)]
        self.know()

    def know(self) -> None:
        """Look at all of it, as the agent does."""
        places = [Place(name, str(root)) for name, root in self.roots.items()]
        told, keeps = Telling(Policy(), {}), Keeps({}, ZoneInfo("UTC"))
        for found in sweep.look_over(self.db, places, NAMES, keeps, 1, lambda: NOW, told):
            todo = sweep.works(self.db, found.place, found.changed, trust=True)
            for _ in sweep.prove(self.db, todo, NAMES, 1, lambda: NOW, told):
                pass

    def work(self, stopping: Callable[[], bool] = lambda: False) -> Work:
        shelves = {name: Shelf(name, str(root)) for name, root in self.roots.items()}
        return Work(self.db, shelves, "ann", lambda: NOW, stopping)

    def going(self, *paths: str, location: str = "primary") -> list[Decision]:
        found = []
        for path in paths:
            tier, _, identity = path.partition("/")
            day = self.paths.index(path)
            one = Backup(id=identity, tier=tier, started=NOW - day * DAY, state="good")
            found.append(Decision(location, one, Reason.OUTLIVED, f"{day} days old"))
        return found

    def begun(self, path: str, location: str = "primary") -> int:
        with writing(self.db):
            return deeds.begin(self.db, "expire", location, path, "too old", "ann", NOW - 1)

    def deed(self, path: str) -> list[tuple[str, bool, str]]:
        return [(one.why, one.ended is not None, one.outcome) for one in deeds.since(self.db, 0.0) if one.path == path]


@pytest.fixture
def shelves(tmp_path: Path) -> Iterator[Shelves]:
    made = Shelves(tmp_path)
    yield made
    made.db.close()


def test_what_goes_is_written_down_and_goes_oldest_first(shelves: Shelves) -> None:
    _, kept, old, older = shelves.paths
    done = list(carry_out(shelves.work(), shelves.going(old, older)))
    assert [(one.path, one.outcome) for one in done] == [(older, REMOVED), (old, REMOVED)]
    assert done[0].size > 2048
    assert shelves.deed(old) == [("2 days old", True, "4 files, 2.41 KiB")]
    assert not (shelves.roots["primary"] / old).exists()
    assert (shelves.roots["secondary"] / old).is_dir()
    assert (shelves.roots["primary"] / kept).is_dir()


def test_the_deed_is_on_record_before_anything_is_moved(shelves: Shelves) -> None:
    old = shelves.paths[3]
    (shelves.roots["primary"] / ".expiring").write_text("in the way")
    (done,) = carry_out(shelves.work(), shelves.going(old))
    assert (done.outcome, type(done.error)) == (FAILED, Refused)
    ((_, ended, outcome),) = shelves.deed(old)
    assert ended
    assert outcome.startswith("not done: ")
    assert deeds.about(shelves.db, "primary", f"{old}/docs.tar.gz") == []
    assert deeds.removed(shelves.db, "daily") == set()


def test_between_two_backups_it_can_be_stopped(shelves: Shelves) -> None:
    answers = iter([False, True])
    done = list(carry_out(shelves.work(lambda: next(answers)), shelves.going(*shelves.paths[1:])))
    assert [one.path for one in done] == [shelves.paths[3]]


@pytest.mark.parametrize("change", ["content", "folder", "more"])
def test_what_is_not_as_it_was_judged_stays_without_a_deed(shelves: Shelves, change: str) -> None:
    old = shelves.paths[3]
    folder = shelves.roots["primary"] / old
    if change == "content":
        (folder / "docs.tar.gz").write_bytes(b"another")
    elif change == "folder":
        folder.rename(shelves.roots["primary"] / "moved")
        made_up(shelves.roots["primary"], "daily", NOW - 3 * DAY)
    else:
        (folder / "notes.txt").write_text("mine")
    before = tree(shelves.roots["primary"])
    (done,) = carry_out(shelves.work(), shelves.going(old))
    assert done.outcome == KEPT
    assert done.why.startswith(
        "notes.txt lies in it" if change == "more" else "SHA256SUMS" if change == "folder" else "docs"
    )
    assert tree(shelves.roots["primary"]) == before
    assert shelves.deed(old) == []


def test_a_location_that_takes_nothing_is_left_alone_and_the_other_is_not(shelves: Shelves) -> None:
    for folder in shelves.paths:
        assert (shelves.roots["primary"] / folder).is_dir()
    shelves.roots["primary"].rename(shelves.roots["primary"].with_name("away"))
    both = shelves.going(*shelves.paths[2:]) + shelves.going(*shelves.paths[2:], location="secondary")
    done = list(carry_out(shelves.work(), both))
    assert Gone("primary", shelves.paths[3], FAILED, "primary does not exist", 0, done[0].error) == done[0]
    assert isinstance(done[0].error, CannotWrite)
    assert [(one.location, one.outcome) for one in done[1:]] == [("secondary", REMOVED)] * 2
    assert not shelves.roots["primary"].exists()


def test_a_removal_that_died_before_the_rename_is_done_if_it_is_still_wanted(shelves: Shelves) -> None:
    _, _, wanted, kept = shelves.paths
    shelves.begun(wanted)
    shelves.begun(kept)
    done = list(finish(shelves.work(), {("primary", wanted)}, frozen=False))
    assert [(one.path, one.outcome) for one in done] == [(wanted, REMOVED), (kept, KEPT)]
    assert shelves.deed(wanted) == [("too old", True, "4 files, 2.41 KiB")]
    assert shelves.deed(kept) == [("too old", True, "not done: kept after all")]
    assert len(list((shelves.roots["primary"] / kept).iterdir())) == 4


@pytest.mark.parametrize("frozen", [False, True])
def test_a_removal_that_died_after_the_rename_is_completed_even_when_frozen(shelves: Shelves, *, frozen: bool) -> None:
    old = shelves.paths[3]
    root = shelves.roots["primary"]
    shelves.begun(old)
    (root / ".expiring" / "daily").mkdir(parents=True)
    (root / old).rename(root / ".expiring" / old)
    (root / ".expiring" / old / "manifest.json").unlink()
    (done,) = finish(shelves.work(), set(), frozen=frozen)
    assert done.outcome == REMOVED
    assert sorted(one.name for one in root.iterdir()) == ["daily"]
    assert deeds.unfinished(shelves.db, "expire") == []


def test_a_removal_that_died_right_before_its_end_is_ended(shelves: Shelves) -> None:
    shelves.begun("daily/20260101T000000Z")
    (shelves.roots["primary"] / ".expiring" / "daily").mkdir(parents=True)
    (done,) = finish(shelves.work(), set(), frozen=False)
    assert done.outcome == REMOVED
    assert shelves.deed("daily/20260101T000000Z") == [("too old", True, "done")]
    assert not (shelves.roots["primary"] / ".expiring").exists()


def test_what_was_put_aside_and_is_on_no_record_goes_unless_the_cleanup_is_frozen(shelves: Shelves) -> None:
    old = shelves.paths[3]
    root = shelves.roots["secondary"]
    (root / ".expiring" / "daily").mkdir(parents=True)
    (root / old).rename(root / ".expiring" / old)
    assert list(finish(shelves.work(), set(), frozen=True)) == []
    assert (root / ".expiring" / old).is_dir()
    (done,) = finish(shelves.work(), set(), frozen=False)
    assert (done.location, done.path, done.outcome) == ("secondary", old, REMOVED)
    assert not (root / ".expiring").exists()
    assert len(shelves.deed(old)) == 1


def test_removals_of_a_location_that_is_away_wait_for_it(shelves: Shelves) -> None:
    old = shelves.paths[3]
    shelves.begun(old)
    shelves.begun(old, location="gone")
    shelves.roots["primary"].rename(shelves.roots["primary"].with_name("away"))
    assert list(finish(shelves.work(), {("primary", old)}, frozen=False)) == []
    assert [one.location for one in deeds.unfinished(shelves.db, "expire")] == ["primary"]


def test_what_has_gone_is_forgotten_without_a_word(shelves: Shelves) -> None:
    old = shelves.paths[3]
    list(carry_out(shelves.work(), shelves.going(old)))
    shelves.know()
    assert catalogue.archive(shelves.db, Key("primary", old, "docs.tar.gz")) is None
    assert catalogue.archive(shelves.db, Key("secondary", old, "docs.tar.gz")) is not None
    assert shelves.db.execute("SELECT rule, subject FROM incident WHERE resolved IS NULL").fetchall() == []


@pytest.mark.parametrize("lasting", [False, True])
def test_whichever_call_fails_the_next_cleanup_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, lasting: bool
) -> None:
    for nth in count(1):
        home = tmp_path / str(nth)
        home.mkdir()
        shelves = Shelves(home)
        root, old = shelves.roots["primary"], shelves.paths[3]
        others = {path: data for path, data in tree(root).items() if not path.startswith(old)}
        failing = FailingOs(nth, lasting=lasting)
        with monkeypatch.context() as patched:
            patched.setattr(remove, "os", failing)
            (done,) = carry_out(shelves.work(), shelves.going(old))
        if not failing.failed:
            break
        left = len(list((root / old).iterdir())) if (root / old).exists() else 0
        assert left in {0, 4}, f"call {nth} leaves a part of it in its place"
        if (root / ".expiring" / old).exists():
            assert [one.path for one in deeds.unfinished(shelves.db, "expire")] == [old]
        assert done.outcome == FAILED or left == 0
        shelves.know()
        list(finish(shelves.work(), {("primary", old)}, frozen=False))
        list(carry_out(shelves.work(), shelves.going(old)))
        assert tree(root) == others
        assert deeds.unfinished(shelves.db, "expire") == []
        shelves.know()
        assert shelves.db.execute("SELECT rule, subject FROM incident").fetchall() == []
        shelves.db.close()
    assert nth > 25
