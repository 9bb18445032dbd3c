"""The agent as a process, on real files."""

import hashlib
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from program import COMMAND, Program, archive, flip, until

EVERY_SECOND = '{daily: {cron: "* * * * * *", keep: 30d}}'


def good(program: Program, path: str) -> bool:
    return program.states().get(path) == "good"


def verdicts(program: Program, name: str) -> list[str]:
    return [row[0] for row in program.query("SELECT state FROM verdict WHERE name = ? ORDER BY id", name)]


def test_a_scheduled_backup_arrives_in_both_locations_and_is_proved(program: Program) -> None:
    from agent.adapters import edge

    edge.build_sample(str(program.home / "qdrant"), "articles", 300, 16)
    program.write(tiers=EVERY_SECOND)
    with program.agent():
        until(lambda: len([s for s in program.states().values() if s == "good"]) >= 2, 30, "a proved backup")
    folder = next(program.primary.glob("daily/*"))
    assert subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=False).returncode == 0
    backups = program.json("list")["backups"]
    assert backups[-1]["state"] == "good"
    assert {copy["level"] for copy in backups[-1]["locations"].values()} <= {"well-formed", "faithful"}
    assert backups[-1]["collections"][0]["points"] == 300


def test_an_archive_that_appears_is_judged_once_and_a_changed_byte_is_told(program: Program) -> None:
    with program.agent():
        path = archive(program.primary / "daily", "a.snapshot")
        until(lambda: good(program, "primary:daily/a.snapshot"), what="the verdict")
        flip(path, 100)
        key = ("archive_bad", "primary:daily/a.snapshot")
        until(lambda: key in program.open_incidents(), what="the incident")
        assert "SHA-256" in program.open_incidents()[key]
        flip(path, 100)
        until(lambda: key not in program.open_incidents(), what="the end of the incident")
    assert verdicts(program, "a.snapshot") == ["good", "corrupt", "good"]


def test_a_file_that_is_open_for_writing_is_never_judged(program: Program) -> None:
    """It is complete when its writer has closed it, however long it pauses."""
    folder = program.primary / "daily"
    folder.mkdir()
    data = os.urandom(6000)
    (folder / "slow.snapshot.sha256").write_text(hashlib.sha256(data).hexdigest() + "\n")
    with program.agent():
        with (folder / "slow.snapshot").open("wb", buffering=0) as file:
            for start in range(0, 6000, 1000):
                file.write(data[start : start + 1000])
                # Several settle times pass between the pieces: the scan sees a file at rest each time.
                archive(program.primary / "weekly", f"clock{start}.snapshot")
                until(lambda start=start: good(program, f"primary:weekly/clock{start}.snapshot"))
                assert "primary:daily/slow.snapshot" not in program.states()
        until(lambda: good(program, "primary:daily/slow.snapshot"))
    assert verdicts(program, "slow.snapshot") == ["good"]


def test_a_checksum_that_comes_late_is_believed_without_reading_the_archive_again(program: Program) -> None:
    with program.agent():
        path = archive(program.primary / "daily", "late.snapshot", promise=False)
        until(lambda: program.states().get("primary:daily/late.snapshot") == "no checksum")
        before = program.query("SELECT checked FROM archive WHERE name = 'late.snapshot'")
        sums = hashlib.sha256(path.read_bytes()).hexdigest()
        (path.parent / "SHA256SUMS").write_text(f"{sums} *late.snapshot\n")
        until(lambda: good(program, "primary:daily/late.snapshot"))
        assert program.query("SELECT checked FROM archive WHERE name = 'late.snapshot'") == before


def test_what_lies_there_from_before_is_found_at_the_start(program: Program) -> None:
    archive(program.primary / "daily", "old.snapshot")
    with program.agent():
        until(lambda: good(program, "primary:daily/old.snapshot"))


def test_a_restart_reads_nothing_again(program: Program) -> None:
    archive(program.primary / "daily", "a.snapshot")
    for _ in range(2):
        with program.agent():
            until(lambda: good(program, "primary:daily/a.snapshot"))
    assert verdicts(program, "a.snapshot") == ["good"]


def test_a_scan_finds_what_no_event_told_of(program: Program) -> None:
    """The location is a link that is turned to another folder: the kernel's watch stays with the old one."""
    other = program.home / "other"
    other.mkdir()
    program.primary.rmdir()
    (program.home / "first").mkdir()
    program.primary.symlink_to(program.home / "first")
    program.write(scan_every="1s")
    with program.agent():
        program.primary.unlink()
        program.primary.symlink_to(other)
        archive(other / "daily", "a.snapshot")
        until(lambda: good(program, "primary:daily/a.snapshot"))
        # The watch has followed: this one comes with an event again.
        archive(other / "daily", "b.snapshot")
        until(lambda: good(program, "primary:daily/b.snapshot"))


