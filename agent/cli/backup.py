"""`snapward backup`."""

import logging
import sqlite3
from typing import Any

import click
import msgspec
from msgspec import Struct

from agent.adapters import locks, logs, pages
from agent.adapters.ledger import incidents, runs, writing
from agent.adapters.shelf import look
from agent.cli import parts, text
from agent.cli.board import Board
from agent.errors import AgentError, BadUsage, TryLater
from agent.jobs.backup import command, take
from agent.jobs.backup.book import Book, close_orphans
from agent.jobs.intake.verdicts import Telling
from agent.rules.finding import Finding, Level
from agent.rules.manifest import bare
from agent.rules.names import exactly
from agent.rules.words import count, size, span
from agent.settings import Settings, secrets_of
from agent.settings.parts import order, telling
from agent.settings.shape import OWN_TIERS

log = logging.getLogger(__name__)


@click.command("backup")
@click.argument("tier", default="manual")
@click.option("--collection", "only", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
@click.option("--slot", type=float, hidden=True, help="The slot it was scheduled for, epoch seconds.")
@parts.JSON
@click.pass_context
def backup_(ctx: click.Context, tier: str, only: tuple[str, ...], slot: float | None, *, json_: bool) -> int:
    """Make a backup now, of TIER (daily, weekly, monthly as configured, or manual)."""
    settings = parts.configuration(ctx).settings
    known = [*settings.tiers, *OWN_TIERS]
    if tier not in known:
        raise BadUsage(f"there is no tier {tier!r}", f"Known: {', '.join(known)}.")
    if only and settings.engine.kind == "command":
        raise BadUsage("engine.kind: command makes whole backups only", "Leave --collection out.")
    parts.own(settings)
    logs.begin(settings.logs.format, verbose=ctx.obj["verbose"])
    logs.hide(secrets_of(settings))
    with (
        locks.held(settings.state_dir, "backup"),
        parts.writer(settings, create=True) as db,
        parts.finishing() as stopping,
    ):
        with writing(db):
            for dead in (one for one in runs.orphans(db) if one.job == "backup"):  # where no agent closes them
                runs.end(db, dead.id, "interrupted", parts.now(), why=f"its process {dead.pid} died before it was done")
            close_orphans(db, parts.now())
            run = runs.begin(db, "backup", tier, slot, parts.now())
        try:
            if settings.engine.kind == "command":
                return _command(db, run, settings, tier, stopping, json_=json_, scheduled=slot is not None)
            return _take(db, run, settings, tier, only, stopping, json_=json_, scheduled=slot is not None)
        except AgentError as error:
            _failed(db, run, tier, error, telling(settings), stopped=stopping())
            if stopping():
                return 130
            raise


def _take(
    db: sqlite3.Connection,
    run: int,
    settings: Settings,
    tier: str,
    only: tuple[str, ...],
    stopping: Any,
    *,
    json_: bool,
    scheduled: bool,
) -> int:
    wanted = order(settings, tier, tuple(exactly(one) for one in only))
    book = parts.book(db, settings, f"{tier} backup", parts.who(scheduled=scheduled))
    for folder in take.clean_leftovers(wanted.locations):
        text.note(f"removed what a backup that died had left: {folder}")
    tidy = parts.tidying(settings)
    for words in tidy():
        text.note(words)
    seen = _look(db, settings, run).findings
    board = Board()
    try:
        engine = parts.engine(settings, wanted.include)
        taken = take.take(engine, wanted, parts.now, pages.restore_notes, book=book, stopping=stopping, progress=board)
    finally:
        board.end()
        for words in tidy():
            text.note(words)
        left = _look(db, settings, run, seen).left
    _note_taken(db, run, taken, telling(settings), partial=bool(only))
    answer = {**_answer(taken), "left_on_server": left}
    if json_:
        text.as_json(answer)
    elif scheduled:
        log.info("backup %s of %s %s: %s", taken.id, tier, taken.state, _words(taken, answer))
    else:
        _print(taken, answer)
    code = {"good": 0, "degraded": 1}.get(taken.state, 2)
    return max(code, 1) if left else code


class _Seen(Struct, frozen=True):
    """One look at the server: what it found, and what backups of ours have left there, in words."""

    findings: frozenset[Finding] = frozenset()
    left: tuple[str, ...] = ()


def _look(db: sqlite3.Connection, settings: Settings, run: int, known: frozenset[Finding] = frozenset()) -> _Seen:
    """Look at the server, note how it is, and say what is critical and was not `known`."""
    if settings.engine.kind != "qdrant":
        return _Seen()
    from agent.cli import health  # noqa: PLC0415 - HTTP is dear to load

    view, findings = health.noted(db, settings, own_run=run)
    for one in findings:
        if one.level is Level.CRITICAL and one not in known:
            text.note(f"{one.rule}, {one.subject}: {one.why}")
    left = tuple(f"{one.name}: {it.name}" for one in view.collections for it in one.snapshots if it.ours)
    return _Seen(frozenset(findings), left)


def _note_taken(db: sqlite3.Connection, run: int, taken: take.Taken, told: Telling, *, partial: bool) -> None:
    """The run's row and what follows from it, in one transaction."""
    tier, written = taken.tier, {one.name for one in taken.manifest.collections}
    missing = ", ".join(f"{one.name} ({one.why})" for one in taken.manifest.failed)
    if taken.manifest.failed:
        broken = {one.name for one in taken.manifest.failed}
        share = f"{len(written - broken)} of {len(written | broken)} collections"
        why = f"backup {taken.id} is incomplete, {share}: {missing}"
    else:
        why = f"backup {taken.id}: {count(len(written), 'collection')} written"
    bad = Level.CRITICAL if taken.manifest.failed else Level.OK
    lost = "; ".join(f"{name}: {reason}" for name, reason in taken.failed_locations.items())
    places = count(len(taken.failed_locations), "location")
    findings = [
        Finding("backup_failed", tier, bad, why, f"Mend that, then `snapward backup {tier}`."),
        Finding(
            "backup_degraded",
            tier,
            Level.WARNING if lost else Level.OK,
            f"backup {taken.id} is missing in {places}: {lost}" if lost else why,
            "Mend the location; the next backup is written there again.",
        ),
    ]
    if not bad and not partial:
        findings.append(Finding("backup_missed", tier, Level.OK, why))
    outcome = "incomplete" if bad else "ok"
    with writing(db):
        runs.end(db, run, outcome, parts.now(), why=why, exit_code=0, figures=_figures(taken))
        incidents.observe(db, findings, parts.now(), told.policy, told.severities)


def _failed(db: sqlite3.Connection, run: int, tier: str, error: AgentError, told: Telling, *, stopped: bool) -> None:
    finding = Finding("backup_failed", tier, Level.CRITICAL, error.message, error.hint)
    with writing(db):
        outcome = "interrupted" if stopped else "failed"
        runs.end(db, run, outcome, parts.now(), why=error.message, exit_code=error.exit_code)
        incidents.observe(db, [finding], parts.now(), told.policy, told.severities)


def _figures(taken: take.Taken) -> dict[str, Any]:
    entries = taken.manifest.collections
    return {
        "id": taken.id,
        "state": taken.state,
        "collections": len({one.name for one in entries}),
        "failed": [one.name for one in taken.manifest.failed],
        "raw_bytes": sum(one.raw_size or 0 for one in entries),
        "stored_bytes": sum(one.size for one in entries),
        "seconds": round(taken.seconds, 3),
        "locations": list(taken.locations),
    }


def _answer(taken: take.Taken) -> dict[str, Any]:
    return {
        **_figures(taken),
        "tier": taken.tier,
        "collections": [msgspec.to_builtins(one) for one in bare(taken.manifest).collections],
        "failed": [msgspec.to_builtins(one) for one in taken.manifest.failed],
        "failed_locations": taken.failed_locations,
        "notes": taken.manifest.notes,
    }


def _print(taken: take.Taken, answer: dict[str, Any]) -> None:
    text.say(f"backup {text.bold(taken.id)} {text.state(taken.state)}: {_words(taken, answer)}")
    for one in taken.manifest.failed:
        text.say(f"  {text.state('critical')} {one.name}: {one.why}")
    for note in taken.manifest.notes:
        text.say(f"  {text.state('warning')} {note}")
    for name in answer["left_on_server"]:
        text.say(f"  {text.state('warning')} a snapshot stays on the server: {name}")
    for name, why in taken.failed_locations.items():
        text.say(f"  {text.state('warning')} location {name}: {why}")
    text.say(text.dim(f"The agent proves it as it arrives; without one: snapward verify {taken.id}"))


def _words(taken: take.Taken, answer: dict[str, Any]) -> str:
    raw, stored = answer["raw_bytes"], answer["stored_bytes"]
    saved = f", {1 - stored / raw:.0%} saved" if raw else ""
    number = count(len({one["name"] for one in answer["collections"]}), "collection")
    return f"{number}, {size(stored)} in {span(taken.seconds)}{saved}; written to {' and '.join(taken.locations)}"


def _command(
    db: sqlite3.Connection, run: int, settings: Settings, tier: str, stopping: Any, *, json_: bool, scheduled: bool
) -> int:
    chosen = settings.engine
    book = Book(db, parts.who(scheduled=scheduled), f"{tier} backup by {chosen.argv[0]}")
    for name in settings.locations:
        book.begin(name, "", parts.now())  # what it will write, and where, only the program knows
    done = command.trigger(
        chosen.argv,
        {name: one.reveal() for name, one in chosen.env.items()},
        tier,
        chosen.deadline,
        {name: one.path for name, one in settings.locations.items()},
        look.pattern(settings.watch.patterns),
        stopping=stopping,
    )
    book.end({}, done.why, None, parts.now())
    output = logs.masked(done.output, secrets_of(settings))
    told = telling(settings)
    hint = f"The end of what it printed: {output.strip()[-300:]!r}" if output.strip() else "It printed nothing."
    findings = [Finding("backup_failed", tier, Level.OK if done.ok else Level.CRITICAL, done.why, hint)]
    if done.ok:
        findings.append(Finding("backup_missed", tier, Level.OK, done.why))
    figures = {"arrived": done.arrived, "seconds": round(done.seconds, 3)}
    with writing(db):
        outcome = "ok" if done.ok else "failed"
        runs.end(db, run, outcome, parts.now(), why=done.why, exit_code=done.exit_code, figures=figures, output=output)
        incidents.observe(db, findings, parts.now(), told.policy, told.severities)
    if json_:
        text.as_json({"id": None, "tier": tier, "state": "good" if done.ok else "bad", "why": done.why, **figures})
    elif scheduled:
        log.log(logging.INFO if done.ok else logging.ERROR, "backup of %s: %s", tier, done.why)
    else:
        text.say(f"{text.state('ok' if done.ok else 'critical')} {done.why}, after {span(done.seconds)}")
        for name, number in done.arrived.items():
            text.say(f"  {name}  {size(number)}")
    if stopping():
        raise TryLater("the backup was stopped before its program had ended")
    return 0 if done.ok else 2
