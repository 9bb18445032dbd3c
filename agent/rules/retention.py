"""Which backups stay and which may go, each with its reason, so that no cleanup can do harm.

Every location decides for itself, by its own policies and by the good copies that lie there. In each of them stay,
whatever the policy says: the newest good backup of a tier, and so the newest of all; the fewest good ones that the
tier is to have; the backup that holds the newest passed drill of a collection; what is pinned; what is not ours; what
nobody has proved yet. A tier that is kept up to an age also keeps the newest good one beyond it, until another is that
old: so one can always go back that far. Nothing but a complete good backup protects any of this, or takes the place
of another. What is bad goes when it is too old and a newer one of its tier is good.

Between locations there is one rule more. A location may hold the only good copy of a backup that another one is to
keep and has lost, or never had. So a backup that some location would keep, if it held a good copy of all that is good
anywhere, loses none of its good copies before there is one in a location that keeps it: better a copy too many for
a while. Who is away holds nothing in this sense, since nobody can look there, but what it is to keep counts. Where
all locations have the same policies and hold the same, this rule changes nothing.

A cleanup that smells of trouble removes nothing at all, anywhere: it is frozen, and says why.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import tzinfo

from msgspec import Struct
from msgspec.structs import replace

from agent.rules.finding import Finding, Level, ok
from agent.rules.keeping import GOING, Backup, Key, Policy, Reason, Window, reason, window
from agent.rules.reasons import listed, words
from agent.rules.words import count, span

AHEAD = 60.0  # seconds that a clock may be set back by without anybody being to blame

Policies = Mapping[str, Policy | None]


class Location(Struct, frozen=True, kw_only=True):
    """One location with all that is known there.

    Attributes:
        name: its name.
        backups: every backup known there, in any order.
        policies: tier to its policy here; one without, or with None, is kept for ever.
        away: why nothing can be looked at or removed there now, such as "not mounted"; empty if all is well.
    """

    name: str
    backups: Sequence[Backup]
    policies: Policies
    away: str = ""


class Caution(Struct, frozen=True):
    """When a cleanup is frozen.

    Attributes:
        newest: if so many of the newest backups of a tier are all bad or incomplete.
        share: if more than this part of a location's good backups were to go at once.
    """

    newest: int = 3
    share: float = 0.5


CAUTION = Caution()


class Freeze(Struct, frozen=True):
    """Why nothing is removed, and what to do about it.

    `kind` is newest_bad, future or share, or what the caller calls its own: clock, vanished.
    """

    kind: str
    why: str
    hint: str


class Decision(Struct, frozen=True):
    """What becomes of one location's copy of a backup; `because` is for people, `rule` for programs."""

    location: str
    backup: Backup
    rule: Reason
    because: str

    @property
    def action(self) -> str:
        """Return keep or expire."""
        return "expire" if self.rule in GOING else "keep"


class Plan(Struct, frozen=True):
    """A decision for every copy, by location as given, newest first. What is frozen expires nothing."""

    decisions: tuple[Decision, ...]
    frozen: tuple[Freeze, ...] = ()

    @property
    def expiring(self) -> list[Decision]:
        """Return what is to go."""
        return [one for one in self.decisions if one.rule in GOING]

    @property
    def forceable(self) -> bool:
        """Whether somebody's word that it is meant is all that is missing."""
        return bool(self.frozen) and all(one.kind == "share" for one in self.frozen)


def plan(
    locations: Sequence[Location],
    now: float,
    zone: tzinfo,
    *,
    suspicions: Sequence[Freeze] = (),
    caution: Caution = CAUTION,
    meant: bool = False,
) -> Plan:
    """Decide about every backup in every location.

    Args:
        locations: all that are configured, those that are away too.
        now: epoch seconds.
        zone: the time zone in which ages are counted.
        suspicions: what the caller knows that forbids a cleanup, such as a clock that jumped or archives that vanished.
        caution: when to freeze.
        meant: whether somebody has said that as many as these are to go.
    """
    drafts = [one for location in locations for one in _decide(location, now, zone)]
    drafts = _spare(drafts, locations, now, zone)
    frozen = [*suspicions, *_future(locations, now), *_newest_bad(locations, caution.newest)]
    if not meant:
        frozen += _too_many(drafts, caution.share)
    if frozen:
        drafts = [_halt(one, Reason.FROZEN, "nothing goes while the cleanup is frozen") for one in drafts]
    return Plan(tuple(drafts), tuple(frozen))


def finding(found: Plan) -> Finding:
    """Tell of a cleanup that is frozen, or that it is not."""
    if not found.frozen:
        return ok("cleanup_frozen", "cleanup", f"{count(len(found.expiring), 'backup')} to remove")
    why = "; ".join(one.why for one in found.frozen)
    return Finding(
        "cleanup_frozen", "cleanup", Level.CRITICAL, f"no old backup is removed: {why}", found.frozen[0].hint
    )


def wanted(policies: Policies, known: Iterable[Backup], now: float, zone: tzinfo) -> set[Key]:
    """Which backups a location with these policies would keep if it held a good copy of each of `known`."""
    known = [one for one in known if one.counts]
    windows = _windows(policies, known, now, zone)
    return {one.key for one in known if one.tier not in windows or not windows[one.tier].releases(one.started)}


