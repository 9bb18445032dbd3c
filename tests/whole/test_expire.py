"""`snapward expire`, `keep` and `release`, as people run them."""

import json
import shutil
import subprocess
import time

import pytest
from madeup import DAY, made_up, tree
from program import Program, flip, until
from small_disk import small_disk

from agent.adapters import ledger, locks
from agent.adapters.ledger import deeds, drills, incidents
from agent.adapters.ledger.drills import Drill
from agent.rules.finding import Finding, Level
from agent.rules.incident import Policy

NOW = time.time()
TIERS = '{daily: {cron: "0 2 * * *", keep: 5d}}'


def filled(program: Program, days: int = 10) -> list[str]:
    """Two locations with a backup a day, proved; returns their ids, the newest first."""
    program.write(tiers=TIERS, more="cleanup: {share: 90%}\n")
    for root in (program.primary, program.secondary):
        ids = [made_up(root, "daily", NOW - day * DAY - 3600).name for day in range(days)]
    program.run("verify", "--all")
    return ids


def actions(answer: dict[str, object], location: str = "primary") -> dict[str, str]:
    backups: list[dict[str, str]] = answer["backups"]  # type: ignore[assignment] # JSON
    return {one["id"]: one["action"] for one in backups if one["location"] == location}


def test_without_yes_nothing_changes_and_every_backup_has_a_reason(program: Program) -> None:
    ids = filled(program)
    before = tree(program.home / "primary"), tree(program.home / "secondary")
    told = program.json("expire")
    assert told["dry_run"]
    assert told["frozen"] == []
    assert (
        actions(told) == actions(told, "secondary") == {one: "keep" if n < 6 else "expire" for n, one in enumerate(ids)}
    )
    because = {one["id"]: one["because"] for one in told["backups"]}
    assert because[ids[9]] == "9 days old; daily ones are kept 5 days"
    assert because[ids[5]].startswith("the newest one that is at least 5 days old")
    assert told["expiring"] == 8
    assert told["freed_bytes"] == sum(one["size"] for one in told["backups"] if one["action"] == "expire") > 0
    assert (tree(program.home / "primary"), tree(program.home / "secondary")) == before
    assert program.query("SELECT count(*) FROM deed WHERE kind = 'expire'")[0][0] == 0
    assert "8 copies of backups would go" in program.run("expire").stdout


def test_with_yes_exactly_the_plan_is_done_and_written_down(program: Program) -> None:
    ids = filled(program)
    plan = program.json("expire")
    before = tree(program.primary)
    told = program.json("expire", "--yes")
    assert actions(told) == actions(plan)
    assert (told["removed"], told["left"]) == (8, [])
    gone = tuple(f"daily/{one}" for one in ids[6:])
    assert tree(program.primary) == {path: data for path, data in before.items() if not path.startswith(gone)}
    deeds = program.query("SELECT location, path, why, who, ended IS NOT NULL, outcome FROM deed WHERE kind = 'expire'")
    assert sorted((one[0], one[1]) for one in deeds) == sorted(
        (place, path) for place in ("primary", "secondary") for path in gone
    )
    assert all(done and outcome.startswith("4 files") for *_, done, outcome in deeds)
    assert {row[2] for row in deeds} >= {"9 days old; daily ones are kept 5 days"}
    ((outcome, code, figures),) = program.query("SELECT outcome, exit_code, figures FROM run WHERE job = 'cleanup'")
    assert (outcome, code) == ("ok", 0)
    assert json.loads(figures) == {"freed_bytes": told["freed_bytes"], "removed": 8}
    again = program.json("expire", "--yes")
    assert (again["removed"], again["freed_bytes"]) == (0, 0)


def test_the_newest_three_of_ten_damaged_freeze_the_cleanup(program: Program) -> None:
    ids = filled(program)
    for one in ids[:3]:
        for root in (program.primary, program.secondary):
            flip(root / "daily" / one / "docs.tar.gz", 20)
    program.run("verify", "--all", expect=2)
    before = tree(program.primary), tree(program.secondary)
    done = program.run("expire", "--yes", expect=2)
    assert "none of the 3 newest daily backups in primary is good and complete" in done.stdout
    assert (tree(program.primary), tree(program.secondary)) == before
    assert ("cleanup_frozen", "cleanup") in program.open_incidents()
    assert program.run("expire", expect=2).stdout.count("frozen: ") == 2

    made_up(program.primary, "daily", NOW - 60)
    made_up(program.secondary, "daily", NOW - 60)
    program.run("verify", "--all", expect=2)
    assert program.json("expire", "--yes")["removed"] == 8
    assert ("cleanup_frozen", "cleanup") not in program.open_incidents()


