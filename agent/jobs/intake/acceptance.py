"""Accept, for somebody who asks for it, what happened to backups as they are now."""

import sqlite3

from agent.adapters.ledger import catalogue, deeds, incidents, seals
from agent.adapters.ledger.catalogue import Key
from agent.rules.archive import State
from agent.rules.checksums import MANIFEST
from agent.rules.finding import Finding, ok
from agent.rules.incident import Incident
from agent.rules.tamper import RATED, Sealed

_ENDED = RATED | {"archives_vanished", "tampering"}


def accept(db: sqlite3.Connection, who: str, now: float) -> list[Finding]:
    """End every incident about backups that changed, vanished or appeared; each is written down as a deed."""
    findings = []
    for one in incidents.active(db):
        if one.rule not in _ENDED or (one.rule == "archive_vanished" and not one.subject.endswith(f"/{MANIFEST}")):
            continue  # archives that are gone are let go by themselves
        location, path = _place(one)
        outcome = "accepted"
        if one.rule == "archive_changed":
            _reseal(db, location, path, now)
        elif one.rule in {"manifest_unsigned", "manifest_forged"}:
            entry = catalogue.folder(db, location, path.removesuffix(f"/{MANIFEST}"))
            outcome = entry.sha256 if entry else outcome
        deeds.note(db, "reconcile", location, path, f"{one.rule}: {one.why}", who, now, outcome)
        findings.append(ok(one.rule, one.subject, "accepted"))
    return findings


def _place(one: Incident) -> tuple[str, str]:
    if one.rule == "chain_broken":  # it is about a backup, wherever it lies
        return "", one.subject
    location, _, path = one.subject.partition(":")
    return location, path


def _reseal(db: sqlite3.Connection, location: str, path: str, now: float) -> None:
    folder, _, name = path.rpartition("/")
    key = Key(location, folder, name)
    known = catalogue.archive(db, key)
    entry = catalogue.folder(db, location, folder)
    seen = catalogue.signature(db, key)
    sha256 = ""
    if name == MANIFEST and entry is not None:
        sha256 = entry.sha256
    elif known is not None and known.state is State.GOOD and known.reading is not None:
        sha256 = known.reading.sha256
    seals.seal(db, key, Sealed(seen, sha256, now) if seen is not None and sha256 else None)
