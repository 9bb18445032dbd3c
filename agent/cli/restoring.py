"""The way of a restore on the command line: look, plan, ask, carry out, tell."""

import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import click
from msgspec import Struct

from agent.adapters.ledger import drills, incidents, restores, runs, writing
from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.server import Server
from agent.adapters.qdrant.wire import Wire
from agent.cli import parts, restorable, restore_files, text
from agent.cli.arrived import arrived
from agent.cli.restorable import JOB, Chosen
from agent.cli.restore_aside import put_aside
from agent.cli.restore_files import Own
from agent.cli.restore_text import View, answer, show_done, show_end, show_plan
from agent.errors import AgentError, BadUsage, Refused
from agent.jobs.drill.recorded import path_of
from agent.jobs.restore import carry, look, prove
from agent.jobs.restore.carry import Done
from agent.jobs.restore.look import Site
from agent.rules.finding import Finding, Level
from agent.rules.recovery.estimate import Estimate, estimate
from agent.rules.recovery.plan import Plan, plan
from agent.rules.recovery.scene import Options, Scene
from agent.rules.words import count
from agent.settings import Settings, zone
from agent.settings.parts import telling

_EXIT = {"good": 0, "planned": 0, "bad": 2, "refused": 2, "unknown": 3}
_LEVELS = {"good": Level.OK, "unknown": Level.WARNING, "bad": Level.CRITICAL}


class Asked(Struct, frozen=True, kw_only=True):
    """What the command line asks for.

    Attributes:
        backup: in words, or None.
        at: the moment to go back to, epoch seconds; None for the newest.
        pairs: collections and their targets; none for all.
        renamed: the target, where no collection is named.
        options: what is allowed.
        addresses: of the server.
        elsewhere: whether that is another server than the configured one.
        location: that is read from; None for any.
        files: whether the server's own files are put back.
        collections: whether any collection is restored.
        dry_run, yes, json: as on the command line.
    """

    backup: str | None
    at: float | None
    pairs: tuple[tuple[str, str], ...]
    renamed: str | None
    options: Options
    addresses: tuple[Address, ...]
    elsewhere: bool
    location: str | None
    files: bool
    collections: bool
    dry_run: bool
    yes: bool
    json: bool


def restore(db: sqlite3.Connection, settings: Settings, asked: Asked, stopping: Callable[[], bool]) -> int:
    """Plan, show the plan, ask, and carry it out; returns the exit code."""
    began = time.monotonic()
    arrived(db, settings, stopping, loose=False)
    names, subject = [name for name, _ in asked.pairs], partial(_subject, asked)
    unfinished = restorable.unfinished(db, asked.addresses[0].url, subject, names, parts.now())
    meant = restorable.backup(db, settings, asked.backup, asked.at, names, unfinished)
    found = restorable.chosen(db, settings, meant, asked.pairs, asked.renamed, asked.location)
    own = restore_files.find(settings, found, asked.location) if asked.files else None
    site, view = _view(db, settings, asked, found, stopping)
    if not asked.json:
        if view.plan.steps:
            show_plan(view, zone(settings.timezone))
        if own is not None:
            restore_files.show(own)
        for note in found.notes:
            text.note(note)
    refusal = view.plan.refusal
    if refusal is not None and not asked.json and not asked.dry_run:
        kind = BadUsage if refusal.stops == BadUsage.exit_code else Refused
        raise kind(f"{refusal.collection or 'the restore'}: {refusal.what}", refusal.hint)
    if refusal is not None or asked.dry_run:
        state = "planned" if refusal is None else "refused"
        if asked.json:
            told = answer(view, None, state=state, pre_restore=None, seconds=time.monotonic() - began, dry_run=True)
            text.as_json(told | {"dry_run": asked.dry_run} | _files(own, ()))
        return _EXIT[state] if asked.dry_run or refusal is None else refusal.stops
    _agreed(view, own, asked)
    return _run(db, settings, asked, Work(site, view, own, began), stopping)


class Work(Struct, frozen=True):
    """What was agreed to: on which server, what, and since when (monotonic)."""

    site: Site
    view: View
    own: Own | None
    began: float


def _view(
    db: sqlite3.Connection, settings: Settings, asked: Asked, found: Chosen, stopping: Callable[[], bool]
) -> tuple[Site, View]:
    """Look at the server, and plan."""
    servers = [Server(Wire(one, lambda: "it was asked to stop" if stopping() else "")) for one in asked.addresses]
    now, url = parts.now(), servers[0].url
    if not asked.collections:
        empty = Scene(url=url, version="")
        return Site(servers[0]), View(
            found=found, scene=empty, plan=Plan(steps=()), estimate=Estimate(0.0, "a moment"), now=now
        )
    targets = [one.target for one in found.wanted]
    earlier = restorable.earlier(db, url, _subject(asked, found.backup.id), found.backup.id, targets, now)
    folders = (settings.engine.snapshots_path, settings.engine.temp_path)
    seen = () if asked.elsewhere else tuple(one for one in folders if one)
    site, scene = look.look(servers, found.wanted, earlier, seen)
    manifest = found.manifest
    planned = plan(
        found.wanted,
        scene,
        asked.options,
        engine=manifest.engine if manifest else {},
        aliases=manifest.aliases if manifest else {},
        missing=found.missing,
    )
    done = [(one.raw_bytes, (one.ended or one.began) - one.began) for one in restores.done(db)]
    drilled = [(one.raw_bytes, one.seconds) for one in drills.between(db, 0.0, now) if one.state == "passed"]
    return site, View(
        found=found, scene=scene, plan=planned, estimate=estimate(planned.raw_bytes, done, drilled), now=now
    )


