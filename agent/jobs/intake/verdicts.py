"""Judge what was read, and write archives, verdicts, incidents and notices down in one transaction."""

import sqlite3
from collections.abc import Mapping

from msgspec import Struct

from agent.adapters.ledger import catalogue, incidents, seals, writing
from agent.adapters.ledger.catalogue import Folder, Key
from agent.jobs.intake import tampering
from agent.jobs.intake.reading import Outcome
from agent.rules import archive as rules
from agent.rules.finding import Finding, Level
from agent.rules.incident import Policy, Turn


class Telling(Struct, frozen=True):
    """Who is told of what, and when: the policy, and the least level of each target."""

    policy: Policy
    severities: Mapping[str, Level]


def accept(
    db: sqlite3.Connection, outcomes: list[Outcome], minimum_size: int, now: float, telling: Telling
) -> list[Turn]:
    """Judge what was read and write it down: archives, verdicts, incidents and notices in one transaction."""
    findings: list[Finding] = []
    touched: set[tuple[str, str]] = set()
    with writing(db):
        # Promises first: an archive and its checksum file often come to rest in the same moment.
        for outcome in sorted(outcomes, key=lambda one: one.promised is None):
            if outcome.moved or outcome.signature is None:
                continue
            touched.add((outcome.key.location, outcome.key.folder))
            if outcome.promised is not None:
                findings += _accept_promises(db, outcome, minimum_size, now)
            elif outcome.reading is not None:
                findings += _accept_reading(db, outcome, minimum_size, now)
        for location, folder in touched:
            number = catalogue.uncompared(db, location, [folder])[folder]
            findings.append(rules.uncompared(f"{location}:{folder}", number))
        return incidents.observe(db, findings, now, telling.policy, telling.severities)


def _accept_reading(db: sqlite3.Connection, outcome: Outcome, minimum_size: int, now: float) -> list[Finding]:
    key = outcome.key
    assert outcome.reading is not None  # noqa: S101 - the caller looked
    assert outcome.signature is not None  # noqa: S101 - the caller looked
    before = catalogue.archive(db, key)
    verdict = rules.judge(outcome.reading, catalogue.promises(db, key), minimum_size, key.name)
    catalogue.record(db, key, outcome.signature, outcome.reading, verdict, now)
    back = before is not None and before.vanished is not None
    sha256 = "" if outcome.reading.error else outcome.reading.sha256
    told = tampering.judged(db, key, outcome.signature, sha256, verdict.state, now, back=back)
    return [rules.finding(rules.subject(*key), verdict), *told]


def _accept_promises(db: sqlite3.Connection, outcome: Outcome, minimum_size: int, now: float) -> list[Finding]:
    key = outcome.key
    assert outcome.signature is not None  # noqa: S101 - the caller looked
    assert outcome.promised is not None  # noqa: S101 - the caller looked
    findings = [sums_finding(key, outcome.problem)]
    if outcome.folder is not None:
        findings += _accept_manifest(db, outcome, outcome.folder, now)
    concerned = catalogue.record_sums(db, key, outcome.signature, outcome.promised, outcome.problem)
    findings += rejudge(db, concerned, minimum_size, now)
    for name in outcome.absent:
        missing = Key(key.location, key.folder, name)
        known = catalogue.archive(db, missing)
        ours = tampering.excused(db, missing, None, seals.sealed(db, missing)).level is Level.OK
        if not ours and (known is None or known.vanished is None):
            why = f"{key.name} promises it, but it is not there"
            catalogue.vanish(db, missing, why, now)
            findings.append(rules.finding(rules.subject(*missing), gone(why)))
    return findings


def _accept_manifest(db: sqlite3.Connection, outcome: Outcome, folder: Folder, now: float) -> list[Finding]:
    """What a manifest tells of its folder, and whether it is one that should be there, and as it was."""
    key = outcome.key
    assert outcome.signature is not None  # noqa: S101 - the caller looked
    before = catalogue.folder(db, key.location, key.folder)
    there = catalogue.signature(db, key) is not None
    catalogue.record_folder(db, folder)
    state = rules.State.GOOD if folder.sha256 else rules.State.UNREADABLE
    findings = tampering.judged(db, key, outcome.signature, folder.sha256, state, now, back=not there)
    # One that was known before manifests were sealed came before there were deeds.
    if folder.sha256 and not there and (before is None or before.sha256):
        findings.append(tampering.appeared(db, folder))
    return findings


def rejudge(db: sqlite3.Connection, concerned: list[Key], minimum_size: int, now: float) -> list[Finding]:
    """A new promise about an archive that was read before needs no second reading."""
    findings = []
    for key in concerned:
        known = catalogue.archive(db, key)
        if known is None or known.reading is None or known.vanished is not None:
            continue
        verdict = rules.judge(known.reading, catalogue.promises(db, key), minimum_size, key.name)
        if (verdict.state, verdict.why) != (known.state, known.why):
            catalogue.rejudge(db, key, verdict, now)
            findings.append(rules.finding(rules.subject(*key), verdict))
            sha256 = "" if known.reading.error else known.reading.sha256
            findings += tampering.judged(db, key, known.signature, sha256, verdict.state, now)
    return findings


def sums_finding(key: Key, problem: str) -> Finding:
    """The finding about a checksum file: can what it promises be read?"""
    return Finding(
        "checksums_unreadable",
        rules.subject(*key),
        Level.WARNING if problem else Level.OK,
        problem or "can be read",
        "What it should promise cannot be compared. Write it anew with `sha256sum`.",
    )


def gone(why: str) -> rules.Verdict:
    """The verdict on an archive that is not there."""
    return rules.Verdict(rules.State.VANISHED, rules.ARRIVED, why)
