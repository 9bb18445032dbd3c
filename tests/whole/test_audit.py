"""The audit trail, as somebody reads it who wants to know what became of a backup."""

import csv
import io
import time

import pytest
from program import Program

from agent.adapters import ledger
from agent.adapters.ledger import deeds, writing


@pytest.fixture
def trail(program: Program) -> Program:
    """An installation in which something was done, long ago and now."""
    program.write()
    db = ledger.connect(str(program.state), create=True)
    now = time.time()
    with writing(db):
        deeds.note(db, "keep", "", "daily/A", "=1+1", "ann", now - 30 * 86_400)
        deeds.note(db, "expire", "primary", "daily/B", "31 days old", "schedule", now - 60, "2 files, 10 bytes")
        deeds.begin(db, "repair", "secondary", "daily/C\x1b[2J", "missing there", "root", now - 30)
    db.close()
    return program


def test_who_did_what_and_why_is_shown_with_what_came_of_it(trail: Program) -> None:
    shown = trail.run("audit").stdout
    assert "schedule  expire  primary:daily/B" in shown
    assert "31 days old" in shown
    assert "2 files, 10 bytes" in shown
    assert "not ended" in shown
    assert "\x1b" not in shown
    assert "daily/A" not in shown, "that was a month ago"


def test_the_whole_trail_and_a_part_of_it(trail: Program) -> None:
    every = trail.json("audit", "--since", "60")["deeds"]
    assert [(one["kind"], one["who"], one["location"]) for one in every] == [
        ("keep", "ann", None),
        ("expire", "schedule", "primary"),
        ("repair", "root", "secondary"),
    ]
    assert [one["ended"] is None for one in every] == [False, False, True]
    assert [one["path"] for one in trail.json("audit", "--kind", "expire")["deeds"]] == ["daily/B"]
    assert [one["kind"] for one in trail.json("audit", "--since", "60", "--path", "daily/A")["deeds"]] == ["keep"]
    assert "--since looks further back" in trail.run("audit", "--path", "nothing").stdout


def test_a_spreadsheet_calculates_nothing(trail: Program) -> None:
    rows = list(csv.DictReader(io.StringIO(trail.run("audit", "--since", "60", "--csv").stdout)))
    assert [one["why"] for one in rows] == ["'=1+1", "31 days old", "missing there"]
