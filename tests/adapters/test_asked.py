import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.adapters.ledger import asked, connect, writing
from agent.adapters.ledger.asked import Asked

URL = "http://127.0.0.1:6333"
AWKWARD = "-'ünï cödé' \"quoted\" \\ 日本\u2028"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(str(tmp_path), create=True)) as made:
        yield made


def test_what_was_asked_is_known_until_it_is_gone(db: sqlite3.Connection) -> None:
    with writing(db):
        first = asked.note(db, URL, "one", 1.25, frozenset({"b", "a"}))
        second = asked.note(db, URL, AWKWARD, 2.0, frozenset())
        assert first != second
    assert asked.everything(db) == [
        Asked(first, URL, "one", 1.25, frozenset({"a", "b"}), None),
        Asked(second, URL, AWKWARD, 2.0, frozenset(), None),
    ]
    with writing(db):
        asked.made(db, second, f"{AWKWARD}.snapshot")
        asked.gone(db, first)
    assert asked.everything(db) == [Asked(second, URL, AWKWARD, 2.0, frozenset(), f"{AWKWARD}.snapshot")]
    with writing(db):
        asked.gone(db, second)
        asked.gone(db, second)
        asked.made(db, first, "too late")
    assert asked.everything(db) == []


def test_the_same_may_be_asked_twice(db: sqlite3.Connection) -> None:
    with writing(db):
        notes = [asked.note(db, URL, "one", 1.0, frozenset({AWKWARD})) for _ in range(2)]
        asked.gone(db, notes[0])
    assert [one.id for one in asked.everything(db)] == notes[1:]
    assert asked.everything(db)[0].beside == {AWKWARD}


def test_a_note_is_there_for_whoever_comes_after_a_death(tmp_path: Path) -> None:
    with closing(connect(str(tmp_path), create=True)) as dies, writing(dies):
        asked.note(dies, URL, "one", 1.0, frozenset())
    with closing(connect(str(tmp_path))) as next_life:
        assert [one.collection for one in asked.everything(next_life)] == ["one"]
