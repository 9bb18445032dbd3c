"""What lies on the desk of the thread that decides: the ledger, the settings it needs, and those who work for it."""

import queue
import re
import sqlite3
from collections.abc import Callable, Mapping
from datetime import tzinfo

from msgspec import Struct

from agent.adapters.clock import Timetable
from agent.adapters.ledger import catalogue
from agent.adapters.ledger.catalogue import Key
from agent.daemon.arrivals import Arrivals
from agent.daemon.children import Children
from agent.daemon.events import Called
from agent.daemon.locations import Location
from agent.jobs.intake.losses import Keeps
from agent.jobs.intake.survey import Place
from agent.jobs.intake.verdicts import Telling
from agent.rules.archive import Reading, Signature
from agent.rules.storage import Limits
from agent.rules.timetable import Due
from agent.rules.vitals import Beat


class Clocks:
    """The three clocks: `wall` in epoch seconds may jump, `monotonic` never goes back, `steady` counts suspend too."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float], steady: Callable[[], float]) -> None:
        self.wall = wall
        self.monotonic = monotonic
        self.steady = steady

    def beat(self) -> Beat:
        """What wall and steady clock show now."""
        return Beat(self.wall(), self.steady())


class Drilling(Struct, frozen=True):
    """How long drills may take, in seconds: one of all collections, and the quick one after a backup (0: none)."""

    budget: float
    after_backup: float


class Pinging(Struct):
    """What watchers outside are told, and when to see to it next (monotonic).

    Attributes:
        jobs: those that have a watcher.
        agent: whether the agent itself has one.
        every: seconds from one sign of life to the next.
        sample_every: seconds from one look at the storage to the next.
        beat_at: when the next sign of life is due.
        beaten: whether the last one that was due was given.
        look_at: when the ledger is looked at even if it has not changed.
        not_before: when it is looked at the soonest.
        seen: what of the ledger has been looked at: its version, and how much was changed here.
        begun: jobs whose run is under way.
    """

    jobs: frozenset[str] = frozenset()
    agent: bool = False
    every: float = 60.0
    sample_every: float = 300.0
    beat_at: float = 0.0
    beaten: bool = False
    look_at: float = 0.0
    not_before: float = 0.0
    seen: tuple[int, int] = (-1, -1)
    begun: frozenset[str] = frozenset()


class Desk:
    """Wiring, and nothing else: what happens is in `loop`, `work` and `calls`."""

    def __init__(
        self,
        *,
        db: sqlite3.Connection,
        state_dir: str,
        config: str,
        zone: tzinfo,
        clocks: Clocks,
        places: Mapping[str, Place],
        names: re.Pattern[str],
        settle: float,
        minimum_size: int,
        scan_every: float,
        keeps: Keeps,
        limits: Limits,
        telling: Telling,
        timetable: Timetable,
        history: float,
        deadlines: Mapping[str, float],
        repairs: bool,
        drilling: Drilling,
        pinging: Pinging,
        catch_up: float,
        tiers: frozenset[str],
        remote: bool,
        children: Children,
    ) -> None:
        self.inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.db = db
        self.state_dir = state_dir
        self.config = config
        self.zone = zone
        self.clocks = clocks
        self.places = places
        self.names = names
        self.minimum_size = minimum_size
        self.scan_every = scan_every
        self.keeps = keeps
        self.limits = limits
        self.telling = telling
        self.timetable = timetable
        self.history = history
        self.deadlines = deadlines
        self.repairs = repairs
        self.drilling = drilling
        self.pinging = pinging
        self.catch_up = catch_up
        self.tiers = tiers
        self.remote = remote
        self.children = children
        self.arrivals = Arrivals(places, settle, self.known)
        self.locations: dict[str, Location] = {}
        self.beat = clocks.beat()
        self.pulsed_at: float | None = None
        self.jump_until: float | None = None
        self.next_delivery = 0.0
        self.postponed: list[object] = []
        self.retry_at: float | None = None
        self.slots: dict[str, Due] = {}
        self.again: list[tuple[float, Called]] = []
        self.excused: frozenset[str] = frozenset()
        self.rebuilding = False
        self.faults: set[str] = set()

    def known(self, key: Key) -> tuple[Signature | None, Reading | None]:
        """What the catalogue holds of a file: its signature, and the reading of content that need not be inflated."""
        entry = catalogue.archive(self.db, key)
        if entry is None or entry.vanished is not None:
            return catalogue.signature(self.db, key), None
        return entry.signature, entry.reading if entry.reading and entry.reading.proved else None
