"""The parts of the weekly report beside the scorecard: evidence, storage, alerts, and what nobody looked at."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from agent.rules.alert import command, label, plain
from agent.rules.archive import ARRIVED, BAD, LEVELS, State, rank, subject
from agent.rules.drilling import FAILED, INCONCLUSIVE, PASSED
from agent.rules.facts import Archive, Drilled, Facts, Run, Sample, Stock
from agent.rules.incident import Incident
from agent.rules.report import (
    Alerts,
    Day,
    Evidence,
    Large,
    Need,
    Past,
    Rehearsals,
    Scores,
    Storage,
    Tally,
    Unchecked,
    Undelivered,
)
from agent.rules.scorecard import stem
from agent.rules.subjects import current, subjects
from agent.rules.words import count, moment, span

LARGEST = 5
NAMED = 5
STALE = 30 * 86400.0  # an archive that was read back longer ago is named
SILENCE = 900.0  # shorter silences of the agent are a restart
UNREACHABLE = frozenset({"location_unavailable", "location_hung"})


def needs(facts: Facts) -> tuple[Need, ...]:
    """Every open incident, worst first, then oldest."""
    still = [one for one in facts.incidents if one.resolved is None and one.opened is not None]
    return tuple(
        Need(
            one.level,
            one.rule,
            label(one.rule, one.why),
            plain(one.subject),
            plain(one.why),
            plain(one.hint),
            command(one.rule, one.subject),
            one.since,
        )
        for one in sorted(still, key=lambda one: (-one.level, one.since))
    )


def tallies(facts: Facts) -> tuple[Tally, ...]:
    """How the week's runs went, by job."""
    by_job: dict[str, list[Run]] = {}
    for run in facts.runs:
        by_job.setdefault(_job(run), []).append(run)
    return tuple(
        Tally(
            job,
            dict(sorted(Counter(run.outcome for run in its).items(), key=lambda one: (one[0] != "ok", one[0]))),
            sum(max(run.ended - run.started, 0.0) for run in its if run.ended is not None),
        )
        for job, its in sorted(by_job.items())
    )


def evidence(facts: Facts) -> Evidence:
    """What the archives that are here have been proved to be, and what was read back during the week."""
    here = [one for one in facts.archives if one.vanished is None]
    sound = [rank(one.level) for one in here if one.state not in BAD]
    read = [one for one in here if one.checked is not None and facts.week.start <= one.checked < facts.week.end]
    return Evidence(
        levels={ARRIVED: len(here)}
        | {level: sum(1 for reached in sound if reached >= rank(level)) for level in LEVELS[1:]},
        bad=sum(1 for one in here if one.state in BAD),
        rehearsals=_rehearsals(facts.drills),
        verdicts={state.value: number for state, number in Counter(state for _, state in facts.verdicts).items()},
        read_archives=len(read),
        read_bytes=sum(one.size for one in read),
        read_seconds=sum(one.seconds for one in read),
        oldest_check=min((one.checked for one in here if one.checked is not None), default=None),
    )


def _rehearsals(drills: Sequence[Drilled]) -> Rehearsals:
    states = Counter(one.state for one in drills)
    passed = [one for one in drills if one.state == PASSED]
    return Rehearsals(
        drills=len(drills),
        passed=states[PASSED],
        failed=states[FAILED],
        inconclusive=states[INCONCLUSIVE],
        collections=len({one.collection for one in drills}),
        engines=tuple(sorted({plain(one.engine) for one in drills})),
        raw_bytes=sum(one.raw_bytes for one in passed),
        seconds=round(sum(one.seconds for one in passed), 3),
    )


def storage(facts: Facts) -> tuple[Storage, ...]:
    """How full each location is, how that went, and what takes the space there."""
    return tuple(_storage(facts, name, path) for name, path in facts.locations.items())


