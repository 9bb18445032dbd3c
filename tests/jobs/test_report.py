import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sample_week
from sample_week import BERLIN, DAY, HOUR, LOCATIONS, NOW, WEEK

from agent.adapters import ledger
from agent.adapters.ledger import catalogue, drills, incidents, outbox, runs, writing
from agent.adapters.ledger.catalogue import Folder, Key
from agent.adapters.ledger.drills import Drill
from agent.adapters.ledger.runs import Sample
from agent.errors import CannotWrite, TryLater
from agent.jobs.report import Rendered, enqueue, folder, message_for, render
from agent.rules.archive import Reading, Signature, State, Verdict
from agent.rules.finding import Finding, Level
from agent.rules.incident import Policy
from agent.rules.manifest import encode


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = ledger.connect(str(tmp_path), create=True)
    yield connection
    connection.close()


def fill(db: sqlite3.Connection) -> None:
    """One backup in both locations, one copy of it damaged, and the week around it."""
    at = WEEK.end - DAY + 2 * HOUR
    folders, archives = sample_week.backup(at, "daily", ("alpha", "beta"))
    with writing(db):
        for one in folders:
            data = encode(one.manifest).decode()
            catalogue.record_folder(
                db, Folder(one.location, one.folder, one.tier, one.backup, "qdrant", at, at + 60, 0, data)
            )
        for number, one in enumerate(archives):
            bad = (one.location, one.name) == ("secondary", "beta.snapshot.gz")
            verdict = (
                Verdict(State.CORRUPT, "arrived", "SHA-256 differs") if bad else Verdict(State.GOOD, "intact", "=")
            )
            seen = Signature(number, one.size, int(at * 1e9), 0)
            reading = Reading(one.size, one.name[0] * 64, seconds=0.5)
            catalogue.record(db, Key(one.location, one.folder, one.name), seen, reading, verdict, at + 90)
        finding = Finding("archive_bad", f"secondary:{folders[0].folder}/beta.snapshot.gz", Level.CRITICAL, "corrupt")
        incidents.observe(db, [finding], at + 90, Policy(), {"ops": Level.WARNING})
        runs.note(db, "backup", "weekly", at, "missed", "the machine was off", at)
        for name, used in (("primary", 61.0), ("secondary", 12.0)):
            for step in range(3):
                runs.add_sample(db, Sample(name, at + step, 1000, 610, 390, used + step, None, "ok", ""))
        message = outbox.claim(db, at + HOUR)
        assert message is not None
        outbox.delivered(db, message.id, at + HOUR)


def rendered(db: sqlite3.Connection, state_dir: Path, **more) -> Rendered:
    values = {
        "now": NOW,
        "zone": BERLIN,
        "host": "db1",
        "locations": LOCATIONS,
        "tiers": ("daily", "weekly", "monthly"),
        "targets": ("ops",),
        "next_runs": {"daily": NOW + DAY},
        "sample_every": 300.0,
        **more,
    }
    return render(db, WEEK, folder(str(state_dir)), **values)


def test_a_report_is_drawn_from_the_ledger_and_written_three_times(db: sqlite3.Connection, tmp_path: Path):
    fill(db)
    done = rendered(db, tmp_path)
    assert done.report.subject.startswith("[CRIT] db1 - 1/2 collections proved intact, 1 problem open")
    assert sorted(os.listdir(tmp_path / "reports")) == ["2026-W47.html", "2026-W47.json", "2026-W47.txt"]
    data = json.loads(Path(done.json_path).read_bytes())
    assert data["schema_version"] == 1
    assert data["json_path"] == done.json_path
    states = {one["name"]: (one["state"], one["locations"]) for one in data["scores"]["collections"]}
    assert states == {
        "alpha": ("good", {"primary": "good", "secondary": "good"}),
        "beta": ("bad", {"primary": "good", "secondary": "corrupt"}),
    }
    assert data["evidence"]["verdicts"] == {"good": 5, "corrupt": 1}
    assert (data["evidence"]["read_archives"], data["evidence"]["read_seconds"]) == (6, 3.0)
    assert [(one["location"], one["used_percent"], one["samples"]) for one in data["storage"]] == [
        ("primary", 63.0, 3),
        ("secondary", 14.0, 3),
    ]
    assert (data["alerts"]["fired"], data["alerts"]["sent"], data["alerts"]["delivered"]) == (1, 1, 1)
    assert {"job": "backup weekly", "outcomes": {"missed": 1}, "seconds": 0} in data["runs"]
    assert "1 of 2 collections is not proved." in Path(done.html_path).read_text("utf-8")
    assert "1 of 2 collections is not proved." in Path(done.text_path).read_text("utf-8")
    assert os.stat(done.json_path).st_mode & 0o777 == 0o640


def drill(name: str, state: str, level: str) -> Drill:
    return Drill(
        at=WEEK.end - HOUR,
        seconds=12.0,
        backup="20261122T010000Z",
        tier="daily",
        collection=name,
        location="primary",
        depth="full",
        state=state,
        level=level,
        why="4,992 of 5,000 points",
        engine="qdrant-edge-py 0.9.0",
        raw_bytes=1 << 30,
        archives={name[0] * 64: f"{name}.snapshot.gz"},
    )


def test_what_drills_have_shown_is_laid_over_what_was_read(db: sqlite3.Connection, tmp_path: Path):
    fill(db)
    with writing(db):
        drills.record(db, drill("alpha", "passed", "faithful"))
    report = rendered(db, tmp_path).report
    scores = {one.name: (one.state, one.level) for one in report.scores.collections}
    assert scores["alpha"] == ("good", "faithful")
    assert report.evidence.levels["faithful"] == 2
    assert [one.why for one in report.unchecked if one.what == "restore"] == ["never rehearsed for beta"]
    with writing(db):
        drills.record(db, drill("alpha", "failed", "well-formed"))
    report = rendered(db, tmp_path).report
    alpha = next(one for one in report.scores.collections if one.name == "alpha")
    assert alpha.state == "bad"
    assert "4,992 of 5,000 points" in alpha.why
    assert (report.evidence.rehearsals.passed, report.evidence.rehearsals.failed) == (1, 1)


