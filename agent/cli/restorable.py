"""What can be restored: find the backup that is meant, and what is known of its collections."""

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from agent.adapters.ledger import catalogue, drills, incidents, known, restores, runs
from agent.adapters.ledger.restores import Restored
from agent.errors import BadUsage
from agent.jobs import overview
from agent.jobs.drill import recorded
from agent.jobs.drill.recorded import Recorded
from agent.jobs.overview import Backup
from agent.rules import drilling, subjects
from agent.rules.archive import ARRIVED, Form, Reading, Verdict, lowest, rank
from agent.rules.checksums import MANIFEST
from agent.rules.drilling import FAILED, PASSED, Proof
from agent.rules.facts import Archive
from agent.rules.manifest import Manifest
from agent.rules.recovery import choice
from agent.rules.recovery.choice import SET_ASIDE, TAKEN_UP_WITHIN, Candidate
from agent.rules.recovery.scene import Earlier, Wanted
from agent.rules.rehearsal import Expected
from agent.rules.subjects import Subject
from agent.rules.words import count, rfc3339
from agent.settings import Settings

JOB = "restore"


class Chosen(Struct, frozen=True, kw_only=True):
    """A backup to restore, with the collections that are asked for, and by target what was recorded of them."""

    backup: Backup
    manifest: Manifest | None
    wanted: tuple[Wanted, ...]
    expected: Mapping[str, Expected]
    missing: Mapping[str, str]
    notes: tuple[str, ...] = ()


def backup(
    db: sqlite3.Connection,
    settings: Settings,
    meant: str | None,
    at: float | None,
    names: Sequence[str],
    unfinished: str | None,
) -> Backup:
    """The backup that is meant: by its id, path or place in the row, or as the newest good one that was over by `at`.

    What a restore has put aside counts only by its id or path. With `names`, only a backup that holds all of them.
    While the restore of a backup is `unfinished`, that one is the newest: a later one may be of what it has left.

    Raises:
        BadUsage: there is none.
    """
    every = overview.backups(db, settings.locations)
    newest = None
    if at is None and meant in {None, "latest-good", "latest"} and unfinished is not None:
        newest = next((one for one in every if one.id == unfinished and one.tier != SET_ASIDE), None)
    if newest is not None:
        return newest
    if meant not in {None, "latest-good", "latest"}:
        roots = {name: os.path.realpath(one.path) for name, one in settings.locations.items()}
        if (found := overview.resolve(every, meant or "", roots)) is None:
            raise BadUsage(f"there is no backup {meant!r}", "`snapward list` shows those there are.")
        return found
    held: dict[tuple[str, str], set[str]] = {}
    for one in subjects.subjects(known.stock(db, settings.locations), tuple(settings.locations)):
        held.setdefault((one.tier, one.backup), set()).add(one.collection)
    fit = [(_candidate(one, held), one) for one in every if one.tier != SET_ASIDE]
    holding = [(told, one) for told, one in fit if told.names.issuperset(names)]
    if meant == "latest":
        newest = holding[0][1] if holding else None
    else:
        best = choice.newest([told for told, _ in holding], at, names)
        newest = next((one for told, one in holding if told is best), None)
    if newest is None:
        raise _none(set().union(*held.values()), len(holding), at, names)
    return newest


def _candidate(one: Backup, held: Mapping[tuple[str, str], set[str]]) -> Candidate:
    names = frozenset(held.get((one.tier, one.id), ()))
    return Candidate(one.id, one.tier, one.state, one.started, one.ended, names)


def _none(there: set[str], holding: int, at: float | None, names: Sequence[str]) -> BadUsage:
    """Why no backup is chosen, in words; `holding` is how many hold what is asked for."""
    if strange := [name for name in names if name not in there]:
        told = ", ".join(sorted(there)) or "nothing so far"
        return BadUsage(f"no backup has a collection {strange[0]!r}", f"There are backups of {told}.")
    of = f" of {', '.join(names)}" if names else ""
    by = f" that was over by {rfc3339(at)}" if at is not None else ""
    others = f"; there {'is' if holding == 1 else 'are'} {count(holding, 'other')}" if holding else ""
    hint = "`snapward verify` proves the newest; one that is named by its id is proved before anything is sent."
    return BadUsage(f"no backup{of}{by} is known to be good{others}", f"`snapward list` shows all. {hint}")


