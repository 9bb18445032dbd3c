"""Tell what the agent did to backups from what somebody else did, and remember what they were when they were proved."""

import sqlite3

from agent.adapters.ledger import catalogue, deeds, incidents, runs, seals
from agent.adapters.ledger.catalogue import Archive, Folder, Key
from agent.rules import tamper
from agent.rules.archive import Signature, State, subject
from agent.rules.checksums import MANIFEST
from agent.rules.finding import Finding, Level, ok
from agent.rules.tamper import DAY, Action, Arrival, Run, Sealed


def judged(
    db: sqlite3.Connection, key: Key, found: Signature, sha256: str, state: State, now: float, *, back: bool = False
) -> list[Finding]:
    """What follows from reading a file that may have been proved before; what is proved now is remembered.

    Args:
        db: inside a transaction.
        key: the file.
        found: what it looks like.
        sha256: of what it holds; empty if it could not be read.
        state: the verdict on it.
        now: epoch seconds.
        back: whether it had vanished.
    """
    sealed = seals.sealed(db, key)
    about = subject(*key)
    findings = [ok("archive_vanished", about, "it is there again")] if back else []
    if sealed is not None:
        finding = _changed(db, key, sealed, found, sha256, state, back=back)
        if finding is None:
            return findings
        findings.append(finding)
        if finding.level is Level.CRITICAL:
            return findings
    if sha256 and state is State.GOOD:
        seals.seal(db, key, Sealed(found, sha256, now))
    elif sha256 and sealed is not None:
        same = sha256 == sealed.sha256  # what it is compared with says otherwise, and it is as it was
        seals.seal(db, key, Sealed(found, sha256, sealed.at) if same else None)
    return findings


def _changed(
    db: sqlite3.Connection, key: Key, sealed: Sealed, found: Signature, sha256: str, state: State, *, back: bool
) -> Finding | None:
    about = subject(*key)
    if back and sha256 == sealed.sha256:
        return ok("archive_changed", about, "it is there again, as it was proved")
    rewritten = found.mtime_ns != sealed.signature.mtime_ns and state is State.GOOD
    if rewritten and catalogue.folder(db, key.location, key.folder) is None:
        return ok("archive_changed", about, "written anew, with its checksum, by the program that makes it")
    unlike = (found, sha256) != (sealed.signature, sealed.sha256)
    finding = tamper.changed(*key, sealed, found, sha256, actions(db, key) if unlike else ())
    touched = finding is not None and finding.level is Level.WARNING
    if touched and incidents.level(db, "archive_changed", about) is Level.CRITICAL:
        return ok("archive_changed", about, "its content is again what was proved")
    return finding


def excused(db: sqlite3.Connection, key: Key, known: Archive | None, sealed: Sealed | None) -> Finding:
    """The finding `archive_vanished` about a file that is gone; it is fine where the agent itself took it away."""
    told = sealed
    if told is None:
        told = Sealed(known.signature, "", known.arrived) if known else Sealed(Signature(0, 0, 0, 0), "", 0.0)
    return tamper.vanished(*key, told, actions(db, key))


def appeared(db: sqlite3.Connection, entry: Folder) -> Finding:
    """The finding `archive_foreign` about a backup's folder that is seen for the first time."""
    recorded = runs.recorded(db)
    if recorded is None:
        return ok("archive_foreign", f"{entry.location}:{entry.folder}", "nothing is on record yet")
    begun = [one for one in runs.between(db, *_around(entry)) if one.job == "backup"]
    known = [Run(one.subject, one.started, one.ended, str(one.figures.get("id") or "")) for one in begun]
    return tamper.foreign(
        Arrival(entry.location, entry.folder, entry.tier, entry.backup, entry.started, entry.ended),
        known,
        actions(db, Key(entry.location, entry.folder, MANIFEST)),
        recorded,
    )


def strangers(db: sqlite3.Connection) -> dict[str, float]:
    """Folders that somebody else put there, as `location:folder`, and since when; none that somebody accepted."""
    return {one.subject: one.since for one in incidents.active(db) if one.rule == "archive_foreign"}


def actions(db: sqlite3.Connection, key: Key) -> list[Action]:
    """What the agent itself did to a file, or to what it lies in."""
    path = f"{key.folder}/{key.name}" if key.folder else key.name
    return [Action(one.kind, one.location, one.path, one.at, one.ended) for one in deeds.about(db, key.location, path)]


def _around(entry: Folder) -> tuple[float, float]:
    started = entry.started or 0.0
    return started - DAY, started + DAY
