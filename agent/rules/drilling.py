"""Decide which drill comes next, what fits into its time, who is overdue, and what a drill's outcome means."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from agent.rules.archive import RESTORABLE, State, Verdict, rank
from agent.rules.finding import Finding, Level
from agent.rules.subjects import Subject
from agent.rules.words import count, span

PASSED, FAILED, INCONCLUSIVE = "passed", "failed", "inconclusive"
LIGHT, FULL = "light", "full"
# What the daemon asks for, as the history calls it.
AFTER, DUE = "after backup", "rotation"

# What is believed of an engine before any drill was measured: seconds to begin with, and bytes a second.
_BEGINS, _RATE = 5.0, 50 << 20
# So much longer than the last time a drill may take, and still fit.
_SLACK = 1.25


class Proof(Struct, frozen=True):
    """What the newest drill that came to an end says of everything that holds the same: state, level, why, when."""

    state: str
    level: str
    why: str
    at: float


class Measured(NamedTuple):
    """What a drill took: seconds, for so many bytes of archives unpacked."""

    seconds: float
    raw_bytes: int


class Standing(Struct, frozen=True):
    """How the drills of one collection stand.

    Attributes:
        collection: its name.
        since: when it was drilled last, with an end, or else when it was first backed up; epoch seconds.
        drilled: whether it ever was.
        failed: whether that drill failed.
        overdue: for how long it should have been drilled by now, seconds; 0 if it need not be yet.
    """

    collection: str
    since: float
    drilled: bool
    failed: bool
    overdue: float


def laid(verdict: Verdict, proof: Proof | None) -> Verdict:
    """What an archive counts as by its verdict and by the drills of what it holds.

    A drill speaks of content: of a copy that cannot be read, or holds something else by now, it says nothing.
    """
    if proof is None or verdict.state not in {State.GOOD, State.NO_CHECKSUM}:
        return verdict
    if proof.state == FAILED:
        return Verdict(State.UNRESTORABLE, verdict.level, proof.why)
    if rank(proof.level) <= rank(verdict.level):
        return verdict
    return Verdict(verdict.state, proof.level, f"{verdict.why}; {proof.why}")


def unproved(subjects: Iterable[Subject], proofs: Mapping[str, Proof]) -> list[Subject]:
    """Those that hold an archive of which no drill has come to an end; `proofs` are by SHA-256 of the archives."""
    return [one for one in subjects if any(piece.sha256 not in proofs for piece in one.pieces)]


def rotation(subjects: Iterable[Subject], last: Mapping[str, float]) -> list[Subject]:
    """In which order they are drilled: first those whose collection was not for longest.

    `last` is when each collection was drilled, in epoch seconds; what is not in it never was.
    """
    return sorted(subjects, key=lambda one: (last.get(one.collection, 0.0), one.taken, one.collection))


def estimate(raw_bytes: int, before: Measured | None) -> float:
    """Seconds that a drill may take, by the last one of the same collection if there was one."""
    if before is None:
        return _BEGINS + raw_bytes / _RATE
    return before.seconds * max(1.0, raw_bytes / max(before.raw_bytes, 1)) * _SLACK


def fits(raw_bytes: int, before: Measured | None, left: float) -> bool:
    """Whether a drill is begun with so many seconds left."""
    return estimate(raw_bytes, before) <= left


def standings(
    current: Iterable[str],
    first: Mapping[str, float],
    last: Mapping[str, tuple[float, str]],
    every: float,
    now: float,
) -> list[Standing]:
    """How the collections of today stand.

    Args:
        current: their names.
        first: when each was first backed up.
        last: when each was drilled last, and how that ended.
        every: how often each has to be drilled, seconds.
        now: the moment to judge.
    """
    found = []
    for name in current:
        at, state = last.get(name, (None, ""))
        since = first.get(name, now) if at is None else at
        found.append(Standing(name, since, at is not None, state == FAILED, max(0.0, now - since - every)))
    return found


def overdue(standing: Standing, every: float, now: float) -> Finding:
    """The finding about a collection that has to be drilled every so many seconds."""
    name = standing.collection
    if not standing.overdue:
        return Finding("drill_overdue", name, Level.OK, "was drilled in time")
    ago = span(now - standing.since)
    why = f"no drill of it has come to an end for {ago}" if standing.drilled else f"was never drilled in {ago}"
    hint = "`snapward drill` says what keeps it from being drilled; `snapward check` whether drills can be made."
    return Finding("drill_overdue", name, Level.WARNING, f"{why}; drills.every is {span(every)}", hint)


def failure(subject: Subject, state: str, why: str) -> list[Finding]:
    """What the outcome of a drill is for the collection: nothing, if it is inconclusive."""
    if state == INCONCLUSIVE:
        return []
    if state == PASSED:
        return [Finding("drill_failed", subject.collection, Level.OK, f"backup {subject.backup} would restore: {why}")]
    hint = f"Do not restore {subject.collection} from this backup. Take a new one, and drill that."
    what = f"backup {subject.backup} would not restore: {why}"
    return [Finding("drill_failed", subject.collection, Level.CRITICAL, what, hint)]


def ended(active: Iterable[tuple[str, str]], current: Collection[str], held: Collection[str]) -> list[Finding]:
    """The ends of incidents about collections that need no drill any more.

    Args:
        active: rule and subject of every incident that is open.
        current: the collections of today.
        held: those of which some backup holds an archive.
    """
    known = {"drill_failed": {*current, *held}, "drill_overdue": {*current}}
    over = [one for one in active if one[1] not in known.get(one[0], {one[1]})]
    return [Finding(rule, subject, Level.OK, "it is not backed up any more") for rule, subject in over]


def summed(states: Sequence[str]) -> str:
    """What several drills come to: failed if one failed, passed if all did, else inconclusive."""
    if FAILED in states:
        return FAILED
    return PASSED if states and all(one == PASSED for one in states) else INCONCLUSIVE


def headline(states: Sequence[str]) -> str:
    """The sum of a drill in words: would restore: 9 of 9 collections."""
    unknown = states.count(INCONCLUSIVE)
    told = f"would restore: {states.count(PASSED):,} of {count(len(states), 'collection')}"
    return f"{told}; {unknown:,} could not be told" if unknown else told


def rehearsed(level: str) -> bool:
    """Whether a level takes a drill to reach."""
    return rank(level) >= rank(RESTORABLE)