def test_a_changed_archive_that_nobody_has_read_again_stands_in_for_nothing(program: Program) -> None:
    ids = filled(program, days=7)
    assert actions(program.json("expire"))[ids[6]] == "expire"
    flip(program.primary / "daily" / ids[5] / "docs.tar.gz", 20)
    told = program.json("expire")
    assert actions(told)[ids[6]] == "keep"
    assert actions(told, "secondary")[ids[6]] == "expire"
    (because,) = (one["because"] for one in told["backups"] if (one["location"], one["id"]) == ("primary", ids[5]))
    assert because == "not proved yet"


def test_what_is_kept_stays_and_is_shown_as_kept_until_it_is_released(program: Program) -> None:
    ids = filled(program)
    program.run("keep", ids[9], "--because", "before the upgrade")
    program.run("keep", ids[8], "--until", "2099-06-30")
    assert [(one["id"], one["because"], one["until"]) for one in program.json("keep", "--list")["kept"]] == [
        (ids[9], "before the upgrade", None),
        (ids[8], "", "2099-06-30T23:59:59.000Z"),
    ]
    shown = {one["id"]: one["kept"] for one in program.json("list")["backups"]}
    assert shown[ids[9]] == {"until": None, "because": "before the upgrade"}
    assert shown[ids[7]] is None
    assert program.json("show", ids[9])["kept"] == shown[ids[9]]
    assert "before the upgrade" in program.run("show", ids[9]).stdout
    assert program.run("list").stdout.count("kept") == 2
    told = program.json("expire", "--yes")
    assert {one["id"]: one["because"] for one in told["backups"]}[ids[9]] == "pinned: before the upgrade"
    assert (program.primary / "daily" / ids[9]).is_dir()
    assert (program.secondary / "daily" / ids[8]).is_dir()
    program.run("release", ids[9])
    assert "was not kept" in program.run("release", ids[5]).stdout
    assert program.json("expire", "--yes")["removed"] == 2
    assert not (program.primary / "daily" / ids[9]).exists()
    kinds = [row[0] for row in program.query("SELECT kind FROM deed WHERE kind != 'expire' ORDER BY id")]
    assert kinds == ["keep", "keep", "release"]


def test_what_cannot_be_kept_is_said(program: Program) -> None:
    ids = filled(program, days=1)
    assert "there is no backup" in program.run("keep", "nothing", expect=64).stderr
    assert "is over" in program.run("keep", ids[0], "--until", "2001-01-01", expect=64).stderr
    assert "is no date" in program.run("keep", ids[0], "--until", "soon", expect=64).stderr
    program.run("keep", expect=64)


def test_each_location_may_have_its_own_retention(program: Program) -> None:
    ids = filled(program)
    text = program.config.read_text().replace("{path: secondary}", "{path: secondary, keep: {daily: 2}}")
    program.config.write_text(text)
    told = program.json("expire")
    assert [actions(told)[one] for one in ids].count("expire") == 4
    assert [actions(told, "secondary")[one] for one in ids].count("expire") == 8
    done = program.json("expire", "--yes", "--location", "secondary")
    assert {one["location"] for one in done["backups"]} == {"secondary"}
    assert len(list((program.primary / "daily").iterdir())) == 10
    assert len(list((program.secondary / "daily").iterdir())) == 2


def test_more_than_a_share_at_once_takes_force(program: Program) -> None:
    filled(program)
    program.write(tiers='{daily: {cron: "0 2 * * *", keep: 2}}')
    told = program.json("expire", "--yes", expect=2)
    assert told["forceable"]
    assert "more than 50%" in told["frozen"][0]["why"]
    assert program.json("expire", "--yes", "--force")["removed"] == 16


def test_what_other_programs_put_there_stays(program: Program) -> None:
    filled(program, days=2)
    foreign = made_up(program.primary, "daily", NOW - 90 * DAY, engine="restic")
    elsewhere = made_up(program.primary / "mine", "daily", NOW - 91 * DAY)
    loose = program.primary / "old.snapshot"
    loose.write_bytes(b"x" * 99)
    noted = made_up(program.primary, "daily", NOW - 92 * DAY)
    made_up(program.primary, "daily", NOW - 10 * DAY)
    (noted / "notes.txt").write_text("mine")
    program.run("verify", "--all", expect=None)
    assert program.json("expire")["left"] == program.json("expire", "--yes")["left"]
    told = program.json("expire", "--yes")
    assert (told["removed"], told["expiring"]) == (0, 0)
    assert [one["because"] for one in told["backups"] if one["id"] == foreign.name] == ["not ours"]
    (left,) = told["left"]
    assert left["why"] == "notes.txt lies in it, and is no part of the backup"
    assert foreign.is_dir()
    assert elsewhere.is_dir()
    assert loose.exists()
    assert len(tree(noted)) == 5


