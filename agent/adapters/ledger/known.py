"""The catalogue as rules want it: every backup and archive, cut down to what counts."""

import sqlite3
from collections.abc import Iterable

from agent.adapters.ledger import catalogue
from agent.rules.archive import Form
from agent.rules.facts import Archive, Folder, Stock


def stock(db: sqlite3.Connection, locations: Iterable[str]) -> Stock:
    """What lies in these locations, and what lay there."""
    places = list(locations)
    return Stock(
        tuple(one for one in folders(db) if one.location in places),
        tuple(one for one in archives(db) if one.location in places),
        frozenset((place, folder) for place in places for folder in catalogue.folders(db, place)),
        frozenset((one.location, one.folder) for one in catalogue.all_folders(db) if not one.manifest),
    )


def folders(db: sqlite3.Connection) -> tuple[Folder, ...]:
    """Every backup that has a manifest, and one that can be read."""
    every = ((one, catalogue.manifest(one)) for one in catalogue.all_folders(db))
    return tuple(
        Folder(one.location, one.folder, one.tier, one.backup, one.started, manifest)
        for one, manifest in every
        if manifest is not None
    )


def archives(db: sqlite3.Connection) -> tuple[Archive, ...]:
    """Every archive ever seen, as it was judged when it was read."""
    return tuple(map(_archive, catalogue.archives(db)))


def _archive(one: catalogue.Archive) -> Archive:
    reading = one.reading
    return Archive(
        *one.key,
        size=one.signature.size,
        state=one.state,
        level=one.level,
        why=one.why,
        written=one.signature.mtime_ns / 1e9 or one.arrived,
        seconds=reading.seconds if reading else 0.0,
        arrived=one.arrived,
        checked=one.checked,
        vanished=one.vanished,
        sha256=reading.sha256 if reading else "",
        foreign=reading is not None and reading.form is Form.OTHER,
    )
