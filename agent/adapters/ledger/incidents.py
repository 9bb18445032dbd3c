"""Incidents and the outbox: a change of state and the messages about it are one transaction."""

import sqlite3
from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from agent.rules.finding import Finding, Level
from agent.rules.incident import AHEAD, Change, Incident, Policy, Turn, next_turn, recipients, repeat, turn

_COLUMNS = "rule, subject, level, why, hint, since, opened, told, resolved, id"


class News(Struct, frozen=True):
    """One change of one incident, as it was when it happened; `at` is epoch seconds."""

    incident: Incident
    change: Change
    at: float
    level: Level
    why: str


class Notice(Struct, frozen=True):
    """One message to one target. `body` is the week for a report, else empty; times are epoch seconds."""

    id: int
    target: str
    kind: str
    body: str
    state: str
    created: float
    next_try: float
    attempts: int
    delivered: float | None
    error: str
    fallback_of: int | None


def _incident(row: tuple[object, ...]) -> Incident:
    rule, subject, level, *rest = row
    return Incident(rule, subject, Level(level), *rest)  # type: ignore[arg-type] # STRICT tables keep the types


def observe(
    db: sqlite3.Connection,
    findings: Iterable[Finding],
    now: float,
    policy: Policy,
    severities: Mapping[str, Level],
) -> list[Turn]:
    """Apply findings inside the caller's transaction; returns the turns that changed something.

    `severities` is the least level each target wants to hear of.
    """
    turns = []
    for finding in findings:
        row = db.execute(
            f"SELECT {_COLUMNS} FROM incident WHERE rule = ? AND subject = ? AND resolved IS NULL",
            (finding.rule, finding.subject),
        ).fetchone()
        step = turn(_incident(row) if row else None, finding, now, policy)
        turns += _apply(db, step, now, policy, severities)
    return turns


def remind(db: sqlite3.Connection, now: float, policy: Policy, severities: Mapping[str, Level]) -> list[Turn]:
    """Repeat what is still open after `repeat_interval`, and open what was held back long enough."""
    turns = []
    for incident in active(db):
        if now < next_turn(incident, now, policy):
            continue
        same = Finding(incident.rule, incident.subject, incident.level, incident.why, incident.hint)
        step = turn(incident, same, now, policy) if incident.opened is None else repeat(incident, now, policy)
        turns += _apply(db, step, now, policy, severities)
    return turns


def next_reminder(db: sqlite3.Connection, now: float, policy: Policy) -> float | None:
    """When `remind` next has something to do, if nothing else happens; epoch seconds.

    An incident that was told well ahead of `now` was told by a clock that has gone back since: it is due.
    """
    oldest, newest = db.execute(
        "SELECT min(told), max(told) FROM incident WHERE resolved IS NULL AND opened IS NOT NULL"
    ).fetchone()
    times = [next_turn(one, now, policy) for one in active(db, held_back=True)]
    if oldest is not None:
        times.append(now if newest > now + AHEAD else oldest + policy.repeat_interval)
    return min(times, default=None)


def active(db: sqlite3.Connection, *, held_back: bool = False) -> list[Incident]:
    """Every incident that is open or held back, or only those held back; worst first, then oldest."""
    only = " AND opened IS NULL" if held_back else ""
    rows = db.execute(f"SELECT {_COLUMNS} FROM incident WHERE resolved IS NULL{only} ORDER BY level DESC, since, id")
    return [_incident(row) for row in rows]


def level(db: sqlite3.Connection, rule: str, subject: str) -> Level:
    """How bad the open incident about something is; OK if there is none."""
    sql = "SELECT level FROM incident WHERE rule = ? AND subject = ? AND resolved IS NULL"
    row = db.execute(sql, (rule, subject)).fetchone()
    return Level(row[0]) if row else Level.OK


def between(db: sqlite3.Connection, since: float, until: float) -> list[Incident]:
    """Every incident that was open at some moment of a time span, oldest first."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM incident WHERE opened < ? AND (resolved IS NULL OR resolved >= ?) ORDER BY opened, id",
        (until, since),
    )
    return [_incident(row) for row in rows]


def recent(db: sqlite3.Connection, limit: int) -> list[Incident]:
    """All open incidents, worst first, then the newest that are over, `limit` of them."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM incident WHERE resolved IS NOT NULL AND opened IS NOT NULL"
        " ORDER BY resolved DESC LIMIT ?",
        (limit,),
    )
    return [*active(db), *map(_incident, rows)]


def _apply(
    db: sqlite3.Connection, step: Turn, now: float, policy: Policy, severities: Mapping[str, Level]
) -> list[Turn]:
    incident = step.incident
    if incident is None:
        return []
    incident = _store(db, incident)
    if step.change is None:
        return []
    rows = db.execute(
        "SELECT DISTINCT target FROM news JOIN notice ON notice.id = news.notice WHERE incident = ?", (incident.id,)
    )
    told = frozenset(row[0] for row in rows if row[0] in severities)  # one may have left the configuration
    for target in recipients(step.change, incident, severities, told, policy):
        _tell(db, target, incident, step.change, now, policy)
    return [Turn(incident, step.change)]


def _store(db: sqlite3.Connection, incident: Incident) -> Incident:
    values = (
        incident.rule,
        incident.subject,
        int(incident.level),
        incident.why,
        incident.hint,
        incident.since,
        incident.opened,
        incident.told,
        incident.resolved,
    )
    if incident.id:
        if incident.resolved is not None and incident.opened is None:
            db.execute("DELETE FROM incident WHERE id = ?", (incident.id,))  # held back, and never was one
            return incident
        db.execute(
            "UPDATE incident SET rule=?, subject=?, level=?, why=?, hint=?, since=?, opened=?, told=?,"
            " resolved=? WHERE id=?",
            (*values, incident.id),
        )
        return incident
    cursor = db.execute(f"INSERT INTO incident({_COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?,NULL)", values)
    return replace(incident, id=cursor.lastrowid or 0)


def waiting_alert(db: sqlite3.Connection, target: str, now: float, due: float, fallback_of: int | None = None) -> int:
    """The alert that waits for a target, due at `due` at the latest; a new one if none waits.

    There is never more than one: so a target hears of things in their order, and of a long outage in one message.
    """
    row = db.execute(
        "UPDATE notice SET next_try = min(next_try, ?2) WHERE target = ?1 AND kind = 'alert' AND state = 'waiting'"
        " RETURNING id",
        (target, due),
    ).fetchone()
    if row is None:
        row = db.execute(
            "INSERT INTO notice(target, kind, state, created, next_try, fallback_of)"
            " VALUES(?, 'alert', 'waiting', ?, ?, ?) RETURNING id",
            (target, now, due, fallback_of),
        ).fetchone()
    return int(row[0])


def _tell(db: sqlite3.Connection, target: str, incident: Incident, change: Change, now: float, policy: Policy) -> None:
    """Put one change into the message that waits for this target, or into a new one.

    What happens within `group_wait`, or while a target is down, becomes one message.
    """
    db.execute(
        "INSERT INTO news(notice, incident, change, at, level, why) VALUES(?,?,?,?,?,?)",
        (
            waiting_alert(db, target, now, now + policy.group_wait),
            incident.id,
            change,
            now,
            int(incident.level),
            incident.why,
        ),
    )
