"""What the weekly report is drawn from: rows of the ledger, cut down to what counts, and a few settings.

Times are epoch seconds, sizes bytes, durations seconds; names are in their printable form.
"""

from collections.abc import Collection, Mapping
from datetime import tzinfo

from msgspec import Struct

from agent.rules.archive import State
from agent.rules.incident import Incident
from agent.rules.manifest import Manifest
from agent.rules.outlook import Prospect


class Week(Struct, frozen=True):
    """An ISO week of a time zone: from `start`, Monday 00:00, to `end`, the next Monday 00:00."""

    name: str
    start: float
    end: float


class Folder(Struct, frozen=True):
    """A backup folder that has a manifest."""

    location: str
    folder: str
    tier: str
    backup: str
    started: float | None
    manifest: Manifest


class Archive(Struct, frozen=True):
    """One archive.

    `written` is its file's own time, `seconds` what the last reading took, `sha256` what it gave; `foreign` is whether
    that found it to be no snapshot of Qdrant at all.
    """

    location: str
    folder: str
    name: str
    size: int
    state: State
    level: str
    why: str
    written: float
    seconds: float
    arrived: float
    checked: float | None
    vanished: float | None
    sha256: str = ""
    foreign: bool = False


class Stock(Struct, frozen=True):
    """All that is known to lie somewhere.

    Attributes:
        folders: backups with a manifest, of all time.
        archives: every archive ever seen, as it was read.
        there: locations and folders in which something is there.
        nameless: locations and folders of the backups whose manifest cannot be read.
    """

    folders: tuple[Folder, ...] = ()
    archives: tuple[Archive, ...] = ()
    there: frozenset[tuple[str, str]] = frozenset()
    nameless: frozenset[tuple[str, str]] = frozenset()


class Drilled(Struct, frozen=True):
    """One rehearsed restore of one collection."""

    at: float
    seconds: float
    collection: str
    state: str
    level: str
    engine: str
    raw_bytes: int


class Run(Struct, frozen=True):
    """One execution of a job."""

    job: str
    subject: str
    started: float
    ended: float | None
    outcome: str
    why: str


class Sample(Struct, frozen=True):
    """How full a location was at one moment; `state` is ok, warning or critical."""

    location: str
    at: float
    total: int
    free: int
    used_percent: float
    state: str


class Sent(Struct, frozen=True):
    """One message to one target: waiting, sending, delivered or dropped."""

    target: str
    kind: str
    body: str
    state: str
    created: float
    attempts: int
    delivered: float | None
    error: str


class Facts(Struct, frozen=True, kw_only=True):
    """Everything a report is made from.

    Attributes:
        week: what it is about.
        now: the moment to which "by now" and every age refer.
        zone: of every time that people read.
        host: the machine's name.
        agent: this program's version.
        folders: backups with a manifest, of all time.
        archives: every archive ever seen, the vanished among them.
        verdicts: (moment, state) of each judgement in the week.
        runs: what began in the week.
        incidents: what was open in the week, or is open now.
        sent: messages that were created in the week, or are waiting now.
        samples: readings of the week, and per location the newest one.
        drills: those of the week.
        drilled: names of all collections that were ever drilled to an end.
        locations: paths by name.
        tiers: the configured ones, in the order in which people read them.
        targets: names of the places where people are told.
        sample_every: how often storage is measured, seconds.
        next_runs: job to its next slot.
        outlook: of each location.
        json_path: where the report lies for programs.
    """

    week: Week
    now: float
    zone: tzinfo
    host: str
    agent: str
    folders: tuple[Folder, ...] = ()
    archives: tuple[Archive, ...] = ()
    verdicts: tuple[tuple[float, State], ...] = ()
    runs: tuple[Run, ...] = ()
    incidents: tuple[Incident, ...] = ()
    sent: tuple[Sent, ...] = ()
    samples: tuple[Sample, ...] = ()
    drills: tuple[Drilled, ...] = ()
    drilled: Collection[str] = ()
    locations: Mapping[str, str] = {}
    tiers: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    sample_every: float = 300.0
    next_runs: Mapping[str, float] = {}
    outlook: tuple[Prospect, ...] = ()
    json_path: str = ""
