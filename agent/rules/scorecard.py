"""Score every collection: what of it lies where, what of that is proved, and how it changed since last week.

A collection is known by the name in the manifests, in all locations together. An archive that no manifest
speaks of is known by its file's name without dates and endings.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from msgspec import Struct

from agent.rules.alert import plain
from agent.rules.archive import BAD, State, lowest
from agent.rules.facts import Archive, Facts, Folder, Run
from agent.rules.manifest import CollectionEntry, label
from agent.rules.report import Absent, Changed, Score, Scores, TierScore
from agent.rules.words import count, printable

UNPLANNED = frozenset({"manual", "pre-restore"})  # tiers that need not hold every collection
DAY = 86400.0
_ENDINGS = re.compile(r"\.(gz|tgz|zst|tar|snapshot)$")
_DATES = re.compile(r"^\d[\d\-_.:TZ]{6,}[\-_.]|[\-_.]?\d[\d\-_.:TZ]{6,}$")


class Copy(Struct, frozen=True):
    """One archive as one collection's copy of one backup. `backup` is the same in every location."""

    collection: str
    backup: str
    tier: str
    taken: float
    archive: Archive
    entry: CollectionEntry | None

    @property
    def good(self) -> bool:
        """Whether it is here and proved."""
        return self.archive.vanished is None and self.archive.state is State.GOOD


def stem(name: str) -> str:
    """What an archive without a manifest is called: its file's name without endings, dates and numbers."""
    bare = name
    while ended := _ENDINGS.search(bare):
        bare = bare[: ended.start()]
    return _DATES.sub("", bare).strip("-_. ") or bare or name


def copies(facts: Facts) -> list[Copy]:
    """Every archive as a copy of a collection; other files of a backup, such as its configuration, are left out."""
    described = {(one.location, one.folder): one for one in facts.folders}
    entries = {
        (one.location, one.folder, printable(entry.file)): entry
        for one in facts.folders
        for entry in one.manifest.collections
    }
    others = {
        (one.location, one.folder, printable(entry.file)) for one in facts.folders for entry in one.manifest.files
    }
    found = []
    for one in facts.archives:
        key = (one.location, one.folder, one.name)
        if key in others:
            continue
        folder, entry = described.get(key[:2]), entries.get(key)
        if folder and entry:
            taken = folder.started or one.arrived
            found.append(Copy(plain(label(entry)), folder.backup, folder.tier, taken, one, entry))
        else:
            taken, tier = min(one.written, one.arrived), tier_of(one.folder, facts.tiers)
            found.append(Copy(plain(stem(one.name)), f"{one.folder}/{one.name}", tier, taken, one, None))
    return found


def tier_of(folder: str, tiers: Sequence[str]) -> str:
    """The tier of a folder without a manifest: the tier its path names, or else the folder's own name."""
    parts = folder.split("/")
    return next((part for part in parts if part in tiers), parts[-1])


def score(facts: Facts, found: Sequence[Copy]) -> Scores:
    """Score every collection there is, worst first; those that are gone or have no backup are named."""
    by_name: dict[str, list[Copy]] = defaultdict(list)
    for copy in found:
        by_name[copy.collection].append(copy)
    planned = _planned(facts.folders)
    failed = {plain(one.name): plain(one.why) for one in planned[0].manifest.failed} if planned else {}
    rows, gone = [], []
    never = [Absent(name, why) for name, why in failed.items() if name not in by_name]
    for name, its in by_name.items():
        lacking = _lacking(its, planned)
        if len(lacking) >= 2 and name not in failed:
            gone.append(_gone(name, its))
        elif any(copy.archive.vanished is None for copy in its):
            why = failed.get(name) or (f"{lacking[0].backup} was made without it" if lacking else "")
            rows.append(_row(name, its, plain(why), facts))
        elif any(copy.entry or (copy.archive.vanished or 0) >= facts.week.start for copy in its):
            never.append(Absent(name, "all its archives have vanished", max(copy.taken for copy in its)))
    start = facts.week.start
    first = min((copy.taken for copy in found), default=start)
    before = max((one.started or 0 for one in planned if (one.started or 0) < start), default=0)
    order = ("bad", "incomplete", "unknown", "good")
    return Scores(
        tuple(sorted(rows, key=lambda row: (order.index(row.state), row.name))),
        tuple(sorted(never, key=lambda one: one.name)),
        tuple(sorted((one for one in gone if (one.last_seen or 0) >= before), key=lambda one: one.name)),
        tuple(sorted(row.name for row in rows if first < start <= min(copy.taken for copy in by_name[row.name]))),
        max((copy.taken for copy in found if copy.good), default=None),
    )


def _gone(name: str, its: Sequence[Copy]) -> Absent:
    kept = sum(1 for copy in its if copy.archive.vanished is None)
    why = f"not in the newest backups; {count(kept, 'archive')} of it {'is' if kept == 1 else 'are'} kept"
    return Absent(name, why, max(copy.taken for copy in its))


def changes(facts: Facts, scores: Scores) -> tuple[Changed, ...]:
    """What is not as it was before: versions, collections that came or went, their configuration, their indexes."""
    week = facts.week
    backups = sorted({one.backup: one for one in facts.folders}.values(), key=lambda one: one.started or 0)
    gone = "was in a backup for the last time"
    found = [Changed(one.last_seen or week.start, f"collection {one.name} {gone}") for one in scores.gone]
    last: dict[str, str] = {}
    known: dict[str, CollectionEntry] = {}
    for one in backups:
        at, manifest = one.started or 0.0, one.manifest
        told = []
        for part, values in (("engine", manifest.engine), ("snapward", manifest.agent)):
            version = plain(str(values.get("version", "")))
            name = plain(str(values.get("kind", part))) if part == "engine" else part
            before = last.get(name, version)
            if version and before != version:
                told.append(f"{name} {before} → {version}")
            last[name] = version or before
        for entry in manifest.collections:
            name = label(entry)
            if name in known:
                told += _altered(known[name], entry)
            elif plain(name) in scores.new:
                told.append(f"collection {plain(name)} is new")
            known[name] = entry
        if week.start <= at < week.end + DAY:
            found += [Changed(at, f"{what} (seen in {plain(one.backup)})") for what in told]
    return tuple(sorted(found, key=lambda one: one.at))


