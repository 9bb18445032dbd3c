"""What a backup asks of a server, noted in the ledger; each note is on the disk before the server is asked."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator

from agent.adapters import ledger
from agent.adapters.ledger import asked
from agent.adapters.qdrant.snapshot import Ticket


class Journal:
    """The ledger's notes, for the several threads of a backup.

    Args:
        state_dir: where the ledger is.
    """

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir
        self._turn = threading.Lock()

    def asked(self, url: str, collection: str, moment: float, beside: frozenset[str]) -> int:
        """Note a request that is made next; returns the note's id."""
        with self._ledger() as db:
            return asked.note(db, url, collection, moment, beside)

    def made(self, note: int, name: str) -> None:
        """Note the name of what was made."""
        with self._ledger() as db:
            asked.made(db, note, name)

    def gone(self, note: int) -> None:
        """Forget a request: nothing of it is on the server any more."""
        with self._ledger() as db:
            asked.gone(db, note)

    def open(self) -> list[Ticket]:
        """Every request of which something may still lie on a server."""
        with self._ledger() as db:
            return tickets(db)

    @contextlib.contextmanager
    def _ledger(self) -> Iterator[sqlite3.Connection]:
        with self._turn, contextlib.closing(ledger.connect(self._state_dir)) as db, ledger.writing(db):
            yield db


def tickets(db: sqlite3.Connection) -> list[Ticket]:
    """The ledger's notes as the server's adapter knows them."""
    return [Ticket(one.id, one.url, one.collection, one.asked, one.beside, one.name) for one in asked.everything(db)]
