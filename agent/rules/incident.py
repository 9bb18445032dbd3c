"""The life of an incident: which finding opens, worsens, repeats or ends it, and who hears of it."""

import enum
from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from agent.rules.finding import Finding, Level

# A checksum file is written after its archive, by a program that first reads the archive again.
HOLD = {
    "checksum_missing": 15 * 60.0,
    # One refused connection is nothing yet: the next try comes after 30 s.
    "target_failing": 60.0,
    # One lost sign of life is nothing to the watcher either.
    "ping_failing": 300.0,
}

# Seconds after which these are repeated at the soonest: an upgrade or a tidying ends them, which nobody does at night.
_DAILY = (
    *("snapshots_forgotten", "storage_forecast", "collection_missing"),
    *("points_changed", "size_changed", "duration_changed", "ratio_changed"),
    *("copies_unequal", "permissions_drift", "reverify_behind"),
)
SELDOM = {"server_version": 7 * 86_400.0} | dict.fromkeys(_DAILY, 86_400.0)
# Seconds by which a note may lie ahead of the clock: small corrections are no reason to repeat everything.
AHEAD = 60.0


class Change(enum.StrEnum):
    """What a finding did to an incident; every change that is told has one of these names."""

    OPENED = "opened"
    WORSE = "worse"
    BETTER = "better"
    REPEATED = "repeated"
    RESOLVED = "resolved"


TOLD = frozenset({Change.OPENED, Change.WORSE, Change.REPEATED, Change.RESOLVED})


class Policy(Struct, frozen=True):
    """`alerts` of the configuration, in seconds: how long to hold, group and repeat."""

    hold: float = 0.0
    group_wait: float = 10.0
    repeat_interval: float = 4 * 3600.0
    send_resolved: bool = True


class Incident(Struct, frozen=True):
    """A finding that stays. `opened` is None while it is held back; `told` is the last message's time."""

    rule: str
    subject: str
    level: Level
    why: str
    hint: str
    since: float
    opened: float | None = None
    told: float | None = None
    resolved: float | None = None
    id: int = 0


class Turn(Struct, frozen=True):
    """One step of an incident's life: what it is now, and what changed, if anything."""

    incident: Incident | None
    change: Change | None = None


def turn(before: Incident | None, finding: Finding, now: float, policy: Policy) -> Turn:
    """Apply one finding at `now` (epoch seconds) to the open incident about the same rule and subject."""
    if finding.level is Level.OK:
        if before is None:
            return Turn(None)
        ended = _with(before, finding, level=before.level, resolved=now)
        return Turn(ended, Change.RESOLVED if before.opened is not None else None)
    if before is None:
        before = Incident(finding.rule, finding.subject, finding.level, finding.why, finding.hint, since=now)
    after = _with(before, finding, level=finding.level, resolved=None)
    if before.opened is None:
        if now < next_turn(before, now, policy):
            return Turn(after)
        return Turn(_opened(after, now), Change.OPENED)
    if finding.level > before.level:
        return Turn(_told(after, now), Change.WORSE)
    return Turn(after, Change.BETTER if finding.level < before.level else None)


def repeat(incident: Incident, now: float, policy: Policy) -> Turn:
    """Remind of an incident that is still open `repeat_interval` after it was last told."""
    if incident.opened is None or now < next_turn(incident, now, policy):
        return Turn(incident)
    return Turn(_told(incident, now), Change.REPEATED)


def next_turn(incident: Incident, now: float, policy: Policy) -> float:
    """When an incident opens that is held back, or is repeated, if nothing else happens; epoch seconds.

    A clock that went back must not silence it: what was noted ahead of `now` counts as long ago.
    """
    if incident.told is None:
        noted, wait = incident.since, max(policy.hold, HOLD.get(incident.rule, 0.0))
    else:
        noted, wait = incident.told, max(policy.repeat_interval, SELDOM.get(incident.rule, 0.0))
    return noted + wait if noted <= now + AHEAD else now


def recipients(
    change: Change, incident: Incident, severities: Mapping[str, Level], told: frozenset[str], policy: Policy
) -> list[str]:
    """Which targets hear of a change.

    `severities` is the least level each target wants; `told` are the targets that have already been
    sent something about this incident: they, and only they, also hear that it is over.
    A target never gets the news of its own failure.
    """
    if change not in TOLD:
        return []
    if change is Change.RESOLVED:
        return sorted(told) if policy.send_resolved else []
    return [
        name
        for name, least in severities.items()
        if incident.level >= least and not (incident.rule == "target_failing" and incident.subject == name)
    ]


def _with(before: Incident, finding: Finding, *, level: Level, resolved: float | None) -> Incident:
    over = resolved is not None
    return replace(
        before,
        level=level,
        why=finding.why or before.why,
        hint=before.hint if over else finding.hint,
        resolved=resolved,
    )


def _opened(incident: Incident, now: float) -> Incident:
    return replace(incident, opened=now, told=now)


def _told(incident: Incident, now: float) -> Incident:
    return replace(incident, told=now)