def test_a_deed_that_was_broken_off_is_finished_by_the_next_cleanup(program: Program) -> None:
    ids = filled(program)
    program.run("keep", ids[8])
    for one, place in [(9, "aside"), (8, "kept"), (7, "wanted"), (6, "removed")]:
        _begin(program, f"daily/{ids[one]}")
        if place == "aside":
            aside = program.primary / ".expiring" / "daily"
            aside.mkdir(parents=True)
            (program.primary / "daily" / ids[one]).rename(aside / ids[one])
            (aside / ids[one] / "SHA256SUMS").unlink()
        if place == "removed":
            shutil.rmtree(program.primary / "daily" / ids[one])
    told = program.json("expire", "--yes")
    assert told["removed"] == 6
    outcomes = dict(program.query("SELECT path, outcome FROM deed WHERE why = 'old' AND ended IS NOT NULL"))
    assert outcomes[f"daily/{ids[9]}"].startswith("3 files")
    assert outcomes[f"daily/{ids[8]}"] == "not done: kept after all"
    assert outcomes[f"daily/{ids[7]}"].startswith("4 files")
    assert outcomes[f"daily/{ids[6]}"] == "done"
    assert not (program.primary / ".expiring").exists()
    assert sorted(one.name for one in (program.primary / "daily").iterdir()) == sorted([*ids[:6], ids[8]])


def _begin(program: Program, path: str) -> None:
    db = ledger.connect(str(program.state))
    with ledger.writing(db):
        deeds.begin(db, "expire", "primary", path, "old", "ann", NOW)
    db.close()


def test_nothing_is_removed_beside_a_backup_or_a_drill(program: Program) -> None:
    filled(program)
    for name in ("backup", "drill", "expire"):
        with locks.held(str(program.state), name):
            assert "busy" in program.run("expire", "--yes", expect=75).stderr
            program.run("expire")
    assert len(list((program.primary / "daily").iterdir())) == 10


def test_a_disk_that_went_read_only_is_named_and_told_until_it_is_mended(program: Program) -> None:
    with small_disk(program.secondary, "8m"):
        filled(program)
        remount = ["mount", "-o", "remount,ro", str(program.secondary)]
        subprocess.run(remount, check=True)
        told = program.json("expire", "--yes", expect=73)
        assert told["removed"] == 4
        assert {(one["location"], one["outcome"]) for one in told["left"]} == {("secondary", "failed")}
        assert ("cleanup_failed", "secondary") in program.open_incidents()
        assert len(list((program.secondary / "daily").iterdir())) == 10
        program.run("expire", "--yes", "--location", "primary")
        assert ("cleanup_failed", "secondary") in program.open_incidents(), "nobody has tried there"
        subprocess.run([*remount[:2], "remount,rw", remount[3]], check=True)
        assert program.json("expire", "--yes")["removed"] == 4
        assert ("cleanup_failed", "secondary") not in program.open_incidents()


def test_three_years_can_be_foretold(program: Program) -> None:
    filled(program, days=3)
    told = program.json("expire", "--simulate", "3y")
    months = told["locations"]["primary"]["months"]
    assert 36 <= len(months) <= 37
    assert months[-1]["kept"]["daily"] == 6
    size = told["sizes"]["daily"]
    assert 6 * size < told["locations"]["primary"]["peak_bytes"] <= 8 * size
    assert "at most" in program.run("expire", "--simulate", "12w").stdout
    for wrong in ("3", "0d", "3h", "999y"):
        program.run("expire", "--simulate", wrong, expect=64)
    program.run("expire", "--simulate", "3y", "--yes", expect=64)


def test_a_backup_of_a_part_takes_no_whole_ones_place(program: Program) -> None:
    program.write(tiers='{daily: {cron: "0 2 * * *", keep: 2}}', more="cleanup: {share: 90%}\n", secondary=False)
    both = [made_up(program.primary, "daily", NOW - day * DAY, names=("docs", "users")).name for day in (4, 3, 2)]
    part = made_up(program.primary, "daily", NOW - 3600, names=("docs",)).name
    program.run("verify", "--all")
    told = program.json("expire", "--yes")
    assert actions(told) == {part: "keep", both[2]: "keep", both[1]: "keep", both[0]: "expire"}
    assert {one["id"]: one["because"] for one in told["backups"]}[part].startswith("incomplete")

    # Of what two backups in a row do not speak, nobody takes a backup any more.
    second = made_up(program.primary, "daily", NOW - 1800, names=("docs",)).name
    program.run("verify", "--all")
    told = program.json("expire", "--yes")
    assert actions(told) == {second: "keep", part: "keep", both[2]: "expire", both[1]: "expire"}


