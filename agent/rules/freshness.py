"""Whether the schedule is kept: each tier, each collection in it, and the agent's own jobs, by their own cron lines."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import tzinfo

from msgspec import Struct
from msgspec.structs import replace

from agent.rules import subjects, timetable
from agent.rules.archive import State
from agent.rules.facts import Folder, Stock
from agent.rules.finding import Finding, Level, ok
from agent.rules.scorecard import UNPLANNED
from agent.rules.subjects import Subject
from agent.rules.timetable import Freshness
from agent.rules.words import printable

# What a finding follows from: while one of these is open, it is not told too.
_CAUSES = {
    "backup_late": ("backup_missed", "backup_failed"),
    "collection_late": ("backup_missed", "backup_failed", "backup_late"),
    "drill_late": ("drill_failed",),
    "cleanup_late": ("cleanup_failed", "cleanup_frozen"),
    "report_late": ("report_failed",),
}
_JOBS = {
    "drill": Finding("drill_late", "drill", Level.WARNING, "", "`snapward drill` rehearses a restore now."),
    "cleanup": Finding("cleanup_late", "cleanup", Level.WARNING, "", "`snapward expire` says what keeps it."),
    "report": Finding("report_late", "report", Level.WARNING, "", "`snapward report send` sends it now."),
    "reread": Finding("reread_late", "reread", Level.WARNING, "", "`snapward verify --again` reads archives now."),
}
RULES = frozenset(("backup_late", "collection_late", *(one.rule for one in _JOBS.values())))

# Rule and subject of each incident that is open.
Open = Collection[tuple[str, str]]


class Promise(Struct, frozen=True):
    """What a schedule promises.

    Attributes:
        cron: its cron line.
        grace: seconds that may pass from a slot until what it is for is done.
        since: the instant from which slots count: when the agent was first given this line.
    """

    cron: str
    grace: float
    since: float


class Done(Struct, frozen=True):
    """What was done for a promise.

    Attributes:
        good: when the newest that is good was begun, epoch seconds; None if there is none.
        arriving: when the newest was begun of which it is not known yet whether it is; None if there is none.
        unrun: why the newest slot was not run, if nothing good came after it.
    """

    good: float | None = None
    arriving: float | None = None
    unrun: str = ""


def stand(promise: Promise, done: Done, zone: tzinfo, now: float, what: str = "good backup") -> Freshness:
    """Judge whether a promise is kept.

    One that is under way, or is being read back, has its grace from when it was begun: what comes of it is told.
    """
    grace = promise.grace
    found = timetable.freshness(promise.cron, done.good, promise.since, now, zone, grace, what)
    if done.arriving is None or found.state not in {"late", "never"} or now > done.arriving + grace:
        return found
    after = timetable.freshness(promise.cron, done.arriving, promise.since, now, zone, grace, what)
    if after.state == "late":
        return found
    return Freshness("waiting", f"{found.why}; a newer one is under way", found.expected)


def tier(name: str, promise: Promise, done: Done, zone: tzinfo, now: float, open_: Open = frozenset()) -> Finding:
    """The finding about a tier that has no good backup as new as it should be."""
    found = stand(promise, _strictly(done, ("backup_late", name), open_), zone, now)
    if found.state not in {"late", "never"}:
        return ok("backup_late", name, found.why)
    hint = f"`snapward status` and the log show what keeps it; `snapward backup {name}` makes one now."
    return Finding("backup_late", name, Level.CRITICAL, found.why, hint)


def collection(
    name: str, of: str, promise: Promise, done: Done, zone: tzinfo, now: float, open_: Open = frozenset()
) -> Finding:
    """The finding about a collection `name` of which the tier `of` has no good backup as new as it should be."""
    subject = f"{of}/{printable(name)}"
    found = stand(promise, _strictly(done, ("collection_late", subject), open_), zone, now)
    if found.state not in {"late", "never"}:
        return ok("collection_late", subject, found.why)
    hint = f"The tier's other collections are backed up: `snapward list --tier {of}` shows what became of this one."
    return Finding("collection_late", subject, Level.CRITICAL, found.why, hint)


def job(name: str, promise: Promise, done: Done, zone: tzinfo, now: float, open_: Open = frozenset()) -> Finding:
    """The finding about one of the agent's own jobs that was missed, is late, or never ran."""
    late = _JOBS[name]
    done = _strictly(done, (late.rule, name), open_)
    if done.unrun and done.arriving is None:
        return replace(late, why=done.unrun)
    found = stand(promise, done, zone, now, "good run")
    if found.state in {"late", "never"}:
        return replace(late, why=found.why)
    return ok(late.rule, name, found.why)


