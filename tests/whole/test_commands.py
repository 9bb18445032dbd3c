"""The commands as people and scripts use them: answers, exit codes, JSON."""

import gzip
import os
import subprocess

import pytest
from program import COMMAND, Program, archive, flip, until
from tars import collection, segment


def built(program: Program) -> None:
    from agent.adapters import edge

    for name in ("articles", "ünï/cödé".replace("/", "-")):
        edge.build_sample(str(program.home / "qdrant"), name, 50, 8)


def test_backup_verify_list_and_show_agree(program: Program) -> None:
    built(program)
    made = program.json("backup")
    assert made["state"] == "good"
    assert made["locations"] == ["primary", "secondary"]
    checked = program.json("verify", made["id"])
    assert (checked["checked"], checked["bad"]) == (4, 0)
    assert (checked["level"], {one["level"] for one in checked["archives"]}) == ("well-formed", {"well-formed"})
    listed = program.json("list")["backups"]
    assert [one["id"] for one in listed] == [made["id"]]
    shown = program.json("show", "latest-good")
    assert {one["name"] for one in shown["collections"]} == {"articles", "ünï-cödé"}
    assert program.run("show").returncode == 0


def test_a_damaged_copy_is_found_by_verify_and_the_other_stays_good(program: Program) -> None:
    built(program)
    made = program.json("backup")
    program.run("verify")
    path = next(program.primary.glob("manual/*/articles.snapshot.gz"))
    flip(path, 500)
    answer = program.json("verify", expect=2)
    assert answer["bad"] == 1
    assert [one["state"] for one in answer["archives"] if one["path"].endswith("articles.snapshot.gz")] == [
        "corrupt",
        "good",
    ]
    copies = program.json("show", made["id"])["locations"]
    assert copies["primary"]["state"] == "bad"
    assert copies["secondary"]["state"] == "good"
    flip(path, 500)
    assert program.json("verify", "--all")["bad"] == 0


def test_a_file_that_is_called_a_snapshot_and_is_none_is_good_and_not_well_formed(program: Program) -> None:
    archive(program.primary / "daily", "a.snapshot", b"PGP MESSAGE " * 500)
    archive(program.primary / "daily", "b.tar.gz", gzip.compress(os.urandom(2000)))
    answer = program.json("verify", "--all", expect=3)
    assert [(one["state"], one["level"]) for one in answer["archives"]] == [("good", "intact")] * 2
    words = {one["path"]: one["why"].partition("; ")[2] for one in answer["archives"]}
    assert words["primary:daily/a.snapshot"].startswith("no Qdrant snapshot was found in it: ")
    assert words["primary:daily/b.tar.gz"] == "gzip read to its end"
    assert (
        "2 good, 0 bad, 0 not comparable; 1 of the good ones not well-formed"
        in program.run("verify", "--all", expect=3).stdout
    )
    assert program.json("verify", "--all", "--level", "intact")["bad"] == 0
    (program.primary / "daily" / "a.snapshot").unlink()
    assert program.json("verify", "--all")["checked"] == 1


def test_a_snapshot_that_is_not_whole_is_bad_and_says_what_is_missing(program: Program) -> None:
    archive(program.primary / "daily", "a.snapshot", collection(segment(without="version.info")))
    answer = program.json("verify", "--all", "--level", "intact", expect=2)
    assert answer["archives"][0]["state"] == "malformed"
    assert answer["archives"][0]["why"].endswith(".tar has no version.info, and a server would lose the segment")
    assert program.json("alert", "list", expect=2)["incidents"][0]["rule"] == "archive_bad"


def test_one_collection_can_be_chosen_by_its_name(program: Program) -> None:
    built(program)
    assert [one["name"] for one in program.json("backup", "--collection", "articles")["collections"]] == ["articles"]


def test_a_backup_whose_collection_is_in_use_is_incomplete_and_says_which(program: Program) -> None:
    built(program)
    import qdrant_edge

    shard = qdrant_edge.EdgeShard.load(str(program.home / "qdrant" / "articles"))
    try:
        answer = program.json("backup", "daily", expect=2)
    finally:
        shard.close()
    assert answer["state"] == "incomplete"
    assert [one["name"] for one in answer["failed"]] == ["articles"]
    assert program.json("list")["backups"] == [] or program.json("list")["backups"][0]["state"] != "good"
    program.run("verify", expect=0)
    assert program.json("list")["backups"][0]["state"] == "incomplete"
    assert program.json("alert", "list", expect=2)["incidents"][0]["rule"] == "backup_failed"
    program.json("backup", "daily")
    assert program.json("alert", "list", expect=0)["incidents"][0]["state"] == "resolved"