def _storage(facts: Facts, name: str, path: str) -> Storage:
    week = facts.week
    every = sorted((one for one in facts.samples if one.location == name), key=lambda one: one.at)
    its = [one for one in every if week.start <= one.at < week.end]
    last = every[-1] if every else None
    here = [one for one in facts.archives if one.location == name and one.vanished is None]
    down = [one for one in facts.incidents if one.rule in UNREACHABLE and one.subject == name]
    return Storage(
        location=plain(name),
        path=plain(path),
        state="critical" if any(one.resolved is None for one in down) else last.state if last else "unknown",
        used_percent=round(last.used_percent, 1) if last else None,
        total=last.total if last else None,
        free=last.free if last else None,
        measured=last.at if last else None,
        trend=round(its[-1].used_percent - its[0].used_percent, 1) if its else None,
        samples=len(its),
        days=_days(facts, its),
        archives=len(here),
        stored=sum(one.size for one in here),
        largest=_largest(here),
        unavailable=_overlap(down, facts),
    )


def _largest(here: Sequence[Archive]) -> tuple[Large, ...]:
    sizes: dict[str, list[int]] = {}
    for one in here:
        sizes.setdefault(stem(one.name), []).append(one.size)
    every = [Large(plain(name), len(its), max(its), sum(its)) for name, its in sizes.items()]
    return tuple(sorted(every, key=lambda one: (-one.stored, one.name))[:LARGEST])


def _days(facts: Facts, its: Sequence[Sample]) -> tuple[Day, ...]:
    monday = datetime.fromtimestamp(facts.week.start, facts.zone).date()
    peaks: dict[str, float] = {}
    for one in its:
        date = datetime.fromtimestamp(one.at, facts.zone).date().isoformat()
        peaks[date] = max(one.used_percent, peaks.get(date, 0.0))
    dates = [(monday + timedelta(days=number)).isoformat() for number in range(7)]
    return tuple(Day(date, round(peaks[date], 1) if date in peaks else None) for date in dates)


def alerts(facts: Facts) -> Alerts:
    """What was told during the week, what became of it, and which messages did not arrive."""
    start, end = facts.week.start, facts.week.end
    fired = [one for one in facts.incidents if one.opened is not None and start <= one.opened < end]
    own = [one for one in facts.sent if not (one.kind == "report" and one.body == facts.week.name)]
    week = [one for one in own if start <= one.created < end]
    waits = [one.delivered - one.created for one in week if one.delivered is not None]
    return Alerts(
        fired=len(fired),
        resolved=sum(1 for one in facts.incidents if one.resolved is not None and start <= one.resolved < end),
        open=sum(1 for one in facts.incidents if one.resolved is None and one.opened is not None),
        incidents=tuple(
            Past(
                one.level,
                label(one.rule, one.why),
                plain(one.subject),
                one.opened or one.since,
                one.resolved,
                max((one.resolved or facts.now) - one.since, 0.0),
            )
            for one in sorted(fired, key=lambda one: (-one.level, one.opened or 0.0))
        ),
        targets=tuple(plain(one) for one in facts.targets),
        sent=len(week),
        delivered=sum(1 for one in week if one.state == "delivered"),
        median=max(median(waits), 0.0) if waits else None,
        undelivered=tuple(
            Undelivered(plain(one.target), one.kind, one.state, one.created, one.attempts, plain(one.error))
            for one in own
            if one.state != "delivered"
        ),
    )


