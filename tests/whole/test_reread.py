"""Archives that lie still are read again, as the agent does it each day."""

import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
from program import Program, archive, flip

DAY = 86_400.0
MIB = 1 << 20


def aged(program: Program, days: float) -> None:
    """Let so many days pass since everything was read."""
    db = sqlite3.connect(program.state / "ledger.db")
    with db:
        db.execute("UPDATE archive SET checked = checked - ?", (days * DAY,))
    db.close()


def figures(program: Program) -> list[tuple[float | None, str, int]]:
    rows = program.query("SELECT slot, outcome, figures FROM run WHERE job = 'reread' ORDER BY id")
    return [(slot, outcome, json.loads(told)["archives"]) for slot, outcome, told in rows]


def test_what_was_not_read_for_a_month_is_read_once_and_its_slot_is_accounted_for(program: Program) -> None:
    for name in ("a", "b"):
        archive(program.primary / "daily", f"{name}.snapshot")
        archive(program.secondary / "daily", f"{name}.snapshot")
    program.run("verify", "--all", expect=None)
    program.run("verify", "--again", "--slot", "1000")
    aged(program, 29)
    program.run("verify", "--again", "--slot", "2000")
    program.run("verify", "--again", "--slot", "3000")
    assert figures(program) == [(1000.0, "ok", 0), (2000.0, "ok", 4), (3000.0, "ok", 0)]


def test_a_location_that_is_away_is_not_said_to_lag(program: Program) -> None:
    for folder in (program.primary, program.secondary):
        archive(folder / "daily", "a.snapshot")
    program.run("verify", "--all", expect=None)
    aged(program, 40)
    program.secondary.rename(program.home / "elsewhere")
    answer = program.json("verify", "--again")
    assert (answer["archives"], list(answer["plans"])) == (1, ["primary"])
    assert not [rule for rule, _ in program.open_incidents() if rule == "reverify_behind"]


def test_damage_that_reading_again_finds_takes_the_way_of_all_damage(program: Program) -> None:
    path = archive(program.primary / "daily", "a.snapshot")
    program.run("verify", "--all", expect=None)
    before = path.stat()
    flip(path, 100)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    db = sqlite3.connect(program.state / "ledger.db")
    with db:  # as a disk does it that forgets: nothing but the bytes is another
        db.execute("UPDATE archive SET ctime_ns = ?", (path.stat().st_ctime_ns,))
    db.close()
    aged(program, 29)
    answer = program.json("verify", "--again", expect=2)
    assert answer["bad"] == ["primary:daily/a.snapshot"]
    assert ("archive_bad", "primary:daily/a.snapshot") in program.open_incidents()
    assert program.states()["primary:daily/a.snapshot"] == "corrupt"


def test_a_budget_that_is_too_small_is_told_and_its_end_too(program: Program) -> None:
    program.write(more="reread: {budget: 2s, rate: 64KiB}\n", secondary=False)
    archive(program.primary / "daily", "a.snapshot", bytes(range(256)) * (40 * MIB // 256))
    program.run("verify", "--all", expect=None)
    program.run("upkeep")
    assert "only every" in program.open_incidents()["reverify_behind", "primary"]
    program.write(secondary=False)
    program.run("upkeep")
    assert ("reverify_behind", "primary") not in program.open_incidents()


def test_reading_again_keeps_to_the_rate(program: Program) -> None:
    program.write(more="reread: {rate: 4MiB}\n", secondary=False)
    archive(program.primary / "daily", "a.snapshot", bytes(6 * MIB))
    program.run("verify", "--all", expect=None)
    aged(program, 29)
    answer = program.json("verify", "--again")
    assert answer["archives"] == 1
    assert answer["seconds"] >= 1.2


def cached(path: Path) -> int:
    told = ["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)]
    return int(subprocess.run(told, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not shutil.which("fincore"), reason="fincore of util-linux tells what the page cache holds")
def test_the_page_cache_is_as_it_was_before(program: Program) -> None:
    kind = subprocess.run(["stat", "-f", "-c", "%T", program.home], capture_output=True, text=True, check=True).stdout
    if kind.strip() in {"tmpfs", "overlayfs"}:
        pytest.skip(f"the temporary folder is on {kind.strip()}, which has no cache of its own")
    paths = [archive(program.primary / "daily", f"{size}.snapshot", bytes(size * MIB)) for size in (1, 3, 20)]
    database = program.home / "qdrant" / "pages"
    database.write_bytes(bytes(30 * MIB))
    subprocess.run(["sync"], check=True)
    program.run("verify", "--all", expect=None)
    database.read_bytes()
    aged(program, 29)
    before = cached(database)
    assert program.json("verify", "--again")["archives"] == 3
    assert cached(database) > 0.9 * before > 20 * MIB, "but for what the kernel itself takes back"
    assert sum(map(cached, paths)) < MIB


def test_only_one_way_to_choose_is_taken(program: Program) -> None:
    program.run("verify", "--again", "--all", expect=64)
