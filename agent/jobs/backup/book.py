"""What a backup writes down while it is published: the deed, and in its manifest the one before it and a signature."""

import hashlib
import itertools
import os
import sqlite3
from collections.abc import Iterable, Mapping

from msgspec import structs

from agent.adapters.ledger import deeds, seals, writing
from agent.adapters.shelf import read
from agent.errors import AgentError
from agent.rules import checksums, manifest, seal
from agent.rules.manifest import Manifest
from agent.rules.names import is_backup_id
from agent.rules.seal import Previous


class Book:
    """The books of one backup; used by the thread that publishes it.

    Args:
        db: the ledger, outside any transaction; None where there is none.
        who: makes the backup.
        why: it is made.
        key: that manifests are signed with; empty where they are not.
    """

    def __init__(self, db: sqlite3.Connection | None = None, who: str = "", why: str = "", key: bytes = b"") -> None:
        self._db = db
        self._who = who
        self._why = why
        self._key = key
        self._begun: dict[str, int] = {}

    def describe(self, described: Manifest, locations: Mapping[str, str | None]) -> Manifest:
        """A manifest with the newest one before it, and with its signature.

        Args:
            described: without them.
            locations: the folder of the tier in each; None where the location is away.
        """
        whole = structs.replace(described, previous=self._previous(described.tier, locations), signature="")
        if not self._key:
            return whole
        return structs.replace(whole, signature=seal.sign(self._key, manifest.encode(whole)))

    def begin(self, location: str, path: str, now: float) -> None:
        """Write down that a backup is about to appear in a location."""
        if self._db is not None:
            with writing(self._db):
                self._begun[location] = deeds.begin(self._db, "backup", location, path, self._why, self._who, now)

    def end(self, outcomes: dict[str, str], usual: str, signed: float | None, now: float) -> None:
        """Write down what came of it in each location: `usual`, or that it was not done there, and why."""
        if self._db is None or not self._begun:
            return
        with writing(self._db):
            for location, number in self._begun.items():
                deeds.end(self._db, number, now, outcomes.get(location, usual))
            if self._key and signed is not None:
                seals.remember(self._db, seals.SEALING, signed)
        self._begun.clear()

    def _previous(self, tier: str, locations: Mapping[str, str | None]) -> Previous | None:
        """The newest manifest of a tier: of those that lie there, and of those in locations that are away."""
        found = _newest([path for path in locations.values() if path is not None], tier)
        for one in seals.sealed_folders(self._db) if self._db is not None else ():
            if one.location in locations and one.folder == f"{tier}/{one.backup}":
                found.append(Previous(one.backup, one.sha256))
        return max(found, key=lambda one: one.id, default=None)


def close_orphans(db: sqlite3.Connection, now: float) -> None:
    """End the deeds of backups that died, in the caller's transaction; only for the holder of the backup lock."""
    for one in deeds.unfinished(db, "backup"):
        deeds.end(db, one.id, now, "interrupted: its process died before it was done")


def _newest(folders: Iterable[str], tier: str) -> list[Previous]:
    """The newest backup of each folder that has a manifest of its own, as its file is now."""
    found = []
    for folder in folders:
        try:
            names = sorted(filter(is_backup_id, os.listdir(folder)), reverse=True)
        except OSError:
            continue
        links = (_link(folder, name, tier) for name in names)
        found += [*itertools.islice((one for one in links if one is not None), 1)]
    return found


def _link(folder: str, name: str, tier: str) -> Previous | None:
    try:
        data, _ = read.read_small(os.path.join(folder, name, checksums.MANIFEST))
        described = manifest.decode(data)
    except (OSError, AgentError, ValueError, read.Moved):
        return None
    known = described.id == name and described.tier == tier
    return Previous(name, hashlib.sha256(data).hexdigest()) if known else None