def unchecked(facts: Facts, scores: Scores, places: Sequence[Storage]) -> tuple[Unchecked, ...]:
    """Everything that this report says nothing about. What nobody looked at is never green."""
    here = [one for one in facts.archives if one.vanished is None]
    found = [*_never_drilled(facts), *_unproved(here, facts)]
    found += [Unchecked(f"collection {one.name}", f"no backup: {one.why}") for one in scores.never]
    for place in places:
        if place.unavailable:
            found.append(Unchecked(f"location {place.location}", f"not available for {span(place.unavailable)}"))
        elif not place.samples:
            found.append(Unchecked(f"location {place.location}", "its storage was not measured"))
    found += [
        Unchecked(_job(run), f"{run.outcome}: {plain(run.why) or 'did not run'}")
        for run in facts.runs
        if run.outcome in {"missed", "skipped"}
    ]
    born = _born(facts)
    if born > facts.week.start:
        found.append(Unchecked(f"before {moment(born, facts.zone)}", "the agent's records begin then"))
    quiet = silences(facts)
    if quiet:
        total = span(sum(until - since for since, until in quiet))
        often = "" if len(quiet) == 1 else f" in {len(quiet)} stretches, the first"
        found.append(Unchecked("agent", f"no sign of life for {total}{often} from {moment(quiet[0][0], facts.zone)}"))
    return tuple(found)


def _never_drilled(facts: Facts) -> list[Unchecked]:
    there = frozenset((one.location, one.folder) for one in facts.archives if one.vanished is None)
    stock = Stock(facts.folders, facts.archives, there)
    today = current(subjects(stock, list(facts.locations)), stock)
    never = [plain(name, 60) for name in today if name not in facts.drilled]
    if not never:
        return []
    more = f" and {len(never) - NAMED:,} more" if len(never) > NAMED else ""
    return [Unchecked("restore", f"never rehearsed for {', '.join(never[:NAMED])}{more}")]


def _unproved(here: Sequence[Archive], facts: Facts) -> list[Unchecked]:
    bare = [one for one in here if one.state is State.NO_CHECKSUM]
    bad = [one for one in here if one.state in BAD]
    old = [one for one in here if one.checked is not None and facts.now - one.checked > STALE]
    found = []
    if bare:
        why = f"readable, but nothing promises a SHA-256 to compare with, for example {_named(bare[0])}"
        found.append(Unchecked(count(len(bare), "archive"), why))
    if bad:
        found.append(Unchecked(count(len(bad), "archive"), f"proved bad, for example {_named(bad[0])}"))
    if old:
        why = f"last read back more than {span(STALE)} ago, for example {_named(old[0])}"
        found.append(Unchecked(count(len(old), "archive"), why))
    return found


def silences(facts: Facts) -> list[tuple[float, float]]:
    """When the agent left no trace although it measures storage every `sample_every` seconds.

    Time before the first trace of all does not count, nor does time in which a location was known to be away:
    then nothing could be measured.
    """
    until = min(facts.week.end, facts.now)
    lively = sorted(at for at in _traces(facts) if facts.week.start <= at < until)
    points = [min(max(facts.week.start, _born(facts)), until), *lively, until]
    away = [one for one in facts.incidents if one.rule in UNREACHABLE]
    limit = max(3 * facts.sample_every, SILENCE)
    return [
        (since, later)
        for since, later in pairwise(points)
        if later - since > limit and not any(one.since < later and (one.resolved or later) > since for one in away)
    ]


def _traces(facts: Facts) -> list[float]:
    """Every moment at which the agent is known to have worked."""
    traces = [one.at for one in facts.samples] + [at for at, _ in facts.verdicts]
    traces += [at for run in facts.runs for at in (run.started, run.ended) if at is not None]
    return traces + [at for one in facts.incidents for at in (one.since, one.opened, one.resolved) if at is not None]


def _born(facts: Facts) -> float:
    """When the agent's records begin."""
    return min([*_traces(facts), *(one.arrived for one in facts.archives)], default=facts.now)


def _overlap(found: Iterable[Incident], facts: Facts) -> float:
    """Seconds of the week in which at least one of the incidents was open."""
    reached, total = facts.week.start, 0.0
    for one in sorted(found, key=lambda one: one.since):
        since, until = max(one.since, reached), min(one.resolved or facts.now, facts.week.end)
        total += max(until - since, 0.0)
        reached = max(reached, until)
    return total


def _job(run: Run) -> str:
    return plain(f"{run.job} {run.subject}".strip(), 80)


def _named(one: Archive) -> str:
    return plain(subject(one.location, one.folder, one.name), 120)
