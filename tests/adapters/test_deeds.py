"""The audit trail keeps what was done, and for good what took a backup away."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters import ledger
from agent.adapters.ledger import deeds, writing


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    made = ledger.connect(str(tmp_path), create=True)
    yield made
    made.close()


def test_what_was_begun_is_unfinished_until_it_is_ended(db: sqlite3.Connection) -> None:
    with writing(db):
        number = deeds.begin(db, "expire", "primary", "daily/A", "31 days old", "schedule", 100.0)
        deeds.note(db, "keep", "", "daily/B", "before the upgrade", "ann", 101.0)
    (one,) = deeds.unfinished(db, "expire")
    assert (one.id, one.who, one.location, one.path, one.ended) == (number, "schedule", "primary", "daily/A", None)
    with writing(db):
        deeds.end(db, number, 102.0, "2 files, 10 bytes")
    assert deeds.unfinished(db, "expire") == []
    assert [(one.kind, one.ended, one.outcome) for one in deeds.since(db, 0.0)] == [
        ("expire", 102.0, "2 files, 10 bytes"),
        ("keep", 101.0, "done"),
    ]


def test_a_time_span_holds_what_reaches_into_it(db: sqlite3.Connection) -> None:
    with writing(db):
        early = deeds.begin(db, "backup", "a", "daily/A", "", "schedule", 100.0)
        deeds.begin(db, "repair", "a", "daily/B", "", "schedule", 110.0)
        deeds.note(db, "keep", "", "daily/C", "", "ann", 120.0)
        deeds.end(db, early, 200.0)
    assert [one.path for one in deeds.since(db, 150.0)] == ["daily/A", "daily/B"]
    assert [one.path for one in deeds.since(db, 0.0, 115.0)] == ["daily/A", "daily/B"]


def test_what_took_a_backup_away_outlives_the_rest(db: sqlite3.Connection) -> None:
    with writing(db):
        for kind in ("expire", "quarantine", "repair", "keep"):
            deeds.note(db, kind, "primary", f"da[i]ly/{kind}", "", "ann", 100.0)
        deeds.note(db, "expire", "primary", "daily/other", "", "ann", 100.0)
        deeds.trim(db, 101.0)
    assert [one.kind for one in deeds.since(db, 0.0)] == ["expire", "quarantine", "expire"]
    assert deeds.removed(db, "da[i]ly") == {"expire", "quarantine"}
    assert deeds.removed(db, "daily") == {"other"}
