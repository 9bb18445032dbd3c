"""The outbox: messages are rows before they are sent and stay rows after.

Whoever delivers holds the lock of the job `deliver`, so a row in state `sending` that is found at start belongs
to a process that died: it is sent again. A crash repeats a message and never loses one.
"""

import sqlite3

from agent.adapters.ledger.incidents import News, Notice
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
    return db.execute("UPDATE notice SET state = 'waiting' WHERE state = 'sending'").rowcount


def claim(db: sqlite3.Connection, now: float, only: int | None = None) -> Notice | None:
    """The next message that is due, marked as being sent; None when nothing is.

    `only` claims that one message, due or not.
    """
    row = db.execute(
        "UPDATE notice SET state = 'sending', attempts = attempts + 1 WHERE id = (SELECT id FROM notice"
        " WHERE state = 'waiting' AND (id = ?2 OR (?2 IS NULL AND next_try <= ?1)) ORDER BY next_try, id"
        f" LIMIT 1) RETURNING {_NOTICE}",
        (now, only),
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
    """The target did not take it; try again at `next_try`."""
    db.execute("UPDATE notice SET state = 'waiting', error = ?, next_try = ? WHERE id = ?", (error, next_try, notice))


def dropped(db: sqlite3.Connection, notice: int, error: str) -> None:
    """Given up for good: the target no longer exists, or the message is too old."""
    db.execute("UPDATE notice SET state = 'dropped', error = ? WHERE id = ?", (error, notice))


def send_to_fallback(db: sqlite3.Connection, notice: Notice, fallback: str, now: float) -> None:
    """Send the same message through another target too, once."""
    if db.execute("SELECT 1 FROM notice WHERE fallback_of = ?", (notice.id,)).fetchone():
        return
    copy = db.execute(
        "INSERT OR IGNORE INTO notice(target, kind, body, state, created, next_try, fallback_of)"
        " VALUES(?, ?, ?, 'waiting', ?, ?, ?)",
        (fallback, notice.kind, notice.body, now, now, notice.id),
    )
    if copy.rowcount:
        db.execute(
            "INSERT INTO news(notice, incident, change, at, level, why)"
            " SELECT ?, incident, change, at, level, why FROM news WHERE notice = ?",
            (copy.lastrowid, notice.id),
        )


def next_due(db: sqlite3.Connection) -> float | None:
    """When the next message is due; epoch seconds, None when the outbox is empty."""
    value = db.execute("SELECT min(next_try) FROM notice WHERE state IN ('waiting', 'sending')").fetchone()[0]
    return float(value) if value is not None else None


def between(db: sqlite3.Connection, since: float, until: float) -> list[Notice]:
    """Every message that was created in a time span."""
    rows = db.execute(f"SELECT {_NOTICE} FROM notice WHERE created >= ? AND created < ? ORDER BY id", (since, until))
    return [Notice(*row) for row in rows]


def waiting(db: sqlite3.Connection) -> list[Notice]:
    """Every message that has not been delivered yet."""
    rows = db.execute(f"SELECT {_NOTICE} FROM notice WHERE state IN ('waiting', 'sending') ORDER BY id")
    return [Notice(*row) for row in rows]
