"""`snapward expire`: say which backups stay and which go, each with its reason, and remove the latter."""

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import click

from agent.adapters import locks, logs
from agent.adapters.ledger import incidents, runs, writing
from agent.cli import expirable, parts, text
from agent.cli.arrived import arrived
from agent.cli.foresight import foretell
from agent.errors import AgentError, BadUsage
from agent.jobs.expire import carry
from agent.jobs.expire.carry import FAILED, KEPT, REMOVED, Gone, Shelf, Work
from agent.rules import retention
from agent.rules.finding import Finding, Level, ok
from agent.rules.keeping import GOING, Reason
from agent.rules.retention import Decision, Plan
from agent.rules.words import count, size
from agent.settings import Settings, secrets_of
from agent.settings.parts import telling

log = logging.getLogger(__name__)

JOB = "cleanup"
# Whoever holds one of these reads or writes backups: what they use must not go meanwhile.
_BESIDE = ("backup", "drill", "repair")


@click.command("expire")
@click.option("--yes", is_flag=True, help="Remove what the plan lets go; without it nothing is changed.")
@click.option("--force", is_flag=True, help="Also more of a location's backups at once than cleanup.share.")
@click.option("--location", metavar="NAME", help="Only there; the others are still counted.")
@click.option("--simulate", "span", metavar="SPAN", help="What will be kept when, and the disk it needs, such as 3y.")
@click.option("--slot", type=float, hidden=True, help="The slot it was scheduled for, epoch seconds.")
@parts.JSON
@click.pass_context
def expire_(
    ctx: click.Context,
    location: str | None,
    span: str | None,
    slot: float | None,
    *,
    yes: bool,
    force: bool,
    json_: bool,
) -> int:
    """Say which backups stay and which go, and why; --yes does it.

    Each location decides by its own retention. Exit code 2 if the cleanup is frozen, since something smells of
    trouble: then nothing is removed.
    """
    settings = parts.configuration(ctx).settings
    if location is not None and location not in settings.locations:
        raise BadUsage(f"there is no location {location!r}", f"Known: {', '.join(settings.locations)}.")
    if span is not None and (yes or force):
        raise BadUsage("--simulate removes nothing", "Leave --yes and --force out.")
    parts.own(settings)
    if span is not None:
        with parts.reader(settings) as db:
            return foretell(db, settings, span, location, json_=json_)
    if slot is not None:
        logs.begin(settings.logs.format, verbose=ctx.obj["verbose"])
    logs.hide(secrets_of(settings))
    with (
        _alone(settings) if yes else contextlib.nullcontext(),
        parts.writer(settings, create=True) as db,
        parts.finishing() as stopping,
    ):
        if yes:
            answer, code = _clean(db, settings, slot, location, stopping, force=force)
        else:
            plan = _plan(db, settings, force=force)
            work = Work(db, _shelves(settings), "", parts.now)
            left = list(carry.objections(work, [one for one in plan.expiring if location in {None, one.location}]))
            answer, code = _answer(plan, location, left, dry_run=True), 2 if plan.frozen else 0
    if json_:
        text.as_json(answer)
    elif slot is not None:
        log.log(logging.WARNING if code else logging.INFO, "cleanup: %s", _words(answer))
    else:
        _show(answer)
    return code


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold off whoever uses backups; a read-back that meets a backup which goes finds it gone, and that is all."""
    with contextlib.ExitStack() as stack:
        for name in ("expire", *_BESIDE):
            stack.enter_context(locks.held(settings.state_dir, name))
        yield


def _plan(db: sqlite3.Connection, settings: Settings, *, force: bool) -> Plan:
    unread = arrived(db, settings, loose=False)
    return expirable.plan(db, settings, parts.now(), unread, meant=force)


def _shelves(settings: Settings) -> dict[str, Shelf]:
    return {name: Shelf(name, one.path, one.mount) for name, one in settings.locations.items()}


def _clean(
    db: sqlite3.Connection,
    settings: Settings,
    slot: float | None,
    location: str | None,
    stopping: Callable[[], bool],
    *,
    force: bool,
) -> tuple[dict[str, Any], int]:
    """Plan, carry the plan out, and write down what came of it."""
    with writing(db):
        for dead in (one for one in runs.orphans(db) if one.job == JOB):  # where no agent closes them
            runs.end(db, dead.id, "interrupted", parts.now(), why=f"its process {dead.pid} died before it was done")
        run = runs.begin(db, JOB, "", slot, parts.now())
    try:
        plan = _plan(db, settings, force=force)
        work = Work(db, _shelves(settings), parts.who(scheduled=slot is not None), parts.now, stopping)
        done = []
        for one in _carried(work, plan, location):
            done.append(one)
            if slot is not None:
                _log(one)
        arrived(db, settings, loose=False)  # what has just gone is out of the ledger too
    except AgentError as error:
        with writing(db):
            runs.end(db, run, "failed", parts.now(), why=error.message, exit_code=error.exit_code)
        raise
    answer = _answer(plan, location, done, dry_run=False)
    failed = [one for one in done if one.error is not None]
    code = 130 if stopping() else failed[0].error.exit_code if failed and failed[0].error else 2 if plan.frozen else 0
    outcome = "interrupted" if stopping() else "failed" if failed else "incomplete" if plan.frozen else "ok"
    told = telling(settings)
    figures = {"freed_bytes": answer["freed_bytes"], "removed": answer["removed"]}
    with writing(db):
        runs.end(db, run, outcome, parts.now(), why=_words(answer), exit_code=code, figures=figures)
        tried = [] if stopping() or plan.frozen else [name for name in settings.locations if location in {None, name}]
        found = [retention.finding(plan), *_failures(plan, failed, tried)]
        incidents.observe(db, found, parts.now(), told.policy, told.severities)
    return answer, code


def _carried(work: Work, plan: Plan, location: str | None) -> Iterator[Gone]:
    """Finish what died, then do what the plan says, once for each backup."""
    going = {(one.location, "/".join(one.backup.key)): one for one in plan.expiring}
    settled = set()
    for one in carry.finish(work, going.keys(), frozen=bool(plan.frozen)):
        settled.add((one.location, one.path))
        yield one
    left = [one for key, one in going.items() if key not in settled and location in {None, one.location}]
    yield from carry.carry_out(work, left)


def _log(one: Gone) -> None:
    level = {REMOVED: logging.INFO, KEPT: logging.WARNING, FAILED: logging.ERROR}[one.outcome]
    log.log(level, "expire %s %s: %s%s", one.location, one.path, one.outcome, f": {one.why}" if one.why else "")


def _failures(plan: Plan, failed: Sequence[Gone], tried: Iterable[str]) -> Iterator[Finding]:
    """Where something could not be removed, and where that is over."""
    told = {}
    for one in failed:
        if one.error is not None and one.location not in told:
            also = sum(it.location == one.location for it in failed) - 1
            more = f"; {also:,} more could not either" if also else ""
            why = f"{one.path} could not be removed: {one.why}{more}"
            told[one.location] = Finding("cleanup_failed", one.location, Level.WARNING, why, one.error.hint)
    yield from told.values()
    away = {one.location for one in plan.decisions if one.rule is Reason.AWAY}
    yield from (
        ok("cleanup_failed", one, "what was too old could be removed") for one in tried if one not in told.keys() | away
    )


def _answer(plan: Plan, location: str | None, done: Sequence[Gone], *, dry_run: bool) -> dict[str, Any]:
    """The answer as JSON has it; `done` is what became of what was to go, or what speaks against its removal."""
    shown = [one for one in plan.decisions if location in {None, one.location}]
    left = {(one.location, one.path): one for one in done if one.outcome != REMOVED}
    going = [one for one in shown if one.rule in GOING and (one.location, "/".join(one.backup.key)) not in left]
    removed = [one for one in done if one.outcome == REMOVED]
    return {
        "dry_run": dry_run,
        "backups": [_decided(one) for one in shown],
        "frozen": [{"kind": one.kind, "why": one.why, "hint": one.hint} for one in plan.frozen],
        "forceable": plan.forceable,
        "expiring": len(going),
        "removed": len(removed),
        "freed_bytes": sum(one.backup.size for one in going) if dry_run else sum(one.size for one in removed),
        "left": [
            {
                "location": one.location,
                "backup": one.path,
                "outcome": one.outcome,
                "why": one.why,
                "hint": one.error.hint if one.error else "",
            }
            for one in left.values()
        ],
    }


def _decided(one: Decision) -> dict[str, Any]:
    return {
        "id": one.backup.id,
        "tier": one.backup.tier,
        "location": one.location,
        "action": one.action,
        "rule": str(one.rule),
        "because": one.because,
        "state": one.backup.state,
        "size": one.backup.size,
    }


def _words(answer: dict[str, Any]) -> str:
    if answer["frozen"]:
        return f"frozen, nothing is removed: {'; '.join(one['why'] for one in answer['frozen'])}"
    if answer["dry_run"]:
        number, freed = count(answer["expiring"], "copy of a backup", "copies of backups"), size(answer["freed_bytes"])
        return f"{number} would go, which frees {freed}" if answer["expiring"] else "nothing would go"
    failed = [one for one in answer["left"] if one["outcome"] == FAILED]
    also = f", {len(failed):,} could not be" if failed else ""
    number = count(answer["removed"], "copy of a backup", "copies of backups")
    return f"{number} removed{also}, {size(answer['freed_bytes'])} freed"


def _show(answer: dict[str, Any]) -> None:
    if answer["backups"]:
        text.table(
            ("LOCATION", "BACKUP", "TIER", "STATE", "SIZE", "ACTION", "BECAUSE"),
            [
                (
                    one["location"],
                    one["id"],
                    one["tier"],
                    text.state(one["state"]),
                    size(one["size"]),
                    text.bold("expire") if one["action"] == "expire" else "keep",
                    one["because"],
                )
                for one in answer["backups"]
            ],
        )
        text.say()
    for one in answer["left"]:
        word = text.state("critical" if one["outcome"] == FAILED else "warning")
        text.say(f"{word} {one['location']} {one['backup']}: {one['outcome']}: {one['why']}")
        if one["hint"]:
            text.say(f"  {text.dim(one['hint'])}")
    for one in answer["frozen"]:
        text.say(f"{text.state('critical')} frozen: {one['why']}\n  {text.dim(one['hint'])}")
    if not answer["backups"] and not answer["frozen"]:
        text.say("no backup is known; without an agent, `snapward reconcile` looks for some")
        return
    if not answer["frozen"]:
        text.say(_words(answer))
        if answer["dry_run"] and answer["expiring"]:
            text.say(text.dim("`snapward expire --yes` removes them."))
