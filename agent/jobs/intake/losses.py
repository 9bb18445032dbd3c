"""Write down what is gone, and what is not what it looks like."""

import sqlite3
from collections.abc import Iterable, Mapping
from datetime import tzinfo
from math import inf

from msgspec import Struct

from agent.adapters.ledger import catalogue, deeds, incidents, seals, writing
from agent.adapters.ledger.catalogue import Archive, Key
from agent.jobs.intake import acceptance, tampering
from agent.jobs.intake.survey import Survey
from agent.jobs.intake.verdicts import Telling, gone, rejudge, sums_finding
from agent.rules import archive as rules
from agent.rules import checksums
from agent.rules.finding import Finding, Level, ok
from agent.rules.incident import Turn
from agent.rules.keeping import Age
from agent.rules.words import count, span


class Keeps(Struct, frozen=True):
    """How long each tier keeps its backups, by the calendar of `zone`; one that keeps a number of them is not in it."""

    ages: Mapping[str, Age]
    zone: tzinfo


def part_with(
    db: sqlite3.Connection, found: Survey, keeps: Keeps, minimum_size: int, now: float, telling: Telling
) -> list[Turn]:
    """Write down what a survey found gone, odd or unreadable, in one transaction.

    What the agent itself took away is forgotten without a word, and so is an archive of another program that is older
    than its tier `keeps`. When most of a location goes at once, that is one incident and not thousands.
    """
    location = found.place.name
    with writing(db):
        before = catalogue.present(db, location)
        left = [key for key in found.gone if catalogue.signature(db, key) is not None]
        findings: list[Finding] = []
        for key in [one for one in left if checksums.is_checksum_file(one.name)]:
            findings.append(sums_finding(key, ""))
            findings += rejudge(db, catalogue.forget_sums(db, key), minimum_size, now)
        strangers = tampering.strangers(db)
        lost: dict[Key, Finding] = {}
        for key in [one for one in left if not checksums.is_checksum_file(one.name)]:
            over, missed = _parted(db, key, keeps, now, strangers)
            findings += over
            if missed is not None:
                lost[key] = missed
        findings += _losses(location, lost, before)
        findings += _manifests(db, [one for one in left if one.name == checksums.MANIFEST], strangers)
        uncompared = catalogue.uncompared(db, location, {key.folder for key in left})
        findings += [rules.uncompared(f"{location}:{folder}", number) for folder, number in uncompared.items()]
        findings += _oddities(db, found)
        return incidents.observe(db, findings, now, telling.policy, telling.severities)


def _parted(
    db: sqlite3.Connection, key: Key, keeps: Keeps, now: float, strangers: Mapping[str, float]
) -> tuple[list[Finding], Finding | None]:
    """What is over with an archive that is gone, and the finding about its loss if nothing excuses that."""
    known, sealed = catalogue.archive(db, key), seals.sealed(db, key)
    about = rules.subject(*key)
    finding = tampering.excused(db, key, known, sealed)
    if known is not None and known.arrived >= strangers.get(f"{key.location}:{key.folder}", inf):
        finding = ok("archive_vanished", about, "what somebody else had put there is gone")
    if finding.level is Level.OK:
        catalogue.forget(db, key)
        return _over(about, finding.why), None
    outlived = _outlived(db, key, keeps, now)
    why = outlived or "it was here, and is gone"
    catalogue.vanish(db, key, why, now)
    if outlived:
        return _over(about, outlived), None
    if sealed is None:
        return [], rules.finding(about, gone(why))
    return [ok(rule, about, "it is gone") for rule in ("archive_bad", "archive_changed")], finding


def _over(about: str, why: str) -> list[Finding]:
    return [ok(rule, about, why) for rule in ("archive_bad", "archive_changed", "archive_vanished")]


def _manifests(db: sqlite3.Connection, keys: Iterable[Key], strangers: Mapping[str, float]) -> list[Finding]:
    """What follows from manifests that are gone: a loss of their own only where the archives beside them are not."""
    findings = []
    for key in keys:
        about = rules.subject(*key)
        findings.append(ok("archive_foreign", f"{key.location}:{key.folder}", "it is gone"))
        findings.append(ok("archive_changed", about, "it is gone"))
        sealed = seals.sealed(db, key)
        excused = tampering.excused(db, key, None, sealed)
        bereft = any(one.vanished is None for one in catalogue.archives(db, key.location, key.folder))
        foreign = sealed is not None and sealed.at >= strangers.get(f"{key.location}:{key.folder}", inf)
        if excused.level is Level.OK or foreign:
            seals.seal(db, key, None)
        elif bereft and sealed is not None:
            findings.append(excused)
    return findings


