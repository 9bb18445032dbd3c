"""Say what each location lacks of the backups that it is to keep, and from which other one that can be made.

A backup has the same path in every location. What its files have to be is told by the manifest of a copy that is whole;
where none is, by the manifests that are there, if they agree. A file can be made wherever another location has it good.

By itself only that is made which a location never had, or never had whole. What was good once and is not any more is
for people to look at: somebody may have done it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import tzinfo

from msgspec import Struct
from msgspec.structs import replace

from agent.rules import keeping, retention
from agent.rules.archive import Promise
from agent.rules.checksums import MANIFEST, SUMS
from agent.rules.copies import Backup, Copy, File, Is, Model, at_odds, model_of, same
from agent.rules.finding import Finding, Level, ok
from agent.rules.keeping import Policy
from agent.rules.reasons import listed
from agent.rules.words import count

SIDES = ("RESTORE.md", SUMS, MANIFEST)  # the manifest last: without one a folder is no backup
BASELINE = ".baseline.json"
YOUNG = 3600.0  # seconds for which nobody is told of what a backup lacks, or a location that was away


class Location(Struct, frozen=True, kw_only=True):
    """A location, what it keeps of each tier, and why nothing can be done there now."""

    name: str
    policies: Mapping[str, Policy | None]
    away: str = ""


class Part(Struct, frozen=True, kw_only=True):
    """One file to be made: from where, as what, and what is in its place that is moved aside.

    `automatic` is whether it may be made without anybody having asked.
    """

    name: str
    source: str
    promise: Promise
    why: str
    bad: File | None = None
    automatic: bool = False


class Item(Struct, frozen=True, kw_only=True):
    """What one location lacks of one backup.

    `whole` is whether it has nothing of it at all, `believed` the location whose manifest says what it has to be.
    """

    location: str
    backup: Backup
    parts: tuple[Part, ...]
    whole: bool
    believed: str
    why: str

    @property
    def size(self) -> int:
        """Bytes that have to be copied, as far as that is known."""
        return sum(one.promise.size or 0 for one in self.parts)


class Left(Struct, frozen=True):
    """What cannot be made, and why."""

    location: str
    path: str
    why: str


class Plan(Struct, frozen=True):
    """What is to be made, oldest backup last; and what cannot be."""

    items: tuple[Item, ...] = ()
    left: tuple[Left, ...] = ()

    @property
    def automatic(self) -> tuple[Item, ...]:
        """What of it may be made without anybody having asked."""
        found = []
        for one in self.items:
            parts = tuple(part for part in one.parts if part.automatic)
            if parts and (not one.whole or len(parts) == len(one.parts)):
                found.append(replace(one, parts=parts))
        return tuple(found)


def plan(
    backups: Sequence[Backup],
    locations: Sequence[Location],
    now: float,
    zone: tzinfo,
    *,
    begun: Collection[tuple[str, str]] = (),
) -> Plan:
    """Decide what has to be made.

    Args:
        backups: all that are known.
        locations: all that are configured, in the order in which their copies are believed.
        now: epoch seconds.
        zone: the time zone in which ages are counted.
        begun: locations and paths at which a repair was begun and not ended: somebody has asked for these already.
    """
    here = [one.name for one in locations if not one.away]
    models = {one.path: model for one in backups if (model := model_of(one, here)) is not None}
    mendable = sorted((one for one in backups if one.path in models), key=lambda one: -one.started)
    sound = [one for one in mendable if one.complete and models[one.path].complete]
    items, left = [], []
    for location in locations:
        if location.away:
            continue
        wanted = _wanted(location, mendable, sound, now, zone)
        for one in mendable:
            if one.path not in wanted:
                continue
            item, lacking = _lacks(one, location.name, models[one.path], meant=(location.name, one.path) in begun)
            items += [item] if item else []
            left += lacking
    left += [Left(name, one.path, _DIFFER) for one in backups for name in at_odds(one, here)]
    left += [one for backup in backups if backup.path not in models for one in _hopeless(backup, here)]
    return Plan(tuple(items), tuple(left))


def unequal(location: str, found: Plan, quiet: float, now: float) -> Finding:
    """The finding `copies_unequal` about a location.

    Args:
        location: which one.
        found: what all lack.
        quiet: when the location was last away, epoch seconds; within an hour of that nothing is told.
        now: epoch seconds.
    """
    lacking = [one for one in found.items if one.location == location and now - one.backup.made > YOUNG]
    if not lacking or now - quiet <= YOUNG:
        return ok("copies_unequal", location, "holds a good copy of every backup that it should")
    shown = listed([f"{one.backup.path} ({one.why})" for one in lacking], 2)
    why = f"{count(len(lacking), 'backup')} without a good copy there, and good elsewhere: {shown}"
    asked = [one for one in lacking if not all(part.automatic for part in one.parts)]
    hint = "`snapward repair` shows what is to be made; `snapward repair --yes` makes it."
    if not asked:
        hint = "They are made by themselves if repair.automatic is on; `snapward repair --yes` says what is in the way."
    return Finding("copies_unequal", location, Level.WARNING, why, hint)


_DIFFER = "the copies are whole, but promise different things: see which one is right, and move the other one away"


def _wanted(
    location: Location, mendable: Iterable[Backup], sound: Sequence[Backup], now: float, zone: tzinfo
) -> set[str]:
    """The paths of what a location is to keep; what counts for nothing anywhere is measured against what does."""
    known = [_known(one) for one in sound]
    found = retention.wanted(location.policies, known, now, zone)
    counted = {one.path for one in sound}
    paths = {one.path for one in sound if (one.tier, one.id) in found}
    for one in mendable:
        if one.pinned or (
            one.path not in counted
            and (one.tier, one.id) in retention.wanted(location.policies, [*known, _known(one)], now, zone)
        ):
            paths.add(one.path)
    return paths


def _known(one: Backup) -> keeping.Backup:
    return keeping.Backup(id=one.id, tier=one.tier, started=one.started, state="good")


def _lacks(backup: Backup, location: str, model: Model, *, meant: bool) -> tuple[Item | None, list[Left]]:
    copy = backup.copies.get(location, Copy(there=False, had=False))
    # Where the manifest says something else, nothing is as it was when it was published.
    odd = copy.there and copy.promised is not None and not same(copy, backup.copies[model.believed])
    parts, left = [], []
    for name, promise in model.promised.items():
        file = copy.files.get(name, File(state=Is.MISSING))
        if copy.has(name, promise) or file.state is Is.UNREAD:
            continue
        if not model.sources[name]:
            left.append(Left(location, backup.path, f"{name}: {_why(file)}; no location has it good"))
            continue
        source = model.believed if model.believed in model.sources[name] else model.sources[name][0]
        automatic = meant or not (odd or file.had or (file.state is Is.MISSING and copy.had and not copy.there))
        bad = None if file.state is Is.MISSING else file
        parts.append(Part(name=name, source=source, promise=promise, why=_why(file), bad=bad, automatic=automatic))
    parts += _sides(backup, copy, model, location, meant=meant)
    if not parts:
        return None, left
    item = Item(
        location=location,
        backup=backup,
        parts=tuple(parts),
        whole=not copy.there,
        believed=model.believed,
        why=_told(copy, parts),
    )
    return item, left


def _sides(backup: Backup, copy: Copy, model: Model, location: str, *, meant: bool) -> list[Part]:
    """The small files that are missing or differ, the manifest last; of a copy that is not there they come along."""
    if not copy.there or location == model.believed:
        return []
    believed, why = backup.copies[model.believed], "is not there"
    wrong: dict[str, tuple[str, str, bool]] = {}
    if copy.promised is None:
        wrong[MANIFEST] = (copy.problem or why, "", bool(copy.problem))
    elif not same(copy, believed):
        wrong[MANIFEST] = (f"promises other things than the one in {model.believed}", "", True)
    if copy.sides is not None and believed.sides is not None:
        for name, digest in believed.sides.items():
            mine = copy.sides.get(name)
            if mine != digest and (mine is None or name in SIDES):
                differs = f"is not as in {model.believed}" if mine else why
                wrong[name] = (wrong.get(name, (differs,))[0], digest, mine is not None)
    order = sorted(wrong, key=lambda name: (name == MANIFEST, name))
    return [
        Part(
            name=name,
            source=model.believed,
            promise=Promise(model.believed, wrong[name][1] or None),
            why=wrong[name][0],
            bad=File(state=Is.BAD, why=wrong[name][0], verdict="differs") if wrong[name][2] else None,
            automatic=meant or not (wrong[name][2] or copy.had),
        )
        for name in order
    ]


def _why(file: File) -> str:
    if file.state is Is.MISSING:
        return "is gone" if file.had else "is not there"
    return f"{file.verdict}: {file.why}" if file.state is Is.BAD else "is not what the manifest promises"


def _told(copy: Copy, parts: Sequence[Part]) -> str:
    if not copy.there:
        return "was there, and is gone" if copy.had else "is not there"
    bad = [f"{one.name} {one.why}" for one in parts]
    return bad[0] if len(bad) == 1 else f"{bad[0]}, and {count(len(bad) - 1, 'file')} more"


def _hopeless(backup: Backup, here: Iterable[str]) -> list[Left]:
    """Bad files of a backup of which nobody can say what it has to be."""
    return [
        Left(name, backup.path, f"{file}: {_why(found)}; no location has the backup whole")
        for name in here
        for file, found in (backup.copies[name].files.items() if name in backup.copies else ())
        if found.state is Is.BAD
    ]