def chosen(
    db: sqlite3.Connection,
    settings: Settings,
    meant: Backup,
    pairs: Sequence[tuple[str, str]],
    renamed: str | None,
    only: str | None,
) -> Chosen:
    """What is known of the collections that are asked for.

    Args:
        db: the ledger.
        settings: all of them.
        meant: the backup.
        pairs: collections with their targets; without any, all of them.
        renamed: the target where there is only one collection and it was not named.
        only: the location that is read from; None for whichever has a sound copy.

    Raises:
        BadUsage: the backup has no such collection, or has several to rename.
    """
    places = [only] if only else list(settings.locations)
    stock = known.stock(db, places)
    spots = {(name, copy.path) for name, copy in meant.locations.items()}
    every = subjects.subjects(stock, places)
    found = {one.collection: one for one in every if one.backup == meant.id and one.spots & spots}
    if not found:
        raise BadUsage(f"backup {meant.id} has no collection in {' or '.join(places)}", "`snapward show` tells of it.")
    missing = {one["name"]: one["why"] for one in meant.failed}
    if renamed is not None:
        if len(found) != 1:
            number = count(len(found), "collection")
            raise BadUsage(f"backup {meant.id} has {number}: --as goes with one of them", _PAIRED)
        pairs = [(name, renamed) for name in found]
    for name, _ in pairs:
        if name not in found:
            why = f": it failed, {missing[name]}" if name in missing else ""
            there = ", ".join(sorted(found)) or "none"
            raise BadUsage(f"backup {meant.id} has no collection {name!r}{why}", f"It has: {there}.")
    roots = {name: one.path for name, one in settings.locations.items()}
    rows, proofs = {(one.location, one.folder, one.name): one for one in stock.archives}, drills.proofs(db)
    wanted, expected, notes = [], {}, list[str]()
    for name, target in pairs or [(one, one) for one in sorted(found)]:
        told = Recorded(Expected())
        if found[name].pieces:
            told = recorded.recorded(found[name], roots, found[name].pieces[0].sha256)
        one = Wanted(
            subject=found[name],
            target=target,
            entries=told.entries,
            low=told.expected.low,
            high=told.expected.high,
            **_proved(found[name], rows, proofs, _forged(db, found[name])),
        )
        wanted.append(one)
        expected[target] = told.expected
        notes += told.notes
    described = next((one for one in catalogue.all_folders(db) if (one.location, one.folder) in spots), None)
    read = catalogue.manifest(described) if described else None
    left = {} if pairs else missing
    return Chosen(
        backup=meant, manifest=read, wanted=tuple(wanted), expected=expected, missing=left, notes=tuple(notes)
    )


_PAIRED = "Write each --as behind its --collection."


def _forged(db: sqlite3.Connection, subject: Subject) -> str:
    """Why the manifest of a collection's backup is not to be trusted; empty if nothing speaks against it."""
    manifests = {f"{location}:{folder}/{MANIFEST}": location for location, folder in subject.spots}
    for one in incidents.active(db):
        if one.rule in {"manifest_forged", "manifest_unsigned"} and one.subject in manifests:
            return f"in {manifests[one.subject]}, {one.why}; --location reads from another location only"
    return ""


def _proved(
    subject: Subject, rows: Mapping[tuple[str, str, str], Archive], proofs: Mapping[str, Proof], forged: str
) -> dict[str, Any]:
    """How far the archives of a collection are proved, when that was, and what speaks against one of them."""
    levels, times, bad = [], list[float](), forged or subject.lacking
    for piece in subject.pieces:
        copies = [rows[key] for location, folder in piece.spots if (key := (location, folder, piece.file)) in rows]
        proof = proofs.get(piece.sha256)
        laid = [drilling.laid(Verdict(one.state, one.level, one.why), proof) for one in copies]
        levels.append(max((one.level for one in laid), key=rank, default=ARRIVED))
        times += [proof.at] if proof else [one.checked for one in copies if one.checked is not None][:1]
        if proof is not None and proof.state == FAILED:
            bad = bad or f"its newest rehearsal failed: {proof.why}"
        if not piece.spots:
            bad = bad or f"no copy of {piece.file} is sound: {'; '.join(piece.bad) or 'it is gone'}"
    rehearsed = all(one.sha256 in proofs and proofs[one.sha256].state == PASSED for one in subject.pieces)
    return {"level": lowest(levels), "proved": min(times, default=None), "bad": bad, "rehearsed": rehearsed}


def readings(db: sqlite3.Connection) -> dict[str, Reading]:
    """By SHA-256 of a file: what reading it to its end has shown, of those that were whole snapshots."""
    found = (one.reading for one in catalogue.archives(db))
    return {one.sha256: one for one in found if one and one.proved and one.form is Form.SNAPSHOT}


def unfinished(
    db: sqlite3.Connection, url: str, subject: Callable[[str], str], names: Sequence[str], now: float
) -> str | None:
    """The backup of which a restore broke off after it had begun; with `names` only if it had begun one of these.

    Args:
        db: the ledger.
        url: of the server.
        subject: what the history calls the restore of a backup.
        names: of the collections that are wanted now.
        now: epoch seconds.
    """
    notes = restores.since(db, url, now - TAKEN_UP_WITHIN)
    if not notes:
        return None
    newest = notes[-1]
    since = _broken_since(db, subject(newest.backup), now)
    if since is None or newest.began < since:
        return None
    begun = {one.collection for one in notes if one.backup == newest.backup and one.began >= since}
    return newest.backup if not names or begun & set(names) else None


def _broken_since(db: sqlite3.Connection, subject: str, now: float) -> float | None:
    ended = [one for one in runs.between(db, now - TAKEN_UP_WITHIN, now) if (one.job, one.subject) == (JOB, subject)]
    return choice.broken_since([(one.started, one.outcome) for one in ended], now)


def earlier(
    db: sqlite3.Connection, url: str, subject: str, backup: str, targets: Sequence[str], now: float
) -> dict[str, Earlier]:
    """By target, what a restore has noted that broke off: one of this backup, or one that put this backup aside.

    Args:
        db: the ledger.
        url: of the server.
        subject: what the history calls this restore.
        backup: that is restored.
        targets: where to.
        now: epoch seconds.
    """
    since = _broken_since(db, subject, now)
    found = {}
    for target in targets:
        note = restores.newest(db, url, target)
        if note is not None and _concerns(note, backup, since, now):
            kept = None if note.pre_restore == backup else note.pre_restore
            found[target] = Earlier(state=note.state, began=note.began, replaced=note.replaced, pre_restore=kept)
    return found


def _concerns(note: Restored, backup: str, since: float | None, now: float) -> bool:
    if note.state == "left":
        return False
    if note.pre_restore == backup:
        return note.state != "done" and now - note.began <= TAKEN_UP_WITHIN
    return note.backup == backup and since is not None and note.began >= since
