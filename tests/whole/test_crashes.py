"""Crowds, damage, full disks and sudden deaths, in the small; tests/campaigns has the same in the large."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from campaigns import disks
from campaigns.burst import burst
from campaigns.flips import flips
from campaigns.kills import kills
from campaigns.pieces import write
from program import COMMAND, Program, archive, until
from standins import Mailbox, Sink

from agent.adapters import ledger
from agent.adapters.ledger import runs
from agent.adapters.ledger.catalogue import Key
from agent.adapters.shelf import look
from agent.jobs.intake import survey
from agent.jobs.intake.survey import Place


def test_a_checksum_file_that_came_while_its_folder_was_listed_is_seen(tmp_path: Path, monkeypatch) -> None:
    path = archive(tmp_path / "daily", "a.snapshot")
    listing = look.listing

    def half(root: str, folder: str) -> look.Listing:
        whole = listing(root, folder)
        return look.Listing({one for one in whole.files if one[0] == path.name}, whole.folders)

    monkeypatch.setattr(look, "listing", half)
    found = survey.survey(ledger.blank(), Place("primary", str(tmp_path)), re.compile(r".*\.snapshot"))
    assert {key for key, _ in found.changed} == {
        Key("primary", "daily", "a.snapshot"),
        Key("primary", "daily", "a.snapshot.sha256"),
    }


@pytest.mark.parametrize("promise", [True, False], ids=["with checksums", "without checksums"])
def test_a_burst_is_judged_once_each(program: Program, *, promise: bool) -> None:
    burst(program, 500, promise=promise, within=20)


def test_a_file_that_is_appended_to_again_and_again_gets_one_verdict_at_its_end(program: Program) -> None:
    program.write(settle="600ms")
    with program.agent():
        seen = write(program, "appended.snapshot", 4, 0.25, keep_open=False)
    assert seen.verdicts == ["good"]
    assert seen.waited >= 0.6


def test_a_flipped_byte_is_in_the_outbox_within_two_seconds_of_coming_to_rest(program: Program) -> None:
    program.write(targets='{terminal: {url: "console://"}}', secondary=False)
    with program.agent():
        seen = flips(program, 6, settle=0.2, seed=1)
    assert seen.told == 6
    assert seen.slowest <= 2


def test_sudden_deaths_lose_nothing_and_leave_nothing_half_done(program: Program, smtp_server: Mailbox) -> None:
    assert not kills(program, smtp_server, 3, seed=5).lost_slots


def test_a_full_disk_under_the_ledger_loses_nothing(program: Program, http_sink: Sink) -> None:
    disks.full_state(program, http_sink, 3)


def test_a_backup_that_died_without_the_agent_is_told_within_a_scan(program: Program) -> None:
    script = program.home / "slow.sh"
    script.write_text("#!/bin/sh\ntouch started\nexec tail -f /dev/null\n")
    script.chmod(0o755)
    program.write(engine=f'{{kind: command, argv: ["{script}"]}}', scan_every="1s")
    with program.agent():
        backup = subprocess.Popen(
            [*COMMAND, "--config", str(program.config), "backup", "manual"], cwd=program.home, process_group=0
        )
        until((program.home / "started").exists)
        os.killpg(backup.pid, signal.SIGKILL)
        backup.wait()
        until(lambda: ("backup_failed", "manual") in program.open_incidents())


def test_a_backup_that_cannot_even_begin_is_told(program: Program) -> None:
    with program.agent():
        program.config.write_text(program.config.read_text().replace("0 2 * * *", "* * * * * *"))
    with program.agent():
        program.config.write_text(program.config.read_text() + "locatoins: {}\n")
        until(lambda: "exit code 65" in program.open_incidents().get(("backup_missed", "daily"), ""))


def test_a_slot_that_was_taken_by_a_life_that_died_then_is_run_by_the_next(program: Program) -> None:
    slot = time.time() // 86400 * 86400
    with program.agent():
        pass
    db = ledger.connect(str(program.state))
    with ledger.writing(db):
        runs.take_slot(db, "backup:daily", slot)
    db.close()
    program.write(
        engine='{kind: command, argv: ["true"]}',
        tiers='{daily: {cron: "0 0 * * *", keep: 30d}}',
        more="catch_up: 25h\n",
    )
    with program.agent():
        until(lambda: program.query("SELECT 1 FROM run WHERE slot = ?", slot))
    with program.agent():
        pass
    assert len(program.query("SELECT 1 FROM run WHERE slot = ?", slot)) == 1
