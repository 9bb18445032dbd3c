"""Modes and owners of our backups: see what is not as configured, and mend it."""

import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from agent.adapters import host
from agent.adapters.ledger import catalogue, deeds, runs, writing
from agent.adapters.ledger.runs import Pulse
from agent.adapters.shelf import write
from agent.adapters.shelf.write import Permissions
from agent.rules.finding import Finding, Level, ok
from agent.rules.words import count, printable, raw

EVERY = 3600.0
_PULSE = "permissions"


class Drift(Struct, frozen=True):
    """What is not as it should be in one location: paths inside it, each with what is wrong, of `seen` looked at."""

    location: str
    found: tuple[tuple[str, str], ...]
    seen: int


def due(db: sqlite3.Connection, now: float) -> bool:
    """Whether nobody has looked for an hour; notes that somebody does now."""
    last = runs.pulses(db).get(_PULSE)
    if last is not None and 0 <= now - last.at < EVERY:
        return False
    with writing(db):
        runs.beat(db, [Pulse(_PULSE, now, "looked at")])
    return True


def look(db: sqlite3.Connection, location: str, path: str, mount: str | None, wanted: Permissions) -> Drift | None:
    """Look at every file and folder of the backups that the ledger knows there; None if the location is away.

    It takes one question to the file system for each. One that keeps no modes, such as CIFS, is not asked.
    """
    with host.anchored(path, mount) as anchor:
        if not anchor.at:
            return None
        found, seen = [], 0
        if not host.keeps_modes(path):
            return Drift(location, (), 0)
        for name, what in _entries(anchor.at, _folders(db, location)):
            seen += 1
            why = _wrong(what, wanted)
            if why:
                found.append((printable(name), why))
        return Drift(location, tuple(found), seen)


def finding(drift: Drift) -> Finding:
    """The finding `permissions_drift` about a location."""
    if not drift.found:
        return ok("permissions_drift", drift.location, "modes and owners are as configured")
    name, why = drift.found[0]
    told = f"{count(len(drift.found), 'file or folder', 'files and folders')} of backups: {name} {why}"
    hint = "`snapward repair --permissions` mends it. Find out what changed them."
    return Finding("permissions_drift", drift.location, Level.WARNING, told, hint)


def mend(
    db: sqlite3.Connection, drift: Drift, place: tuple[str, str | None], wanted: Permissions, who: str, now: float
) -> int:
    """Set modes and owners as configured; returns how many were set.

    Raises:
        NoRights: the agent's user may not.
        CannotWrite: the location is read-only.
    """
    if not drift.found:
        return 0
    folders = sorted({_backup_of(name) for name, _ in drift.found})
    with host.anchored(*place) as anchor:
        if not anchor.at:
            return 0
        with writing(db):
            begun = [deeds.begin(db, "permissions", drift.location, one, _why(drift, one), who, now) for one in folders]
        outcome, done = f"{deeds.NOT_DONE}: not all could be set", 0
        try:
            for name, _ in drift.found:
                with write.explained(os.path.join(place[0], name)):
                    _set(os.path.join(anchor.at, raw(name)), wanted)
                done += 1
            outcome = "done"
        finally:
            with writing(db):
                for one in begun:
                    deeds.end(db, one, now, outcome)
    return done


def _why(drift: Drift, folder: str) -> str:
    mine = [(name, why) for name, why in drift.found if _backup_of(name) == folder]
    return f"{mine[0][0]} {mine[0][1]}" + (f", and {len(mine) - 1:,} more" if mine[1:] else "")


def _backup_of(name: str) -> str:
    return "/".join(name.split("/")[:2])


def _folders(db: sqlite3.Connection, location: str) -> set[str]:
    """Folders of backups of ours; what lies loose belongs to whoever put it there."""
    there = catalogue.folders(db, location)
    return {
        one.folder
        for one in catalogue.all_folders(db)
        if one.location == location and one.manifest and one.folder in there and one.engine in {"edge", "qdrant"}
    }


def _entries(root: str, folders: Iterable[str]) -> Iterator[tuple[str, os.stat_result]]:
    above: Mapping[str, None] = dict.fromkeys(one.rpartition("/")[0] for one in folders)
    for name in [one for one in above if one] + sorted(folders):
        path = os.path.join(root, raw(name))
        try:
            yield raw(name), os.lstat(path)
            if name in above:
                continue
            with os.scandir(path) as entries:
                for one in entries:
                    yield f"{raw(name)}/{one.name}", one.stat(follow_symlinks=False)
        except OSError:
            continue  # gone meanwhile, or not to be listed: other rules tell of that


def _wrong(what: os.stat_result, wanted: Permissions) -> str:
    if stat.S_ISDIR(what.st_mode):
        mode = wanted.folders
    elif stat.S_ISREG(what.st_mode):
        mode = wanted.files
    else:
        return ""
    has = stat.S_IMODE(what.st_mode)
    if stat.S_ISDIR(what.st_mode):
        has &= ~stat.S_ISGID  # which a folder may have from the one above it, and gives no rights
    if has != mode:
        return f"has mode {has:o}, not {mode:o}"
    if wanted.owner is not None and what.st_uid != wanted.owner:
        return f"belongs to user {what.st_uid}, not {wanted.owner}"
    if wanted.group is not None and what.st_gid != wanted.group:
        return f"belongs to group {what.st_gid}, not {wanted.group}"
    return ""


def _set(path: str, wanted: Permissions) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = wanted.folders if stat.S_ISDIR(os.fstat(fd).st_mode) else wanted.files
        if wanted.owner is not None or wanted.group is not None:
            keep = -1
            os.fchown(
                fd,
                keep if wanted.owner is None else wanted.owner,
                keep if wanted.group is None else wanted.group,
            )
        os.fchmod(fd, mode)
    finally:
        os.close(fd)
