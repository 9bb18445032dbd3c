"""Drill one subject after the other, as long as there is time, and write down what came of each."""

import math
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence

from agent.adapters.ledger import drills, incidents, writing
from agent.adapters.ledger.drills import Drill
from agent.jobs.drill.rehearse import Order, rehearse
from agent.rules import drilling
from agent.rules.drilling import INCONCLUSIVE, PASSED, Measured
from agent.rules.finding import Finding, Level, ok
from agent.rules.incident import Policy
from agent.rules.subjects import Subject


def drill(
    db: sqlite3.Connection,
    subjects: Sequence[Subject],
    order: Order,
    *,
    deadline: float,
    until: float,
    policy: Policy,
    severities: Mapping[str, Level],
) -> Iterator[tuple[Subject, Drill | None]]:
    """Drill subjects in this order; yields each with its drill once that is written down, or None if time is short.

    Args:
        db: the ledger.
        subjects: what is drilled.
        order: how.
        deadline: seconds that each may take.
        until: when all of it has to be over, by the monotonic clock; infinite for no such moment.
        policy: of alerts.
        severities: the least level of each target.

    Raises:
        Stopped: it was asked to leave off; what is done is written down.
    """
    measured = {name: Measured(one.seconds, one.raw_bytes) for name, one in drills.newest(db).items()}
    measured |= {name: Measured(one.seconds, one.raw_bytes) for name, one in drills.newest(db, order.depth).items()}
    for subject in subjects:
        left = until - time.monotonic()
        if not math.isinf(left) and not drilling.fits(subject.raw_size, measured.get(subject.collection), left):
            yield subject, None
            continue
        done = rehearse(db, order, subject, min(deadline, left))
        findings = _findings(db, subject, done)
        with writing(db):
            drills.record(db, done)
            incidents.observe(db, findings, order.now(), policy, severities)
        yield subject, done


def _findings(db: sqlite3.Connection, subject: Subject, done: Drill) -> list[Finding]:
    if done.state == INCONCLUSIVE:
        return []
    over = [ok("drill_overdue", subject.collection, "it was drilled")]
    failed = drills.failed(db, subject.collection)
    newer = failed is not None and str(failed.evidence.get("taken")) > str(done.evidence.get("taken"))
    if done.state == PASSED and newer:
        return over  # that an older backup is fine helps nobody who would take the newer one
    return [*over, *drilling.failure(subject, done.state, done.why)]
