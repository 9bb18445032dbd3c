"""What is unusual, missing or about to be full: real files and commands, each alert told once and resolved once."""

import hashlib
import json
import random
import shutil
import time
from contextlib import closing
from typing import Any

import pytest
from program import Program, archive

from agent.adapters import ledger
from agent.adapters.ledger import runs, writing
from agent.adapters.ledger.runs import Sample
from agent.rules.names import backup_id
from agent.rules.words import rfc3339

DAY = 86_400.0
SMALL: dict[str, Any] = {"mib": 1, "raw": 2}
MIB = 1 << 20
MINE = frozenset(("points_changed", "size_changed", "duration_changed", "ratio_changed", "collection_missing"))
MINE |= {"storage_forecast", "next_backup_too_big"}
USUAL = {"points": 1_000, "mib": 20, "raw": 40, "seconds": 60.0}


def backup(program: Program, ago: float, **collections: dict[str, Any]) -> None:
    """A backup as it was published so many days ago: archives, and the manifest that speaks of them."""
    at = time.time() - ago * DAY
    folder = program.primary / "daily" / backup_id(at)
    folder.mkdir(parents=True)
    entries = []
    for name, changed in collections.items():
        values = USUAL | changed
        data = bytes(values["mib"] * MIB)
        (folder / f"{name}.tar").write_bytes(data)
        promised = {"file": f"{name}.tar", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        measured = {"points_after": values["points"], "seconds": values["seconds"], "raw_size": values["raw"] * MIB}
        entries.append({"name": name, **promised, **measured})
    said = {"id": folder.name, "tier": "daily", "engine": {"kind": "edge"}, "started": rfc3339(at)}
    (folder / "manifest.json").write_text(json.dumps({**said, "ended": rfc3339(at), "collections": entries}))


def look(program: Program) -> dict[tuple[str, str], str]:
    """The agent's way: the catalogue learns what lies there, upkeep looks at it; returns what is open."""
    program.run("verify", expect=None)
    program.run("upkeep")
    return {one: why for one, why in program.open_incidents().items() if one[0] in MINE}


def told(program: Program, rule: str) -> list[str]:
    """What people were told about a rule, oldest first."""
    rows = program.query(
        "SELECT change FROM news JOIN incident ON incident.id = news.incident WHERE rule = ? ORDER BY news.id", rule
    )
    return [change for (change,) in rows]


@pytest.fixture
def heard(program: Program) -> Program:
    """An installation in which somebody is told, with seven ordinary backups."""
    program.write(targets='{terminal: {url: "console://"}}', secondary=False)
    for day in range(10, 3, -1):
        backup(program, day, docs={}, img=SMALL)
    return program


@pytest.mark.parametrize(
    ("rule", "changed", "words"),
    [
        ("points_changed", {"points": 500}, "docs has 500 points, usually about 1,000 points: 50 % fewer, since "),
        ("size_changed", {"mib": 60, "raw": 120}, "the snapshot of docs has 120 MiB, usually about 40 MiB: 3.0 times "),
        ("duration_changed", {"seconds": 400.0}, "the backup of docs took 7 min, usually about 60 s: 6.7 times as "),
        ("ratio_changed", {"raw": 20}, "docs packs to 100 % of its size, usually about 50 % of its size: 2.0 times "),
    ],
)
def test_an_unusual_backup_is_told_once_and_over_with_the_next_usual_one(
    heard: Program, rule: str, changed: dict[str, Any], words: str
) -> None:
    assert look(heard) == {}
    backup(heard, 2, docs=changed, img=SMALL)
    found = look(heard)
    assert list(found) == [(rule, "docs")]
    assert found[rule, "docs"].startswith(words)
    assert list(look(heard)) == [(rule, "docs")]
    backup(heard, 1, docs={}, img=SMALL)
    assert look(heard) == {}
    assert told(heard, rule) == ["opened", "resolved"]


def test_a_missing_collection_is_told_once_and_over_when_it_is_back(heard: Program) -> None:
    backup(heard, 2, docs={})
    found = look(heard)
    assert list(found) == [("collection_missing", "img")]
    assert found["collection_missing", "img"].startswith("img is missing since ")
    assert list(look(heard)) == [("collection_missing", "img")]
    backup(heard, 1, docs={}, img=SMALL)
    assert look(heard) == {}
    assert told(heard, "collection_missing") == ["opened", "resolved"]


def test_half_the_points_of_an_embedded_collection_are_noticed_and_a_new_one_is_named(program: Program) -> None:
    from agent.adapters import edge

    def build(**points: int) -> None:
        shutil.rmtree(program.home / "qdrant")
        for name, number in points.items():
            edge.build_sample(str(program.home / "qdrant"), name, number, 8)
        program.run("backup", "daily")

    program.write(targets='{terminal: {url: "console://"}}')
    for _ in range(6):
        build(docs=200)
    assert look(program) == {}
    build(docs=90, img=50)
    program.run("backup", "daily", "--collection", "img")
    assert list(look(program)) == [("points_changed", "docs")]
    whole = program.json("list")["backups"][1]["id"]
    assert program.json("show", whole)["new"] == ["img"]
    assert "new since the backups before it: img" in program.run("show", whole).stdout
    build(docs=200, img=50)
    assert look(program) == {}
    assert told(program, "points_changed") == ["opened", "resolved"]


def sampled(program: Program, location: str, used: list[float], every: float = DAY, whole: int = 1_000) -> None:
    """Readings up to now, in GiB."""
    now = time.time()
    with closing(ledger.connect(str(program.state))) as db, writing(db):
        for back, gib in enumerate(reversed(used)):
            full, size = int(gib * (1 << 30)), whole << 30
            one = Sample(location, now - back * every, size, full, size - full, 100 * full / size, None, "ok", "")
            runs.add_sample(db, one)


def test_status_tells_the_date_after_a_year_of_growth_and_nothing_after_ten_samples_of_noise(program: Program) -> None:
    program.run("reconcile")
    lot = random.Random(7)  # noqa: S311 - figures to test with
    hours = 365 * 24
    sampled(program, "primary", [900 - (hours - n) / 24 * 2.0 + lot.uniform(-2, 2) for n in range(hours)], 3600.0)
    sampled(program, "secondary", [400 + lot.uniform(-20, 20) for _ in range(10)])
    program.run("upkeep")
    seen = {name: one["forecast"] for name, one in program.json("status", expect=None)["locations"].items()}
    truth = time.time() + 50 * DAY
    early, late = rfc3339(truth - 2 * DAY) or "", rfc3339(truth + 2 * DAY) or ""
    assert early < seen["primary"]["full"]["at"] < late
    assert seen["primary"]["full"]["earliest"] <= seen["primary"]["full"]["at"] <= seen["primary"]["full"]["latest"]
    assert seen["primary"]["per_day"] == pytest.approx(2 * (1 << 30), rel=0.02)
    assert (seen["secondary"]["full"], seen["secondary"]["per_day"]) == (None, None)
    assert seen["secondary"]["why"] == "cannot tell: no trend is clear"
    assert "secondary: cannot tell: no trend is clear" in program.run("status", expect=None).stdout
    assert look(program) == {}


def test_a_location_that_is_soon_full_is_told_once_and_over_when_it_is_larger(heard: Program) -> None:
    look(heard)
    sampled(heard, "primary", [900 - day * 10.0 for day in range(60, 0, -1)])
    backup(heard, 2, docs={}, img=SMALL)
    assert list(look(heard)) == [("storage_forecast", "primary")]
    assert list(look(heard)) == [("storage_forecast", "primary")]
    sampled(heard, "primary", [900 - day * 10.0 for day in range(60, 0, -1)], whole=2_000)
    backup(heard, 1, docs={}, img=SMALL)
    assert look(heard) == {}
    assert told(heard, "storage_forecast") == ["opened", "resolved"]


def test_a_backup_that_will_not_fit_is_told_once_and_over_when_there_is_room(heard: Program) -> None:
    look(heard)
    sampled(heard, "primary", [999.98])
    found = look(heard)
    assert list(found) == [("next_backup_too_big", "primary")]
    assert found["next_backup_too_big", "primary"] == (
        "the next backup needs about 21 MiB, and 20.5 MiB are free: 532 KiB too little"
    )
    assert list(look(heard)) == [("next_backup_too_big", "primary")]
    shown = heard.json("status", expect=None)["locations"]["primary"]["forecast"]
    assert (shown["fits"], shown["next_backup_bytes"]) == (False, 21 * MIB)
    assert 30 * 21 * MIB < shown["plan_needs_bytes"] < 34 * 21 * MIB
    sampled(heard, "primary", [900.0])
    assert look(heard) == {}
    assert told(heard, "next_backup_too_big") == ["opened", "resolved"]


def test_archives_of_another_program_tell_nothing_and_trouble_nobody(program: Program) -> None:
    program.write(engine='{kind: command, argv: ["true"]}', tiers="{}")
    for day in range(8):
        archive(program.primary / "daily", f"docs-2026-11-{10 + day}.tar", bytes((50 - 5 * day) * 1000))
    assert look(program) == {}
    assert ("agent_error", "upkeep unusual") not in program.open_incidents()
    assert ("agent_error", "upkeep outlook") not in program.open_incidents()
    assert program.json("status", expect=None)["locations"]["primary"]["forecast"]["fits"] is None


def test_the_weekly_report_has_the_outlook(heard: Program) -> None:
    heard.run("reconcile", expect=None)
    sampled(heard, "primary", [500 - day * 1.0 for day in range(60, 0, -1)])
    look(heard)
    files = heard.json("report", "render", "--week", "current")["files"]
    with open(files["json"], encoding="utf-8") as file:
        (told,) = json.load(file)["outlook"]
    assert told["location"] == "primary"
    assert told["fits"] is True
    assert len([one for one in told["weeks"] if one["expected"]]) == 7
    with open(files["text"], encoding="utf-8") as file:
        assert "\nOUTLOOK\n" in file.read()
    with open(files["html"], encoding="utf-8") as file:
        assert "dashed is what is expected" in file.read()
