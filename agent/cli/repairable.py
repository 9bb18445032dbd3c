"""What a repair decides about: the backups as the ledger knows them, and which of them are meant."""

import os
import sqlite3
from collections.abc import Callable, Collection

from agent.adapters import host
from agent.adapters.ledger import deeds, pins
from agent.adapters.ledger.catalogue import Key
from agent.adapters.shelf import look
from agent.cli import parts
from agent.cli.arrived import arrived
from agent.cli.expirable import suspicions
from agent.errors import BadUsage
from agent.jobs import overview
from agent.jobs.intake import sweep
from agent.jobs.repair import known
from agent.rules import copies, repair, seal
from agent.rules.keeping import Pin
from agent.rules.repair import Plan
from agent.settings import Settings, zone
from agent.settings.parts import places, policies, seal_keys, telling


def seen(
    db: sqlite3.Connection, settings: Settings, backup: str | None, stopping: Callable[[], bool] = lambda: False
) -> None:
    """Take note of what has arrived or changed, and read it, so that no decision rests on what was."""
    left = arrived(db, settings, stopping, loose=False)
    paths = _paths(db, settings, backup)
    _prove(db, settings, [key for key in left if paths is None or key.folder in paths], stopping)


def proved(
    db: sqlite3.Connection, settings: Settings, made: Collection[tuple[str, str]], stopping: Callable[[], bool]
) -> None:
    """Read what was made: by location and path."""
    left = arrived(db, settings, stopping, loose=False)
    _prove(db, settings, [key for key in left if (key.location, key.folder) in made], stopping)


def _prove(db: sqlite3.Connection, settings: Settings, keys: Collection[Key], stopping: Callable[[], bool]) -> None:
    todo = [
        work
        for name, place in places(settings).items()
        for work in sweep.works(db, place, [(key, None) for key in keys if key.location == name], trust=True)
    ]
    names, least = look.pattern(settings.watch.patterns), settings.watch.minimum_size
    for _ in sweep.prove(db, todo, names, least, parts.now, telling(settings), stopping=stopping):
        pass


def chosen(
    db: sqlite3.Connection, settings: Settings, backup: str | None, location: str | None, *, due: bool = False
) -> Plan:
    """What is to be made: of one backup or of all, in one location or in all, or only what may be made unasked."""
    paths = _paths(db, settings, backup)
    found = plan(db, settings, parts.now(), paths, believed_last=location, thorough=not due)

    def meant(at: str, path: str) -> bool:
        return location in {None, at} and (paths is None or path in paths)

    items = [one for one in (found.automatic if due else found.items) if meant(one.location, one.backup.path)]
    if due and not settings.repair.quarantine:
        items = [one for one in items if not any(part.bad is not None for part in one.parts)]
    if due and suspicions(db):
        # What was there and what was not is not to be told now.
        items = []
    left = [one for one in found.left if meant(one.location, one.path)]
    return Plan(tuple(items), tuple(left))


def lacking(db: sqlite3.Connection, settings: Settings) -> set[tuple[str, str]]:
    """Locations and paths at which a repair was begun, and something still lacks, as far as can be told."""
    begun = {(one.location, one.path) for one in deeds.unfinished(db, "repair")}
    if not begun:
        return set()
    found = plan(db, settings, parts.now())
    away = {name for name, one in settings.locations.items() if host.root(one.path, one.mount).trouble}
    left = {(one.location, one.backup.path) for one in found.items} | {(one.location, one.path) for one in found.left}
    return {one for one in begun if one in left or one[0] in away}


def plan(
    db: sqlite3.Connection,
    settings: Settings,
    now: float,
    paths: Collection[str] | None = None,
    *,
    believed_last: str | None = None,
    thorough: bool = False,
    away: Collection[str] | None = None,
) -> Plan:
    """All that is to be made. `thorough` also compares the small files, which reads them.

    `away` are the locations that are known to be away; where it is not given, each is looked at.
    """
    order = sorted(settings.locations, key=lambda name: name == believed_last)
    rules = policies(settings)
    troubles = {
        name: ("away" if name in away else "") if away is not None else host.root(one.path, one.mount).trouble
        for name, one in settings.locations.items()
    }
    keys = seal_keys(settings)

    def sides(name: str, path: str) -> tuple[dict[str, str], bool]:
        root = os.path.realpath(settings.locations[name].path)
        return known.small_files(root, path, lambda data: not keys or not seal.check(keys, data))

    return repair.plan(
        _backups(db, settings, now, paths, sides if thorough else None),
        [repair.Location(name=name, policies=rules[name], away=troubles[name]) for name in order],
        now,
        zone(settings.timezone),
        begun=[(one.location, one.path) for one in deeds.unfinished(db, "repair")],
    )


def _backups(
    db: sqlite3.Connection,
    settings: Settings,
    now: float,
    paths: Collection[str] | None,
    sides: known.Sides | None,
) -> list[copies.Backup]:
    pinned = [key for key, pin in pins.all(db).items() if _holds(pin, now)]
    every = known.backups(db, list(settings.locations), now, pinned=pinned)
    if sides is None and paths is None:
        return every
    # Which ones are to be kept depends on all of them; only those that are meant are looked at closely.
    close = known.backups(db, list(settings.locations), now, pinned=pinned, paths=paths, sides=sides)
    meant = {one.path: one for one in close}
    return [meant.get(one.path, one) for one in every]


def _holds(pin: Pin, now: float) -> bool:
    return pin.until is None or now < pin.until


def _paths(db: sqlite3.Connection, settings: Settings, backup: str | None) -> set[str] | None:
    if backup is None:
        return None
    roots = {name: os.path.realpath(one.path) for name, one in settings.locations.items()}
    meant = overview.resolve(overview.backups(db, settings.locations), backup, roots)
    if meant is None:
        raise BadUsage(f"there is no backup {backup!r}", "`snapward list` shows those there are.")
    return {copy.path for copy in meant.locations.values()}
