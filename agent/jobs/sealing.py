"""Look through the manifests that are known for what somebody else did to them, and for how much of that there was."""

import sqlite3
from collections.abc import Collection, Iterable, Sequence

from msgspec import Struct

from agent.adapters.ledger import catalogue, deeds, incidents, seals, writing
from agent.adapters.ledger.catalogue import Folder
from agent.adapters.ledger.deeds import Deed
from agent.rules import manifest, seal, tamper
from agent.rules.checksums import MANIFEST
from agent.rules.finding import Finding, Level, ok
from agent.rules.incident import Incident
from agent.rules.manifest import Manifest
from agent.rules.names import backup_id
from agent.rules.seal import Link, Previous, Seen
from agent.rules.tamper import DAY, HOUR, RATED, Event

RULES = frozenset({"manifest_unsigned", "manifest_forged", "chain_broken", "tampering"})


class Known(Struct, frozen=True):
    """A manifest of a location, as its folder and as it was read."""

    folder: Folder
    manifest: Manifest

    @property
    def subject(self) -> str:
        """What findings about it call it."""
        return f"{self.folder.location}:{self.folder.folder}/{MANIFEST}"

    @property
    def name(self) -> str:
        """Of its folder: the id that it should have."""
        return self.folder.folder.rpartition("/")[2]

    @property
    def seen(self) -> Seen:
        """What is needed to check its signature."""
        return Seen(self.folder.digest, self.manifest.signature)


def look(db: sqlite3.Connection, keys: Sequence[bytes], locations: Iterable[str], now: float) -> list[Finding]:
    """Every finding about signatures, chains and the rate of tampering; reads no manifest but what the ledger has.

    Args:
        db: the ledger, outside any transaction.
        keys: the present one and older ones; none where nothing is signed.
        locations: names of those there are.
        now: epoch seconds.
    """
    places = list(locations)
    every = [Known(one, read) for one in seals.sealed_folders(db) if (read := catalogue.manifest(one)) is not None]
    known = [one for one in every if one.folder.location in places]
    accepted = deeds.accepted(db)
    findings = _signed(known, keys, _began(db, known, keys), accepted)
    for tier in sorted({one.folder.tier for one in every}):
        removed = deeds.removed(db, tier) | _unknown(db, tier, every, now)
        findings += _chained(tier, [one for one in every if one.folder.tier == tier], places, removed, accepted)
    findings += _touched(incidents.active(db), now)
    happened = list(incidents.between(db, now - DAY, now + 1.0))
    for place in places:
        archives = catalogue.present(db, place) + catalogue.vanished_since(db, place, 0.0)
        findings.append(tamper.tampering(place, _events(place, happened, accepted), archives, now))
    return findings


def _began(db: sqlite3.Connection, known: Sequence[Known], keys: Sequence[bytes]) -> float | None:
    """Since when manifests are signed; where that is not on record, the oldest that is signed tells."""
    began = seals.since(db, seals.SEALING)
    if began is None and keys:
        believed = [manifest.epoch(one.manifest.started) for one in known if not seal.judge(keys, one.seen)]
        began = min((at for at in believed if at is not None), default=None)
        if began is not None:
            with writing(db):
                seals.remember(db, seals.SEALING, began)
    return began


def _unknown(db: sqlite3.Connection, tier: str, every: Iterable[Known], now: float) -> set[str]:
    """Backups that others name, of which this ledger cannot know what became: they are older, or not looked at yet."""
    began = seals.since(db, seals.BOOKS)
    if began is None:
        began = now
        with writing(db):
            seals.remember(db, seals.BOOKS, began)
    ever = seals.ever(db, tier)
    named = {one.manifest.previous.id for one in every if one.manifest.previous is not None}
    fresh = {one.path for one in deeds.since(db, now - HOUR) if one.kind == "backup"}
    return {one for one in named - ever if one < backup_id(began) or f"{tier}/{one}" in fresh}


def _signed(
    known: Iterable[Known], keys: Sequence[bytes], began: float | None, accepted: Iterable[Deed]
) -> list[Finding]:
    fine = {(one.location, one.path, one.outcome) for one in accepted}
    first = None if began is None else backup_id(began)
    findings = []
    for one in known:
        if (one.folder.location, f"{one.folder.folder}/{MANIFEST}", one.folder.sha256) not in fine:
            expected = first is not None and one.name >= first
            findings += seal.signed(one.subject, one.seen, keys, expected=expected)
    return findings


def _chained(
    tier: str, known: Sequence[Known], places: Sequence[str], removed: Collection[str], accepted: Sequence[Deed]
) -> list[Finding]:
    """Each location's chain; what it lacks itself is taken from the others."""
    here = [one for one in known if one.folder.folder == f"{tier}/{one.folder.backup}"]
    changed = {one.path for one in accepted}
    waived = {one.folder.backup for one in here if f"{one.folder.folder}/{MANIFEST}" in changed}
    every = {one.folder.backup: _link(one, waived) for one in here}
    found: dict[str, Finding] = {}
    for place in places:
        own = every | {one.folder.backup: _link(one, waived) for one in here if one.folder.location == place}
        for finding in seal.chain(tier, list(own.values()), removed):
            if finding.level > found.get(finding.subject, finding).level or finding.subject not in found:
                found[finding.subject] = finding
    fine = {(one.path, one.why) for one in accepted}
    return [one for one in found.values() if (one.subject, f"{one.rule}: {one.why}") not in fine]


def _link(one: Known, waived: Collection[str]) -> Link:
    """A manifest in its chain; of those that somebody has accepted as they are, what they were is not compared."""
    previous = one.manifest.previous
    if previous is not None and previous.id in waived:
        previous = Previous(previous.id, "")
    return Link(one.folder.backup, "" if one.folder.backup in waived else one.folder.sha256, previous)


def _touched(active: Iterable[Incident], now: float) -> list[Finding]:
    """The end of what was told of files that hold what they held: nothing about that changes any more."""
    return [
        ok(one.rule, one.subject, "its content is what was proved")
        for one in active
        if one.rule == "archive_changed" and one.level is not Level.CRITICAL and one.since <= now - DAY
    ]


def _events(place: str, happened: Iterable[Incident], accepted: Sequence[Deed]) -> list[Event]:
    """What happened in a location and was not accepted; a file that was only touched is not counted."""
    events = []
    for one in happened:
        location, _, path = one.subject.partition(":")
        opened = one.opened
        if location != place or opened is None or one.rule not in RATED:
            continue
        if one.rule == "archive_changed" and one.level is not Level.CRITICAL:
            continue
        if not any(_accepts(deed, location, path) and deed.at >= opened for deed in accepted):
            events.append(Event(one.rule, one.subject, opened))
    return events


def _accepts(deed: Deed, location: str, path: str) -> bool:
    whole = deed.why.startswith("tampering: ")  # all that happened there
    return deed.location == location and (whole or path == deed.path or path.startswith(f"{deed.path}/"))