def test_no_location_that_takes_data_is_exit_code_73(program: Program) -> None:
    built(program)
    program.primary.rmdir()
    program.secondary.rmdir()
    assert "no location takes the backup" in program.run("backup", expect=73).stderr


def test_one_missing_location_degrades_the_backup_and_is_told(program: Program) -> None:
    built(program)
    program.secondary.rmdir()
    assert program.json("backup", expect=1)["locations"] == ["primary"]
    assert not program.secondary.exists()
    rules = {one["rule"] for one in program.json("alert", "list", expect=1)["incidents"]}
    assert rules == {"backup_degraded"}


def test_two_backups_at_once_is_exit_code_75(program: Program) -> None:
    from agent.adapters import locks

    with locks.held(str(program.state), "backup"):
        assert "busy" in program.run("backup", expect=75).stderr


def test_a_collection_that_is_not_there_is_told_and_nothing_is_published(program: Program) -> None:
    built(program)
    assert "no collection" in program.run("backup", "--collection", "artikles", expect=2).stderr
    assert not list(program.primary.glob("*/*"))
    program.write(engine='{kind: command, argv: ["true"]}')
    program.run("backup", "--collection", "articles", expect=64)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be mistaken for somebody else")
def test_root_leaves_no_file_in_a_state_folder_of_the_agents_user(program: Program) -> None:
    program.state.mkdir()
    os.chown(program.state, 65534, 65534)
    for command in ("backup", "reconcile", "run"):
        assert "nobody" in program.run(command, expect=77).stderr
    assert not list(program.state.iterdir())
    program.run("status", expect=3)


def test_json_stays_json_when_a_target_prints(program: Program) -> None:
    program.write(targets='{terminal: {url: "console://"}}')
    assert program.json("alert", "test")["results"] == [{"target": "terminal", "ok": True, "error": ""}]


def test_a_location_that_left_the_configuration_is_no_longer_listed(program: Program) -> None:
    archive(program.secondary / "daily", "a.snapshot")
    program.run("reconcile")
    assert program.json("list")["backups"]
    program.write(secondary=False)
    assert program.json("list")["backups"] == []


def test_reconcile_builds_the_ledger_from_the_folders(program: Program) -> None:
    archive(program.primary / "daily", "a.snapshot")
    built(program)
    program.json("backup")
    program.run("verify", "--all", "--level", "intact")
    before = program.states()
    for path in program.state.glob("ledger.*"):
        path.unlink()
    answer = program.json("reconcile")
    assert answer["bad"] == 0
    assert program.states() == before
    (program.state / "ledger.db").write_bytes(b"no database at all" * 100)
    assert program.json("reconcile")["set_aside"]
    assert program.states() == before


def test_status_without_an_agent_cannot_tell(program: Program) -> None:
    answer = program.json("status", expect=3)
    assert answer["state"] == "unknown"
    assert answer["schema_version"] == 1


def test_status_with_an_agent_is_fine_and_turns_critical_with_an_incident(program: Program) -> None:
    program.write(engine='{kind: command, argv: ["true"]}')
    with program.agent():
        assert program.json("status", expect=1)["findings"][0]["rule"] == "no_backup"
        archive(program.primary / "daily", "good.snapshot")
        until(lambda: program.run("status", expect=None).returncode == 0, what="a status that is fine")
        answer = program.json("status")
        assert answer["locations"]["primary"]["used_percent"] > 0
        assert answer["tiers"]["daily"]["next_run"]
        archive(program.primary / "daily", "a.snapshot", b"")
        until(lambda: program.run("status", expect=None).returncode == 2)
        assert program.json("status", expect=2)["findings"][0]["rule"] == "archive_bad"


