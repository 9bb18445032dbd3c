"""What was ever known of the copies of backups: whether they were there, and whether they were good."""

import sqlite3

from agent.adapters.ledger.catalogue import Key
from agent.adapters.ledger.deeds import NOT_DONE
from agent.rules.archive import State


def described(db: sqlite3.Connection) -> set[tuple[str, str]]:
    """Locations and folders in which a manifest is there."""
    return set(db.execute("SELECT location, folder FROM sums WHERE name = 'manifest.json'"))


def was_good(db: sqlite3.Connection, key: Key) -> bool:
    """Whether an archive was ever judged to be good, as far back as verdicts are kept."""
    row = db.execute(
        "SELECT 1 FROM verdict WHERE location = ? AND folder = ? AND name = ? AND state = ? LIMIT 1",
        (*key, State.GOOD),
    )
    return row.fetchone() is not None


def dealt_with(db: sqlite3.Connection) -> set[tuple[str, str]]:
    """Locations and paths where a backup of ours was published, or taken away: it was there, whatever else is known."""
    rows = db.execute(
        "SELECT DISTINCT location, path FROM deed WHERE ended IS NOT NULL AND ("
        " (kind = 'backup' AND outcome IN ('good', 'degraded', 'incomplete'))"
        f" OR (kind IN ('expire', 'repair') AND outcome NOT GLOB '{NOT_DONE}*'))"
    )
    return set(rows)
