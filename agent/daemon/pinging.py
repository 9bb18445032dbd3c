"""Signs of life for the watchers outside: when one is due, and whether the agent has a right to give it."""

import logging

from agent.adapters.ledger import outbox
from agent.daemon.desk import Desk
from agent.jobs import ping
from agent.rules import pings, vitals

log = logging.getLogger(__name__)

_DEADLINE = 900.0  # every watcher may be slow to say no, one after the other
_LOOK_EVERY = 30.0
_AGAIN = 5.0
_BREATH = 2.0
_SOON = 0.5
_SLACK = 300.0
# Messages that are due wait for a child that hangs until its time is up, and then for the next one.
_DELIVERY = 1200.0


def look_round(desk: Desk) -> None:
    """Ask for the pings that are due."""
    given = desk.pinging
    if given.agent and desk.clocks.monotonic() >= given.beat_at:
        _beat(desk)
    if given.jobs:
        _tell(desk)


def next_at(desk: Desk) -> float | None:
    """When to look round at the latest (monotonic); None if nothing is waited for."""
    given = desk.pinging
    times = [given.beat_at] if given.agent else []
    # The row of a run is written by its child, which tells nobody.
    if (given.jobs & set(desk.children.names())) - given.begun:
        times.append(desk.clocks.monotonic() + _SOON)
    return min(times, default=None)


def failed(desk: Desk) -> None:
    """A child that pings came to grief: the next one waits a little."""
    desk.pinging.not_before = desk.clocks.monotonic() + _AGAIN
    desk.pinging.seen = (-1, -1)


def silence(desk: Desk) -> dict[str, float]:
    """For how many seconds each part has shown nothing; one that is not in it never has, or is gone."""
    now, wall = desk.clocks.monotonic(), desk.clocks.wall()
    due = outbox.next_due(desk.db, wall)
    found = {"delivery": max(0.0, wall - due) if due is not None else 0.0}
    if desk.pulsed_at is not None:
        found["ledger"] = now - desk.pulsed_at
    for name, location in desk.locations.items():
        for worker in (location.scout, location.reader):
            if worker.alive():
                found[f"{worker.kind} {name}"] = worker.silent(now)
        if location.surveyed_at is not None:
            found[f"survey {name}"] = now - location.surveyed_at
        if location.patrolled_at is not None:
            found[f"patrol {name}"] = now - location.patrolled_at
    return found


def parts(desk: Desk) -> dict[str, float]:
    """Each part that has to show signs of life, and how long it may be silent, in seconds."""
    found = {"delivery": _DELIVERY, "ledger": 3 * desk.scan_every + _SLACK}
    for name in desk.places:
        found |= {
            f"scout {name}": vitals.SILENCE,
            f"reader {name}": vitals.SILENCE,
            f"survey {name}": 3 * desk.scan_every + _SLACK,
            f"patrol {name}": 3 * desk.pinging.sample_every + _SLACK,
        }
    return found


def _beat(desk: Desk) -> None:
    given, now = desk.pinging, desk.clocks.monotonic()
    given.beat_at = now + _BREATH  # also if what follows fails
    silent, limits = silence(desk), parts(desk)
    due = pings.heartbeat("", silent, frozenset(limits), limits, None, desk.clocks.wall(), given.every)
    if due is None:
        missing = sorted(limits.keys() - silent.keys())
        why = f"{missing[0]} has shown no sign of life yet" if missing else vitals.stale(silent, limits, frozenset())
        if given.beaten:
            log.warning("the watcher outside is told nothing any more: %s", why)
        given.beaten = False
        return
    given.beaten = True
    given.beat_at = now + given.every
    desk.children.request("heartbeat", "heartbeat", ["ping", "--beat", due.body.decode()], _DEADLINE)


def _tell(desk: Desk) -> None:
    """Ask for a child if a watcher is to be told something; the ledger is read only when it has changed."""
    given, now = desk.pinging, desk.clocks.monotonic()
    if desk.children.busy("ping") or now < given.not_before:
        return
    (version,) = desk.db.execute("PRAGMA data_version").fetchone()
    state = (int(version), desk.db.total_changes)
    if state == given.seen and now < given.look_at:
        return
    given.seen, given.look_at = state, now + _LOOK_EVERY
    found = ping.look(desk.db, given.jobs, desk.clocks.wall())
    given.begun = found.running
    if found.news:
        desk.children.request("ping", "ping", ["ping"], _DEADLINE)
