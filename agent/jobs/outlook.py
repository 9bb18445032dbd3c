"""Say when each location will be full, whether the next backup fits, and what the plan will need."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo

import msgspec
from msgspec import Struct

from agent.adapters.ledger import computed, figures, runs, writing
from agent.adapters.ledger.computed import Computed
from agent.errors import BadUsage
from agent.rules import forecast, outlook, timetable
from agent.rules.finding import Finding
from agent.rules.keeping import Backup, Policy
from agent.rules.outlook import YEARS, Outlook, View
from agent.rules.simulation import Series, simulate
from agent.rules.storage import Limits

RULES = frozenset(("storage_forecast", "next_backup_too_big"))
DAY = forecast.DAY
_SIZES = 3 * forecast.RECENT


class Plan(Struct, frozen=True, kw_only=True):
    """What decides how a location fills.

    Attributes:
        location: its name.
        policies: tier to what it keeps there; None for what stays for ever.
        crons: tier to when its backups are made.
        cleanup: when cleanups run, as a cron line.
        limits: of the storage.
    """

    location: str
    policies: Mapping[str, Policy | None]
    crons: Mapping[str, str]
    cleanup: str
    limits: Limits


def refresh(
    db: sqlite3.Connection, plan: Plan, present: Callable[[str], Sequence[Backup]], zone: tzinfo, now: float
) -> None:
    """Compute a location's outlook anew once a day, and whenever there is a new backup or another plan.

    `present` says what lies in a location, and is asked only when that is needed.
    """
    basis = f"{figures.version(db)} {plan} {zone}"
    last = computed.find(db, _name(plan.location))
    if last is not None and last.basis == basis and now - DAY < last.at <= now:
        return
    found = _planned(db, plan, present(plan.location), zone, now)
    with writing(db):
        computed.keep(db, _name(plan.location), Computed(now, basis, msgspec.json.encode(found).decode()))


def view(db: sqlite3.Connection, plan: Plan, zone: tzinfo, now: float) -> View:
    """How a location stands, by what was computed within two days; if nothing was, without the plan."""
    last = computed.find(db, _name(plan.location))
    if last is not None and now - 2 * DAY < last.at <= now:
        found = msgspec.json.decode(last.told, type=Outlook)
    else:
        found = _forecast(db, plan, zone, now)
    newest = runs.last_sample(db, plan.location)
    if newest is None:
        return View(outlook=found)
    slots = [timetable.next_slot(cron, now, zone) for cron in plan.crons.values()]
    # A cleanup that comes before the backup makes room for it.
    free = newest.free + outlook.freed(found, now, min(slots, default=now))
    return View(
        outlook=found,
        fit=forecast.fits(figures.sizes(db, _SIZES, now), free),
        freed=outlook.freed(found, now, now + outlook.WEEK),
        room=newest.free + found.held,
    )


def findings(db: sqlite3.Connection, plan: Plan, zone: tzinfo, now: float) -> list[Finding]:
    """What somebody has to know before it happens."""
    seen = view(db, plan, zone, now)
    found = [outlook.filling(plan.location, seen, now, zone)]
    return [*found, outlook.fitting(plan.location, seen.fit)] if seen.fit is not None else found


def _name(location: str) -> str:
    return f"outlook {location}"


def _forecast(db: sqlite3.Connection, plan: Plan, zone: tzinfo, now: float) -> Outlook:
    samples = runs.samples(db, plan.location, now - forecast.YEAR * DAY, now + DAY)
    told = forecast.forecast(samples, plan.limits, zone)
    return Outlook(forecast=told, weeks=outlook.weeks(samples, told))


def _planned(db: sqlite3.Connection, plan: Plan, present: Sequence[Backup], zone: tzinfo, now: float) -> Outlook:
    """The forecast, and what comes of the plan if every backup is as large as the newest one."""
    told = _forecast(db, plan, zone, now)
    sizes = figures.sizes(db, _SIZES, now)
    if not sizes:
        return told
    tiers = {
        tier: Series(policy=policy, cron=plan.crons.get(tier, ""), size=sizes[-1])
        for tier, policy in plan.policies.items()
    }
    try:
        course = simulate(tiers, plan.cleanup, now, now + YEARS, zone, present, every="month")
    except BadUsage:  # a cron line with more slots than can be computed
        return told
    return outlook.planned(told, course, sum(one.size for one in present))
