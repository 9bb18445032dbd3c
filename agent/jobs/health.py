"""Health: note how the server looks, and open or end the incidents that follow."""

import sqlite3

from agent.adapters.ledger import incidents, writing
from agent.rules import server
from agent.rules.finding import Finding, Level
from agent.rules.incident import Policy, Turn
from agent.rules.server import View


def accept(
    db: sqlite3.Connection,
    view: View,
    now: float,
    busy: frozenset[str],
    policy: Policy,
    severities: dict[str, Level],
) -> tuple[list[Finding], list[Turn]]:
    """Store what one look at the server found, in one transaction; `busy` are collections being backed up now."""
    active = [(one.rule, one.subject) for one in incidents.active(db)]
    findings = [*server.judge(view, now, busy=busy), *server.gone(active, view)]
    with writing(db):
        return findings, incidents.observe(db, findings, now, policy, severities)
