"""Pins: what somebody wants to stay."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters import ledger
from agent.adapters.ledger import pins, writing
from agent.errors import CannotWrite
from agent.rules.keeping import Pin

KEY = ("daily", "20261123T020000Z")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    made = ledger.connect(str(tmp_path), create=True)
    yield made
    made.close()


def test_a_pin_is_there_until_it_is_dropped(db: sqlite3.Connection) -> None:
    with writing(db):
        pins.put(db, KEY, Pin(None, "before the upgrade"), "ann", 100.0)
    assert pins.all(db) == {KEY: Pin(None, "before the upgrade")}
    with writing(db):
        assert pins.drop(db, KEY)
        assert not pins.drop(db, KEY)
    assert pins.all(db) == {}


def test_what_is_said_again_replaces_what_was_said(db: sqlite3.Connection) -> None:
    with writing(db):
        pins.put(db, KEY, Pin(None, "for ever"), "ann", 100.0)
        pins.put(db, KEY, Pin(500.0, "a while"), "bob", 200.0)
        pins.put(db, ("weekly", KEY[1]), Pin(600.0), "bob", 200.0)
    assert pins.all(db) == {KEY: Pin(500.0, "a while"), ("weekly", KEY[1]): Pin(600.0)}


def test_a_pin_holds_up_to_its_moment() -> None:
    assert Pin(100.0).holds(99.0)
    assert not Pin(100.0).holds(100.0)
    assert Pin().holds(1e12)


def test_a_ledger_that_is_begun_anew_knows_what_is_kept(db: sqlite3.Connection, tmp_path: Path) -> None:
    with writing(db):
        pins.put(db, KEY, Pin(500.0, "a while"), "ann", 100.0)
        pins.save(db, str(tmp_path))
    db.close()
    ledger.set_aside(str(tmp_path), "then")
    anew = ledger.connect(str(tmp_path), create=True)
    assert pins.all(anew) == {KEY: Pin(500.0, "a while")}
    with writing(anew):
        pins.drop(anew, KEY)
        pins.save(anew, str(tmp_path))
    anew.close()
    ledger.set_aside(str(tmp_path), "later")
    with contextlib.closing(ledger.connect(str(tmp_path), create=True)) as last:
        assert pins.all(last) == {}


@pytest.mark.parametrize("content", [b"{", b"[[1, 2]]", b"\xff", b"null"])
def test_a_file_of_pins_that_cannot_be_read_is_put_aside_and_told(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / pins.FILE).write_bytes(content)
    with contextlib.closing(ledger.connect(str(tmp_path), create=True)) as db:
        assert pins.all(db) == {}
    assert (tmp_path / f"{pins.FILE}.damaged").read_bytes() == content
    assert "no backup counts as kept on purpose" in caplog.text


def test_what_cannot_be_written_leaves_the_file_before_it(db: sqlite3.Connection, tmp_path: Path) -> None:
    pins.save(db, str(tmp_path))
    (tmp_path / f"{pins.FILE}.new").mkdir()
    with pytest.raises(CannotWrite, match=r"kept\.json"):
        pins.save(db, str(tmp_path))
    assert (tmp_path / pins.FILE).read_bytes() == b"[]"