def test_a_location_that_is_missing_is_an_incident_and_heals(program: Program) -> None:
    archive(program.primary / "daily", "a.snapshot")
    program.write(scan_every="1s")
    with program.agent():
        until(lambda: good(program, "primary:daily/a.snapshot"))
        program.primary.rename(program.home / "away")
        until(lambda: ("location_unavailable", "primary") in program.open_incidents())
        assert good(program, "primary:daily/a.snapshot"), "what cannot be looked at has not vanished"
        (program.home / "away").rename(program.primary)
        until(lambda: not program.open_incidents())


def test_an_archive_that_vanishes_is_told_and_its_return_too(program: Program) -> None:
    path = archive(program.primary / "daily", "a.snapshot")
    with program.agent():
        until(lambda: good(program, "primary:daily/a.snapshot"))
        path.rename(program.home / "taken")
        until(lambda: ("archive_vanished", "primary:daily/a.snapshot") in program.open_incidents())
        (program.home / "taken").rename(path)
        until(lambda: not program.open_incidents())
    assert verdicts(program, "a.snapshot") == ["good", "vanished", "good"]


def test_a_location_that_is_emptied_is_one_incident(program: Program) -> None:
    for number in range(12):
        archive(program.primary / "daily", f"a{number}.snapshot")
    with program.agent():
        until(lambda: len(program.states()) == 12)
        (program.primary / "daily").rename(program.home / "taken")
        until(lambda: ("archives_vanished", "primary") in program.open_incidents())
        assert len(program.open_incidents()) == 1
        (program.home / "taken").rename(program.primary / "daily")
        until(lambda: not program.open_incidents())


def test_a_ledger_that_is_removed_under_the_agent_is_rebuilt(program: Program) -> None:
    archive(program.primary / "daily", "a.snapshot")
    program.write(scan_every="1s")
    with program.agent() as process:
        until(lambda: good(program, "primary:daily/a.snapshot"))
        for suffix in ("", "-wal", "-shm"):
            (program.state / f"ledger.db{suffix}").unlink(missing_ok=True)
        until(lambda: program.query("SELECT 1 FROM incident WHERE rule = 'ledger_rebuilt' AND resolved IS NOT NULL"))
        assert good(program, "primary:daily/a.snapshot")
        assert process.poll() is None


