"""The rounds of upkeep that learn what backups came to, and look ahead."""

import sqlite3
from collections.abc import Sequence
from datetime import tzinfo
from functools import cache

from agent.cli import expirable
from agent.cli.outlook import plans
from agent.jobs import figures, outlook, unusual
from agent.rules.finding import Finding
from agent.rules.keeping import Backup
from agent.settings import Settings


def unlike(db: sqlite3.Connection, zone: tzinfo, now: float) -> list[Finding]:
    """What is unusual about the newest backup, as soon as the catalogue knows of it."""
    figures.learn(db, now)
    return unusual.look(db, zone, now)


def ahead(db: sqlite3.Connection, settings: Settings, zone: tzinfo, now: float) -> list[Finding]:
    """What somebody has to know before it happens; what that takes is computed once a day."""

    @cache
    def locations() -> dict[str, Sequence[Backup]]:
        return {one.name: one.backups for one in expirable.locations(db, settings)}

    found = []
    for plan in plans(settings):
        outlook.refresh(db, plan, lambda name: locations()[name], zone, now)
        found += outlook.findings(db, plan, zone, now)
    return found