def _subject(asked: Asked, backup: str) -> str:
    """What the history calls it; a second attempt at the same goes on where the first one broke off."""
    return f"{backup} to {asked.addresses[0].url}" if asked.elsewhere else backup


def _agreed(view: View, own: Own | None, asked: Asked) -> None:
    """Ask the person who is there.

    Raises:
        BadUsage: nobody is there to be asked.
        Refused: it is not wanted.
    """
    if asked.yes:
        return
    if not sys.stdin.isatty():
        raise BadUsage("nobody is there to agree to this", "Look at the plan above, then run it again with --yes.")
    replaced = view.plan.replaces
    if replaced or (own is not None and own.files.other):
        what = f"what is there now in {', '.join(replaced)}" if replaced else "the server's own files"
        identity = view.found.backup.id
        typed = click.prompt(
            f"\nThis gives up {what}. To go on, type the backup's id, {identity}", default="", err=True
        )
        if typed.strip() != identity:
            raise Refused("that is not the backup's id: nothing was changed")
    elif not click.confirm("\nGo on?", err=True):
        raise Refused("nothing was changed")


def _run(db: sqlite3.Connection, settings: Settings, asked: Asked, work: Work, stopping: Callable[[], bool]) -> int:
    """Carry it out, with a row in the ledger about the run."""
    subject = _subject(asked, work.view.found.backup.id)
    with writing(db):
        for dead in (one for one in runs.orphans(db) if one.job == JOB):  # where no agent closes them
            runs.end(db, dead.id, "interrupted", parts.now(), why=f"its process {dead.pid} died before it was done")
        run = runs.begin(db, JOB, subject, None, parts.now())
    try:
        done, aside, written = _carried(db, settings, asked, work, stopping)
    except AgentError as error:
        outcome = "interrupted" if stopping() else "failed"
        with writing(db):
            runs.end(db, run, outcome, parts.now(), why=error.message, exit_code=error.exit_code)
        if stopping():
            text.note(error.message)
            return 130
        raise
    state = _worst(done)
    seconds = time.monotonic() - work.began
    told = answer(work.view, done, state=state, pre_restore=aside, seconds=seconds, dry_run=False)
    told |= _files(work.own, written)
    bad = [one for one in done if one.state != "good"]
    why = "; ".join(f"{one.target}: {one.why}" for one in bad) or f"{count(len(done), 'collection')} restored"
    code = 130 if stopping() and bad else _EXIT[state]
    figures = {name: told[name] for name in ("raw_bytes", "seconds", "pre_restore")}
    outcome = "interrupted" if stopping() and bad else "failed" if bad else "ok"
    tell = telling(settings)
    with writing(db):
        runs.end(db, run, outcome, parts.now(), why=why, exit_code=code, figures=figures)
        incidents.observe(db, _findings(done), parts.now(), tell.policy, tell.severities)
    if asked.json:
        text.as_json(told)
    else:
        show_end(done, aside, written, seconds)
    return code


def _carried(
    db: sqlite3.Connection, settings: Settings, asked: Asked, work: Work, stopping: Callable[[], bool]
) -> tuple[list[Done], str | None, list[str]]:
    """Prove, put aside, put the server's own files back, restore; returns what became of each of these."""
    planned, found = work.view.plan, work.view.found
    steps = [one for one in planned.steps if one.action != "compare"]
    roots = {name: one.path for name, one in settings.locations.items()}
    line = text.Progress("prove", sum(one.wanted.subject.size for one in steps))
    try:
        proved = prove.prove(
            steps,
            lambda spot, file: path_of(roots, spot, file),
            restorable.readings(db),
            skip=asked.options.skip_proof,
            progress=line.add,
            stopping=stopping,
        )
    finally:
        line.end()
    aside = None
    if planned.saves:
        aside = put_aside(settings, asked.addresses, planned.saves, stopping, force=asked.options.force)
    written = restore_files.put_back(work.own, found.backup.id, asked.addresses[0]) if work.own else []
    order = carry.Order(
        plan=planned,
        backup=found.backup.id,
        tier=found.backup.tier,
        expected=found.expected,
        proved=proved,
        deadline=settings.engine.deadline,
    )
    line = text.Progress("restore", planned.raw_bytes)

    def said(one: Done) -> None:
        line.end()
        if not asked.json:
            show_done(one)

    done = carry.carry_out(order, work.site, db, parts.now, aside, progress=line.add, said=said)
    line.end()
    return done, aside, written


def _worst(done: Sequence[Done]) -> str:
    states = {one.state for one in done}
    return "bad" if states & {"bad", "left"} else "unknown" if "unknown" in states else "good"


def _findings(done: Sequence[Done]) -> list[Finding]:
    hint = "`snapward restore` with the same words goes on with it; the server's log may say more."
    return [
        Finding("restore_failed", one.target, _LEVELS[one.state], one.why, hint) for one in done if one.state in _LEVELS
    ]


def _files(own: Own | None, written: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    """The server's own files, as JSON has them."""
    listed = own.files.files if own is not None else ()
    return {
        "server_files": [
            {"path": one.path, "state": "put back" if one.path in written else one.found} for one in listed
        ]
    }
