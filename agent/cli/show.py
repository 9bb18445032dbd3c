"""`snapward status`, `list` and `show`: answers from the ledger alone."""

import sqlite3
from collections.abc import Mapping
from typing import Any

import click
import msgspec

from agent.adapters.ledger import pins, runs
from agent.cli import outlook, parts, text
from agent.errors import BadUsage, TryLater
from agent.jobs import freshness, overview, unusual
from agent.jobs.drill import standing
from agent.jobs.overview import Backup
from agent.rules import timetable
from agent.rules.archive import lowest
from agent.rules.keeping import Key, Pin
from agent.rules.manifest import labelled
from agent.rules.words import count, rfc3339, size, span
from agent.settings import Settings, zone
from agent.settings.parts import promised


@click.command("status")
@parts.JSON
@click.pass_context
def status_(ctx: click.Context, *, json_: bool) -> int:
    """Say on one screen whether everything is all right, and if not, what to do."""
    settings = parts.configuration(ctx).settings
    now = parts.now()
    try:
        answer = _status(settings, now)
    except TryLater as error:
        why = {"rule": "agent_silent", "subject": "agent", "level": "unknown", "why": error.message}
        since = {"since": None, "hint": error.hint}
        answer = {"state": "unknown", "findings": [{**why, **since}], "locations": {}, "tiers": {}}
        answer |= {"drills": {}, "running": []}
    if json_:
        text.as_json(_times(answer))
    else:
        _print_status(answer, now)
    return text.EXIT[answer["state"]]


def _status(settings: Settings, now: float) -> dict[str, Any]:
    with parts.reader(settings) as db:
        known = overview.backups(db, settings.locations)
        found = overview.findings(db, known, now)
        crons = {name: promised(settings)[f"backup:{name}"] for name in settings.tiers}
        tiers = freshness.tiers(db, crons, overview.made(known), zone(settings.timezone), now)
        locations = {}
        ahead = {one.location: one for one in outlook.prospects(db, settings, zone(settings.timezone), now)}
        for name, one in settings.locations.items():
            sample = runs.last_sample(db, name)
            wrong = [f["level"] for f in found if f["subject"] == name]
            locations[name] = {
                "path": one.path,
                "used_percent": sample.used_percent if sample else None,
                "free_bytes": sample.free if sample else None,
                "state": overview.state(wrong) if sample or wrong else "unknown",
                "forecast": outlook.told(ahead[name]),
            }
        drilled = _drills(db, settings, now)
        working = [{"job": one.job, "subject": one.subject, "started": one.started} for one in runs.running(db)]
    # Before its first slot a tier has nothing to show, and that alone is no trouble.
    levels = [f["level"] for f in found] + [one.state for one in tiers.values() if one.state != "unknown"]
    levels += [one["state"] for one in locations.values()]
    return {
        "state": overview.state(levels),
        "findings": found,
        "locations": locations,
        "tiers": {name: msgspec.to_builtins(one) for name, one in tiers.items()},
        "drills": drilled,
        "running": working,
    }


def _drills(db: sqlite3.Connection, settings: Settings, now: float) -> dict[str, Any]:
    """How rehearsed restores stand: of how many collections, of which not, and when the next ones are due."""
    found = standing.view(db, list(settings.locations)).standings(settings.drills.every, now)
    return {
        "collections": len(found),
        "drilled": sum(1 for one in found if one.drilled and not one.overdue),
        "failed": [one.collection for one in found if one.failed],
        "overdue": [one.collection for one in found if one.overdue],
        "oldest": min((one.since for one in found if one.drilled), default=None),
        "next_run": timetable.next_slot(settings.drills.cron, now, zone(settings.timezone)),
    }


def _times(answer: dict[str, Any]) -> dict[str, Any]:
    for one in answer["findings"]:
        one["since"] = rfc3339(one["since"])
    for one in answer["tiers"].values():
        one["last_good"], one["next_run"] = rfc3339(one["last_good"]), rfc3339(one["next_run"])
    for one in answer["running"]:
        one["started"] = rfc3339(one["started"])
    answer["drills"] |= {name: rfc3339(at) for name, at in answer["drills"].items() if name in {"oldest", "next_run"}}
    return answer


_HEADLINE = {
    "ok": "everything is all right",
    "warning": "something needs a look",
    "critical": "something needs you now",
    "unknown": "cannot tell",
}


def _print_status(answer: dict[str, Any], now: float) -> None:
    text.say(f"{text.state(answer['state'])}  {text.bold(_HEADLINE[answer['state']])}")
    for one in answer["findings"]:
        since = text.dim(f"for {span(now - one['since'])}") if one["since"] else ""
        text.say(f"\n  {text.state(one['level'], 8)}  {one['subject']}: {one['why']}  {since}")
        if one["hint"]:
            text.say(f"            {text.dim(one['hint'])}")
    if answer["tiers"]:
        text.say()
        text.table(
            ("TIER", "STATE", "NEWEST GOOD", "NEXT", "WHY"),
            [
                (name, text.state(one["state"]), _ago(one["last_good"], now), _in(one["next_run"], now), one["why"])
                for name, one in answer["tiers"].items()
            ],
        )
    if answer["locations"]:
        text.say()
        text.table(
            ("LOCATION", "STATE", "USED", "FREE", "PATH"),
            [
                (
                    name,
                    text.state(one["state"]),
                    f"{one['used_percent']:.0f} %" if one["used_percent"] is not None else "-",
                    size(one["free_bytes"]) if one["free_bytes"] is not None else "-",
                    one["path"],
                )
                for name, one in answer["locations"].items()
            ],
        )
        text.say()
        for name, one in answer["locations"].items():
            text.say(f"{name}: {one['forecast']['outlook']}")
    if answer["drills"].get("collections"):
        text.say(f"\n{_drilled(answer['drills'], now)}")
    for one in answer["running"]:
        text.say(f"\nrunning: {one['job']} {one['subject']}, for {span(now - one['started'])}")