def _altered(before: CollectionEntry, after: CollectionEntry) -> list[str]:
    name = plain(label(after))
    told = []
    keys = sorted(key for key in {*before.config, *after.config} if before.config.get(key) != after.config.get(key))
    if before.config and after.config and keys:
        told.append(f"configuration of {name} changed: {plain(', '.join(keys))}")
    plus = sorted(set(after.payload_schema) - set(before.payload_schema))
    minus = sorted(set(before.payload_schema) - set(after.payload_schema))
    if plus or minus:
        marks = [*(f"+{one}" for one in plus), *(f"-{one}" for one in minus)]
        told.append(f"payload indexes of {name} changed: {plain(', '.join(marks))}")
    return told


def _planned(folders: Iterable[Folder]) -> list[Folder]:
    """Each planned backup once, newest first; where there are none, every backup."""
    every = sorted({(one.tier, one.backup): one for one in folders}.values(), key=lambda one: -(one.started or 0))
    return [one for one in every if one.tier not in UNPLANNED] or every


def _lacking(its: Sequence[Copy], planned: Sequence[Folder]) -> list[Folder]:
    """The planned backups since the last one that has a collection.

    One may have been made of other collections only, by hand; after two in a row the collection is gone.
    """
    ours = {copy.backup for copy in its if copy.entry}
    lacking: list[Folder] = []
    for one in planned:
        if one.backup in ours:
            return lacking
        lacking.append(one)
    return []


def _row(name: str, its: list[Copy], failure: str, facts: Facts) -> Score:
    week = facts.week
    here = [copy for copy in its if copy.archive.vanished is None]
    newest = max(here, key=lambda copy: copy.taken)
    last = [copy for copy in here if copy.backup == newest.backup]
    older = [copy for copy in here if copy.taken < min(week.start, newest.taken)]
    before = max(older, key=lambda copy: copy.taken) if older else None
    points, old = _points(newest), _points(before) if before else None
    state, why = _state(last, its, failure)
    present = {copy.archive.location: copy.archive for copy in last}
    # A run that failed as a whole lacks every collection that was known by then.
    known = min((copy.taken for copy in its if copy.entry), default=facts.now)
    lost = [run for run in facts.runs if is_backup(run) and run.started >= known]
    taken = {copy.backup for copy in its if week.start <= copy.taken < week.end and copy.archive.state not in BAD}
    return Score(
        name=name,
        state=state,
        level=lowest(copy.archive.level for copy in last),
        why=plain(why),
        newest=newest.taken,
        last_good=max((copy.taken for copy in here if copy.good), default=None),
        tiers=_tiers(here, facts.tiers),
        locations={
            one: str(present[one].state) if one in present else "missing"
            for one in sorted({copy.archive.location for copy in its} | set(present))
        },
        points=points,
        points_delta=points - old if points is not None and old is not None else None,
        size=newest.archive.size,
        size_delta=newest.archive.size - before.archive.size if before else None,
        runs_ok=len(taken),
        runs_failed=_failures(name, facts) + sum(1 for run in lost if run.outcome in {"failed", "interrupted"}),
        runs_missed=sum(1 for run in lost if run.outcome == "missed"),
    )


def _state(last: list[Copy], its: list[Copy], failure: str) -> tuple[str, str]:
    """Judge a collection by its newest backup: one bad copy makes it bad, a missing one incomplete."""
    for copy in last:
        if copy.archive.state in BAD:
            return "bad", f"{copy.archive.location}: {copy.archive.state}: {copy.archive.why}"
    if failure:
        return "incomplete", f"missing from the newest backup: {failure}"
    absent = {copy.archive.location for copy in its} - {copy.archive.location for copy in last}
    if absent:
        return "incomplete", f"the newest backup is not in {' and '.join(sorted(absent))}"
    unproved = [copy.archive for copy in last if copy.archive.state is not State.GOOD]
    return ("unknown", unproved[0].why) if unproved else ("good", last[0].archive.why)


def _tiers(here: list[Copy], tiers: Sequence[str]) -> tuple[TierScore, ...]:
    names = [*tiers, *sorted({copy.tier for copy in here} - set(tiers))]
    out = []
    for tier in names:
        its = [copy for copy in here if copy.tier == tier]
        good = [copy for copy in its if copy.good]
        if its or tier in tiers:
            number, proved = len({copy.backup for copy in its}), len({copy.backup for copy in good})
            out.append(TierScore(plain(tier), number, proved, max((copy.taken for copy in good), default=None)))
    return tuple(out)


def _points(copy: Copy) -> int | None:
    if copy.entry is None:
        return None
    return copy.entry.points_after if copy.entry.points_after is not None else copy.entry.points_before


def is_backup(run: Run) -> bool:
    """Whether a run is one of a backup: its job is called backup, with or without the tier behind it."""
    return re.match(r"backup\b", run.job) is not None


def _failures(name: str, facts: Facts) -> int:
    """Backups of the week whose manifest says that it lacks a collection."""
    week = facts.week
    return len(
        {
            one.backup
            for one in facts.folders
            if week.start <= (one.started or 0) < week.end
            and any(plain(bad.name) == name for bad in one.manifest.failed)
        }
    )