def _strictly(done: Done, about: tuple[str, str], open_: Open) -> Done:
    """What is on its way keeps an incident from being opened, and ends none: it has to arrive first."""
    return replace(done, arriving=None) if about in open_ else done


def told(found: Iterable[Finding], open_: Open) -> list[Finding]:
    """Leave out what only follows from an incident that is open, unless it is open itself.

    Args:
        found: tiers before their collections, since these follow from them.
        open_: what is open.
    """
    known = set(open_)
    kept = []
    for one in found:
        about = (one.rule, one.subject)
        if one.level is not Level.OK and about not in open_ and cause(one, known):
            continue
        if one.level is not Level.OK:
            known.add(about)
        kept.append(one)
    return kept


def cause(found: Finding, open_: Iterable[tuple[str, str]]) -> str:
    """The rule of the open incident that a finding only follows from; empty if there is none."""
    about = found.subject.partition("/")[0]
    rules = _CAUSES.get(found.rule, ())
    own = found.rule in {"backup_late", "collection_late"}
    return next((rule for rule, subject in open_ if rule in rules and (subject == about or not own)), "")


class Share(Struct, frozen=True):
    """A collection in a tier, and from when on every backup has spoken of it."""

    tier: str
    collection: str
    done: Done
    first: float


def shares(stock: Stock, locations: Sequence[str], tiers: Iterable[str], full: Collection[str]) -> list[Share]:
    """How each collection that is there today stands in each tier.

    Those are there today that the newest planned backup speaks of, by its manifest. What nobody describes is nobody's
    collection.

    Args:
        stock: what is known.
        locations: those that count.
        tiers: those of the schedule.
        full: ids of the backups that are known to have been asked for all collections; the others may be of some only.
    """
    found = [one for one in subjects.subjects(stock, locations) if one.described]
    states = {(one.location, one.folder, one.name): one.state for one in stock.archives if one.vanished is None}
    today = _today([one for one in stock.folders if one.location in locations], full)
    good: dict[tuple[str, str], float] = {}
    arriving: dict[tuple[str, str], float] = {}
    for one in found:
        key = (one.tier, one.collection)
        if _good(one, states):
            good[key] = max(one.taken, good.get(key, one.taken))
        elif one.whole and not _judged(one, states):
            arriving[key] = max(one.taken, arriving.get(key, one.taken))
    return [
        Share(of, name, Done(good.get((of, name)), arriving.get((of, name))), first)
        for of in tiers
        for name, first in sorted(today.items())
    ]


def _today(folders: Sequence[Folder], full: Collection[str]) -> dict[str, float]:
    """The collections of the newest backup, and when the first was made of those that speak of each without a gap."""
    planned = [one for one in folders if one.tier not in UNPLANNED and one.started is not None]
    whole = [one for one in planned if one.backup in full] or planned
    spoken: dict[float, set[str]] = {}
    for one in whole:
        names = {entry.name for entry in one.manifest.collections} | {failure.name for failure in one.manifest.failed}
        spoken.setdefault(one.started or 0.0, set()).update(names)
    newest_first = sorted(spoken.items(), reverse=True)
    today = dict.fromkeys(newest_first[0][1], newest_first[0][0]) if newest_first else {}
    still = set(today)
    for started, names in newest_first:
        still &= names
        today |= dict.fromkeys(still, started)
    return today


def _good(one: Subject, states: Mapping[tuple[str, str, str], State]) -> bool:
    return one.whole and all(
        any(states.get((*spot, piece.file)) is State.GOOD for spot in piece.spots) for piece in one.pieces
    )


def _judged(one: Subject, states: Mapping[tuple[str, str, str], State]) -> bool:
    return all(any((*spot, piece.file) in states for spot in piece.spots) for piece in one.pieces)
