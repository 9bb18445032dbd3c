"""How drills stand, from the ledger alone: what there is to be drilled, when it was, and who is overdue."""

import sqlite3
from collections.abc import Mapping, Sequence

from msgspec import Struct

from agent.adapters.ledger import drills, incidents, known
from agent.adapters.ledger.drills import Drill
from agent.rules import drilling, subjects
from agent.rules.drilling import Standing
from agent.rules.finding import Finding
from agent.rules.subjects import Subject


class View(Struct, frozen=True):
    """What there is to be drilled.

    Attributes:
        subjects: every collection of every backup, the newest first.
        current: the collections of today, each with its newest backup that may be drilled.
        last: the newest drill of each collection that came to an end.
    """

    subjects: Sequence[Subject]
    current: Mapping[str, Subject | None]
    last: Mapping[str, Drill]

    def standings(self, every: float, now: float) -> list[Standing]:
        """How each collection of today stands, if each has to be drilled every so many seconds."""
        last = {name: (one.at, one.state) for name, one in self.last.items()}
        return drilling.standings(self.current, subjects.first_seen(self.subjects), last, every, now)


def view(db: sqlite3.Connection, locations: Sequence[str]) -> View:
    """What there is to be drilled in these locations, the one to be read from first first."""
    stock = known.stock(db, locations)
    found = subjects.subjects(stock, locations)
    return View(found, subjects.current(found, stock), drills.newest(db))


def findings(db: sqlite3.Connection, seen: View, every: float, now: float) -> list[Finding]:
    """Who is overdue, and which incidents about drills are over because nothing is left to be drilled."""
    found = [drilling.overdue(one, every, now) for one in seen.standings(every, now)]
    active = [(one.rule, one.subject) for one in incidents.active(db)]
    return [*found, *drilling.ended(active, seen.current, subjects.held(seen.subjects))]
