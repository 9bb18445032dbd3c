"""Say what is unusual about the newest backup, and which collections are missing from it."""

import sqlite3
from datetime import tzinfo

import msgspec

from agent.adapters.ledger import computed, figures, incidents, writing
from agent.adapters.ledger.computed import Computed
from agent.rules import anomaly, inventory
from agent.rules.finding import Finding

RULES = frozenset((*anomaly.RULES, "collection_missing"))
_NAME = "unusual"


def look(db: sqlite3.Connection, zone: tzinfo, now: float) -> list[Finding]:
    """What is unusual now, and in words why what was is no longer.

    The figures of a backup stay as they are, so they are judged once for each new backup.
    """
    lately = figures.inventories(db, inventory.KNOWN, now)
    if not lately:
        return []
    basis = f"{figures.version(db)} {zone}"
    last = computed.find(db, _NAME)
    if last is not None and last.basis == basis:
        return msgspec.json.decode(last.told, type=list[Finding])
    found = inventory.judge(lately, zone)
    for name, history in figures.histories(db, anomaly.LOOKBACK, now).items():
        if name in lately[-1].points:
            found += anomaly.judge(name, history, zone)
    known = {(one.rule, one.subject) for one in incidents.active(db)}
    told = [one for one in found if one.level or (one.rule, one.subject) in known]
    with writing(db):
        computed.keep(db, _NAME, Computed(now, basis, msgspec.json.encode(told).decode()))
    return told


def new(db: sqlite3.Connection, backup: str, started: float) -> list[str]:
    """Collections that the whole backups shortly before this one did not hold."""
    lately = figures.inventories(db, inventory.KNOWN, started)
    return inventory.fresh(lately) if lately and lately[-1].backup == backup else []