@pytest.mark.parametrize("damage", ["garbage", "half", "empty"])
def test_a_ledger_that_is_damaged_is_set_aside_at_the_start(program: Program, damage: str) -> None:
    archive(program.primary / "daily", "a.snapshot")
    with program.agent():
        until(lambda: good(program, "primary:daily/a.snapshot"))
    path = program.state / "ledger.db"
    data = path.read_bytes()
    path.write_bytes({"garbage": b"\x5a" * len(data), "half": data[: len(data) // 2], "empty": b""}[damage])
    with program.agent():
        until(lambda: good(program, "primary:daily/a.snapshot"))
        if damage != "empty":
            until(lambda: program.query("SELECT 1 FROM incident WHERE rule = 'ledger_rebuilt'"))
            assert list(program.state.glob("ledger.db.damaged-*"))


def test_a_second_agent_refuses_and_names_the_first(program: Program) -> None:
    with program.agent() as process:
        done = program.run("run", expect=75)
        assert str(process.pid) in done.stderr


def test_systemd_hears_that_it_is_ready_alive_and_stopping(program: Program, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        program.environment |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        with program.agent():
            heard = [systemd.recv(4096).decode() for _ in range(3)]
            assert heard[0].startswith("READY=1")
            assert all(one.startswith("WATCHDOG=1") for one in heard[1:])
        while not heard[-1].startswith("STOPPING=1"):
            heard.append(systemd.recv(4096).decode())


def test_systemd_does_not_hear_of_an_end_that_is_a_reload(program: Program, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        program.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        with program.agent() as process:
            assert systemd.recv(4096).startswith(b"READY=1")
            process.send_signal(signal.SIGHUP)
            assert systemd.recv(4096).startswith(b"READY=1")
        assert systemd.recv(4096).startswith(b"STOPPING=1")


def test_incidents_end_with_what_they_were_about(program: Program) -> None:
    """A location and a tier leave the configuration: nobody could ever mend what was wrong with them."""
    archive(program.secondary / "daily", "a.snapshot", b"")
    program.write(engine='{kind: command, argv: ["false"]}', tiers='{odd: {cron: "* * * * * *", keep: 1d}}')
    with program.agent():
        until(lambda: ("backup_failed", "odd") in program.open_incidents())
        until(lambda: ("archive_bad", "secondary:daily/a.snapshot") in program.open_incidents())
    program.write(engine='{kind: command, argv: ["false"]}', secondary=False)
    with program.agent():
        until(lambda: not program.open_incidents())


def test_a_new_state_folder_takes_a_restart_and_says_so(program: Program) -> None:
    with program.agent() as process:
        program.config.write_text(program.config.read_text().replace("state_dir: state", "state_dir: other"))
        process.send_signal(signal.SIGHUP)
        until(lambda: "takes a restart" in program.lines())
        archive(program.primary / "daily", "a.snapshot")
        until(lambda: good(program, "primary:daily/a.snapshot"))


def test_the_second_signal_leaves_at_once(program: Program) -> None:
    script = program.home / "slow.sh"
    script.write_text("#!/bin/sh\ntrap '' TERM\necho $$ > started\nwhile :; do read x; done < fifo\n")
    script.chmod(0o755)
    os.mkfifo(program.home / "fifo")
    program.write(
        engine=f'{{kind: command, argv: ["sh", "-c", "cd {program.home} && exec ./slow.sh"]}}', tiers=EVERY_SECOND
    )
    process = program.start()
    started = program.home / "started"
    until(lambda: started.exists() and started.read_text().strip())
    process.send_signal(signal.SIGTERM)
    until(lambda: "a second signal leaves at once" in program.lines())
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 130
    os.kill(int(started.read_text()), signal.SIGKILL)


def test_the_first_signal_ends_it_politely(program: Program) -> None:
    process = program.start()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_a_reload_takes_a_valid_configuration_and_no_other(program: Program) -> None:
    with program.agent() as process:
        program.config.write_text(program.config.read_text() + "\nlocatoins: {}\n")
        process.send_signal(signal.SIGHUP)
        until(lambda: "goes on with the old one" in program.lines())
        program.write(more="storage: {warn: 1%, critical: 2%, clear: 0%}\n")
        process.send_signal(signal.SIGHUP)
        until(lambda: ("storage_space", "primary") in program.open_incidents())
        archive(program.primary / "daily", "a.snapshot")
        until(lambda: good(program, "primary:daily/a.snapshot"))
        assert process.poll() is None


def test_a_command_of_the_site_is_triggered_and_what_it_wrote_is_proved(program: Program) -> None:
    script = program.home / "backup.sh"
    script.write_text(
        '#!/bin/sh\nset -e\nmkdir -p "$1/$SNAPWARD_TIER"\ncd "$1/$SNAPWARD_TIER"\n'
        "head -c 5000 /dev/urandom | gzip > x.tar.gz\nsha256sum x.tar.gz > x.tar.gz.sha256\necho done\n"
    )
    script.chmod(0o755)
    program.write(engine=f'{{kind: command, argv: ["{script}", "{program.primary}"]}}', tiers=EVERY_SECOND)
    with program.agent():
        until(lambda: good(program, "primary:daily/x.tar.gz"))
        ended = "SELECT outcome, exit_code, output, figures FROM run WHERE job = 'backup' AND exit_code IS NOT NULL"
        run = until(lambda: program.query(ended), what="the end of the command")[0]
    assert run[:3] == ("ok", 0, "done\n")
    assert "x.tar.gz" in run[3]


def test_a_command_that_ends_well_without_an_archive_is_a_failure(program: Program) -> None:
    program.write(engine='{kind: command, argv: ["true"]}', tiers=EVERY_SECOND)
    with program.agent():
        until(lambda: ("backup_failed", "daily") in program.open_incidents())
    assert "no archive arrived" in program.open_incidents()["backup_failed", "daily"]


def test_a_job_that_fails_does_not_keep_another_from_running(program: Program) -> None:
    tiers = '{daily: {cron: "* * * * * *", keep: 30d}, weekly: {cron: "* * * * * *", keep: 12w}}'
    program.write(engine='{kind: command, argv: ["sh", "-c", "test {tier} = weekly && exit 3; exit 4"]}', tiers=tiers)
    with program.agent():
        until(lambda: {("backup_failed", "daily"), ("backup_failed", "weekly")} <= set(program.open_incidents()))


def test_a_run_that_died_is_closed_and_told_at_the_next_start(program: Program) -> None:
    script = program.home / "slow.sh"
    script.write_text("#!/bin/sh\necho $$ > started\nexec tail -f /dev/null\n")
    script.chmod(0o755)
    program.write(engine=f'{{kind: command, argv: ["{script}"]}}')
    backup = subprocess.Popen(
        [*COMMAND, "--config", str(program.config), "backup", "daily"], cwd=program.home, env=program.environment
    )
    started = program.home / "started"
    until(lambda: started.exists() and started.read_text().strip())
    backup.kill()
    backup.wait()
    os.kill(int(started.read_text()), signal.SIGKILL)
    with program.agent():
        until(lambda: ("backup_failed", "daily") in program.open_incidents())
    assert program.query("SELECT outcome FROM run WHERE job = 'backup'") == [("interrupted",)]


@pytest.mark.parametrize(
    ("make", "rule", "words"),
    [
        (lambda p: (p / "x.snapshot").mkdir(), "not_an_archive", "folder"),
        (lambda p: (p / "x.snapshot").symlink_to("/etc/passwd"), "not_an_archive", "link"),
        (lambda p: os.mkfifo(p / "x.snapshot"), "not_an_archive", "pipe"),
        (lambda p: (p / "x.snapshot").write_bytes(b""), "archive_bad", "0 bytes"),
        (lambda p: (p / "x.snapshot").write_bytes(b"tiny"), "archive_bad", "minimum"),
    ],
)
def test_a_thing_that_is_no_archive_is_told_and_its_end_too(program: Program, make, rule: str, words: str) -> None:
    folder = program.primary / "daily"
    folder.mkdir()
    make(folder)
    program.write(scan_every="1s")
    with program.agent():
        key = (rule, "primary:daily/x.snapshot")
        until(lambda: key in program.open_incidents())
        assert words in program.open_incidents()[key]
        path = folder / "x.snapshot"
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        archive(folder, "x.snapshot")
        until(lambda: key not in program.open_incidents())


@pytest.mark.parametrize(
    "name",
    ["ü" * 100 + ".snapshot", "a" * 246 + ".snapshot", "b\nc.snapshot", "back\\slash.snapshot", "<img>.snapshot"],
)
def test_an_awkward_name_is_proved_like_any_other(program: Program, name: str) -> None:
    from agent.rules.words import printable

    folder = program.primary / "daily"
    folder.mkdir()
    data = os.urandom(2000)
    with program.agent():
        (folder / "part").write_bytes(data)
        (folder / "part").rename(folder / name)
        sums = subprocess.run(["sha256sum", name], cwd=folder, check=True, capture_output=True).stdout
        (folder / "SHA256SUMS").write_bytes(sums)
        until(lambda: good(program, f"primary:daily/{printable(name)}"))


def test_a_name_that_is_no_utf8_is_proved_like_any_other(program: Program) -> None:
    folder = program.primary / "daily"
    folder.mkdir()
    name = b"caf\xe9.snapshot"
    with (Path(os.fsdecode(bytes(folder) + b"/" + name))).open("wb") as file:
        file.write(os.urandom(2000))
    with program.agent():
        sums = subprocess.run(["sha256sum", name], cwd=folder, check=True, capture_output=True).stdout
        (folder / "SHA256SUMS").write_bytes(sums)
        until(lambda: good(program, "primary:daily/caf\\xe9.snapshot"))
    assert program.json("list")["backups"][0]["id"] == "caf\\xe9.snapshot"


def test_a_missed_slot_is_caught_up_once_inside_the_window_and_told_outside(program: Program) -> None:
    from agent.adapters import edge, ledger
    from agent.adapters.ledger import runs

    edge.build_sample(str(program.home / "qdrant"), "articles", 20, 4)
    tiers = '{daily: {cron: "0 2 * * *", keep: 30d}, monthly: {cron: "0 0 1 1 *", keep: 24mo}}'
    program.write(tiers=tiers, more="catch_up: 48h\n")
    program.state.mkdir()
    import time

    db = ledger.connect(str(program.state), create=True)
    with ledger.writing(db):
        runs.take_slot(db, "backup:daily", time.time() - 5 * 86400)
        runs.take_slot(db, "backup:monthly", time.time() - 800 * 86400)
    db.close()
    with program.agent():
        until(lambda: program.query("SELECT 1 FROM run WHERE subject = 'daily' AND outcome = 'ok'"))
        until(lambda: ("backup_missed", "monthly") in program.open_incidents())
    assert len(program.query("SELECT 1 FROM run WHERE subject = 'daily' AND outcome = 'ok'")) == 1
    assert not program.query("SELECT 1 FROM run WHERE subject = 'monthly' AND outcome = 'ok'")
