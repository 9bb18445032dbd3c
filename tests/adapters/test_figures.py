import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.ledger import catalogue, computed, connect, figures, writing
from agent.adapters.ledger.catalogue import Folder
from agent.adapters.ledger.computed import Computed
from agent.rules.anomaly import Measured
from agent.rules.figures import Made
from agent.rules.manifest import Manifest, encode

DAY = 86_400.0
BEGAN = 1_795_485_600.0
NOW = BEGAN + 100 * DAY


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    made = connect(str(tmp_path / "state"), create=True)
    yield made
    made.close()


def made(day: float, names: tuple[str, ...] = ("docs",), tier: str = "daily", **more: Any) -> Made:
    at = BEGAN + day * DAY
    held = {
        name: Measured(backup=f"b{day}", at=at, points=10, raw_size=400, stored_size=300, seconds=1.5) for name in names
    }
    values: dict[str, Any] = {"whole": True, "size": 300 * len(names), "figures": held}
    return Made(tier=tier, backup=f"b{day}", started=at, **(values | more))


def keep(db: sqlite3.Connection, *those: Made) -> None:
    with writing(db):
        for one in those:
            figures.keep(db, one)


def catalogued(db: sqlite3.Connection, identity: str, location: str = "primary", *, started: float = BEGAN) -> None:
    said = encode(Manifest(id=identity, tier="daily", engine={"kind": "edge"})).decode()
    entry = Folder(location, f"daily/{identity}", "daily", identity, "edge", started, started, 0, said)
    with writing(db):
        catalogue.record_folder(db, entry)


def test_a_history_has_all_tiers_oldest_first(db: sqlite3.Connection) -> None:
    keep(db, made(2), made(0), made(1, tier="weekly"))
    assert figures.histories(db, 10, NOW) == {"docs": [made(day).figures["docs"] for day in (0, 1, 2)]}
    assert [one.backup for one in figures.histories(db, 2, NOW)["docs"]] == ["b1", "b2"]


def test_backups_of_some_collections_only_are_no_part_of_it(db: sqlite3.Connection) -> None:
    keep(db, made(0), made(1, whole=False))
    assert [one.backup for one in figures.histories(db, 10, NOW)["docs"]] == ["b0"]
    assert [one.backup for one in figures.inventories(db, 10, NOW)] == ["b0"]
    assert figures.sizes(db, 10, NOW) == [300]


def test_an_inventory_has_what_failed_too_and_the_aliases(db: sqlite3.Connection) -> None:
    keep(db, made(0, ("docs", "img")), made(1, failed=("img",), aliases={"live": "docs"}))
    first, second = figures.inventories(db, 10, NOW)
    assert (first.points, second.points) == ({"docs": 10, "img": 10}, {"docs": 10, "img": None})
    assert (second.backup, second.aliases) == ("b1", {"live": "docs"})


def test_an_inventory_can_be_that_of_an_earlier_time(db: sqlite3.Connection) -> None:
    keep(db, *map(made, range(5)))
    assert [one.backup for one in figures.inventories(db, 2, BEGAN + 3 * DAY)] == ["b2", "b3"]


def test_an_incomplete_backup_tells_no_size(db: sqlite3.Connection) -> None:
    keep(db, made(0, size=100), made(1, size=10, failed=("img",)), made(2, size=120))
    assert figures.sizes(db, 10, NOW) == [100, 120]
    assert figures.sizes(db, 1, NOW) == [120]


def test_a_backup_from_the_future_is_not_the_newest_for_all_time(db: sqlite3.Connection) -> None:
    keep(db, made(0), made(900))
    assert [one.backup for one in figures.histories(db, 10, NOW)["docs"]] == ["b0"]
    assert figures.sizes(db, 10, NOW) == [300]


def test_each_backup_is_read_once_wherever_its_copies_lie(db: sqlite3.Connection) -> None:
    catalogued(db, "b0")
    catalogued(db, "b0", "secondary")
    (found,) = figures.unread(db, 0.0)
    assert found[:3] == ("daily", "b0", BEGAN)
    keep(db, made(0))
    assert list(figures.unread(db, 0.0)) == []


def test_what_is_older_than_that_is_forgotten_and_not_read_again(db: sqlite3.Connection) -> None:
    catalogued(db, "b0")
    keep(db, made(0), made(1), made(2))
    with writing(db):
        figures.trim(db, BEGAN + 0.5 * DAY)
    assert [one.backup for one in figures.histories(db, 10, NOW)["docs"]] == ["b1", "b2"]
    assert db.execute("SELECT count(*) FROM made").fetchone() == (2,)
    assert list(figures.unread(db, BEGAN + 0.5 * DAY)) == []
    assert len(list(figures.unread(db, BEGAN))) == 1


def test_what_was_computed_is_replaced_by_what_is_computed_next(db: sqlite3.Connection) -> None:
    assert computed.find(db, "outlook primary") is None
    for told in ("1", "2"):
        with writing(db):
            computed.keep(db, "outlook primary", Computed(NOW, "basis", told))
    assert computed.find(db, "outlook primary") == Computed(NOW, "basis", "2")


def test_the_version_is_another_one_after_anything_was_learned(db: sqlite3.Connection) -> None:
    seen = {figures.version(db)}
    for day in (5, 1):
        keep(db, made(day))
        seen.add(figures.version(db))
    assert len(seen) == 3
