"""`snapward keep` and `snapward release`: a backup that somebody wants stays until they say otherwise."""

import os
import sqlite3
from datetime import datetime, time, tzinfo
from typing import Any

import click

from agent.adapters.ledger import deeds, pins, writing
from agent.cli import parts, text
from agent.errors import BadUsage
from agent.jobs import overview
from agent.rules.keeping import Key, Pin
from agent.rules.recovery import choice
from agent.rules.words import rfc3339
from agent.settings import Settings, zone


@click.command("keep")
@click.argument("backup", required=False)
@click.option("--until", metavar="DATE", help="The last day on which it stays, or a moment; else it stays for ever.")
@click.option("--because", default="", metavar="TEXT", help="Why; it is shown wherever the backup is.")
@click.option("--list", "listing", is_flag=True, help="Show what is kept.")
@parts.JSON
@click.pass_context
def keep_(
    ctx: click.Context, backup: str | None, until: str | None, because: str, *, listing: bool, json_: bool
) -> int:
    """Keep a backup, however old it gets.

    BACKUP is an id, a path, latest, latest-good or oldest; it stays in every location that has it. Said again, the new
    words replace the old ones.
    """
    settings = parts.configuration(ctx).settings
    if listing == (backup is not None):
        raise BadUsage("name either BACKUP or --list", "`snapward list` shows the backups there are.")
    if backup is None:
        with parts.reader(settings) as db:
            return _list(pins.all(db), parts.now(), json_=json_)
    pin = Pin(_end(until, parts.now(), zone(settings.timezone)), because.strip())
    with parts.writer(settings) as db:
        key = _meant(db, settings, backup)
        with writing(db):
            pins.put(db, key, pin, parts.who(scheduled=False), parts.now())
            _note(db, "keep", key, pin.because, "done" if pin.until is None else f"until {rfc3339(pin.until)}")
            pins.save(db, settings.state_dir)  # before it is committed: what is lost in between is kept all the same
    if json_:
        text.as_json(_told(key, pin))
    else:
        text.say(f"{key[0]}/{key[1]} stays {_until(pin)}; `snapward release {key[1]}` lets it go")
    return 0


@click.command("release")
@click.argument("backup")
@parts.JSON
@click.pass_context
def release_(ctx: click.Context, backup: str, *, json_: bool) -> int:
    """Let a backup that is kept go when its time comes."""
    settings = parts.configuration(ctx).settings
    with parts.writer(settings) as db:
        pinned = pins.all(db)
        # What is kept may be gone by other hands, and is then known by its id alone.
        key = next((one for one in pinned if backup in {one[1], "/".join(one)}), None) or _meant(db, settings, backup)
        with writing(db):
            was = pins.drop(db, key)
            if was:
                _note(db, "release", key, pinned[key].because, "done")
        pins.save(db, settings.state_dir)
    if json_:
        text.as_json({"id": key[1], "tier": key[0], "released": was})
    else:
        text.say(f"{key[0]}/{key[1]} {'may go when its time comes' if was else 'was not kept'}")
    return 0


def _list(pinned: dict[Key, Pin], now: float, *, json_: bool) -> int:
    holding = {key: pin for key, pin in pinned.items() if pin.holds(now)}
    if json_:
        text.as_json({"kept": [_told(key, pin) for key, pin in holding.items()]})
    elif holding:
        rows = [(key[1], key[0], _until(pin), pin.because or "-") for key, pin in holding.items()]
        text.table(("BACKUP", "TIER", "UNTIL", "BECAUSE"), rows)
    else:
        text.say("nothing is kept beyond its time; `snapward keep BACKUP` does that")
    return 0


def _meant(db: sqlite3.Connection, settings: Settings, backup: str) -> Key:
    roots = {name: os.path.realpath(one.path) for name, one in settings.locations.items()}
    found = overview.resolve(overview.backups(db, settings.locations), backup, roots)
    if found is None:
        raise BadUsage(f"there is no backup {backup!r}", "`snapward list` shows those there are.")
    return found.tier, found.id


def _end(until: str | None, now: float, local: tzinfo) -> float | None:
    """The end of a day, or a moment; epoch seconds."""
    if until is None:
        return None
    at = choice.moment(until, local)
    if at is None:
        try:
            day = datetime.strptime(until.strip(), "%Y-%m-%d").date()  # noqa: DTZ007 - a day of the configured zone
            at = datetime.combine(day, time(23, 59, 59), local).timestamp()
        except (ValueError, OverflowError):
            hint = "Write a day like 2027-06-30, or a moment like 2027-06-30 18:00."
            raise BadUsage(f"--until {until!r} is no date", hint) from None
    if at <= now:
        raise BadUsage(f"--until {until!r} is over", "Name a day to come; without --until it stays for ever.")
    return at


def _note(db: sqlite3.Connection, kind: str, key: Key, why: str, outcome: str) -> None:
    deeds.note(db, kind, "", "/".join(key), why, parts.who(scheduled=False), parts.now(), outcome)


def _told(key: Key, pin: Pin) -> dict[str, Any]:
    return {"id": key[1], "tier": key[0], "until": rfc3339(pin.until), "because": pin.because}


def _until(pin: Pin) -> str:
    return "for ever" if pin.until is None else f"until {rfc3339(pin.until)}"
