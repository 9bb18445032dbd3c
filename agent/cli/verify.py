"""`snapward verify` and `snapward reconcile`: prove archives now."""

import os
import sqlite3
from typing import Any

import click

from agent.adapters import ledger, locks
from agent.adapters.ledger import catalogue
from agent.adapters.ledger.catalogue import Archive, Key
from agent.adapters.shelf import look
from agent.cli import parts, text
from agent.errors import BadUsage, Damaged
from agent.jobs import overview
from agent.jobs.intake import losses, sweep
from agent.jobs.intake.reading import Outcome, Work
from agent.rules.archive import BAD, INTACT, WELL_FORMED, State, is_snapshot, rank
from agent.rules.checksums import is_checksum_file
from agent.rules.words import count, rfc3339, size, span
from agent.settings import Settings
from agent.settings.parts import keeps, places, telling


@click.command("verify")
@click.argument("backup", required=False)
@click.option("--all", "everything", is_flag=True, help="Every archive of every location.")
@click.option("--stale", type=click.FloatRange(0), metavar="DAYS", help="Archives not proved for so many days.")
@click.option("--again", is_flag=True, help="What was not read for longest, as much as reread.budget lets a day have.")
@click.option("--slot", type=float, hidden=True, help="The slot it was scheduled for, epoch seconds.")
@click.option(
    "--level",
    type=click.Choice([INTACT, WELL_FORMED]),
    default=WELL_FORMED,
    show_default=True,
    help="What a snapshot has to reach.",
)
@parts.JSON
@click.pass_context
def verify_(
    ctx: click.Context,
    backup: str | None,
    *,
    everything: bool,
    stale: float | None,
    again: bool,
    slot: float | None,
    level: str,
    json_: bool,
) -> int:
    """Read archives back and prove them: BACKUP (an id, a path, latest, latest-good, oldest, last-failed).

    Exit code 2 if one is bad, 3 if one could not be compared or read to its end, or does not reach the level.
    """
    settings = parts.configuration(ctx).settings
    if sum((backup is not None, everything, stale is not None, again)) > 1:
        raise BadUsage("name one of BACKUP, --all, --stale and --again", "Without any, the latest backup is verified.")
    if again:
        from agent.cli import reread  # noqa: PLC0415 - the other ways do not need it

        parts.own(settings)
        return reread.again(settings, slot, json_=json_)
    with parts.writer(settings, create=True) as db:
        new = [key for one in _look(db, settings) for key, _ in one.changed]
        chosen = _chosen(db, settings, new, backup or "latest", everything=everything, stale=stale)
        rows = _prove(db, settings, chosen, trust=not everything)
    return _answer(rows, backup, level, json_=json_)


@click.command("reconcile")
@parts.JSON
@click.pass_context
def reconcile_(ctx: click.Context, *, json_: bool) -> int:
    """Bring the ledger in line with the folders.

    A ledger that is lost or damaged is set aside and built anew; what has vanished is accepted as gone, what was
    changed or added by somebody else as it is, and the alerts about it end.
    """
    settings = parts.configuration(ctx).settings
    parts.own(settings)
    kept = _mend(settings)
    with parts.writer(settings, create=True) as db:
        found = _look(db, settings)
        by_place = {one.place.name: one for one in found}
        todo: list[Work] = []
        for name, place in places(settings).items():
            todo += sweep.works(db, place, by_place[name].changed, trust=True)
        rows = _run(db, settings, todo)
        unusable = {one.place.name: one.root.trouble for one in found if one.root.trouble}
        gone = sum(len(one.gone) for one in found)
        who = parts.who(scheduled=False)
        let_go = losses.let_go(db, keeps(settings), parts.now(), telling(settings), everything=True, who=who)
        number = sum(catalogue.present(db, one) for one in by_place)
    bad = sum(1 for row in rows if row["state"] in {str(one) for one in BAD})
    answer = {
        "archives": number,
        "read": len(rows),
        "bad": bad,
        "gone": gone,
        "let_go": let_go,
        "unusable": unusable,
        "set_aside": kept,
    }
    if json_:
        text.as_json(answer)
    else:
        if kept:
            text.say(f"the damaged ledger was set aside as {kept}")
        text.say(f"{count(number, 'archive')} known; {len(rows):,} read now, {bad:,} of them bad; {gone:,} files gone")
        for name, why in unusable.items():
            text.say(f"  {text.state('critical')} {name} {why}: it could not be looked at")
    return 2 if bad or unusable else 0


def _mend(settings: Settings) -> str | None:
    try:
        db = ledger.connect(settings.state_dir, create=True)
        try:
            ledger.check(db)
        finally:
            db.close()
    except Damaged:
        with locks.held(settings.state_dir, "agent"):  # a running agent rebuilds by itself
            stamp = (rfc3339(parts.now()) or "").replace(":", "").replace("-", "")
            return ledger.set_aside(settings.state_dir, stamp) or "nothing: it was gone"
    return None


def _look(db: sqlite3.Connection, settings: Settings) -> list[Any]:
    names = look.pattern(settings.watch.patterns)
    every = places(settings).values()
    return sweep.look_over(db, every, names, keeps(settings), settings.watch.minimum_size, parts.now, telling(settings))