def let_go(
    db: sqlite3.Connection, keeps: Keeps, now: float, telling: Telling, *, everything: bool, who: str = ""
) -> int:
    """Stop to mourn archives that would have been removed by now, or accept `everything` that is gone or changed.

    Returns how many were let go. What `who` accepts is written down as a deed.
    """
    number = 0
    with writing(db):
        findings: list[Finding] = []
        accepted: dict[tuple[str, str], None] = {}
        for one in catalogue.archives(db):
            if one.vanished is None:
                continue
            why = "accepted: it is gone" if everything else _outlived(db, one.key, keeps, now)
            if why:
                catalogue.forget(db, one.key)
                findings += _over(rules.subject(*one.key), why)
                accepted[one.key.location, one.key.folder] = None
                number += 1
        if everything:
            for location, folder in accepted:
                deeds.note(db, "reconcile", location, folder, "what was there is gone", who, now)
            findings += acceptance.accept(db, who, now)
        incidents.observe(db, findings, now, telling.policy, telling.severities)
    return number


def _outlived(db: sqlite3.Connection, key: Key, keeps: Keeps, now: float) -> str:
    """Why an archive of another program may go without a word; ours go only by a deed."""
    if catalogue.folder(db, key.location, key.folder) is not None:
        return ""
    tier = key.folder.rpartition("/")[2]
    born, age = _born(catalogue.archive(db, key), now), keeps.ages.get(tier)
    if age is None or born >= age.before(now, keeps.zone):
        return ""
    return f"gone at the age of {span(now - born)}; {tier} backups are kept {age}"


def _born(known: Archive | None, now: float) -> float:
    """When a loose archive was made; one that never lay there has no time of its own."""
    if known is None:
        return now
    return min(known.arrived, known.signature.mtime_ns / 1e9) if known.signature.mtime_ns else known.arrived


def _losses(location: str, lost: Mapping[Key, Finding], before: int) -> list[Finding]:
    if len(lost) >= 5 and len(lost) * 2 > before:
        return [
            Finding(
                "archives_vanished",
                location,
                Level.CRITICAL,
                f"{count(len(lost), 'archive')} of {before:,} vanished at once",
                "Was the location emptied or replaced, or another disk mounted? `snapward reconcile` accepts the loss.",
            )
        ]
    return list(lost.values())


def _oddities(db: sqlite3.Connection, found: Survey) -> list[Finding]:
    """Things that are no files or cannot be listed; what a whole survey no longer finds is over."""
    now_odd = {
        ("not_an_archive", rules.subject(*key)): Finding(
            "not_an_archive",
            rules.subject(*key),
            Level.WARNING,
            f"is named like an archive, but is {kind}",
            "It is not looked into. Rename or remove it, or mend watch.patterns.",
        )
        for key, kind in found.odd.items()
    }
    now_odd |= {
        ("folder_unreadable", f"{found.place.name}:{folder}"): Finding(
            "folder_unreadable",
            f"{found.place.name}:{folder}",
            Level.CRITICAL,
            f"the folder cannot be listed: {why}; what lies in it cannot be checked",
            "Give the agent's user the right to read it, or look at the disk.",
        )
        for folder, why in found.unread.items()
    }
    over = [
        Finding(one.rule, one.subject, Level.OK, "no longer so")
        for one in incidents.active(db)
        if found.whole
        and one.rule in {"not_an_archive", "folder_unreadable"}
        and one.subject.startswith(f"{found.place.name}:")
        and (one.rule, one.subject) not in now_odd
    ]
    return [*now_odd.values(), *over]


def returned(db: sqlite3.Connection, location: str, now: float, telling: Telling) -> list[Turn]:
    """End the incident of a mass loss when most of what vanished then is back."""
    for incident in incidents.active(db):
        if incident.rule == "archives_vanished" and incident.subject == location:
            here = catalogue.present(db, location)
            still_gone = catalogue.vanished_since(db, location, incident.since)
            if still_gone * 2 <= here:
                over = Finding(
                    "archives_vanished", location, Level.OK, f"{count(here, 'archive')} here, {still_gone:,} still gone"
                )
                with writing(db):
                    return incidents.observe(db, [over], now, telling.policy, telling.severities)
    return []
