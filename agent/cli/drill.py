"""`snapward drill`: rehearse the restore of a backup, collection by collection."""

import contextlib
import logging
import math
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from agent.adapters import locks, logs
from agent.adapters.ledger import incidents, runs, writing
from agent.cli import parts, text
from agent.cli.arrived import arrived
from agent.cli.drill_choice import Wanted, chosen, order_of, stage_of
from agent.cli.drilled import EXIT, Answer, show, shown, unknown, words
from agent.errors import AgentError, BadUsage
from agent.jobs.drill import standing
from agent.jobs.drill.rehearse import Stopped
from agent.jobs.drill.run import drill
from agent.rules.alert import plain
from agent.rules.drilling import AFTER, DUE, FAILED, FULL, INCONCLUSIVE, LIGHT, PASSED
from agent.rules.subjects import Subject
from agent.settings import Settings, secrets_of
from agent.settings.parts import telling
from agent.settings.units import duration

log = logging.getLogger(__name__)

# What a drill that the daemon asked for comes after.
_NICE = 10
_OUTCOMES = {PASSED: "ok", FAILED: "failed", INCONCLUSIVE: "incomplete"}


@click.command("drill")
@click.argument("backup", required=False)
@click.option("--collection", "only", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
@click.option("--full/--light", default=True, help="Read every point, which is the default, or a sample.")
@click.option("--budget", metavar="SPAN", help="Begin nothing that would not be over by then, such as 10m.")
@click.option("--engine", type=click.Choice(["edge", "server"]), help="Where; else drills.url, if there is one.")
@click.option("--after", is_flag=True, hidden=True, help="What a backup has just made.")
@click.option("--due", is_flag=True, hidden=True, help="Whatever was not drilled for longest.")
@click.option("--overdue", is_flag=True, hidden=True, help="Drill nothing; say what should have been.")
@click.option("--slot", type=float, hidden=True, help="The slot it was scheduled for, epoch seconds.")
@parts.JSON
@click.pass_context
def drill_(
    ctx: click.Context,
    backup: str | None,
    only: tuple[str, ...],
    budget: str | None,
    engine: str | None,
    slot: float | None,
    *,
    full: bool,
    after: bool,
    due: bool,
    overdue: bool,
    json_: bool,
) -> int:
    """Rehearse the restore of BACKUP (an id, a path, latest, latest-good, oldest, last-failed; else the latest).

    Each collection is unpacked into a scratch folder, opened by a real engine, counted, asked, and compared with what
    was recorded when it was backed up. The guarded server is not touched. Exit code 2 if one would not restore, 3 if
    that could not be told.
    """
    settings = parts.configuration(ctx).settings
    if after:
        wanted = Wanted(what=AFTER, scheduled=True, depth=LIGHT, budget=settings.drills.after_backup, engine=engine)
    elif due:
        wanted = Wanted(what=DUE, scheduled=True, depth=FULL, budget=settings.drills.budget, engine=engine)
    else:
        depth = FULL if full else LIGHT
        wanted = Wanted(what=backup or "latest", depth=depth, budget=_seconds(budget), only=only, engine=engine)
    parts.own(settings)
    if overdue:
        with parts.writer(settings) as db:
            _stand(db, settings)
        return 0
    if wanted.scheduled:
        logs.begin(settings.logs.format, verbose=ctx.obj["verbose"])
        with contextlib.suppress(OSError):  # the unit forbids it, and has a niceness of its own
            os.nice(_NICE)
    logs.hide(secrets_of(settings))
    with (
        locks.held(settings.state_dir, "drill"),
        parts.writer(settings, create=True) as db,
        parts.finishing() as stopping,
    ):
        answer = _recorded(db, settings, wanted, slot, stopping)
    if answer is None:
        stopped = "stopped: what was drilled so far is written down"
        (log.info if wanted.scheduled else text.note)(stopped)
        return 130
    if json_:
        text.as_json(answer)
    elif wanted.scheduled:
        log.log(logging.WARNING if answer["state"] == FAILED else logging.INFO, "drill: %s", words(answer))
    else:
        show(answer)
    return EXIT[answer["state"]] if answer["collections"] or not wanted.scheduled else 0


def _seconds(budget: str | None) -> float:
    unit = duration()
    try:
        return unit.read(budget) if budget else math.inf
    except ValueError as error:
        raise BadUsage(f"--budget {budget!r} is {unit.noun} that cannot be read", str(error) or unit.hint) from error


def _recorded(
    db: sqlite3.Connection, settings: Settings, wanted: Wanted, slot: float | None, stopping: Callable[[], bool]
) -> dict[str, Any] | None:
    """Drill what is wanted, with a row in the ledger about the run; None if it was stopped."""
    with writing(db):
        for dead in (one for one in runs.orphans(db) if one.job == "drill"):  # where no agent closes them
            runs.end(db, dead.id, "interrupted", parts.now(), why=f"its process {dead.pid} died before it was done")
        run = runs.begin(db, "drill", wanted.what, slot, parts.now())

    def end(outcome: str, why: str, code: int, figures: dict[str, Any] | None = None) -> None:
        with writing(db):
            runs.end(db, run, outcome, parts.now(), why=why, exit_code=code, figures=figures)

    try:
        answer = _drilled(db, settings, wanted, stopping)
    except Stopped:
        end("interrupted", "it was asked to leave off", 130)
        return None
    except AgentError as error:
        end("failed", error.message, error.exit_code)
        raise
    state = answer["state"]
    figures = {name: answer[name] for name in ("seconds", "raw_bytes", "peak_bytes")}
    end(_OUTCOMES[state] if answer["collections"] else "ok", words(answer), EXIT[state], figures)
    _stand(db, settings)
    return answer


def _stand(db: sqlite3.Connection, settings: Settings) -> None:
    """Note which collections should have been drilled by now."""
    told, now = telling(settings), parts.now()
    found = standing.findings(db, standing.view(db, list(settings.locations)), settings.drills.every, now)
    with writing(db):
        incidents.observe(db, found, now, told.policy, told.severities)


def _drilled(
    db: sqlite3.Connection, settings: Settings, wanted: Wanted, stopping: Callable[[], bool]
) -> dict[str, Any]:
    began = time.monotonic()
    arrived(db, settings, stopping, loose=True)
    subjects, backup = chosen(db, settings, wanted)
    answer = Answer(backup, wanted.depth)
    try:
        stage = stage_of(settings, wanted.engine, stopping, answer.notes)
    except AgentError as error:
        why = f"{error.message}; {error.hint}" if error.hint else error.message
        return answer.told([unknown(one.collection, one.backup, why) for one in subjects], time.monotonic() - began)
    told, line = telling(settings), _Line(subjects)
    steps = drill(
        db,
        subjects,
        order_of(db, settings, stage, wanted.depth, stopping, line.add),
        deadline=settings.drills.deadline,
        until=began + wanted.budget,
        policy=told.policy,
        severities=told.severities,
    )
    rows = []
    try:
        for subject, done in steps:
            line.next()
            if done is None:
                answer.left.append(subject.collection)
            else:
                rows.append(shown(done))
                answer.seen(done)
    finally:
        line.end()
    return answer.told(rows, time.monotonic() - began)


class _Line:
    """How far the subject in hand is, on a terminal."""

    def __init__(self, subjects: Sequence[Subject]) -> None:
        self._subjects = subjects
        self._number = -1
        self._line = text.Progress("drill", 0)
        self.next()

    def next(self) -> None:
        """The next subject is in hand."""
        self._line.end()
        self._number += 1
        if self._number < len(self._subjects):
            one = self._subjects[self._number]
            what = f"drill {self._number + 1} of {len(self._subjects)}  {plain(one.collection, 30)}"
            self._line = text.Progress(what, one.size)

    def add(self, more: int) -> None:
        """So many bytes more of it are read."""
        self._line.add(more)

    def end(self) -> None:
        """Take the line away."""
        self._line.end()