def test_check_names_what_is_missing(program: Program) -> None:
    built(program)
    program.secondary.rmdir()
    checks = {one["name"]: one for one in program.json("check", expect=2)["checks"]}
    assert checks["location secondary, unavailable"]["state"] == "critical"
    assert checks["location primary, space"]["state"] in {"ok", "warning", "critical"}
    assert checks["engine"]["state"] == "ok"
    assert checks["targets"]["state"] == "warning"


@pytest.mark.parametrize(
    ("key", "state", "why"),
    [
        ("a-key-of-twenty-bytes", "ok", "signed; 1 key known"),
        ("short", "critical", "a key has 5 bytes, and 16 are the least"),
        (None, "critical", "KEY"),
    ],
)
def test_check_tells_what_is_kept_and_whether_manifests_can_be_signed(
    program: Program, key: str | None, state: str, why: str
) -> None:
    program.write(more='sealing: {key: "${env:KEY}"}\n', tiers='{daily: {cron: "0 2 * * *", keep: 7}}')
    program.environment |= {"KEY": key} if key else {}
    checks = {one["name"]: one for one in program.json("check", expect=None)["checks"]}
    assert checks["sealing"]["state"] == state
    assert why in checks["sealing"]["why"]
    assert checks["retention"]["why"].startswith("kept: the last 7 daily; ")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--nonsense",), 64),
        (("nonsense",), 64),
        (("backup", "yearly"), 64),
        (("show", "nothing-like-this"), 64),
        (("verify", "x", "--all"), 64),
        (("report", "render", "--week", "2026-W77"), 64),
        (("alert", "test", "nobody"), 64),
    ],
)
def test_a_wrong_command_line_is_exit_code_64(program: Program, arguments: tuple[str, ...], code: int) -> None:
    program.run("reconcile")
    done = program.run(*arguments, expect=code)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["run", "check", "status", "list", "backup", "config validate", "reconcile"])
def test_a_wrong_configuration_is_exit_code_65_with_file_and_line(program: Program, command: str) -> None:
    program.config.write_text(program.config.read_text().replace("scan_every:", "scan_evry:"))
    done = program.run(*command.split(), expect=65)
    assert f"{program.config}:" in done.stderr
    assert "scan_every" in done.stderr


def test_an_apprise_url_that_cannot_be_used_keeps_the_agent_from_starting(program: Program) -> None:
    program.write(targets='{chat: {url: "slak://token"}}')
    for command in ("run", "config validate"):
        done = program.run(*command.split(), expect=65)
        assert "notify.targets.chat.url" in done.stderr
        assert "slack" in done.stderr


def test_errors_are_json_where_json_was_asked_for(program: Program) -> None:
    answer = program.json("show", "nothing", expect=None)
    assert answer["error"]["exit_code"] in {64, 75}


def test_a_reader_that_leaves_early_is_no_error(program: Program) -> None:
    for number in range(300):
        archive(program.primary / "daily", f"archive-with-a-long-name-{number}.snapshot", b"x" * 2000)
    program.run("reconcile")
    shown = subprocess.Popen(
        [*COMMAND, "--config", str(program.config), "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert shown.stdout is not None
    assert shown.stderr is not None
    shown.stdout.close()
    assert b"Traceback" not in shown.stderr.read()
    shown.stderr.close()
    shown.wait(20)


def test_status_and_list_import_nothing_heavy(program: Program) -> None:
    program.run("reconcile")
    for command in ("status", "list"):
        code = (
            "import sys\nfrom agent.cli import main\n"
            f"try: main(['--config', {str(program.config)!r}, {command!r}])\nexcept SystemExit: pass\n"
            "bad = {'apprise', 'jinja2', 'qdrant_edge', 'watchdog', 'ssl', 'http.client'} & set(sys.modules)\n"
            "sys.exit(str(bad) if bad else 0)"
        )
        done = subprocess.run([*COMMAND[:1], "-c", code], capture_output=True, text=True, check=False, env=os.environ)
        assert done.returncode == 0, done.stderr


def test_the_daemon_imports_nothing_heavy() -> None:
    code = (
        "import sys, agent.daemon.run\n"
        "bad = {'apprise', 'jinja2', 'qdrant_edge', 'click', 'ssl', 'http.client'} & set(sys.modules)\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([*COMMAND[:1], "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