def test_backups_that_somebody_put_there_are_not_ours(program: Program) -> None:
    ids = filled(program, days=6)
    db = ledger.connect(str(program.state))
    finding = Finding("archive_foreign", f"primary:daily/{ids[4]}", Level.WARNING, "no run of ours made it")
    with ledger.writing(db):
        incidents.observe(db, [finding], NOW, Policy(), {})
    db.close()
    (because,) = {one["because"] for one in program.json("expire")["backups"] if one["id"] == ids[4]} - {
        "4 days old; daily ones are kept 5 days"
    }
    assert because == "not ours"


@pytest.mark.parametrize("rule", ["clock_jumped", "archives_vanished", "ledger_rebuilt", "tampering"])
def test_nothing_goes_while_something_smells_of_trouble(program: Program, rule: str) -> None:
    filled(program)
    db = ledger.connect(str(program.state))
    with ledger.writing(db):
        incidents.observe(db, [Finding(rule, "primary", Level.WARNING, "oh no", "look")], NOW, Policy(), {})
    db.close()
    told = program.json("expire", "--yes", "--force", expect=2)
    assert told["frozen"][0]["why"] == f"{rule} of primary is open: oh no"
    assert told["removed"] == 0
    assert len(list((program.primary / "daily").iterdir())) == 10


def test_the_agent_cleans_up_by_schedule_and_alarms_nobody(program: Program) -> None:
    ids = filled(program)
    program.write(tiers=TIERS, more='cleanup: {cron: "* * * * * *", share: 90%}\n', settle="50ms", scan_every="1s")
    with program.agent():
        until(lambda: program.query("SELECT 1 FROM run WHERE job = 'cleanup' AND figures LIKE '%\"removed\":8%'"))
        until(lambda: len(program.json("list")["backups"]) == 6, what="the agent's own look")
        begun = program.query("SELECT max(id) FROM run WHERE job = 'cleanup'")[0][0]
        until(lambda: program.query("SELECT 1 FROM run WHERE id > ? AND outcome = 'ok' AND slot > 0", begun))
    assert {row[0] for row in program.query("SELECT who FROM deed WHERE kind = 'expire'")} == {"schedule"}
    assert not [rule for rule, _ in program.open_incidents() if rule.startswith(("archive", "cleanup", "tampering"))]
    assert not program.query("SELECT rule FROM incident WHERE rule LIKE 'archive%'")
    assert sorted(one.name for one in (program.primary / "daily").iterdir()) == sorted(ids[:6])
    assert "expire primary daily/" in program.lines()


def test_the_backup_that_was_drilled_last_stays_unless_its_collection_was_dropped(program: Program) -> None:
    program.write(tiers=TIERS, secondary=False)
    ids = [made_up(program.primary, "daily", NOW - day * DAY - 3600).name for day in range(9)]
    old = made_up(program.primary, "daily", NOW - 9 * DAY, names=("docs", "gone")).name
    program.run("verify", "--all")
    db = ledger.connect(str(program.state))
    with ledger.writing(db):
        for number, (one, collection) in enumerate([(ids[8], "docs"), (old, "gone"), (old, "docs")]):
            drilled = {"backup": one, "tier": "daily", "collection": collection, "location": "primary"}
            shown = {"depth": "light", "state": "passed", "level": "faithful", "why": "", "engine": "edge"}
            drills.record(db, Drill(at=NOW - 9 * DAY - number, seconds=1.0, **drilled, **shown))  # type: ignore[arg-type] # words
    db.close()
    because = {one["id"]: one["because"] for one in program.json("expire")["backups"]}
    assert because[ids[8]] == "the newest drilled one of docs"
    assert because[old] == "9 days old; daily ones are kept 5 days"


def test_manifests_that_cannot_be_read_count_as_bad(program: Program) -> None:
    ids = filled(program)
    for one in ids[:3]:
        (program.primary / "daily" / one / "manifest.json").write_text("{")
    program.run("verify", "--all", expect=None)
    told = program.json("expire", expect=2)
    assert [one["why"] for one in told["frozen"]] == [
        "none of the 3 newest daily backups in primary is good and complete"
    ]


def test_a_location_that_is_away_keeps_what_it_has_and_nobody_else_waits_for_it(program: Program) -> None:
    filled(program)
    program.secondary.rename(program.home / "unplugged")
    told = program.json("expire", "--yes")
    assert (told["removed"], told["left"]) == (4, [])
    away = [one["because"] for one in told["backups"] if one["location"] == "secondary"]
    assert sum("secondary is away: does not exist" in one for one in away) == 4
    assert not program.secondary.exists()
    (program.home / "unplugged").rename(program.secondary)
    assert program.json("expire", "--yes")["removed"] == 4
