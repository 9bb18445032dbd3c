"""Two locations kept equal: as people and the agent do it, on real files and real mounts."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from campaigns.repair_kills import killed, large, repair_kills, tree
from program import Program, flip, until
from small_disk import small_disk

from agent.cli import parts

MIB = 1 << 20


def backup(program: Program, *, expect: int = 0) -> str:
    from agent.adapters import edge

    if not (program.home / "qdrant" / "articles").exists():
        for name in ("articles", "users"):
            edge.build_sample(str(program.home / "qdrant"), name, 50, 8)
    return str(program.json("backup", "daily", expect=expect)["id"])


def deeds(program: Program, kind: str) -> list[tuple[Any, ...]]:
    return program.query("SELECT location, path, who, ended IS NOT NULL, outcome FROM deed WHERE kind = ?", kind)


@pytest.fixture
def on_disk(program: Program) -> Iterator[Program]:
    """The secondary is a disk of its own, mounted now."""
    text = program.config.read_text()
    program.config.write_text(
        text.replace("secondary: {path: secondary}", "secondary: {path: secondary, mount: secondary}")
    )
    with small_disk(disk(program), "8m"):
        try:
            mount(program)
            yield program
        finally:
            subprocess.run(["umount", str(program.secondary)], check=False, capture_output=True)


def disk(program: Program) -> Path:
    """Where the disk shows that is mounted as the secondary, and taken away."""
    place = program.home / "disk"
    place.mkdir(exist_ok=True)
    return place


def mount(program: Program) -> None:
    subprocess.run(["mount", "--bind", str(disk(program)), str(program.secondary)], check=True)


def unmount(program: Program) -> None:
    subprocess.run(["umount", str(program.secondary)], check=True)


def test_a_secondary_that_was_away_catches_up_by_itself_and_nothing_is_written_below_its_mount_point(
    on_disk: Program,
) -> None:
    program = on_disk
    first = backup(program)
    program.run("verify")
    unmount(program)
    missed = [backup(program, expect=1) for _ in range(2)]
    program.run("verify", "--all", expect=3)
    program.run("repair", "--due")
    program.run("upkeep")
    assert list(program.secondary.iterdir()) == []
    mount(program)
    program.run("repair", "--due")
    assert tree(program.secondary) == tree(program.primary)
    assert {path.name for path in (program.secondary / "daily").iterdir()} == {first, *missed}
    assert [one[:4] for one in deeds(program, "repair")] == [
        ("secondary", f"daily/{name}", "schedule", 1) for name in reversed(missed)
    ]
    assert program.json("repair") == {"schema_version": 1, "planned": [], "left": []}
    assert {rule for rule, _ in program.open_incidents()} <= {"backup_degraded"}
    unmount(program)
    assert list(program.secondary.iterdir()) == []


def test_what_was_there_and_vanished_is_for_a_person(program: Program) -> None:
    name = backup(program)
    program.run("verify")
    shutil.rmtree(program.secondary / "daily" / name)
    program.run("repair", "--due")
    assert not (program.secondary / "daily" / name).exists()
    planned = program.json("repair", expect=1)["planned"]
    assert [(one["location"], one["path"], one["why"]) for one in planned] == [
        ("secondary", f"daily/{name}", "was there, and is gone")
    ]
    assert not (program.secondary / "daily" / name).exists()
    program.run("repair", "--yes")
    assert tree(program.secondary) == tree(program.primary)
    assert program.json("verify", name)["bad"] == 0
    assert program.open_incidents() == {}


def test_a_bad_file_is_replaced_and_kept_with_its_verdict(program: Program) -> None:
    name = backup(program)
    program.run("verify")
    path = program.secondary / "daily" / name / "articles.snapshot.gz"
    flip(path, 300)
    damaged = path.read_bytes()
    program.json("verify", name, expect=2)
    program.run("repair", "--due")
    assert path.read_bytes() == damaged  # it was good once: somebody may have done this
    answer = program.json("repair", "--yes", name)
    assert [(one["state"], one["quarantined"]) for one in answer["repaired"]] == [("done", 1)]
    assert tree(program.secondary) == tree(program.primary)
    aside = program.secondary / ".quarantine" / "daily" / name
    assert (aside / path.name).read_bytes() == damaged
    verdict = json.loads((aside / f"{path.name}.verdict.json").read_bytes())
    assert (verdict["state"], verdict["level"], verdict["file"]) == ("corrupt", "arrived", path.name)
    assert "SHA-256" in verdict["why"]
    assert program.open_incidents() == {}


def test_what_is_bad_everywhere_is_left_where_it_is_and_told(program: Program) -> None:
    name = backup(program)
    program.run("verify")
    for root in (program.primary, program.secondary):
        flip(root / "daily" / name / "users.snapshot.gz", 300)
    program.json("verify", name, expect=2)
    before = tree(program.primary), tree(program.secondary)
    answer = program.json("repair", "--yes", name, expect=2)
    assert answer["repaired"] == []
    assert {(one["location"], one["path"]) for one in answer["left"]} == {
        ("primary", f"daily/{name}"),
        ("secondary", f"daily/{name}"),
    }
    assert "no location has it good" in answer["left"][0]["why"]
    assert (tree(program.primary), tree(program.secondary)) == before


def test_small_files_that_are_gone_or_differ_are_made_from_the_other_copy(program: Program) -> None:
    name = backup(program)
    program.run("verify")
    copy = program.secondary / "daily" / name
    (copy / "manifest.json").write_text("{", encoding="utf-8")
    (copy / "SHA256SUMS").unlink()
    (copy / "RESTORE.md").write_text("rm -rf /", encoding="utf-8")
    files = {one["file"] for one in program.json("repair", expect=1)["planned"][0]["files"]}
    assert files == {"manifest.json", "SHA256SUMS", "RESTORE.md"}
    program.run("repair", "--yes")
    assert tree(program.secondary) == tree(program.primary)
    aside = program.secondary / ".quarantine" / "daily" / name
    assert (aside / "RESTORE.md").read_text() == "rm -rf /"
    assert program.json("verify", name)["bad"] == 0
    assert program.json("repair")["planned"] == []
    assert program.open_incidents() == {}


def test_a_copy_that_was_never_good_is_made_anew_by_itself(program: Program) -> None:
    program.write(secondary=False)
    name = backup(program)
    program.run("verify")
    copy = program.secondary / "daily" / name
    shutil.copytree(program.primary / "daily" / name, copy)
    flip(copy / "articles.snapshot.gz", 300)
    program.write()
    program.json("verify", name, expect=2)
    program.run("repair", "--due")
    assert tree(program.secondary) == tree(program.primary)
    assert (program.secondary / ".quarantine" / "daily" / name / "articles.snapshot.gz").exists()


def test_a_full_disk_takes_no_half_copy(on_disk: Program) -> None:
    program = on_disk
    unmount(program)
    name = backup(program, expect=1)
    program.run("verify")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(program.secondary)], check=True)
    answer = program.json("repair", "--yes", expect=2)
    assert "free; the repair needs" in answer["repaired"][0]["error"]
    assert list(program.secondary.iterdir()) == []
    assert deeds(program, "repair") == []
    unmount(program)
    mount(program)
    assert program.json("repair", "--yes")["repaired"][0]["backup"] == name
    assert tree(program.secondary) == tree(program.primary)


@pytest.mark.parametrize("mask", [0o077, 0o000])
def test_what_is_written_has_its_modes_whatever_the_umask(program: Program, mask: int) -> None:
    before = os.umask(mask)
    try:
        name = backup(program)
        program.run("verify")
        flip(program.secondary / "daily" / name / "articles.snapshot.gz", 300)
        shutil.rmtree(program.primary / "daily" / name / "users.snapshot.gz", ignore_errors=True)
        program.json("verify", name, expect=2)
        program.run("repair", "--yes")
    finally:
        os.umask(before)
    for root in (program.primary, program.secondary):
        for path in root.rglob("*"):
            assert path.stat().st_mode & 0o7777 == (0o755 if path.is_dir() else 0o640), path


def test_rights_that_drift_are_told_once_and_mended(program: Program) -> None:
    name = backup(program)
    program.run("verify")
    (program.primary / "daily" / name).chmod(0o777)
    (program.primary / "daily" / name / "articles.snapshot.gz").chmod(0o666)
    program.run("upkeep")
    why = program.open_incidents()["permissions_drift", "primary"]
    assert why == f"2 files and folders of backups: daily/{name} has mode 777, not 755"
    program.run("upkeep")
    assert ("permissions_drift", "primary") in program.open_incidents()
    assert program.json("repair", "--permissions")["permissions"]["primary"]["set"] == 2
    assert deeds(program, "permissions")[0][1:2] == (f"daily/{name}",)
    assert (program.primary / "daily" / name).stat().st_mode & 0o7777 == 0o755
    program.run("verify", "--all")
    assert program.open_incidents() == {}


def test_the_agent_sees_a_repair_and_alerts_nobody(program: Program) -> None:
    with program.agent():
        name = backup(program)
        until(lambda: set(program.states().values()) == {"good"} and len(program.states()) == 4)
        bad = "archive_bad", f"secondary:daily/{name}/users.snapshot.gz"
        flip(program.secondary / "daily" / name / "users.snapshot.gz", 300)
        until(lambda: bad in program.open_incidents(), what="the alert")
        program.run("repair", "--yes", name)
        until(lambda: not program.open_incidents(), what="the end of all alerts")
        program.run("upkeep")
        assert program.open_incidents() == {}
        assert tree(program.secondary) == tree(program.primary)


def test_a_repair_that_is_killed_again_and_again_is_finished_and_touches_nothing_else(program: Program) -> None:
    assert repair_kills(program, 6, seed=4).halves


def test_a_killed_repair_is_finished_by_itself(program: Program) -> None:
    large(program, 8 * MIB)
    program.run("verify", "--all")
    assert killed(program, 5 * MIB)
    assert tree(program.secondary) == {}
    program.run("repair", "--due")
    assert tree(program.secondary) == tree(program.primary)
    assert [one[2:4] for one in deeds(program, "repair")] == [(parts.who(scheduled=False), 1)]
