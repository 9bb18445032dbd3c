"""Write down what is gone, and what is not what it looks like."""

import sqlite3
from collections.abc import Mapping

from agent.adapters.ledger import catalogue, incidents, writing
from agent.adapters.ledger.catalogue import Archive, Key
from agent.jobs.intake.survey import Survey
from agent.jobs.intake.verdicts import Telling, gone, rejudge, sums_finding
from agent.rules import archive as rules
from agent.rules import checksums
from agent.rules.finding import Finding, Level
from agent.rules.incident import Turn
from agent.rules.words import count, span


def part_with(
    db: sqlite3.Connection, found: Survey, keeps: Mapping[str, float], minimum_size: int, now: float, telling: Telling
) -> list[Turn]:
    """Write down what a survey found gone, odd or unreadable, in one transaction.

    `keeps` is how long each tier keeps its backups, in seconds: what is older may go without a word. When
    most of a location goes at once, that is one incident and not thousands.
    """
    location = found.place.name
    with writing(db):
        before = catalogue.present(db, location)
        left = [key for key in found.gone if catalogue.signature(db, key) is not None]
        findings: list[Finding] = []
        for key in [one for one in left if checksums.is_checksum_file(one.name)]:
            findings.append(sums_finding(key, ""))
            findings += rejudge(db, catalogue.forget_sums(db, key), minimum_size, now)
        lost = []
        for key in [one for one in left if not checksums.is_checksum_file(one.name)]:
            expected = _outlived(db, key, keeps, now)
            catalogue.vanish(db, key, expected or "it was here, and is gone", now)
            if expected:
                findings.append(Finding("archive_bad", rules.subject(*key), Level.OK, expected))
            else:
                lost.append(key)
        findings += _losses(location, lost, before)
        uncompared = catalogue.uncompared(db, location, {key.folder for key in left})
        findings += [rules.uncompared(f"{location}:{folder}", number) for folder, number in uncompared.items()]
        findings += _oddities(db, found)
        return incidents.observe(db, findings, now, telling.policy, telling.severities)


def let_go(
    db: sqlite3.Connection, keeps: Mapping[str, float], now: float, telling: Telling, *, everything: bool
) -> int:
    """Stop to mourn archives that would have been removed by now, or `everything` that is gone.

    Returns how many were let go.
    """
    with writing(db):
        findings = []
        for one in catalogue.archives(db):
            if one.vanished is None:
                continue
            why = "accepted: it is gone" if everything else _outlived(db, one.key, keeps, now)
            if why:
                catalogue.forget(db, one.key)
                findings.append(Finding("archive_bad", rules.subject(*one.key), Level.OK, why))
        if everything:
            findings += [
                Finding("archives_vanished", one.subject, Level.OK, "accepted: they are gone")
                for one in incidents.active(db)
                if one.rule == "archives_vanished"
            ]
        incidents.observe(db, findings, now, telling.policy, telling.severities)
    return sum(1 for one in findings if one.rule == "archive_bad")


def _outlived(db: sqlite3.Connection, key: Key, keeps: Mapping[str, float], now: float) -> str:
    entry = catalogue.folder(db, key.location, key.folder)
    known = catalogue.archive(db, key)
    tier = entry.tier if entry else key.folder.rpartition("/")[2]
    born = entry.started if entry and entry.started else _born(known, now)
    keep = keeps.get(tier)
    if keep is None or now - born <= keep:
        return ""
    return f"gone at the age of {span(now - born)}; {tier} backups are kept {span(keep)}"


def _born(known: Archive | None, now: float) -> float:
    """When a loose archive was made; one that never lay there has no time of its own."""
    if known is None:
        return now
    return min(known.arrived, known.signature.mtime_ns / 1e9) if known.signature.mtime_ns else known.arrived


def _losses(location: str, lost: list[Key], before: int) -> list[Finding]:
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
    why = "it was here, and is gone"
    return [rules.finding(rules.subject(*key), gone(why)) for key in lost]


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
