import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.adapters import host
from agent.adapters.ledger import connect, incidents, runs, writing
from agent.jobs import patrol
from agent.rules import storage
from agent.rules.finding import Level
from agent.rules.incident import Change, Policy
from agent.rules.storage import Limits, Space

NOW = 1_800_000_000.0
POLICY = Policy(group_wait=0.0)
LIMITS = Limits(warn=80.0, critical=90.0, clear=2.0)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(str(tmp_path / "state"), create=True)) as opened:
        yield opened


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "location"
    made.mkdir()
    return made


def go(
    db: sqlite3.Connection, path: Path, at: float, *, limits: Limits = LIMITS, space: Space | None = None
) -> list[tuple[str, Change | None]]:
    """One round past a real folder; returns what changed."""
    found = host.patrol("primary", str(path), None)
    found = replace(found, space=space) if space else found
    turns = patrol.accept(db, found, limits, at, POLICY, {"ops": Level.WARNING})
    return [(turn.incident.rule, turn.change) for turn in turns if turn.incident]


def full(percent: float, inodes: float | None = 1.0) -> Space:
    return Space(1 << 30, int(percent / 100 * (1 << 30)), int((1 - percent / 100) * (1 << 30)), percent, inodes)


def open_now(db: sqlite3.Connection) -> dict[str, Level]:
    return {one.rule: one.level for one in incidents.active(db)}


def test_a_round_past_a_healthy_place_leaves_a_sample_and_no_trouble(db: sqlite3.Connection, place: Path) -> None:
    assert go(db, place, NOW, limits=Limits(100.0, 101.0)) == []
    sample = runs.last_sample(db, "primary")
    assert sample is not None
    assert sample.total == shutil.disk_usage(place).total
    assert (sample.at, sample.state) == (NOW, "ok")
    assert 0 < sample.used_percent < 100
    assert list(place.iterdir()) == []


def test_a_place_that_fills_up_is_told_once_for_each_limit_and_when_it_is_over(
    db: sqlite3.Connection, place: Path
) -> None:
    story = [
        (79.9, []),
        (80.0, [("storage_space", Change.OPENED)]),
        (85.0, []),
        (90.0, [("storage_space", Change.WORSE)]),
        (88.5, []),
        (87.9, [("storage_space", Change.BETTER)]),
        (78.5, []),
        (80.5, []),
        (77.9, [("storage_space", Change.RESOLVED)]),
        (79.9, []),
    ]
    changes = [go(db, place, NOW + hour, space=full(percent)) for hour, (percent, _) in enumerate(story)]
    assert changes == [wanted for _, wanted in story]
    samples = runs.samples(db, "primary", NOW, NOW + 100)
    assert [one.used_percent for one in samples] == [percent for percent, _ in story]
    words = ["ok", "warning", "warning", "critical", "critical", "warning", "warning", "warning", "ok", "ok"]
    assert [one.state for one in samples] == words
    assert incidents.recent(db, 5)[0].why == "77.9 % of 1 GiB used, 226 MiB free (limits 80 % and 90 %)"


def test_inodes_run_out_by_themselves(db: sqlite3.Connection, place: Path) -> None:
    assert go(db, place, NOW, space=full(10.0, 95.0)) == [("storage_inodes", Change.OPENED)]
    assert open_now(db) == {"storage_inodes": Level.CRITICAL}
    assert go(db, place, NOW + 1, space=full(10.0, None)) == [("storage_inodes", Change.RESOLVED)]


def test_a_place_that_goes_and_comes_again(db: sqlite3.Connection, place: Path) -> None:
    go(db, place, NOW, space=full(85.0))
    place.rename(place.with_name("moved"))
    assert go(db, place, NOW + 1) == [("location_unavailable", Change.OPENED)]
    assert open_now(db) == {"location_unavailable": Level.CRITICAL, "storage_space": Level.WARNING}
    assert len(runs.samples(db, "primary", 0, NOW + 9)) == 1, "a place that is not there has no figures"
    place.with_name("moved").rename(place)
    assert go(db, place, NOW + 2, space=full(10.0)) == [
        ("location_unavailable", Change.RESOLVED),
        ("storage_space", Change.RESOLVED),
    ]


def test_a_place_that_takes_no_data_is_told_with_the_reason(db: sqlite3.Connection, place: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can mount a file system")
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        with pytest.raises(OSError, match="No space left"):
            (place / "large").write_bytes(bytes(1 << 20))
        opened = go(db, place, NOW)
        assert opened == [("location_unwritable", Change.OPENED), ("storage_space", Change.OPENED)]
        (why,) = [one.why for one in incidents.active(db) if one.rule == "location_unwritable"]
        assert why.endswith("No space left on device")
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        assert go(db, place, NOW + 1) == []
        (why,) = [one.why for one in incidents.active(db) if one.rule == "location_unwritable"]
        assert "mounted read-only" in why
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
        (place / "large").unlink()
        assert go(db, place, NOW + 2) == [
            ("location_unwritable", Change.RESOLVED),
            ("storage_space", Change.RESOLVED),
        ]
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_an_answer_ends_the_incident_of_a_place_that_hung(db: sqlite3.Connection, place: Path) -> None:
    with writing(db):
        incidents.observe(db, [storage.hung("primary", str(place), 60.0)], NOW, POLICY, {})
    assert ("location_hung", Change.RESOLVED) in go(db, place, NOW + 1, space=full(1.0))


def test_the_troubles_of_two_places_do_not_mix(db: sqlite3.Connection, place: Path, tmp_path: Path) -> None:
    go(db, place, NOW, space=full(95.0))
    other = replace(host.patrol("secondary", str(tmp_path), None), space=full(79.0))
    assert patrol.accept(db, other, LIMITS, NOW, POLICY, {}) == []
    assert [one.subject for one in incidents.active(db)] == ["primary"]
    assert runs.last_sample(db, "secondary") is not None
