"""Judge what was read, and write archives, verdicts, incidents and notices down in one transaction."""

import sqlite3
from collections.abc import Mapping

from msgspec import Struct

from agent.adapters.ledger import catalogue, incidents, writing
from agent.adapters.ledger.catalogue import Key
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
                findings.append(_accept_reading(db, outcome, minimum_size, now))
        for location, folder in touched:
            number = catalogue.uncompared(db, location, [folder])[folder]
            findings.append(rules.uncompared(f"{location}:{folder}", number))
        return incidents.observe(db, findings, now, telling.policy, telling.severities)


def _accept_reading(db: sqlite3.Connection, outcome: Outcome, minimum_size: int, now: float) -> Finding:
    key = outcome.key
    assert outcome.reading is not None  # noqa: S101 - the caller looked
    assert outcome.signature is not None  # noqa: S101 - the caller looked
    verdict = rules.judge(outcome.reading, catalogue.promises(db, key), minimum_size, key.name)
    catalogue.record(db, key, outcome.signature, outcome.reading, verdict, now)
    return rules.finding(rules.subject(*key), verdict)


def _accept_promises(db: sqlite3.Connection, outcome: Outcome, minimum_size: int, now: float) -> list[Finding]:
    key = outcome.key
    assert outcome.signature is not None  # noqa: S101 - the caller looked
    assert outcome.promised is not None  # noqa: S101 - the caller looked
    concerned = catalogue.record_sums(db, key, outcome.signature, outcome.promised, outcome.problem)
    if outcome.folder is not None:
        catalogue.record_folder(db, outcome.folder)
    findings = [sums_finding(key, outcome.problem)]
    findings += rejudge(db, concerned, minimum_size, now)
    for name in outcome.absent:
        missing = Key(key.location, key.folder, name)
        known = catalogue.archive(db, missing)
        if known is None or known.vanished is None:
            why = f"{key.name} promises it, but it is not there"
            catalogue.vanish(db, missing, why, now)
            findings.append(rules.finding(rules.subject(*missing), gone(why)))
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
