"""The weekly report as data: what every form of it (mail, text, JSON) is rendered from, and nothing beside it.

Times are epoch seconds, sizes bytes, durations seconds; None is what nobody knows.
"""

from typing import Any

import msgspec
from msgspec import Struct

from agent.rules.facts import Week
from agent.rules.finding import Level
from agent.rules.outlook import Prospect
from agent.rules.words import rfc3339

SCHEMA_VERSION = 1


class Need(Struct, frozen=True):
    """An open incident: what somebody has to do something about, and the command to begin with."""

    level: Level
    rule: str
    label: str
    subject: str
    why: str
    hint: str
    command: str
    since: float


class TierScore(Struct, frozen=True):
    """One collection in one tier: how many backups there are, how many are good, and the newest good one."""

    tier: str
    backups: int
    good: int
    last_good: float | None


class Score(Struct, frozen=True):
    """One collection. `state` judges its newest backup: good, bad, incomplete (not everywhere) or unknown.

    The deltas compare with the newest backup from before the week. `runs_ok`, `runs_failed` and
    `runs_missed` count the week's backups.
    """

    name: str
    state: str
    level: str
    why: str
    newest: float
    last_good: float | None
    tiers: tuple[TierScore, ...]
    locations: dict[str, str]
    points: int | None
    points_delta: int | None
    size: int
    size_delta: int | None
    runs_ok: int
    runs_failed: int
    runs_missed: int


class Absent(Struct, frozen=True):
    """A collection without any archive, or one that is no longer backed up."""

    name: str
    why: str
    last_seen: float | None = None


class Scores(Struct, frozen=True):
    """Every collection: the scorecard, and those that came, went or have no backup."""

    collections: tuple[Score, ...] = ()
    never: tuple[Absent, ...] = ()
    gone: tuple[Absent, ...] = ()
    new: tuple[str, ...] = ()
    newest_good: float | None = None


class Tally(Struct, frozen=True):
    """How the runs of one job went: outcome to number, and the seconds they took together."""

    job: str
    outcomes: dict[str, int]
    seconds: float


class Rehearsals(Struct, frozen=True):
    """The week's drills: how many, how they ended, of how many collections, and by which engines.

    `raw_bytes` were unpacked, opened and compared in `seconds` by those that passed: so long would a restore take here,
    without the way to the server.
    """

    drills: int
    passed: int
    failed: int
    inconclusive: int
    collections: int
    engines: tuple[str, ...]
    raw_bytes: int
    seconds: float


class Evidence(Struct, frozen=True):
    """What has been proved: how many archives have reached each level, and the week's judgements.

    Every archive has arrived; the `bad` ones got no further. `read_*` is what was read back in full during the week.
    """

    levels: dict[str, int]
    bad: int
    rehearsals: Rehearsals
    verdicts: dict[str, int]
    read_archives: int
    read_bytes: int
    read_seconds: float
    oldest_check: float | None


class Day(Struct, frozen=True):
    """The highest fill level of one local day, in percent; None where nothing was measured."""

    date: str
    peak: float | None


class Large(Struct, frozen=True):
    """What takes most of a location: the archives of one name together, and the size of the largest one."""

    name: str
    archives: int
    largest: int
    stored: int


class Storage(Struct, frozen=True):
    """One location: how full it is, how that went over the week, and what lies there.

    `trend` is in percentage points over the week; `unavailable` in seconds of the week.
    """

    location: str
    path: str
    state: str
    used_percent: float | None
    total: int | None
    free: int | None
    measured: float | None
    trend: float | None
    samples: int
    days: tuple[Day, ...]
    archives: int
    stored: int
    largest: tuple[Large, ...]
    unavailable: float


class Past(Struct, frozen=True):
    """An incident of the week; `resolved` is None while it is open."""

    level: Level
    label: str
    subject: str
    opened: float
    resolved: float | None
    lasted: float


class Undelivered(Struct, frozen=True):
    """A message that its target does not have: waiting, or dropped for good."""

    target: str
    kind: str
    state: str
    created: float
    attempts: int
    error: str


class Alerts(Struct, frozen=True):
    """The week's alerts and their messages. `median` is how long delivery took, in seconds."""

    fired: int
    resolved: int
    open: int
    incidents: tuple[Past, ...]
    targets: tuple[str, ...]
    sent: int
    delivered: int
    median: float | None
    undelivered: tuple[Undelivered, ...]


class Changed(Struct, frozen=True):
    """Something that is not as it was in the backup before."""

    at: float
    what: str


class Unchecked(Struct, frozen=True):
    """Something this report says nothing about, and why."""

    what: str
    why: str


class NextRun(Struct, frozen=True):
    """When a job is due next."""

    job: str
    at: float


class Report(Struct, frozen=True, kw_only=True):
    """The weekly report, in the order in which it is read.

    `subject` is the mail's, `headline` and `summary` are the two sentences that answer "is everything all
    right?". `complete` is False while the week is still going on. `level_proved` is what all of the `proved`
    collections have reached. `disk` is the fullest location, in percent.
    """

    schema_version: int = SCHEMA_VERSION
    host: str
    week: Week
    zone: str
    made: float
    complete: bool
    level: Level
    subject: str
    headline: str
    summary: str
    proved: int
    level_proved: str
    collections: int
    newest_good: float | None
    disk: float | None
    needs: tuple[Need, ...]
    scores: Scores
    runs: tuple[Tally, ...]
    next_runs: tuple[NextRun, ...]
    vanished: int
    evidence: Evidence
    storage: tuple[Storage, ...]
    outlook: tuple[Prospect, ...]
    alerts: Alerts
    changes: tuple[Changed, ...]
    unchecked: tuple[Unchecked, ...]
    agent: str
    json_path: str


_TIMES = frozenset(
    {"start", "end", "made", "since", "newest", "newest_good", "last_good", "last_seen"}
    | {"oldest_check", "measured", "opened", "created", "at", "earliest", "latest"}
)


def report_json(report: Report) -> dict[str, Any]:
    """The report as other programs read it: times in RFC 3339, levels as words.

    `resolved` is a time in an incident and a number in the alerts' sums, as the word is used for both.
    """
    out = _json(report)
    assert isinstance(out, dict)  # noqa: S101 - a Struct becomes an object
    return out


def _json(value: object) -> object:
    if isinstance(value, Level):
        return value.word
    if isinstance(value, Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        times = _TIMES | {"resolved"} if isinstance(value, Past) else _TIMES
        return {name: rfc3339(one) if name in times else _json(one) for name, one in fields.items()}
    if isinstance(value, tuple):
        return [_json(one) for one in value]
    return msgspec.to_builtins(value)