def test_a_reader_is_enough_to_render(db: sqlite3.Connection, tmp_path: Path):
    fill(db)
    reader = ledger.connect_reader(str(tmp_path))
    try:
        assert rendered(reader, tmp_path).report.collections == 2
    finally:
        reader.close()


def test_an_empty_ledger_renders(db: sqlite3.Connection, tmp_path: Path):
    done = rendered(db, tmp_path, targets=())
    assert done.report.level is Level.WARNING
    assert "No backup is known yet." in Path(done.text_path).read_text("utf-8")


def test_rendering_again_replaces_the_files_and_leaves_nothing_beside_them(db: sqlite3.Connection, tmp_path: Path):
    first = rendered(db, tmp_path)
    fill(db)
    again = rendered(db, tmp_path)
    assert first.html_path == again.html_path
    assert again.report.collections == 2
    assert len(os.listdir(tmp_path / "reports")) == 3


def test_the_newest_sample_counts_even_when_the_week_has_none(db: sqlite3.Connection, tmp_path: Path):
    with writing(db):
        runs.add_sample(db, Sample("primary", WEEK.start - DAY, 100, 50, 50, 50.0, None, "ok", ""))
    primary = rendered(db, tmp_path).report.storage[0]
    assert (primary.used_percent, primary.samples, primary.trend) == (50.0, 0, None)


def test_incidents_and_messages_are_counted_once(db: sqlite3.Connection, tmp_path: Path):
    fill(db)
    with writing(db):
        outbox.enqueue(db, "ops", "test", "x", WEEK.end - HOUR)
    report = rendered(db, tmp_path).report
    assert len(report.needs) == len(report.alerts.incidents) == len(report.alerts.undelivered) == 1


def test_a_place_that_cannot_be_written_is_told_and_not_made(db: sqlite3.Connection, tmp_path: Path):
    with pytest.raises(CannotWrite):
        rendered(db, tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_the_message_carries_what_was_rendered(db: sqlite3.Connection, tmp_path: Path):
    fill(db)
    done = rendered(db, tmp_path)
    message = message_for(WEEK.name, folder(str(tmp_path)))
    assert message.title == done.report.subject
    assert message.level is Level.CRITICAL
    assert message.html == Path(done.html_path).read_text("utf-8")
    assert message.text == Path(done.text_path).read_text("utf-8")
    assert message.attachments == (done.text_path, done.json_path)
    assert message.chat.startswith("1 of 2 collections is not proved.")
    assert "CRITICAL archive damaged" in message.chat
    assert "Not checked: restore" in message.chat


def test_a_report_for_chats_is_short_and_calls_nobody(db: sqlite3.Connection, tmp_path: Path):
    with writing(db):
        found = [
            Finding("archive_bad", f"primary:daily/<!channel> @here {number}" + "x" * 300, Level.CRITICAL, "`why`")
            for number in range(40)
        ]
        incidents.observe(db, found, NOW - DAY, Policy(), {})
    rendered(db, tmp_path, host="<!channel>")
    message = message_for(WEEK.name, folder(str(tmp_path)))
    assert len(message.chat) <= 900
    assert "+35 more: snapward alert list" in message.chat
    assert not set("<>@`") & set(message.chat + message.title)


def test_a_report_that_was_not_rendered_is_tried_again_later(tmp_path: Path):
    with pytest.raises(TryLater) as caught:
        message_for("2026-W47", folder(str(tmp_path)))
    assert "snapward report render --week 2026-W47" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"subject": "x"}', b"\xff"])
def test_a_damaged_report_is_tried_again_later(db: sqlite3.Connection, tmp_path: Path, content: bytes):
    Path(rendered(db, tmp_path).json_path).write_bytes(content)
    with pytest.raises(TryLater):
        message_for(WEEK.name, folder(str(tmp_path)))


def test_a_week_cannot_lead_out_of_the_folder(db: sqlite3.Connection, tmp_path: Path):
    rendered(db, tmp_path)
    assert message_for("../../reports/2026-W47", folder(str(tmp_path))).title.startswith("[WARN]")


def test_each_target_gets_a_weeks_report_once_ever(db: sqlite3.Connection, tmp_path: Path):
    assert enqueue(db, "2026-W47", ["ops", "boss"], NOW) == ["ops", "boss"]
    assert enqueue(db, "2026-W47", ["ops", "boss", "new"], NOW + 1) == ["new"]
    with writing(db):
        message = outbox.claim(db, NOW)
        assert message is not None
        outbox.delivered(db, message.id, NOW)
    assert enqueue(db, "2026-W47", ["ops"], NOW + DAY) == []
    assert enqueue(db, "2026-W48", ["ops"], NOW + 7 * DAY) == ["ops"]
    assert [(one.target, one.kind, one.body) for one in outbox.between(db, 0, NOW + 30 * DAY)] == [
        ("ops", "report", "2026-W47"),
        ("boss", "report", "2026-W47"),
        ("new", "report", "2026-W47"),
        ("ops", "report", "2026-W48"),
    ]


def test_a_report_is_queued_for_all_targets_or_for_none(db: sqlite3.Connection):
    def targets() -> Iterator[str]:
        yield "ops"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        enqueue(db, "2026-W47", targets(), NOW)
    assert outbox.waiting(db) == []
