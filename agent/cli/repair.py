"""`snapward repair`: keep the locations equal, and the rights of what lies there as configured."""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from agent.adapters import locks, logs
from agent.adapters.ledger import deeds, incidents, writing
from agent.adapters.shelf.pace import Pace
from agent.cli import parts, text
from agent.cli.repairable import chosen, lacking, proved, seen
from agent.errors import BadUsage
from agent.jobs.repair import mend, rights
from agent.jobs.repair.mend import Bench, Done, Stopped
from agent.rules.repair import Item, Left, Plan
from agent.rules.words import count, size
from agent.settings import Settings, secrets_of
from agent.settings.parts import permissions, telling

log = logging.getLogger(__name__)

_NICE = 10


@click.command("repair")
@click.argument("backup", required=False)
@click.option("--yes", is_flag=True, help="Do it. Without this it is only shown.")
@click.option("--location", metavar="NAME", help="Mend only this one, and believe the others.")
@click.option("--permissions", "only_rights", is_flag=True, help="Set modes and owners as configured; copy nothing.")
@click.option("--due", is_flag=True, hidden=True, help="What a location never had, or never had whole.")
@parts.JSON
@click.pass_context
def repair_(
    ctx: click.Context,
    backup: str | None,
    location: str | None,
    *,
    yes: bool,
    only_rights: bool,
    due: bool,
    json_: bool,
) -> int:
    """Show what a location lacks of the backups it is to keep, and with --yes make it from another one's good copy.

    BACKUP (an id, a path, latest, latest-good, oldest) means only that one. What is bad is moved to `.quarantine` with
    its verdict, and never deleted. Exit code 1 if there is something to make, 2 if something cannot be made.
    """
    settings = parts.configuration(ctx).settings
    if location is not None and location not in settings.locations:
        raise BadUsage(f"there is no location {location!r}", f"There are {', '.join(settings.locations)}.")
    parts.own(settings)
    logs.hide(secrets_of(settings))
    if due:
        return _due(settings, ctx)
    with parts.writer(settings, create=True) as db:
        if only_rights:
            return _rights(db, settings, location, json_=json_)
        if yes:
            with locks.held(settings.state_dir, "repair"), parts.finishing() as stopping:
                return _mend(db, settings, backup, location, stopping, json_=json_)
        seen(db, settings, backup)
        plan = chosen(db, settings, backup, location)
    _show(plan, json_=json_)
    return 2 if plan.left else 1 if plan.items else 0


def _due(settings: Settings, ctx: click.Context) -> int:
    """What may be made without anybody having asked, quietly and without haste."""
    with parts.writer(settings) as db:
        if not chosen(db, settings, None, None, due=True).items and not deeds.unfinished(db, "repair"):
            return 0
        logs.begin(settings.logs.format, verbose=ctx.obj["verbose"])
        with contextlib.suppress(OSError):  # the unit forbids it, and has a niceness of its own
            os.nice(_NICE)
        with locks.held(settings.state_dir, "repair"), parts.finishing() as stopping:
            items = chosen(db, settings, None, None, due=True).items
            bench = _bench(settings, stopping, Pace(settings.reread.rate), scheduled=True)
            mend.settle(db, lacking(db, settings), bench)
            with contextlib.suppress(Stopped):
                for one in _carried(db, settings, items, bench, stopping):
                    log.log(logging.WARNING if one.why else logging.INFO, "repair: %s", _words(one))
    return 0


def _mend(
    db: sqlite3.Connection,
    settings: Settings,
    backup: str | None,
    location: str | None,
    stopping: Callable[[], bool],
    *,
    json_: bool,
) -> int:
    seen(db, settings, backup, stopping)
    plan = chosen(db, settings, backup, location)
    line = text.Progress("repair", sum(one.size for one in plan.items))
    bench = _bench(settings, stopping, line.add, scheduled=False)
    mend.settle(db, lacking(db, settings), bench)
    done: list[Done] = []
    try:
        for one in _carried(db, settings, plan.items, bench, stopping):
            line.end()
            done.append(one)
            if not json_:
                text.say(f"  {text.state('failed' if one.why else 'ok')} {_words(one)}")
                if one.hint:
                    text.say(f"      {one.hint}")
    except Stopped:
        text.note("stopped: what was made so far stays, the rest is made next time")
        return 130
    finally:
        line.end()
    failed = [one for one in done if one.why]
    if json_:
        text.as_json({"repaired": [_told(one) for one in done], "left": [_left(one) for one in plan.left]})
    else:
        for left in plan.left:
            text.say(f"  {text.state('bad')} {left.location}: {left.path}: {left.why}")
        good = count(len(done) - len(failed), "copy", "copies")
        text.say(f"{good} made, {len(failed):,} failed" if done else "there is nothing to make")
    return 2 if failed or plan.left else 0


