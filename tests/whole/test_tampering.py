"""Somebody else lays hands on backups: each time it is told once, and it is over when it is over."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from program import Program, flip, until
from standin import StandIn, nine

from agent.adapters import edge

KEY = "k" * 64


@pytest.fixture
def sealed(program: Program) -> Program:
    """An installation that signs, with three backups that were proved in both locations."""
    program.write(more="sealing: {key: '${env:SEAL}'}\n", targets="{hook: {url: 'console://'}}")
    program.environment["SEAL"] = KEY
    for name in ("articles", "images"):
        edge.build_sample(str(program.home / "qdrant"), name, 20, 4)
    for _ in range(3):
        program.run("backup", "daily")
    look(program)
    assert trouble(program) == {}
    return program


def look(program: Program) -> None:
    """What the agent does by itself: prove what changed, and go through the books."""
    program.run("verify", "--stale", "0", expect=None)
    program.run("upkeep")


def trouble(program: Program) -> dict[str, list[str]]:
    """Subjects of what is open, by rule."""
    found: dict[str, list[str]] = {}
    for one in program.json("alert", "list", expect=None)["incidents"]:
        if one["state"] != "resolved":
            found.setdefault(one["rule"], []).append(one["subject"])
    return {rule: sorted(subjects) for rule, subjects in found.items()}


def told(program: Program, rule: str) -> list[str]:
    """What was told about a rule, in its order."""
    rows = program.query(
        "SELECT change FROM news JOIN incident ON incident.id = news.incident WHERE rule = ? ORDER BY news.id", rule
    )
    return [row[0] for row in rows]


def backups(program: Program, location: Path | None = None) -> list[Path]:
    return sorted((location or program.primary).glob("daily/*"))


def in_place(path: Path, change: Callable[[Path], None]) -> None:
    """Change a file, and put its times back."""
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_an_archive_that_is_changed_is_told_although_its_time_was_put_back(sealed: Program) -> None:
    path = backups(sealed)[0] / "articles.snapshot.gz"
    in_place(path, lambda one: flip(one, 100))
    look(sealed)
    look(sealed)
    subject = f"primary:daily/{path.parent.name}/articles.snapshot.gz"
    assert trouble(sealed) == {"archive_bad": [subject], "archive_changed": [subject]}
    (one,) = [one for one in sealed.json("alert", "list", expect=2)["incidents"] if one["rule"] == "archive_changed"]
    assert "its size is the same, and somebody has set its modification time back" in one["why"]
    in_place(path, lambda one: flip(one, 100))
    look(sealed)
    assert trouble(sealed) == {}
    assert told(sealed, "archive_changed") == ["opened", "resolved"]


def test_what_somebody_accepts_is_over_and_on_record(sealed: Program) -> None:
    _, second, third = backups(sealed)
    for root in (sealed.primary, sealed.secondary):
        shutil.rmtree(root / "daily" / second.name)
    manifest = third / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"host"', '"hots"'), encoding="utf-8")
    look(sealed)
    about = f"primary:daily/{third.name}/manifest.json"
    found = trouble(sealed)
    assert set(found) == {"archive_vanished", "archive_changed", "chain_broken", "manifest_forged", "tampering"}
    assert found["chain_broken"] == [f"daily/{third.name}"]
    assert found["manifest_forged"] == [about]
    assert found["tampering"] == ["primary", "secondary"]
    sealed.run("reconcile")
    look(sealed)
    assert trouble(sealed) == {}
    deeds = sealed.json("audit", "--kind", "reconcile")["deeds"]
    assert {(one["location"], one["path"]) for one in deeds} >= {
        (None, f"daily/{third.name}"),
        ("primary", f"daily/{third.name}/manifest.json"),
        ("secondary", f"daily/{second.name}"),
    }
    sealed.run("backup", "daily")
    look(sealed)
    assert trouble(sealed) == {}


def test_the_daemon_tells_of_each_once_and_of_nothing_that_it_does_itself(program: Program) -> None:
    program.write(more="sealing: {key: '${env:SEAL}'}\n", targets="{hook: {url: 'console://'}}")
    program.environment["SEAL"] = KEY
    edge.build_sample(str(program.home / "qdrant"), "articles", 20, 4)
    with program.agent():
        made = program.json("backup", "daily")["id"]
        good = {f"{name}:daily/{made}/articles.snapshot.gz": "good" for name in ("primary", "secondary")}
        until(lambda: program.states() == good, what="the proof")
        program.run("upkeep")
        assert program.open_incidents() == {}
        path = program.primary / "daily" / made / "articles.snapshot.gz"
        path.rename(path.with_name("hidden"))
        about = f"primary:daily/{made}/articles.snapshot.gz"
        until(lambda: set(program.open_incidents()) == {("archive_vanished", about)}, what="the alert")
        path.with_name("hidden").rename(path)
        until(lambda: program.open_incidents() == {}, what="its end")
        shutil.copytree(path.parent, program.primary / "daily" / "20261101T020000Z")
        where = ("archive_foreign", "primary:daily/20261101T020000Z")
        until(lambda: where in program.open_incidents(), what="the alert")
        shutil.rmtree(program.primary / "daily" / "20261101T020000Z")
        until(lambda: program.open_incidents() == {}, what="its end")
    assert told(program, "archive_foreign") == ["opened", "resolved"]
    assert told(program, "archive_vanished") == ["opened", "resolved"]


def test_a_signature_can_be_computed_by_hand_as_the_documentation_says(sealed: Program) -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    script = page.partition("### Signature")[2].partition("```sh\n")[2].partition("```")[0]
    (sealed.home / "key").write_text(KEY + "\n", encoding="ascii")
    environment = {**os.environ, "KEY_FILE": str(sealed.home / "key")}
    done = subprocess.run(
        ["bash", "-c", script], cwd=backups(sealed)[1], env=environment, capture_output=True, text=True, check=True
    )
    said, computed = done.stdout.split()
    assert said.rpartition(":")[2] == computed


def test_a_key_that_is_too_short_is_refused_before_anything_is_written(program: Program) -> None:
    program.write(more="sealing: {key: '${env:SEAL}'}\n")
    program.environment["SEAL"] = "short"
    edge.build_sample(str(program.home / "qdrant"), "articles", 20, 4)
    refused = program.run("backup", "daily", expect=None)
    assert "a key has 5 bytes, and 16 are the least" in refused.stderr
    assert refused.returncode == 65
    assert backups(program) == []


def test_a_backup_with_a_forged_manifest_is_restored_from_the_other_location_only(program: Program) -> None:
    with StandIn(program.home / "server") as server:
        nine.seed(server.url, names=("dense",))
        engine = f'{{kind: qdrant, url: "{server.url}", collections: {{include: [dense]}}}}'
        program.write(engine=engine, more="sealing: {key: '${env:SEAL}'}\n")
        program.environment["SEAL"] = KEY
        made = program.json("backup", "daily")["id"]
        look(program)
        path = program.primary / "daily" / made / "manifest.json"
        path.write_text(path.read_text(encoding="utf-8").replace('"host"', '"hots"'), encoding="utf-8")
        look(program)
        words = ("restore", made, "--as", "other", "--yes")
        refused = program.run(*words, expect=2)
        assert "in primary, manifest.json: its signature does not match" in refused.stdout + refused.stderr
        program.run(*words, "--location", "secondary")


def test_what_the_agent_repairs_is_over_and_alerts_nobody(sealed: Program) -> None:
    first, second, _ = backups(sealed)
    flip(first / "articles.snapshot.gz", 100)
    shutil.rmtree(sealed.secondary / "daily" / second.name)
    look(sealed)
    assert {"archive_changed", "archive_vanished"} <= set(trouble(sealed))
    sealed.run("repair", "--yes", expect=None)
    look(sealed)
    assert trouble(sealed) == {"tampering": ["secondary"]}, "it stays for a day, or until somebody accepts it"
    sealed.run("reconcile")
    look(sealed)
    assert trouble(sealed) == {}


def test_what_the_agent_expires_alerts_nobody(sealed: Program) -> None:
    sealed.write(more="sealing: {key: '${env:SEAL}'}\n", tiers='{daily: {cron: "0 2 * * *", keep: 1}}')
    *_, newest = backups(sealed)
    sealed.run("expire", "--yes", "--force")
    look(sealed)
    assert backups(sealed) == [newest]
    assert trouble(sealed) == {}
    sealed.run("backup", "daily")
    look(sealed)
    assert trouble(sealed) == {}


def test_every_backup_is_on_record_for_each_location(program: Program) -> None:
    edge.build_sample(str(program.home / "qdrant"), "articles", 20, 4)
    made = program.json("backup", "daily")["id"]
    program.write(engine=f"{{kind: command, argv: [sh, -c, 'echo bytes > {program.primary}/a.snapshot']}}")
    program.run("backup", "daily")
    deeds = program.json("audit", "--kind", "backup")["deeds"]
    assert [(one["location"], one["path"], one["outcome"]) for one in deeds] == [
        ("primary", f"daily/{made}", "good"),
        ("secondary", f"daily/{made}", "good"),
        ("primary", "", "1 archive arrived"),
        ("secondary", "", "1 archive arrived"),
    ]
    assert deeds[0]["why"] == "daily backup"
