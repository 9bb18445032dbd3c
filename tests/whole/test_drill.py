"""Drills as people and the agent run them: as processes, which may be stopped, killed, and left without an engine."""

import csv
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from program import COMMAND, Program, archive, until

from agent.adapters import edge, locks
from agent.jobs.drill import scratch


def built(program: Program, *names: str, points: int = 80, dimensions: int = 8) -> None:
    for name in names or ("articles", "products"):
        edge.build_sample(str(program.home / "qdrant"), name, points, dimensions)


def leftovers(program: Program) -> list[Path]:
    folder = program.state / "scratch"
    return list(folder.iterdir()) if folder.exists() else []


def engines(program: Program) -> str:
    """Processes that have something of this installation in their command line or folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if str(program.state / "scratch") in os.readlink(process):
                found.append(process.parent.name)
        except OSError:
            continue
    return " ".join(found)


def test_from_a_backup_to_the_evidence(program: Program) -> None:
    built(program)
    backup = program.json("backup", "daily")["id"]
    done = program.json("drill")
    assert (done["backup"], done["state"], done["level"], done["depth"]) == (backup, "passed", "faithful", "full")
    assert [one["name"] for one in done["collections"]] == ["articles", "products"]
    assert all(one["points"] == 80 and one["expected"] == [80, 80] for one in done["collections"])
    assert all(one["content"]["same"] == one["content"]["compared"] > 0 for one in done["collections"])
    program.run("verify")
    (listed,) = program.json("list")["backups"]
    assert {copy["level"] for copy in listed["locations"].values()} == {"faithful"}
    assert "would restore: 1 of 1 collection" in program.run("drill", backup, "--collection", "articles").stdout

    told = program.json("evidence")["drills"]
    assert [one["collection"] for one in told] == ["articles", "products", "articles"]
    path = next(program.primary.glob("daily/*/articles.snapshot.gz"))
    assert told[0]["archives"] == [{"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}]
    rows = list(csv.DictReader(io.StringIO(program.run("evidence", "--csv").stdout)))
    assert [(row["collection"], row["state"], row["points"]) for row in rows][1] == ("products", "passed", "80")
    assert "3 drills" in program.run("evidence", "--since", "1").stdout
    assert program.json("evidence", "--since", "0")["drills"] == []
    status = program.json("status", expect=None)["drills"]
    assert (status["collections"], status["drilled"], status["overdue"]) == (2, 2, [])
    assert not leftovers(program)


def test_an_archive_whose_checksums_are_right_and_whose_data_are_not_is_found(program: Program) -> None:
    """It was damaged before its SHA-256 was made: nothing but a drill can know."""
    built(program, "articles")
    built(program, "other", points=70)
    backup = program.json("backup", "daily")["id"]
    for root in (program.primary, program.secondary):
        folder = root / "daily" / backup
        shutil.copy(folder / "other.snapshot.gz", folder / "articles.snapshot.gz")
        data = (folder / "articles.snapshot.gz").read_bytes()
        raw = gzip.decompress(data)
        said = json.loads((folder / "manifest.json").read_bytes())
        said["collections"][0] |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        said["collections"][0] |= {"raw_size": len(raw), "raw_sha256": hashlib.sha256(raw).hexdigest()}
        (folder / "manifest.json").write_text(json.dumps(said))
        (folder / "SHA256SUMS").unlink()
    assert program.json("verify")["bad"] == 0
    assert program.json("show", "latest-good")["id"] == backup
    done = program.json("drill", expect=2)
    assert [(one["name"], one["state"]) for one in done["collections"]] == [("articles", "failed"), ("other", "passed")]
    assert done["state"] == "failed"
    assert ("drill_failed", "articles") in program.open_incidents()
    assert program.json("list")["backups"][0]["state"] == "bad"
    assert "no backup is known to be good" in program.run("show", "latest-good", expect=64).stderr

    program.json("backup", "daily")
    program.json("drill")
    assert not program.open_incidents()


def test_a_drill_that_is_killed_leaves_nothing_that_the_next_does_not_remove(program: Program) -> None:
    built(program, "articles", points=4000, dimensions=64)
    program.json("backup", "daily")
    with subprocess.Popen(
        [*COMMAND, "--config", str(program.config), "drill"], env=program.environment, stdout=subprocess.DEVNULL
    ) as process:
        until(lambda: any(folder.rglob("*") for folder in leftovers(program)), what="the unpacked copy")
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert leftovers(program)
    until(lambda: not engines(program), what="the end of the engine")
    done = program.json("drill")
    assert done["state"] == "passed"
    assert any("removed what a drill that died had left" in note for note in done["notes"])
    assert not leftovers(program)
    assert program.query("SELECT outcome FROM run WHERE job = 'drill' ORDER BY id") == [("interrupted",), ("ok",)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_drill_politely(program: Program, number: signal.Signals) -> None:
    built(program, "articles", "products", points=4000, dimensions=64)
    program.json("backup", "daily")
    with subprocess.Popen(
        [*COMMAND, "--config", str(program.config), "drill"],
        env=program.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        until(lambda: leftovers(program), what="the scratch copy")
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert not leftovers(program)
    assert not engines(program)
    assert program.query("SELECT outcome FROM run WHERE job = 'drill'") == [("interrupted",)]


def test_without_an_engine_nothing_can_be_told_and_that_is_said(program: Program) -> None:
    built(program, "articles")
    program.json("backup", "daily")
    fake = program.home / "without" / "qdrant_edge"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("raise ImportError('not here')\n")
    program.environment["PYTHONPATH"] = str(fake.parent)
    done = program.json("drill", expect=3)
    assert [(one["state"], one["level"]) for one in done["collections"]] == [("inconclusive", "arrived")]
    assert "not installed" in done["collections"][0]["why"]
    assert program.json("evidence")["drills"] == []
    program.write(engine='{kind: command, argv: ["true"]}')
    checks = {one["name"]: one for one in program.json("check", expect=None)["checks"]}
    assert checks["drills"]["state"] == "warning"
    assert "drills.url" in checks["drills"]["hint"]


def test_what_cannot_be_drilled_is_said(program: Program) -> None:
    assert "nothing to drill" in program.run("drill", expect=3).stdout
    built(program, "articles")
    backup = program.json("backup", "daily")["id"]
    assert "no backup" in program.run("drill", "20200101T000000Z", expect=64).stderr
    assert "It has: articles" in program.run("drill", backup, "--collection", "artikles", expect=64).stderr
    assert "write 30s" in program.run("drill", "--budget", "soon", expect=64).stderr
    assert program.json("drill", "--budget", "1ms", expect=3)["left"] == ["articles"]
    assert "drills.url is not set" in program.run("drill", "--engine", "server", expect=3).stdout
    with locks.held(str(program.state), "drill"):
        assert "busy" in program.run("drill", expect=75).stderr


def test_a_scratch_folder_of_its_own_is_made_and_must_not_lie_in_a_location(program: Program) -> None:
    built(program, "articles")
    program.write(more="drills: {scratch: elsewhere}\n")
    program.json("backup", "daily")
    program.json("drill")
    assert list((program.home / "elsewhere").iterdir()) == []
    program.write(more="drills: {scratch: primary/scratch}\n")
    assert "overlaps" in program.run("config", "validate", expect=65).stderr
    program.write(more="drills: {scratch: no/such/place}\n")
    done = program.json("drill", expect=3)
    assert "no/such/place" in done["collections"][0]["why"]


def test_a_loose_archive_that_has_just_come_is_found(program: Program) -> None:
    built(program, "articles")
    program.json("backup", "daily")
    made = next(program.primary.glob("daily/*/articles.snapshot.gz")).read_bytes()
    archive(program.primary / "weekly", "docs-20270101.snapshot.gz", made)
    done = program.json("drill", "docs-20270101.snapshot.gz")
    assert [(one["name"], one["level"]) for one in done["collections"]] == [("docs", "restorable")]
    assert program.json("drill", str(program.primary / "weekly/docs-20270101.snapshot.gz"))["level"] == "faithful"


# The agent


def test_the_agent_drills_what_a_backup_has_made(program: Program) -> None:
    built(program, "articles")
    program.write(tiers='{daily: {cron: "* * * * * *", keep: 30d}}', more="drills: {after_backup: 1m}\n")
    with program.agent():
        until(
            lambda: program.query("SELECT 1 FROM drill WHERE state = 'passed' AND depth = 'light'"),
            60,
            "a drill after a backup",
        )
    assert ("after backup", "ok") in program.query("SELECT subject, outcome FROM run WHERE job = 'drill'")
    assert "faithful" in {
        copy["level"] for one in program.json("list")["backups"] for copy in one["locations"].values()
    }
    assert not leftovers(program)


def test_the_agent_drills_in_full_when_it_is_time(program: Program) -> None:
    built(program, "articles")
    program.json("backup", "daily")
    program.write(more='drills: {cron: "* * * * * *", after_backup: 0s}\n')
    with program.agent():
        until(lambda: program.query("SELECT 1 FROM drill WHERE depth = 'full'"), 60, "a full drill")
        until(lambda: program.query("SELECT 1 FROM run WHERE job = 'drill' AND slot IS NOT NULL AND outcome = 'ok'"))
    assert program.query("SELECT 1 FROM pulse WHERE part = 'next:drill'")
    assert not program.query("SELECT 1 FROM incident WHERE rule = 'job_failed'")


def test_who_was_never_drilled_is_told_in_the_end(program: Program) -> None:
    built(program, "articles")
    program.json("backup", "daily")
    program.run("verify")
    folder = next(program.primary.glob("daily/*"))
    for root in (program.primary, program.secondary):
        path = root / "daily" / folder.name / "manifest.json"
        said = json.loads(path.read_bytes())
        said["started"] = "2020-01-01T02:00:00.000Z"
        path.write_text(json.dumps(said))
    program.run("verify")
    program.run("drill", "--overdue")
    assert ("drill_overdue", "articles") in program.open_incidents()
    assert program.json("status", expect=None)["drills"]["overdue"] == ["articles"]
    program.json("drill")
    assert ("drill_overdue", "articles") not in program.open_incidents()


def test_the_daemon_knows_no_engine() -> None:
    """Whatever it does about drills is a child's work."""
    code = "import sys, agent.daemon.run; sys.exit('agent.adapters.edge' in sys.modules)"
    assert subprocess.run([*COMMAND[:1], "-c", code], check=False).returncode == 0
    assert scratch.clear("/nonexistent") == []
