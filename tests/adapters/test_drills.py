import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.adapters import ledger
from agent.adapters.ledger import drills, restores
from agent.adapters.ledger.drills import Drill
from agent.adapters.ledger.restores import Restored

PASSED = Drill(
    at=100.0,
    seconds=2.5,
    backup="20261123T020000Z",
    tier="daily",
    collection="articles",
    location="primary",
    depth="full",
    state="passed",
    level="faithful",
    why="as it was",
    engine="qdrant-edge-py 0.9.0",
    points=5000,
    low=5000,
    high=5000,
    asked=2,
    matched=2,
    raw_bytes=1 << 20,
    archives={"a" * 64: "articles.snapshot.gz"},
    evidence={"shards": [0]},
)


@pytest.fixture
def db(tmp_path: Path):
    with closing(ledger.connect(str(tmp_path), create=True)) as opened:
        yield opened


def test_a_drill_is_read_as_it_was_written(db: sqlite3.Connection) -> None:
    drills.record(db, PASSED)
    assert drills.between(db, 0, 1000) == [PASSED]
    assert drills.between(db, 101, 1000) == []


def test_the_newest_drill_that_came_to_an_end_speaks_for_the_content(db: sqlite3.Connection) -> None:
    drills.record(db, PASSED)
    drills.record(db, replace(PASSED, at=200.0, state="failed", level="well-formed", why="4,992 points"))
    drills.record(db, replace(PASSED, at=300.0, state="inconclusive", level="well-formed", why="no space"))
    proof = drills.proofs(db)["a" * 64]
    assert (proof.state, proof.level, proof.why, proof.at) == ("failed", "well-formed", "4,992 points", 200.0)
    assert drills.newest(db)["articles"].at == 200.0


def test_a_clock_that_went_back_makes_no_drill_the_newest(db: sqlite3.Connection) -> None:
    drills.record(db, replace(PASSED, at=900.0))
    drills.record(db, replace(PASSED, at=100.0, state="failed", why="what was written down last counts"))
    assert drills.proofs(db)["a" * 64].state == "failed"
    assert drills.newest(db)["articles"].state == "failed"


def test_the_newest_of_one_depth_can_be_asked_for(db: sqlite3.Connection) -> None:
    drills.record(db, PASSED)
    drills.record(db, replace(PASSED, at=200.0, depth="light"))
    assert drills.newest(db)["articles"].at == 200.0
    assert drills.newest(db, "full")["articles"].at == 100.0
    assert drills.newest(db, "other") == {}


def test_of_several_collections_that_hold_the_same_one_that_failed_speaks_for_all(db: sqlite3.Connection) -> None:
    drills.record(db, replace(PASSED, state="failed", level="well-formed", why="4,992 points"))
    drills.record(db, replace(PASSED, at=200.0, collection="copied"))
    assert drills.proofs(db)["a" * 64].why == "4,992 points"
    drills.record(db, replace(PASSED, at=300.0))
    assert drills.proofs(db)["a" * 64].state == "passed"


def test_the_newest_failure_of_a_collection_is_found_behind_what_came_later(db: sqlite3.Connection) -> None:
    assert drills.failed(db, "articles") is None
    drills.record(db, replace(PASSED, state="failed", why="4,992 points"))
    drills.record(db, replace(PASSED, at=200.0))
    found = drills.failed(db, "articles")
    assert found is not None
    assert (found.why, found.evidence) == ("4,992 points", PASSED.evidence)


def test_a_restore_is_noted_before_it_begins_and_ends_once(db: sqlite3.Connection) -> None:
    begun = Restored(
        url="http://127.0.0.1:6333",
        target="articles",
        backup="20261123T020000Z",
        tier="daily",
        collection="articles",
        state="begun",
        replaced=True,
        pre_restore="20261124T020000Z",
        began=100.0,
        raw_bytes=9,
    )
    note = restores.begin(db, begun)
    assert restores.newest(db, begun.url, "articles") == replace(begun, id=note)
    assert restores.newest(db, begun.url, "others") is None
    assert restores.done(db) == []
    restores.end(db, note, "done", 160.0, points=5000, why="all there")
    ended = replace(begun, id=note, state="done", ended=160.0, points=5000, why="all there")
    assert restores.done(db) == [ended]