def _chosen(
    db: sqlite3.Connection, settings: Settings, found: list[Key], wanted: str, *, everything: bool, stale: float | None
) -> list[Key]:
    """Which archives to read: known ones by their backup, and everything that has just been `found`."""
    roots = {name: os.path.realpath(one.path) for name, one in settings.locations.items()}
    known = {one.key: one for one in catalogue.archives(db) if one.vanished is None}
    new = [key for key in found if key not in known]
    if everything:
        return [*new, *known]
    if stale is not None:
        before = parts.now() - stale * 86400
        return [*new, *(key for key, one in known.items() if (one.checked or 0) < before)]
    _prove_new(db, settings, new)
    meant = overview.resolve(overview.backups(db, settings.locations), wanted, roots)
    if meant is None:
        if wanted in {"latest", "latest-good", "oldest", "last-failed"}:
            return []
        raise BadUsage(f"there is no backup {wanted!r}", "`snapward list` shows those there are.")
    folders = {(name, copy.path) for name, copy in meant.locations.items()}
    files = {one.file for one in meant.collections} if meant.engine == "foreign" else None
    return [key for key in _again(db, folders) if files is None or key.name in files]


def _again(db: sqlite3.Connection, folders: set[tuple[str, str]]) -> list[Key]:
    return [
        one.key
        for location, folder in sorted(folders)
        for one in catalogue.archives(db, location, folder)
        if one.vanished is None
    ]


def _prove_new(db: sqlite3.Connection, settings: Settings, new: list[Key]) -> None:
    """A backup is known by its manifest: what was found now is read before names are looked up."""
    sums = [key for key in new if is_checksum_file(key.name)]
    _prove(db, settings, sums, trust=False)
    _prove(db, settings, [key for key in new if not is_checksum_file(key.name)], trust=False)


def _prove(db: sqlite3.Connection, settings: Settings, keys: list[Key], *, trust: bool) -> list[dict[str, Any]]:
    by_name = places(settings)
    todo: list[Work] = []
    for name, place in by_name.items():
        todo += sweep.works(db, place, [(key, None) for key in keys if key.location == name], trust=trust)
    return _run(db, settings, todo)


def _run(db: sqlite3.Connection, settings: Settings, todo: list[Work]) -> list[dict[str, Any]]:
    total = sum(_size(one.path) for one in todo)
    line = text.Progress("verify", total)
    names = look.pattern(settings.watch.patterns)
    with parts.finishing() as stopping:
        outcomes = sweep.prove(
            db,
            todo,
            names,
            settings.watch.minimum_size,
            parts.now,
            telling(settings),
            progress=line.add,
            stopping=stopping,
        )
        rows = [_row(one, catalogue.archive(db, one.key)) for one in outcomes if not is_checksum_file(one.key.name)]
        line.end()
        if stopping():
            text.note("stopped: what was read so far is written down")
    return rows


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _row(outcome: Outcome, known: Archive | None) -> dict[str, Any]:
    key = outcome.key
    path = f"{key.location}:{key.folder}/{key.name}" if key.folder else f"{key.location}:{key.name}"
    if outcome.moved or known is None:
        why = "changes while it is read: it is still being written" if outcome.signature else "is gone"
        return {"path": path, "level": "arrived", "state": "unsettled", "why": why, "seconds": 0.0, "size": 0}
    reading = outcome.reading
    return {
        "path": path,
        "level": known.level,
        "state": str(known.state),
        "why": known.why,
        "seconds": round(reading.seconds, 6) if reading else 0.0,
        "size": reading.size if reading else 0,
    }


def _answer(rows: list[dict[str, Any]], backup: str | None, level: str, *, json_: bool) -> int:
    bad = [row for row in rows if row["state"] in {str(one) for one in BAD}]
    unsure = [row for row in rows if row["state"] in {str(State.NO_CHECKSUM), "unsettled"}]
    below = {row["path"] for row in rows if row["state"] == str(State.GOOD) and _falls_short(row, level)}
    read, seconds = sum(row["size"] for row in rows), sum(row["seconds"] for row in rows)
    answer = {"backup": backup or "latest", "level": level, "checked": len(rows), "bad": len(bad), "archives": rows}
    if json_:
        text.as_json(answer)
    elif not rows:
        text.say("there is nothing to verify")
    else:
        heads = ("STATE", "LEVEL", "SIZE", "ARCHIVE", "WHY")
        shown = [
            (text.state(r["state"]), r["level"], size(r["size"]), r["path"], r["why"])
            for r in rows
            if r["state"] != "good" or r["path"] in below or len(rows) <= 50
        ]
        if shown:
            text.table(heads, shown)
        text.say(
            f"{count(len(rows), 'archive')} read, {size(read)} in {span(seconds)}:"
            f" {len(rows) - len(bad) - len(unsure):,} good, {len(bad):,} bad, {len(unsure):,} not comparable"
            f"{f'; {len(below):,} of the good ones not {level}' if below else ''}"
        )
    if bad:
        return 2
    return 3 if unsure or below or not rows else 0


def _falls_short(row: dict[str, Any], level: str) -> bool:
    """Whether an archive that is called a snapshot has not been proved to be a whole one, where that is asked."""
    return is_snapshot(row["path"]) and rank(row["level"]) < rank(level)
