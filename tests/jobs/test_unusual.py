import random
import sqlite3
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.ledger import catalogue, computed, connect, incidents, writing
from agent.adapters.ledger.catalogue import Folder
from agent.jobs import figures, unusual
from agent.rules.finding import Finding, Level, ok
from agent.rules.incident import Policy
from agent.rules.manifest import CollectionEntry, Failure, Manifest, bare, encode
from agent.rules.names import backup_id

DAY = 86_400.0
MIB, GIB = 1 << 20, 1 << 30
BEGAN = 1_795_485_600.0
USUAL = {"points": 10_000, "raw_size": 4 * GIB, "size": 3 * GIB, "seconds": 300.0}


class World:
    """A ledger to which a backup comes each day, and the round of upkeep after it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.day = 0.0
        self.told: list[tuple[str, str, str]] = []

    @property
    def now(self) -> float:
        return BEGAN + self.day * DAY

    def backup(self, collections: dict[str, dict[str, Any]], *, tier: str = "daily", **more: Any) -> None:
        """A backup that the catalogue has just learned of, in both locations."""
        identity = backup_id(self.now)
        entries = []
        for name, changed in collections.items():
            values = USUAL | changed
            points = values.pop("points")
            entry = {"name": name, "file": f"{name}.snapshot.gz", "sha256": "0" * 64, "points_after": points}
            entries.append(CollectionEntry(**entry, **values))
        said = bare(Manifest(id=identity, tier=tier, engine={"kind": "qdrant"}, collections=entries, **more))
        with writing(self.db):
            for location in ("primary", "secondary"):
                path = f"{tier}/{identity}"
                row = Folder(location, path, tier, identity, "qdrant", self.now, self.now, 0, encode(said).decode())
                catalogue.record_folder(self.db, row)

    def round(self) -> list[Finding]:
        """What `snapward upkeep` does of it."""
        figures.learn(self.db, self.now + 3600)
        found = unusual.look(self.db, UTC, self.now + 3600)
        spoken = {(one.rule, one.subject) for one in found}
        gone = [one for one in incidents.active(self.db) if (one.rule, one.subject) not in spoken]
        every = [*found, *(ok(one.rule, one.subject, "no longer so") for one in gone)]
        with writing(self.db):
            turns = incidents.observe(self.db, every, self.now + 3600, Policy(), {"ops": Level.WARNING})
        self.told += [
            (str(one.change), one.incident.rule, one.incident.subject) for one in turns if one.incident and one.change
        ]
        return [one for one in found if one.level]

    def days(self, number: int, collections: dict[str, dict[str, Any]], **more: Any) -> None:
        for _ in range(number):
            self.day += 1
            self.backup(collections, **more)
            self.round()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(connect(str(tmp_path / "state"), create=True))
    yield made
    made.db.close()


@pytest.mark.parametrize(
    ("rule", "changed"),
    [
        ("points_changed", {"points": 5_000}),
        ("points_changed", {"points": 0}),
        ("points_changed", {"points": 20_000}),
        ("size_changed", {"raw_size": 8 * GIB, "size": 6 * GIB}),
        ("size_changed", {"raw_size": 2 * GIB, "size": 1.5 * GIB}),
        ("duration_changed", {"seconds": 3_000.0}),
        ("ratio_changed", {"size": 2 * GIB}),
    ],
)
def test_what_is_unusual_is_told_once_and_over_when_it_is_as_usual(
    world: World, rule: str, changed: dict[str, Any]
) -> None:
    world.days(20, {"docs": {}, "img": {}})
    assert world.told == []
    world.days(1, {"docs": {name: type(USUAL[name])(value) for name, value in changed.items()}, "img": {}})
    assert world.told == [("opened", rule, "docs")]
    world.day += 0.2
    assert [one.rule for one in world.round()] == [rule]
    assert world.told == [("opened", rule, "docs")]
    world.days(1, {"docs": {}, "img": {}})
    assert world.told == [("opened", rule, "docs"), ("resolved", rule, "docs")]


def test_a_collection_that_is_gone_is_told_until_it_is_back(world: World) -> None:
    world.days(3, {"docs": {}, "img": {}})
    world.days(2, {"docs": {}})
    (alert,) = world.round()
    assert (alert.rule, alert.subject, alert.level) == ("collection_missing", "img", Level.CRITICAL)
    world.days(1, {"docs": {}, "img": {}})
    assert world.told == [("opened", "collection_missing", "img"), ("resolved", "collection_missing", "img")]
    assert incidents.recent(world.db, 1)[0].why.startswith("img is in backup ")


def test_of_a_collection_that_is_gone_nothing_else_is_told(world: World) -> None:
    world.days(20, {"docs": {}, "img": {}})
    world.days(1, {"docs": {}, "img": {"points": 1}})
    assert [one.rule for one in world.round()] == ["points_changed"]
    world.days(1, {"docs": {}})
    assert [one.rule for one in world.round()] == ["collection_missing"]


def test_a_collection_whose_alias_another_has_taken_over_is_not_missed(world: World) -> None:
    world.days(3, {"docs_v1": {}}, aliases={"docs": "docs_v1"})
    world.days(1, {"docs_v2": {}}, aliases={"docs": "docs_v2"})
    assert world.told == []
    world.days(1, {"docs_v3": {}}, aliases={})
    assert [one[1:] for one in world.told] == [("collection_missing", "docs_v1"), ("collection_missing", "docs_v2")]


def test_a_collection_that_failed_is_trouble_of_another_kind(world: World) -> None:
    world.days(8, {"docs": {}, "img": {}})
    world.days(1, {"docs": {}}, failed=[Failure(name="img", why="it was locked")])
    assert world.told == []


def test_a_new_collection_is_named_and_no_alert(world: World) -> None:
    world.days(3, {"docs": {}})
    world.days(1, {"docs": {}, "img": {}})
    assert unusual.new(world.db, backup_id(world.now), world.now) == ["img"]
    world.days(1, {"docs": {}, "img": {}})
    assert unusual.new(world.db, backup_id(world.now), world.now) == []
    assert world.told == []


def test_what_was_set_aside_or_asked_for_in_part_says_nothing(world: World) -> None:
    world.days(10, {"docs": {}, "img": {}})
    for tier, more in (
        ("pre-restore", {}),
        ("daily", {"partial": True}),
        ("manual", {"partial": True}),
        ("manual", {}),
    ):
        world.day += 0.1
        world.backup({"docs": {"points": 1}}, tier=tier, **more)
        world.round()
    assert world.told == []
    world.day += 0.1
    world.backup({"docs": {"points": 1}}, tier="manual", partial=False)
    assert {one.rule for one in world.round()} == {"points_changed", "collection_missing"}


def test_the_history_outlives_the_backups(world: World) -> None:
    world.days(20, {"docs": {}})
    world.db.execute("DELETE FROM folder")
    world.days(1, {"docs": {"points": 5_000}})
    assert world.told == [("opened", "points_changed", "docs")]


def test_after_two_years_a_backup_is_history_no_more_though_it_is_still_there(world: World) -> None:
    world.days(3, {"docs": {}})
    world.day = 2 * 366 + 2.5
    world.backup({"docs": {}})
    assert figures.learn(world.db, world.now) == 1
    assert figures.learn(world.db, world.now) == 0
    assert world.db.execute("SELECT count(*) FROM made").fetchone() == (2,)


def test_what_existed_before_an_upgrade_is_learned_at_once_whatever_its_order(world: World) -> None:
    for day in (*range(20, 0, -1), 21):
        world.day = day
        world.backup({"docs": {"points": 5_000} if day == 21 else {}})
    assert figures.learn(world.db, world.now) == 21
    assert figures.learn(world.db, world.now) == 0
    assert [one.rule for one in world.round()] == ["points_changed"]


def test_a_history_that_comes_late_is_compared_with_all_the_same(world: World) -> None:
    world.day = 30
    world.backup({"docs": {"points": 5_000}})
    assert world.round() == []
    for world.day in range(1, 20):
        world.backup({"docs": {}})
    world.day = 30
    assert [one.rule for one in world.round()] == ["points_changed"]


def test_a_backup_is_judged_once_and_told_in_each_round(world: World) -> None:
    world.days(20, {"docs": {}})
    world.days(1, {"docs": {"points": 5_000}})
    kept = computed.find(world.db, "unusual")
    world.day += 0.5
    assert [one.rule for one in world.round()] == ["points_changed"]
    assert computed.find(world.db, "unusual") == kept


def test_nothing_known_is_nothing_unusual(world: World) -> None:
    assert world.round() == []


@pytest.mark.parametrize("seed", range(6))
def test_ninety_noisy_ordinary_days_alert_nobody(world: World, seed: int) -> None:
    """Two collections that grow, are quieter at weekends, and are never twice the same; weekly backups beside them."""
    lot = random.Random(seed)  # noqa: S311 - figures to test with
    growth = {name: lot.uniform(0, 0.02) for name in ("docs", "img")}
    first = {name: lot.randrange(1_000, 100_000) for name in growth}

    def ordinary(day: int) -> dict[str, dict[str, Any]]:
        quiet = 0.85 if day % 7 >= 5 else 1.0
        made = {}
        for name, rate in growth.items():
            points = first[name] * (1 + rate * day)
            raw = points * 30_000 * lot.lognormvariate(0, 0.05)
            made[name] = {
                "points": round(points * lot.lognormvariate(0, 0.02)),
                "raw_size": round(raw),
                "size": round(raw * 0.7 * lot.lognormvariate(0, 0.01)),
                "seconds": (5 + raw / 2e7) * quiet * lot.lognormvariate(0, 0.15),
            }
        return made

    for day in range(90):
        world.day = day
        world.backup(ordinary(day))
        world.round()
        if day % 7 == 6:
            world.day += 0.5
            world.backup(ordinary(day), tier="weekly")
            world.round()
    assert world.told == []
