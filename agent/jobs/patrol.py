"""Patrol: note how a location's storage looks, and open or end the incidents that follow."""

import sqlite3

from agent.adapters.ledger import incidents, runs, writing
from agent.adapters.ledger.runs import Sample
from agent.rules import storage
from agent.rules.finding import Finding, Level
from agent.rules.incident import Policy, Turn
from agent.rules.storage import Limits, Patrol


def accept(
    db: sqlite3.Connection,
    patrol: Patrol,
    limits: Limits,
    now: float,
    policy: Policy,
    severities: dict[str, Level],
) -> list[Turn]:
    """Store one round past a location and what follows from it, in one transaction."""
    before = {one.rule: one.level for one in incidents.active(db) if one.subject == patrol.location}
    findings = [
        *storage.judge(patrol, limits, before),
        Finding("location_hung", patrol.location, Level.OK, "answers again"),
    ]
    worst = storage.worst(findings)
    with writing(db):
        if patrol.space is not None:
            runs.add_sample(
                db,
                Sample(
                    patrol.location,
                    now,
                    patrol.space.total,
                    patrol.space.used,
                    patrol.space.free,
                    patrol.space.used_percent,
                    patrol.space.inodes_percent,
                    worst.level.word,
                    worst.why,
                ),
            )
        return incidents.observe(db, findings, now, policy, severities)
