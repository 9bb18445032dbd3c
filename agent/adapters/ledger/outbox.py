"""The outbox: messages are rows before they are sent and stay rows after.

Whoever delivers holds the lock of the job `deliver`, so a row in state `sending` that is found at start belongs
to a process that died: it is sent again. A crash repeats a message and never loses one.
"""

import json
import sqlite3
from collections.abc import Collection

from agent.adapters.ledger.incidents import News, Notice, waiting_alert
from agent.rules.delivery import INTERRUPTED, LONGEST_PLAN
from agent.rules.finding import Level
from agent.rules.incident import Change, Incident

_NOTICE = "id, target, kind, body, state, created, next_try, attempts, delivered, error, fallback_of"


def enqueue(db: sqlite3.Connection, target: str, kind: str, body: str, now: float) -> int | None:
    """Put a report or a test message into the outbox; None if this very report is there already."""
    cursor = db.execute(
        "INSERT OR IGNORE INTO notice(target, kind, body, state, created, next_try) VALUES(?, ?, ?, 'waiting', ?, ?)",
        (target, kind, body, now, now),
    )
    return cursor.lastrowid if cursor.rowcount else None


def recover(db: sqlite3.Connection) -> int:
    """Take back what a deliverer that died had in hand; only for the holder of the deliver lock."""
    rows = db.execute("SELECT id, next_try FROM notice WHERE state = 'sending' ORDER BY id").fetchall()
    for notice, planned in rows:
        postponed(db, notice, INTERRUPTED, planned)
    return len(rows)


def claim(db: sqlite3.Connection, now: float, only: int | None = None, tried: Collection[int] = ()) -> Notice | None:
    """The next message that is due and not in `tried`, marked as being sent; None when there is none.

    Fresh messages go first, so that a target that hangs keeps nobody else waiting. A try that is planned too far
    ahead was planned by a clock that has gone back since: it is due. `only` claims that one message, due or not.
    """
    row = db.execute(
        "UPDATE notice SET state = 'sending', attempts = attempts + 1 WHERE id = (SELECT id FROM notice"
        " WHERE state = 'waiting' AND id NOT IN (SELECT value FROM json_each(?4))"
        " AND (id = ?2 OR (?2 IS NULL AND (next_try <= ?1 OR next_try > ?1 + ?3)))"
        f" ORDER BY attempts > 0, next_try, id LIMIT 1) RETURNING {_NOTICE}",
        (now, only, LONGEST_PLAN, json.dumps(list(tried))),
    ).fetchone()
    return Notice(*row) if row else None


def news(db: sqlite3.Connection, notice: int) -> list[News]:
    """What a message tells, in the order in which it happened."""
    rows = db.execute(
        "SELECT rule, subject, i.level, i.why, hint, since, opened, told, resolved, i.id,"
        " change, at, n.level, n.why FROM news n JOIN incident i ON i.id = n.incident WHERE notice = ?"
        " ORDER BY n.id",
        (notice,),
    )
    return [
        News(
            Incident(row[0], row[1], Level(row[2]), *row[3:10]),
            Change(row[10]),
            row[11],
            Level(row[12]),
            row[13],
        )
        for row in rows
    ]


def delivered(db: sqlite3.Connection, notice: int, now: float) -> None:
    """The target has it."""
    db.execute("UPDATE notice SET state = 'delivered', delivered = ?, error = '' WHERE id = ?", (now, notice))


def postponed(db: sqlite3.Connection, notice: int, error: str, next_try: float) -> None:
    """The target did not take it; try again at `next_try`.

    An alert that came while it was being sent joins it, and keeps its own time if that is earlier.
    """
    younger = (
        "SELECT later.id FROM notice later JOIN notice this USING(target, kind) WHERE this.id = ?1"
        " AND later.id > this.id AND later.state = 'waiting' AND kind = 'alert'"
    )
    db.execute(
        "UPDATE notice SET state = 'waiting', error = ?2, next_try ="
        f" min(?3, ifnull((SELECT min(next_try) FROM notice WHERE id IN ({younger})), ?3)) WHERE id = ?1",
        (notice, error, next_try),
    )
    db.execute(f"UPDATE news SET notice = ?1 WHERE notice IN ({younger})", (notice,))
    db.execute(f"DELETE FROM notice WHERE id IN ({younger})", (notice,))


def dropped(db: sqlite3.Connection, notice: int, error: str) -> None:
    """Given up for good: the target no longer exists, or the message is too old."""
    db.execute("UPDATE notice SET state = 'dropped', error = ? WHERE id = ?", (error, notice))


def send_to_fallback(db: sqlite3.Connection, notice: Notice, fallback: str, now: float) -> None:
    """Tell another target at once what it has not been told yet of an alert or a report.

    Doing it again adds only what is new, so it is done after every failure.
    """
    if notice.kind != "alert":
        db.execute(
            "INSERT OR IGNORE INTO notice(target, kind, body, state, created, next_try, fallback_of)"
            " VALUES(?, ?, ?, 'waiting', ?, ?, ?)",
            (fallback, notice.kind, notice.body, now, now, notice.id),
        )
        return
    untold = db.execute(
        "SELECT incident, change, at, level, why FROM news WHERE notice = ?1 AND (incident, change, at) NOT IN"
        " (SELECT incident, change, at FROM news JOIN notice ON notice.id = news.notice WHERE target = ?2)"
        " ORDER BY id",
        (notice.id, fallback),
    ).fetchall()
    if untold:
        copy = waiting_alert(db, fallback, now, now, notice.id)
        db.executemany(
            "INSERT INTO news(notice, incident, change, at, level, why) VALUES(?, ?, ?, ?, ?, ?)",
            [(copy, *row) for row in untold],
        )


def next_due(db: sqlite3.Connection, now: float) -> float | None:
    """When the next message is due, or was; epoch seconds, None when the outbox is empty."""
    planned = db.execute("SELECT min(next_try) FROM notice WHERE state IN ('waiting', 'sending')").fetchone()[0]
    if planned is None:
        return None
    return now if planned > now + LONGEST_PLAN else float(planned)


def between(db: sqlite3.Connection, since: float, until: float) -> list[Notice]:
    """Every message that was created in a time span."""
    rows = db.execute(f"SELECT {_NOTICE} FROM notice WHERE created >= ? AND created < ? ORDER BY id", (since, until))
    return [Notice(*row) for row in rows]


def waiting(db: sqlite3.Connection) -> list[Notice]:
    """Every message that has not been delivered yet."""
    rows = db.execute(f"SELECT {_NOTICE} FROM notice WHERE state IN ('waiting', 'sending') ORDER BY id")
    return [Notice(*row) for row in rows]
