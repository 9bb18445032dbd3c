"""What a cleanup decides about: the backups as the ledger knows them, and what forbids a cleanup now."""

import re
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime

from msgspec.structs import replace

from agent.adapters import host
from agent.adapters.ledger import catalogue, drills, incidents, known, pins
from agent.adapters.ledger.catalogue import Folder, Key
from agent.jobs import overview
from agent.jobs.overview import Held
from agent.rules import keeping, retention, subjects
from agent.rules.keeping import Backup, Pin
from agent.rules.retention import Caution, Freeze, Location, Plan
from agent.settings import Settings, zone
from agent.settings.parts import policies

# The kinds of engine whose backups are ours; what another program writes is its own to remove.
_OURS = frozenset({"edge", "qdrant"})
_ID = re.compile(r"\d{8}T\d{6}Z")
# Rules whose incidents say that the ledger, the clock or the disks cannot be believed now.
_SUSPICIOUS = {
    "clock_jumped": "clock",
    "archives_vanished": "vanished",
    "ledger_rebuilt": "rebuilt",
    "tampering": "tampering",
}


def plan(
    db: sqlite3.Connection, settings: Settings, now: float, unread: Collection[Key] = (), *, meant: bool = False
) -> Plan:
    """What a cleanup would do now.

    Args:
        db: the ledger.
        settings: all of them.
        now: epoch seconds.
        unread: archives that are not what they were when they were read.
        meant: whether somebody has said that as many as these are to go.
    """
    return retention.plan(
        locations(db, settings, unread),
        now,
        zone(settings.timezone),
        suspicions=suspicions(db),
        caution=Caution(share=settings.cleanup.share / 100),
        meant=meant,
    )


def locations(db: sqlite3.Connection, settings: Settings, unread: Collection[Key] = ()) -> list[Location]:
    """Every location with its backups, policies, and why it is away, if it is."""
    held: dict[str, list[Backup]] = {name: [] for name in settings.locations}
    sizes, pinned, passed = catalogue.sums_sizes(db), pins.all(db), _drilled(db, settings)
    doubtful = {(one.location, one.folder) for one in unread}
    strange = {one.subject for one in incidents.active(db) if one.rule == "archive_foreign"}
    every = overview.held(db, settings.locations)
    partial = _partial([one.entry for one in every if one.entry.tier in settings.tiers])
    for one in every:
        here = (one.entry.location, one.entry.folder)
        key = (one.entry.tier, one.entry.backup)
        size = sizes.get(here, 0) + sum(it.signature.size for it in one.archives)
        made = _backup(one, size, passed.get(key, {}), pinned.get(key))
        if here in doubtful and made.state == "good":
            made = replace(made, state="unknown")
        if "{}:{}".format(*here) in strange:
            made = replace(made, ours=False)
        held[here[0]].append(replace(made, complete=False) if key in partial else made)
    rules = policies(settings)
    return [
        Location(name=name, backups=held[name], policies=rules[name], away=host.root(one.path, one.mount).trouble)
        for name, one in settings.locations.items()
    ]


def suspicions(db: sqlite3.Connection) -> list[Freeze]:
    """What is open and forbids a cleanup."""
    return [
        Freeze(_SUSPICIOUS[one.rule], f"{one.rule} of {one.subject} is open: {one.why}", one.hint)
        for one in incidents.active(db)
        if one.rule in _SUSPICIOUS
    ]


def _drilled(db: sqlite3.Connection, settings: Settings) -> dict[keeping.Key, dict[str, float]]:
    """Which collections of today each backup has been drilled for; one that was dropped keeps no backup."""
    stock = known.stock(db, settings.locations)
    today = subjects.current(subjects.subjects(stock, tuple(settings.locations)), stock)
    return {
        key: {name: at for name, at in passed.items() if name in today or not today}
        for key, passed in drills.passed(db).items()
    }


def _partial(entries: Iterable[Folder]) -> set[keeping.Key]:
    """Backups that lack a collection which earlier ones have and later ones too: somebody asked for a part only.

    The newest two stand for what is to come: of what neither of them speaks any more is taken to be dropped.
    """
    spoken = {}
    for entry in entries:
        if read := catalogue.manifest(entry):
            names = {one.name for one in read.collections} | {one.name for one in read.failed}
            spoken[entry.tier, entry.backup] = (entry.started or 0.0, names)
    ordered = sorted(spoken.items(), key=lambda one: (one[1][0], one[0]))
    later = set().union(*(names for _, (_, names) in ordered[-2:]))
    after = []
    for _, (_, names) in reversed(ordered):
        after.append(later)
        later = later | names
    found, before = set(), set[str]()
    for (key, (_, names)), wanted in zip(ordered, reversed(after), strict=True):
        if (before & wanted) - names:
            found.add(key)
        before |= names
    return found


def _backup(one: Held, size: int, drilled: Mapping[str, float], pin: Pin | None) -> Backup:
    entry = one.entry
    started = _started(entry.backup) if entry.started is None else entry.started
    # Only what lies where we put it: a copy that somebody keeps elsewhere is theirs.
    placed = entry.folder == f"{entry.tier}/{entry.backup}" and _ID.fullmatch(entry.backup) is not None
    return Backup(
        id=entry.backup,
        tier=entry.tier,
        started=started or 0.0,
        state="bad" if entry.problem else one.copy.state,
        ours=placed and started is not None and (entry.engine in _OURS or bool(entry.problem)),
        complete=not entry.failed and not entry.problem,
        size=size,
        drilled=drilled,
        pin=pin,
    )


def _started(identity: str) -> float | None:
    try:
        return datetime.strptime(identity[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
