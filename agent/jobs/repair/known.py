"""See from the ledger what each location has of each backup, and where it is asked from the disks."""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping

from agent.adapters.ledger import catalogue, copies, drills
from agent.adapters.ledger.catalogue import Archive, Folder
from agent.adapters.shelf import look, read
from agent.errors import AgentError
from agent.rules import drilling, manifest
from agent.rules.archive import BAD, Verdict
from agent.rules.checksums import MANIFEST
from agent.rules.copies import Backup, Copy, File, Is
from agent.rules.drilling import Proof
from agent.rules.repair import BASELINE, SIDES
from agent.rules.words import printable, raw

_MEMORY = 60 * 86_400.0  # what came longer ago may have been good at a time of which no verdict is kept

Sides = Callable[[str, str], tuple[Mapping[str, str], bool]]


def backups(
    db: sqlite3.Connection,
    locations: Collection[str],
    now: float,
    *,
    pinned: Collection[tuple[str, str]] = (),
    paths: Collection[str] | None = None,
    sides: Sides | None = None,
) -> list[Backup]:
    """Every backup that has a manifest somewhere, with what is known of its copies.

    Args:
        db: the ledger.
        locations: those that are configured.
        now: epoch seconds.
        pinned: tier and id of those that somebody wants to stay.
        paths: only these; all, if it is not given.
        sides: asked with location and path: the SHA-256 of the small files there, and whether to trust its manifest.
    """
    proofs, described, done = drills.proofs(db), copies.described(db), copies.dealt_with(db)
    archives: dict[str, dict[str, list[Archive]]] = {}
    for one in catalogue.archives(db):
        if one.key.location in locations:
            archives.setdefault(one.key.folder, {}).setdefault(one.key.location, []).append(one)
    folders: dict[str, dict[str, Folder]] = {}
    for entry in catalogue.all_folders(db):
        if entry.location in locations and (paths is None or entry.folder in paths):
            folders.setdefault(entry.folder, {})[entry.location] = entry
    found = []
    for path, entries in folders.items():
        read_ = next((one for one in entries.values() if one.manifest), None)
        if read_ is None:
            continue
        mine = archives.get(path, {})
        known = {
            name: _copy(db, entries.get(name), mine.get(name, []), proofs, (name, path), now, described, done)
            for name in locations
        }
        if sides is not None:
            known = {name: _looked(copy, *sides(name, path)) if copy.there else copy for name, copy in known.items()}
        found.append(_backup(path, read_, known, pinned))
    return found


def small_files(root: str, path: str, trusted: Callable[[bytes], bool]) -> tuple[dict[str, str], bool]:
    """The SHA-256 of the small files beside the archives of a copy, and whether its manifest is to be trusted.

    What cannot be read is told as an empty text.
    """
    found, trust = {}, True
    for name in sorted(one[0] for one in look.listing(root, path).files):
        if name not in SIDES and not name.endswith(BASELINE):
            continue
        try:
            data, _ = read.read_small(os.path.join(root, raw(path), raw(name)))
        except (OSError, AgentError, read.Moved):
            found[name] = ""
            continue
        found[name] = hashlib.sha256(data).hexdigest()
        if name == MANIFEST:
            trust = trusted(data)
    return found, trust


def _looked(copy: Copy, found: Mapping[str, str], trusted: bool) -> Copy:  # noqa: FBT001 - the two come as a pair
    return Copy(
        there=copy.there,
        had=copy.had,
        promised=copy.promised,
        files=copy.files,
        sides=found,
        problem=copy.problem,
        trusted=trusted,
    )


def _backup(path: str, entry: Folder, copies: Mapping[str, Copy], pinned: Iterable[tuple[str, str]]) -> Backup:
    started = entry.started or 0.0
    return Backup(
        tier=entry.tier,
        id=entry.backup,
        path=path,
        started=started,
        made=entry.ended or started,
        complete=not entry.failed,
        copies=copies,
        pinned=(entry.tier, entry.backup) in pinned,
    )


def _copy(
    db: sqlite3.Connection,
    entry: Folder | None,
    archives: list[Archive],
    proofs: Mapping[str, Proof],
    place: tuple[str, str],
    now: float,
    described: Collection[tuple[str, str]],
    done: Collection[tuple[str, str]],
) -> Copy:
    there = place in described or any(one.vanished is None for one in archives)
    said = catalogue.manifest(entry) if entry is not None and place in described else None
    promised = None
    if said is not None:
        promised = {printable(name): promise for name, promise in manifest.promises(said).items()}
    return Copy(
        there=there,
        had=entry is not None or place in done,
        promised=promised,
        files={one.key.name: _file(db, one, proofs, now) for one in archives},
        problem=entry.problem if entry is not None and place in described else "",
    )


def _file(db: sqlite3.Connection, one: Archive, proofs: Mapping[str, Proof], now: float) -> File:
    verdict = Verdict(one.state, one.level, one.why)
    proof = proofs.get(one.reading.sha256) if one.reading else None
    if proof is not None:
        verdict = drilling.laid(verdict, proof)
    if one.vanished is not None:
        return File(state=Is.MISSING, why=one.why, had=one.reading is not None)
    state = Is.UNREAD if one.reading is None else Is.BAD if verdict.bad else Is.GOOD
    bad = verdict.state in BAD
    return File(
        state=state,
        sha256=one.reading.sha256 if one.reading else "",
        why=verdict.why,
        verdict=str(verdict.state),
        level=verdict.level,
        checked=one.checked,
        had=not bad or now - one.arrived > _MEMORY or copies.was_good(db, one.key),
        signature=one.signature,
    )
