"""Tell from the ledger alone which backups there are and how things stand."""

import sqlite3
from collections.abc import Container, Iterable, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from agent.adapters.ledger import catalogue, drills, incidents, runs
from agent.adapters.ledger.catalogue import Archive, Folder
from agent.rules import drilling
from agent.rules.archive import ARRIVED, BAD, State, Verdict, backup_state, lowest
from agent.rules.drilling import Proof
from agent.rules.finding import Level
from agent.rules.freshness import Done
from agent.rules.manifest import CollectionEntry
from agent.rules.words import printable

# A folder with its archives, and whether anything of it is still there.
_Found = tuple[Folder, list[Archive], bool]
_BEST = {"good": 0, "unknown": 1, "incomplete": 2, "bad": 3}
AGENT_SILENT = 180.0


class Copy(Struct, frozen=True):
    """One location's copy of a backup; `checked` is when its archives were last proved (epoch seconds)."""

    path: str
    level: str
    state: str
    checked: float | None


class Collection(Struct, frozen=True):
    """One archive of a backup, at its best copy; sizes in bytes, `peer` the cluster's peer that it is from."""

    name: str
    peer: int | None
    file: str
    size: int
    raw_size: int | None
    sha256: str
    points: int | None
    level: str
    state: str
    why: str


class Backup(Struct, frozen=True):
    """One backup with its copies. `state` is that of its best copy: from that one it would be restored."""

    id: str
    tier: str
    engine: str
    started: float | None
    ended: float | None
    state: str
    locations: dict[str, Copy]
    collections: list[Collection]
    failed: list[dict[str, str]]


class Held(Struct, frozen=True):
    """One location's copy of a backup: its folder, the archives that are there, and what they add up to."""

    entry: Folder
    archives: list[Archive]
    copy: Copy


def backups(db: sqlite3.Connection, locations: Container[str] | None = None) -> list[Backup]:
    """Every backup the catalogue knows in these locations, or in any, and that is not wholly gone; newest first.

    What drills have shown of an archive's content counts for each of its copies.
    """
    described, archives = _found(db, locations)
    groups: dict[tuple[str, str], list[_Found]] = {}
    for one in described:
        groups.setdefault((one[0].tier, one[0].backup), []).append(one)
    found = [_backup(copies) for copies in groups.values()]
    found += _loose(archives)
    kept = [one for one in found if any(copy.state != "gone" for copy in one.locations.values())]
    return sorted(kept, key=lambda one: (one.started or 0.0, one.id), reverse=True)


def held(db: sqlite3.Connection, locations: Container[str] | None = None) -> list[Held]:
    """Every copy of every backup with a manifest that is not wholly gone, in these locations or in any."""
    described, _ = _found(db, locations)
    return [
        Held(entry, [one for one in here if one.vanished is None], _copy(entry, here, there=there))
        for entry, here, there in described
        if there
    ]


def _found(
    db: sqlite3.Connection, locations: Container[str] | None
) -> tuple[list[_Found], dict[tuple[str, str], list[Archive]]]:
    """Backups with a manifest, and by location and folder the archives that belong to none."""
    archives: dict[tuple[str, str], list[Archive]] = {}
    proofs = drills.proofs(db)
    for one in catalogue.archives(db):
        if locations is None or one.key.location in locations:
            archives.setdefault((one.key.location, one.key.folder), []).append(_laid(one, proofs))
    found: list[_Found] = []
    there: dict[str, set[str]] = {}
    for entry in catalogue.all_folders(db):
        if locations is None or entry.location in locations:
            here = archives.pop((entry.location, entry.folder), [])
            if entry.location not in there:
                there[entry.location] = catalogue.folders(db, entry.location)
            found.append((entry, here, entry.folder in there[entry.location]))
    return found, archives


def _laid(one: Archive, proofs: Mapping[str, Proof]) -> Archive:
    proof = proofs.get(one.reading.sha256) if one.reading else None
    if proof is None:
        return one
    verdict = drilling.laid(Verdict(one.state, one.level, one.why), proof)
    return replace(one, state=verdict.state, level=verdict.level, why=verdict.why)


def _loose(archives: Mapping[tuple[str, str], list[Archive]]) -> list[Backup]:
    """Archives that no manifest describes: each is a backup of its own, named by its file."""
    groups: dict[tuple[str, str], list[_Found]] = {}
    for (location, folder), here in archives.items():
        tier = folder.rpartition("/")[2]
        for one in here:
            entry = Folder(location, folder, tier, one.key.name, "foreign", started=one.signature.mtime_ns / 1e9)
            groups.setdefault((folder, one.key.name), []).append((entry, [one], one.vanished is None))
    return [_backup(copies) for copies in groups.values()]