def _carried(
    db: sqlite3.Connection, settings: Settings, items: Sequence[Item], bench: Bench, stopping: Callable[[], bool]
) -> Iterator[Done]:
    """Make them, and where no agent reads what is new, read that at once."""
    made = []
    try:
        for one in mend.repair(db, items, bench):
            made += [] if one.why else [one.item]
            yield one
    finally:
        if made and not parts.agent_runs(settings):
            proved(db, settings, {(one.location, one.backup.path) for one in made}, stopping)


def _bench(
    settings: Settings, stopping: Callable[[], bool], progress: Callable[[int], None], *, scheduled: bool
) -> Bench:
    return Bench(
        {name: (one.path, one.mount) for name, one in settings.locations.items()},
        permissions(settings),
        settings.repair.quarantine,
        parts.who(scheduled=scheduled),
        parts.now,
        progress,
        stopping,
    )


def _rights(db: sqlite3.Connection, settings: Settings, location: str | None, *, json_: bool) -> int:
    """Set modes and owners as configured, and look again."""
    wanted, told = permissions(settings), telling(settings)
    answer: dict[str, Any] = {}
    for name, one in settings.locations.items():
        if location not in {None, name}:
            continue
        drift = rights.look(db, name, one.path, one.mount, wanted)
        if drift is None:
            answer[name] = {"away": True, "looked_at": 0, "set": 0}
            continue
        done = rights.mend(db, drift, (one.path, one.mount), wanted, parts.who(scheduled=False), parts.now())
        answer[name] = {"away": False, "looked_at": drift.seen, "set": done}
        after = rights.look(db, name, one.path, one.mount, wanted)
        with writing(db):
            found = [rights.finding(after)] if after is not None else []
            incidents.observe(db, found, parts.now(), told.policy, told.severities)
    if json_:
        text.as_json({"permissions": answer})
        return 2 if any(one["away"] for one in answer.values()) else 0
    for name, one_told in answer.items():
        looked = count(one_told["looked_at"], "file or folder", "files and folders")
        text.say(f"  {name} {'is away' if one_told['away'] else f'has {looked}'}: {one_told['set']:,} set")
    return 2 if any(one["away"] for one in answer.values()) else 0


def _show(plan: Plan, *, json_: bool) -> None:
    if json_:
        text.as_json({"planned": [_planned(one) for one in plan.items], "left": [_left(one) for one in plan.left]})
        return
    rows = [
        (one.location, one.backup.path, one.parts[0].source, count(len(one.parts), "file"), size(one.size), one.why)
        for one in plan.items
    ]
    if rows:
        text.table(("TO", "BACKUP", "FROM", "FILES", "SIZE", "WHY"), rows)
        text.say(f"{count(len(rows), 'copy', 'copies')} to make: `snapward repair --yes` does it")
    for left in plan.left:
        text.say(f"  {text.state('bad')} {left.location}: {left.path}: {left.why}")
    if not rows and not plan.left:
        text.say("every location holds a good copy of all that it is to keep")


def _planned(one: Item) -> dict[str, Any]:
    return {
        "location": one.location,
        "backup": one.backup.id,
        "tier": one.backup.tier,
        "path": one.backup.path,
        "why": one.why,
        "size": one.size,
        "files": [
            {"file": part.name, "from": part.source, "why": part.why, "quarantine": part.bad is not None}
            for part in one.parts
        ],
    }


def _told(one: Done) -> dict[str, Any]:
    done = {"state": "failed" if one.why else "done", "error": one.why, "copied": one.size, "quarantined": one.aside}
    return {**_planned(one.item), **done}


def _left(one: Left) -> dict[str, str]:
    return {"location": one.location, "path": one.path, "why": one.why}


def _words(one: Done) -> str:
    what = f"{one.item.location}: {one.item.backup.path}"
    if one.why:
        return f"{what} could not be made: {one.why}"
    aside = f", {count(one.aside, 'bad file')} in .quarantine" if one.aside else ""
    return f"{what}: {count(one.made, 'file')}, {size(one.size)}{aside}"