def _windows(policies: Policies, backups: Iterable[Backup], now: float, zone: tzinfo) -> dict[str, Window]:
    good: dict[str, list[float]] = defaultdict(list)
    for one in backups:
        if one.counts:
            good[one.tier].append(one.started)
    return {
        tier: window(policy, sorted(good[tier]), now, zone) for tier, policy in policies.items() if policy is not None
    }


def _decide(location: Location, now: float, zone: tzinfo) -> list[Decision]:
    """What the location decides for itself, newest first."""
    windows = _windows(location.policies, location.backups, now, zone)
    drilled = _last_drilled(location.backups)
    following: dict[str, str] = {}
    decided = []
    for one in sorted(location.backups, key=lambda one: (-one.started, one.tier, one.id)):
        mine, collections = windows.get(one.tier), drilled.get(one.key, [])
        why = reason(one, mine, drilled=bool(collections), now=now)
        text = words(one, why, mine, following.get(one.tier, ""), collections, now, zone)
        decision = Decision(location.name, one, why, text)
        if location.away:
            decision = _halt(decision, Reason.AWAY, f"{location.name} is away: {location.away}")
        decided.append(decision)
        if one.counts:
            following[one.tier] = one.id
    return decided


def _last_drilled(backups: Iterable[Backup]) -> dict[Key, list[str]]:
    """Each backup that holds the newest passed drill of a collection, with these collections."""
    newest: dict[str, tuple[float, float, Key]] = {}
    for one in backups:
        if one.counts:
            for collection, at in one.drilled.items():
                mine = (at, one.started, one.key)
                newest[collection] = max(newest.get(collection, mine), mine)
    holders: dict[Key, list[str]] = defaultdict(list)
    for collection, (_, _, key) in sorted(newest.items()):
        holders[key].append(collection)
    return holders


def _halt(decision: Decision, why: Reason, text: str) -> Decision:
    """The same decision, but it stays."""
    if decision.rule not in GOING:
        return decision
    return replace(decision, rule=why, because=f"{decision.because}; {text}")


def _spare(decisions: Sequence[Decision], locations: Sequence[Location], now: float, zone: tzinfo) -> list[Decision]:
    """Let stay the good copies of what some location is to keep while none that keeps it has one."""
    away = {one.name for one in locations if one.away}
    held = [one for one in decisions if one.backup.counts and one.location not in away]
    kept = {one.backup.key for one in held if one.rule not in GOING}
    known = {one.backup.key: one.backup for one in held}
    wanting: dict[Key, list[str]] = defaultdict(list)
    for location in locations:
        for key in wanted(location.policies, known.values(), now, zone) - kept:
            wanting[key].append(location.name)
    return [
        _halt(one, Reason.LAST_COPY, f"but {listed(wanting[one.backup.key])} should have it and has no good copy")
        if one.backup.counts and one.backup.key in wanting
        else one
        for one in decisions
    ]


def _future(locations: Iterable[Location], now: float) -> list[Freeze]:
    """Backups that were begun later than now: then no age can be believed."""
    ahead = [(one, location.name) for location in locations if not location.away for one in location.backups]
    ahead = [(one, name) for one, name in ahead if one.ours and one.started > now + AHEAD]
    if not ahead:
        return []
    one, name = max(ahead, key=lambda pair: (pair[0].started, pair[0].key))
    many = f"{count(len(ahead), 'backup')} would be from the future: " if len(ahead) > 1 else ""
    return [
        Freeze(
            "future",
            f"{many}{one.tier}/{one.id} in {name} is dated {span(one.started - now)} ahead of the clock",
            "Set the clock right. If it was wrong when that backup was made, move its folder away.",
        )
    ]


def _newest_bad(locations: Iterable[Location], newest: int) -> list[Freeze]:
    """Tiers of which nothing good has come for a while: what is old may be all that there is."""
    found = []
    for location in locations:
        for tier in [] if location.away else [name for name, policy in location.policies.items() if policy is not None]:
            # What nobody has looked at yet may be good or not: it says nothing either way.
            judged = [one for one in location.backups if one.tier == tier and one.ours and one.state != "unknown"]
            last = sorted(judged, key=lambda one: (one.started, one.id))[-newest:]
            if len(last) == newest and not any(one.counts for one in last):
                why = f"none of the {newest} newest {tier} backups in {location.name} is good and complete"
                hint = f"`snapward show {last[-1].id}` says what is wrong. The next good {tier} backup ends this."
                found.append(Freeze("newest_bad", why, hint))
    return found


def _too_many(decisions: Iterable[Decision], share: float) -> list[Freeze]:
    """Locations that would lose a large part of their good backups at once."""
    good, going = Counter[str](), Counter[str]()
    for one in decisions:
        if one.backup.counts:
            good[one.location] += 1
            going[one.location] += one.rule in GOING
    return [
        Freeze(
            "share",
            f"{going[name]:,} of {count(good[name], 'good backup')} in {name} would go at once, more than {share:.0%}",
            "If that is meant, because less is to be kept than before: `snapward expire --yes --force`.",
        )
        for name in good
        if going[name] > share * good[name]
    ]