def _drilled(drills: dict[str, Any], now: float) -> str:
    oldest = f", the longest {_ago(drills['oldest'], now)}" if drills["oldest"] is not None else ""
    of = f"{drills['drilled']:,} of {count(drills['collections'], 'collection')}"
    return f"restores rehearsed: {of}{oldest}; the next in full {_in(drills['next_run'], now)}"


def _ago(at: float | None, now: float) -> str:
    return f"{span(now - at)} ago" if at is not None else "never"


def _in(at: float | None, now: float) -> str:
    return f"in {span(at - now)}" if at is not None else "-"


@click.command("list")
@click.option("--tier", help="Only this tier.")
@parts.JSON
@click.pass_context
def list_(ctx: click.Context, tier: str | None, *, json_: bool) -> int:
    """List the backups, newest first, with how far each copy is proved."""
    settings = parts.configuration(ctx).settings
    with parts.reader(settings) as db:
        known = [one for one in overview.backups(db, settings.locations) if tier is None or one.tier == tier]
        kept = _kept(db)
    if json_:
        text.as_json({"backups": [_shown(one, kept) for one in known]})
        return 0
    if not known:
        text.say("no backup is known; without an agent, `snapward reconcile` looks for some")
        return 0
    names = list(settings.locations)
    rows = [
        (
            one.id,
            one.tier or "-",
            f"{text.state(one.state)}, kept" if (one.tier, one.id) in kept else text.state(one.state),
            str(len({it.name for it in one.collections})),
            size(sum(c.size for c in one.collections)),
            *(_copy(one, name) for name in names),
        )
        for one in known
    ]
    text.table(("BACKUP", "TIER", "STATE", "ARCHIVES", "SIZE", *(name.upper() for name in names)), rows)
    return 0


def _copy(one: Backup, location: str) -> str:
    copy = one.locations.get(location)
    if copy is None or copy.state == "gone":
        return "-"
    return copy.level if copy.state == "good" else text.state(copy.state)


_NONE = {
    "latest": ("there is no backup yet", "`snapward reconcile` looks for some, `snapward backup` makes one."),
    "oldest": ("there is no backup yet", "`snapward reconcile` looks for some, `snapward backup` makes one."),
    "latest-good": ("no backup is known to be good", "`snapward verify` proves the latest."),
    "last-failed": ("no backup is known to be bad or incomplete", "`snapward list` shows all."),
}


@click.command("show")
@click.argument("backup", default="latest")
@parts.JSON
@click.pass_context
def show_(ctx: click.Context, backup: str, *, json_: bool) -> int:
    """Show one backup: BACKUP is an id, a path, latest, latest-good, oldest or last-failed."""
    settings = parts.configuration(ctx).settings
    with parts.reader(settings) as db:
        roots = {name: one.path for name, one in settings.locations.items()}
        found = overview.resolve(overview.backups(db, settings.locations), backup, roots)
        new = unusual.new(db, found.id, found.started) if found and found.started else []
        kept = _kept(db)
    if found is None:
        raise BadUsage(*_NONE.get(backup, (f"there is no backup {backup!r}", "`snapward list` shows those there are.")))
    if json_:
        text.as_json({**_shown(found, kept), "new": new})
        return text.EXIT[found.state]
    when = f", {rfc3339(found.started)}" if found.started else ""
    text.say(f"{text.bold(found.id)}  {found.tier}  {text.state(found.state)}  engine {found.engine}{when}")
    if pin := kept.get((found.tier, found.id)):
        until = "for ever" if pin.until is None else f"until {rfc3339(pin.until)}"
        text.say(f"kept {until}{f': {pin.because}' if pin.because else ''}")
    text.say()
    text.table(
        ("LOCATION", "STATE", "LEVEL", "CHECKED", "PATH"),
        [
            (
                name,
                text.state(one.state),
                one.level,
                _ago(one.checked, parts.now()),
                f"{roots.get(name, '?')}/{one.path}",
            )
            for name, one in found.locations.items()
        ],
    )
    text.say()
    text.table(
        ("COLLECTION", "STATE", "LEVEL", "POINTS", "SIZE", "RAW", "WHY"),
        [
            (
                labelled(one.name, one.peer),
                text.state(one.state),
                one.level,
                f"{one.points:,}" if one.points is not None else "-",
                size(one.size),
                size(one.raw_size) if one.raw_size is not None else "-",
                one.why,
            )
            for one in found.collections
        ],
    )
    for failed in found.failed:
        text.say(f"  {text.state('critical')} {failed['name']} is not in it: {failed['why']}")
    if new:
        text.say(f"\nnew since the backups before it: {', '.join(new)}")
    if found.state == "good" and found.engine != "foreign":
        level = lowest(one.level for one in found.collections)
        number = count(len(found.collections), "archive")
        text.say(f"\n{number} proved {level}; how to restore: RESTORE.md beside them")
    return text.EXIT[found.state]


def _kept(db: sqlite3.Connection) -> dict[Key, Pin]:
    """The pins that hold now."""
    now = parts.now()
    return {key: pin for key, pin in pins.all(db).items() if pin.holds(now)}


def _shown(one: Backup, kept: Mapping[Key, Pin]) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(one)
    pin = kept.get((one.tier, one.id))
    shown["kept"] = {"until": rfc3339(pin.until), "because": pin.because} if pin else None
    shown["started"], shown["ended"] = rfc3339(one.started), rfc3339(one.ended)
    for copy in shown["locations"].values():
        copy["checked"] = rfc3339(copy["checked"])
    return shown