def _backup(copies: list[_Found]) -> Backup:
    locations = {entry.location: _copy(entry, here, there=there) for entry, here, there in copies}
    order = sorted(copies, key=lambda one: _BEST.get(locations[one[0].location].state, 9))
    best, archives, _ = order[0]
    read = catalogue.manifest(best)
    entries = {one.file: one for one in read.collections} if read else {}
    shown = [one for one in archives if not read or one.key.name in entries]
    return Backup(
        best.backup,
        best.tier,
        best.engine,
        best.started,
        best.ended,
        locations[best.location].state,
        locations,
        [_collection(one, entries.get(one.key.name)) for one in shown],
        [{"name": one.name, "why": one.why} for one in read.failed] if read else [],
    )


def _copy(entry: Folder, archives: list[Archive], *, there: bool) -> Copy:
    checked = [one.checked for one in archives if one.checked is not None]
    state = backup_state([one.state for one in archives], entry.failed) if there else "gone"
    read = catalogue.manifest(entry)
    collections = {printable(one.file) for one in read.collections} if read else set()
    judged = {one.key.name: one.level for one in archives}
    # Of files such as the server's configuration nothing can be proved beyond their bytes.
    level = lowest(level for name, level in judged.items() if name in collections or not collections)
    if state == "good" and (entry.problem or collections - judged.keys()):
        state, level = "unknown", ARRIVED
    return Copy(entry.folder, level, state, min(checked, default=None))


def _collection(one: Archive, entry: CollectionEntry | None) -> Collection:
    state = "good" if one.state is State.GOOD else "bad" if one.state in BAD else "unknown"
    return Collection(
        entry.name if entry else one.key.name,
        entry.peer if entry else None,
        one.key.name,
        one.signature.size,
        entry.raw_size if entry else None,
        one.reading.sha256 if one.reading else entry.sha256 if entry else "",
        entry.points_after if entry else None,
        one.level,
        state,
        one.why,
    )


def resolve(known: list[Backup], wanted: str, roots: Mapping[str, str]) -> Backup | None:
    """The backup somebody means by an id, a path, latest, latest-good, oldest or last-failed; None if there is none."""
    words = {
        "latest": known,
        "latest-good": [one for one in known if one.state == "good"],
        "oldest": known[::-1],
        "last-failed": [one for one in known if one.state in {"bad", "incomplete"}],
    }
    if wanted in words:
        return next(iter(words[wanted]), None)
    for one in known:
        paths = {
            f"{roots[name]}/{copy.path}".rstrip("/") + ("" if one.engine != "foreign" else f"/{one.id}")
            for name, copy in one.locations.items()
            if name in roots
        }
        if wanted == one.id or wanted.rstrip("/") in paths:
            return one
    return None


def made(known: Iterable[Backup]) -> dict[str, Done]:
    """By tier: when its newest good backup was begun, and the newest that is not proved yet."""
    good: dict[str, float] = {}
    arriving: dict[str, float] = {}
    for one in known:
        # What no manifest describes is known only once it was judged.
        kind = good if one.state == "good" else arriving if _arriving(one) else {}
        if one.started:
            kind[one.tier] = max(one.started, kind.get(one.tier, one.started))
    return {tier: Done(good.get(tier), arriving.get(tier)) for tier in good.keys() | arriving.keys()}


def _arriving(one: Backup) -> bool:
    return one.state == "unknown" and one.engine != "foreign"


def findings(db: sqlite3.Connection, known: list[Backup], now: float) -> list[dict[str, Any]]:
    """Everything that is not as it should be: the agent's own silence, open incidents, nothing to restore from."""
    found = [
        {
            "rule": one.rule,
            "subject": one.subject,
            "level": one.level.word,
            "why": one.why,
            "since": one.opened or one.since,
            "hint": one.hint,
        }
        for one in incidents.active(db)
    ]
    if not any(one.state == "good" for one in known):
        found.append(
            {
                "rule": "no_backup",
                "subject": "backups",
                "level": Level.WARNING.word,
                "why": "there is no good backup: nothing could be restored today",
                "since": None,
                "hint": "`snapward backup` makes one now.",
            }
        )
    pulse = runs.pulses(db).get("agent")
    if pulse is None or now - pulse.at > AGENT_SILENT:
        found.insert(
            0,
            {
                "rule": "agent_silent",
                "subject": "agent",
                "level": "unknown",
                "why": "the agent has never run here" if pulse is None else "the agent does not run",
                "since": pulse.at if pulse else now,
                "hint": "Nothing is watched while it is down. Start it: `systemctl start snapward`.",
            },
        )
    return found


def state(levels: Iterable[str]) -> str:
    """ok, warning, critical or unknown: the worst of many, where critical is worse than not knowing."""
    order = ("ok", Level.WARNING.word, "unknown", Level.CRITICAL.word)
    return max(levels, key=order.index, default="ok")
