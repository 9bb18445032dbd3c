"""Look from the ledger alone whether the schedule is kept."""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import tzinfo

from msgspec import Struct
from msgspec.structs import replace

from agent.adapters.ledger import incidents, known, runs, schedule, writing
from agent.rules import drilling, freshness, timetable
from agent.rules.finding import Finding
from agent.rules.freshness import RULES, Done, Promise

__all__ = ["RULES", "TierStatus", "look", "since", "tiers"]

_STATES = {"ok": "ok", "late": "critical", "never": "critical", "waiting": "unknown"}


class TierStatus(Struct, frozen=True):
    """How one tier stands: its newest good backup, its next slot, and whether it is as fresh as it should be."""

    last_good: float | None
    next_run: float | None
    expected_every_seconds: float | None
    state: str
    why: str


def tiers(
    db: sqlite3.Connection,
    crons: Mapping[str, tuple[str, float]],
    made: Mapping[str, Done],
    zone: tzinfo,
    now: float,
) -> dict[str, TierStatus]:
    """Whether each tier has a good backup as new as its schedule promises.

    Args:
        db: the ledger.
        crons: the cron line and the grace, in seconds, of each tier.
        made: what backups each tier has.
        zone: of the cron lines.
        now: epoch seconds.
    """
    begun, going, found = since(db), runs.on_their_way(db), {}
    open_ = [(one.rule, one.subject) for one in incidents.active(db)]
    for name, (cron, grace) in crons.items():
        done, job = _newer(made.get(name, Done()), going.get(name)), f"backup:{name}"
        # Without an agent nobody noted from when on its slots count.
        start = begun.get(job, (runs.last_slot(db, job) or now) if done.good is None else 0.0)
        promise = Promise(cron, grace, start)
        fresh = freshness.stand(promise, done, zone, now)
        cause = freshness.cause(freshness.tier(name, promise, done, zone, now), open_)
        found[name] = TierStatus(
            done.good,
            timetable.next_slot(cron, now, zone),
            timetable.expected_every(cron, now, zone),
            _STATES[fresh.state],
            f"{fresh.why}; it follows from {cause}" if cause and _STATES[fresh.state] == "critical" else fresh.why,
        )
    return found


def since(db: sqlite3.Connection) -> dict[str, float]:
    """From when on the cron line of each job counts; epoch seconds."""
    return {job: at for job, (_, at) in schedule.noted(db).items()}


def look(
    db: sqlite3.Connection,
    crons: Mapping[str, tuple[str, float]],
    made: Mapping[str, Done],
    locations: Sequence[str],
    zone: tzinfo,
    now: float,
) -> list[Finding]:
    """Find what is late: tiers, collections in them, and jobs.

    Args:
        db: the ledger.
        crons: the cron line and the grace, in seconds, of each job; backups as backup:TIER.
        made: what backups each tier has.
        locations: those that count.
        zone: of the cron lines.
        now: epoch seconds.
    """
    lines = {job: cron for job, (cron, _) in crons.items()}
    if any(schedule.changes(db, lines, now)):  # the agent's ledger was begun anew, or there is no agent
        with writing(db):
            schedule.begin(db, lines, now)
    begun = since(db)
    promises = {job: Promise(cron, grace, begun[job]) for job, (cron, grace) in crons.items()}
    going = runs.on_their_way(db)
    open_ = {(one.rule, one.subject) for one in incidents.active(db)}
    names = [job.partition(":")[2] for job in promises if job.startswith("backup:")]
    found = [
        freshness.tier(
            name, promises[f"backup:{name}"], _newer(made.get(name, Done()), going.get(name)), zone, now, open_
        )
        for name in names
    ]
    stock = known.stock(db, locations)
    for one in freshness.shares(stock, locations, names, runs.planned(db)):
        promise = promises[f"backup:{one.tier}"]
        promise = replace(promise, since=max(promise.since, one.first))
        done = _newer(one.done, going.get(one.tier))
        found.append(freshness.collection(one.collection, one.tier, promise, done, zone, now, open_))
    for name, promise in promises.items():
        if not name.startswith("backup:"):
            found.append(freshness.job(name, promise, _done(db, name, promise), zone, now, open_))
    return freshness.told(found, open_)


def _newer(done: Done, going: float | None) -> Done:
    """Let what is being made, or was and has not been seen yet, count as on its way."""
    return done if going is None else replace(done, arriving=max(going, done.arriving or going))


def _done(db: sqlite3.Connection, name: str, promise: Promise) -> Done:
    # The quick drill after each backup is not the one that is planned.
    good = runs.newest(db, name, ("ok",), but=drilling.AFTER)
    lost = runs.newest(db, name, ("missed", "skipped"))
    going = runs.newest(db, name, ("running",), but=drilling.AFTER)
    if good is not None and good.started > promise.since:
        # The history is shorter than some jobs' period.
        with writing(db):
            schedule.note(db, name, promise.cron, good.started)
    over = good.ended or good.started if good else 0.0
    unrun = lost is not None and lost.started > max(promise.since, over)
    return Done(good.started if good else None, going.started if going else None, lost.why if lost and unrun else "")
