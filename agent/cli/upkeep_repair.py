"""What the round through the books sees of the locations: copies that lack, rights that drift, reading that lags."""

import sqlite3

from agent.adapters.ledger import incidents
from agent.cli import repairable, reread
from agent.jobs import reread as rereading
from agent.jobs.repair import rights
from agent.rules import repair
from agent.rules.finding import Finding
from agent.settings import Settings
from agent.settings.parts import permissions

COPIES = frozenset({"copies_unequal"})
REREAD = frozenset({"reverify_behind"})
RIGHTS = frozenset({"permissions_drift"})

_AWAY = frozenset({"location_unavailable", "location_hung"})


def copies(db: sqlite3.Connection, settings: Settings, now: float) -> list[Finding]:
    """Which locations lack good copies that others have; from the ledger alone."""
    away, back = _away(db, now)
    if len(settings.locations) < 2:
        return []
    found = repairable.plan(db, settings, now, away=away)
    return [repair.unequal(name, found, back.get(name, 0.0), now) for name in settings.locations if name not in away]


def behind(db: sqlite3.Connection, settings: Settings, now: float) -> list[Finding]:
    """Which locations are not read again as often as they should be; from the ledger alone."""
    if not settings.reread.budget:
        return []
    away, _ = _away(db, now)
    found = rereading.plans(db, settings.locations, reread.budget(settings), {}, now)
    return rereading.findings({name: plan for name, plan in found.items() if name not in away})


def drift(db: sqlite3.Connection, settings: Settings, now: float) -> list[Finding]:
    """Whose modes and owners are not as configured; the disks are asked once an hour, until then it stays as it was."""
    away, _ = _away(db, now)
    before = [one for one in incidents.active(db) if one.rule in RIGHTS]
    kept = [Finding(one.rule, one.subject, one.level, one.why, one.hint) for one in before]
    if not rights.due(db, now):
        return kept
    wanted = permissions(settings)
    found = []
    for name, one in settings.locations.items():
        seen = None if name in away else rights.look(db, name, one.path, one.mount, wanted)
        found += [rights.finding(seen)] if seen is not None else [it for it in kept if it.subject == name]
    return found


def _away(db: sqlite3.Connection, now: float) -> tuple[set[str], dict[str, float]]:
    """The locations that cannot be looked at, and when the others were last like that; epoch seconds."""
    away = {one.subject for one in incidents.active(db) if one.rule in _AWAY}
    back: dict[str, float] = {}
    for one in incidents.between(db, now - repair.YOUNG, now + 1):
        if one.rule in _AWAY and one.resolved is not None:
            back[one.subject] = max(back.get(one.subject, 0.0), one.resolved)
    return away, back
