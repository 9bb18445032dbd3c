"""When jobs are due: cron lines turned into slots, and what becomes of the slots that were missed.

A slot is an instant (epoch seconds, whole seconds) that a cron line names in a time zone. Where the clocks
change, a fixed time runs once: a time that does not exist moves to the end of the gap, a repeated one counts
the first time. Lines with a star for the minute or the hour follow real time. These are Debian cron's rules.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from itertools import islice, pairwise
from typing import Literal

from cronsim import CronSim, CronSimError
from msgspec import Struct

from agent.errors import BadConfig
from agent.rules.words import count, moment, rfc3339, span

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
ON_TIME = 60.0  # a slot handed over within this many seconds was neither missed nor caught up
DAY = 86400.0
COUNTED = 1000  # after years of absence nobody needs to know the number to the last minute


class Appointment(Struct, frozen=True):
    """What has to be known about a job to say when it is due; `catch_up` and `jitter` in seconds.

    A slot is handed over up to `jitter` seconds after its time, so that many hosts with the same
    configuration do not strike the same server at once. That moves the start, never the slot.
    """

    job: str
    cron: str
    zone: tzinfo
    catch_up: float
    host: str = ""
    jitter: float = 0.0


class Due(Struct, frozen=True):
    """One slot of one job that is to be started now, `late` seconds after it should have been."""

    job: str
    slot: float
    late: float
    caught_up: bool


class Missed(Struct, frozen=True):
    """Slots of a job, from `since` to `newest`, that will not be run, and why.

    `slots` is their number, counted up to `COUNTED`; it is 0 where only the clock was wrong.
    """

    job: str
    slots: int
    since: float
    newest: float
    why: str


class Plan(Struct, frozen=True):
    """What is to be done about a job now; `settled` is the newest slot that needs no thought after it.

    `wake` is the instant of the next start, jitter included.
    """

    due: Due | None
    missed: Missed | None
    settled: float
    wake: float


class Freshness(Struct, frozen=True):
    """Whether the newest good backup is as new as its schedule promises.

    `expected` is the first slot that the newest good backup does not cover: ahead, or overdue.
    """

    state: Literal["ok", "late", "never", "waiting"]
    why: str
    expected: float


def describe(cron: str) -> str:
    """Say a cron line in words: At 02:00 every day.

    Raises:
        BadConfig: the line is not a cron line, or its moments never come; so this checks a line as well.
    """
    next_slot(cron, 0.0, UTC)
    return str(_parse(cron).explain())


def next_slot(cron: str, after: float, zone: tzinfo) -> float:
    """The first slot later than `after`.

    Raises:
        BadConfig: the line is not a cron line, or names no moment in the next 50 years.
    """
    for slot in _slots(cron, after, zone):
        return slot
    raise BadConfig(f"The cron line {cron!r} names no moment in the next 50 years.", _CRON_HINT)


def last_slot(cron: str, at: float, zone: tzinfo) -> float | None:
    """The newest slot that is not later than `at`; None where the last 50 years had none."""
    minutes, _ = _split(cron)
    for hint in CronSim(minutes, datetime.fromtimestamp(at + 1, zone), reverse=True):
        # Backwards cronsim steps over slots beside a repeated hour: only the way forward is believed.
        newest = None
        for slot in _slots(cron, hint.timestamp() - 1, zone):
            if slot > at:
                break
            newest = slot
        if newest is not None:
            return newest
    return None


def slots_between(cron: str, after: float, until: float, zone: tzinfo, limit: int) -> list[float]:
    """The slots later than `after` and not later than `until`, oldest first, at most `limit` of them."""
    found: list[float] = []
    for slot in islice(_slots(cron, after, zone), limit):
        if slot > until:
            break
        found.append(slot)
    return found


def expected_every(cron: str, at: float, zone: tzinfo) -> float:
    """Seconds that may lie between two slots: the largest gap among the next eight, so weekends count."""
    return max(later - earlier for earlier, later in pairwise(islice(_slots(cron, at, zone), 8)))


def jitter(job: str, slot: float, host: str, width: float) -> float:
    """Seconds in [0, width) by which a host holds a slot back: the same after every restart."""
    import hashlib  # noqa: PLC0415 - 3 ms that `status` has no use for

    digest = hashlib.blake2b(f"{host}\0{job}\0{slot:.0f}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) / 2**32 * max(width, 0.0)


def plan(appointment: Appointment, last: float | None, now: float) -> Plan:
    """Decide what is due and what was missed, `last` being the newest settled slot (None: never seen).

    Each slot is due once. Of several missed slots only the newest is made up for, if it is not older than
    `catch_up`; a clock that went back repeats nothing, unless it had been more than a day and a period
    ahead: then `last` says nothing, and `now` counts.
    """
    cron, zone = appointment.cron, appointment.zone
    if last is None:
        return Plan(None, None, now, _start(appointment, next_slot(cron, now, zone)))
    if last > now:
        if last - now <= DAY + expected_every(cron, now, zone):
            return Plan(None, None, last, _start(appointment, next_slot(cron, last, zone)))
        why = (
            f"the last slot of {appointment.job} is dated {rfc3339(last)}, {span(last - now)} ahead of the clock: "
            "the clock was wrong then, or is wrong now; slots count from now on"
        )
        wrong = Missed(appointment.job, 0, last, last, why)
        return Plan(None, wrong, now, _start(appointment, next_slot(cron, now, zone)))
    newest = last_slot(cron, now, zone)
    if newest is None or newest <= last:
        return Plan(None, None, last, _start(appointment, next_slot(cron, now, zone)))
    start = _start(appointment, newest)
    if start > now:
        return Plan(None, None, last, start)
    late = now - start
    due = None
    if late <= max(appointment.catch_up, ON_TIME):
        due = Due(appointment.job, newest, late, caught_up=late > ON_TIME)
    missed = _missed(appointment, last, newest, replaced=due is not None)
    return Plan(due, missed, newest, _start(appointment, next_slot(cron, now, zone)))


def freshness(
    cron: str,
    last_good: float | None,
    since: float,
    now: float,
    zone: tzinfo,
    grace: float,
    what: str = "good backup",
) -> Freshness:
    """Judge whether a tier has the good backup that its schedule promises, `grace` seconds after each slot.

    Args:
        cron: the tier's cron line.
        last_good: start of the newest backup that is believed; None where there is none.
        since: the instant from which slots count: none is missed before the line was given.
        now: the instant to judge.
        zone: the time zone of the cron line.
        grace: seconds that a backup may take from its slot until it is proved.
        what: how what is promised is called.
    """
    covered = since if last_good is None else max(last_good, since)
    expected = next_slot(cron, covered, zone)
    newest = f"no {what} yet" if last_good is None else f"newest {what}: {moment(last_good, zone)}"
    if covered > now + DAY:
        why = f"{newest}, but {rfc3339(covered)} is {span(covered - now)} ahead of the clock: one of them is wrong"
        return Freshness("never" if last_good is None else "late", why, expected)
    overdue = now - expected - grace
    if overdue > 0:
        wanted = f"{moment(expected, zone)} was due by {moment(expected + grace, zone)}, {span(overdue)} ago"
        return Freshness("never" if last_good is None else "late", f"{newest}; the one of {wanted}", expected)
    why = f"{newest}; the next is due from {moment(expected, zone)} to {moment(expected + grace, zone)}"
    return Freshness("waiting" if last_good is None else "ok", why, expected)


_CRON_HINT = (
    "Write five fields: minute, hour, day of month, month, day of week (with seconds in front, six), "
    f"such as '0 2 * * *', or one of {', '.join(ALIASES)}."
)


def _parse(cron: str) -> CronSim:
    try:
        return CronSim(ALIASES.get(cron.strip().lower(), cron), datetime.fromtimestamp(0, UTC))
    except (CronSimError, ValueError) as error:
        raise BadConfig(f"{cron!r} is not a cron line: {error}.", _CRON_HINT) from error


def _split(cron: str) -> tuple[str, list[int]]:
    """The five fields of a line, and its seconds.

    Cronsim minds the days on which clocks change for lines of five fields only; seconds are added here.
    """
    line = _parse(cron)
    return " ".join(line.parts[1:]), sorted(line.seconds)


def _slots(cron: str, after: float, zone: tzinfo) -> Iterator[float]:
    minutes, seconds = _split(cron)
    # From a minute earlier: the minute that `after` lies in may have seconds still to come.
    for minute in CronSim(minutes, datetime.fromtimestamp(after - 60, zone)):
        for second in seconds:
            slot = minute.timestamp() + second
            # Asked inside a repeated hour, cronsim also answers with slots of its first passage.
            if slot > after:
                yield slot


def _start(appointment: Appointment, slot: float) -> float:
    """When a slot is handed over: held back for less than half of the gap, so that order is kept."""
    if appointment.jitter <= 0:
        return slot
    gap = next_slot(appointment.cron, slot, appointment.zone) - slot
    return slot + jitter(appointment.job, slot, appointment.host, min(appointment.jitter, gap / 2))


def _missed(appointment: Appointment, last: float, newest: float, *, replaced: bool) -> Missed | None:
    """The slots after `last` that are not run: all but the newest one where it replaces them."""
    cron, zone = appointment.cron, appointment.zone
    until = newest - 1 if replaced else newest
    lost = slots_between(cron, last, until, zone, COUNTED)
    if not lost:
        return None
    end = last_slot(cron, until, zone) or lost[-1]
    number = count(len(lost), "run")
    many = f"at least {number}" if len(lost) == COUNTED else number
    reason = (
        "only the newest slot is made up for"
        if replaced
        else f"the newest slot is older than {span(max(appointment.catch_up, ON_TIME))}"
    )
    times = moment(end, zone) if len(lost) == 1 else f"{moment(lost[0], zone)} to {moment(end, zone)}"
    why = f"{many} of {appointment.job} did not start ({times}): the agent was not awake then, and {reason}"
    return Missed(appointment.job, len(lost), lost[0], end, why)
