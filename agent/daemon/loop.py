"""The loop: take an event out of the inbox, deal with it, see what is due, sleep until the next thing is."""

import contextlib
import functools
import logging
import queue
import sqlite3
from collections.abc import Callable, Mapping
from typing import assert_never

from agent.adapters import ledger
from agent.adapters.ledger import outbox, reserve, runs, writing
from agent.adapters.service import notify, watchdog_seconds
from agent.daemon import calls, pinging, slots, work
from agent.daemon.children import Ended
from agent.daemon.desk import Desk
from agent.daemon.events import (
    Called,
    Failed,
    Hint,
    Overslept,
    Patrolled,
    ReadBack,
    Signalled,
    Surveyed,
    Tick,
)
from agent.daemon.locations import Location
from agent.errors import AgentError, CannotWrite, Damaged, TryLater
from agent.rules import vitals
from agent.rules.finding import Finding, Level
from agent.rules.words import rfc3339

log = logging.getLogger(__name__)

Event = Hint | Surveyed | ReadBack | Patrolled | Failed | Called | Overslept | Tick | Signalled | Ended

_RETRY = 5.0
_PATIENCE = 60.0


def serve(desk: Desk, environ: Mapping[str, str]) -> str:
    """Guard until a signal says otherwise; returns "stop", or "reload" when the configuration is to be read anew."""
    watchdog = watchdog_seconds(environ)
    beat_every = watchdog / 2 if watchdog else None
    next_beat = desk.clocks.monotonic()
    for place in desk.places.values():
        desk.locations[place.name] = Location(place, desk.inbox.put)
    try:
        _guarded(desk, lambda: _open_up(desk))
        notify(environ, READY="1", STATUS=calls.words(desk))
        while True:
            for event in _arrived(desk, next_beat if beat_every else None):
                if isinstance(event, Signalled) and event.what in {"stop", "reload"}:
                    return event.what
                _guarded(desk, lambda event=event: _handle(desk, event), event)  # type: ignore[misc] # a bound default
            _guarded(desk, lambda: _look_round(desk))
            unwell = calls.watch_workers(desk)
            now = desk.clocks.monotonic()
            if beat_every and now >= next_beat:
                next_beat = now + beat_every
                _beat(environ, calls.words(desk), unwell)
    finally:
        for location in desk.locations.values():
            location.stop(5.0)


def close(desk: Desk) -> None:
    """End what is under way: children finish the step in hand; the ledger is closed."""
    desk.children.stop(_PATIENCE)
    with contextlib.suppress(AgentError):
        slots.close_orphans(desk)
    desk.db.close()


def _open_up(desk: Desk) -> None:
    """Close what the last life left open, and look at everything once."""
    log.info("guarding %s", ", ".join(f"{one.name} ({one.path})" for one in desk.places.values()))
    now = desk.clocks.wall()
    last = runs.pulses(desk.db).get("agent")
    if last is not None and last.at > now + 60:
        work.tell(desk, [vitals.jumped(now - last.at)])
        desk.jump_until = desk.clocks.steady() + vitals.JUMP_REMEMBERED
    slots.close_orphans(desk)
    calls.end_strangers(desk)
    calls.ticked(desk, Tick("sample"))
    calls.pulse(desk)


def _arrived(desk: Desk, next_beat: float | None) -> list[Event]:
    """Wait for events as long as nothing is due, and take all there are."""
    events: list[Event] = []
    with contextlib.suppress(queue.Empty):
        events.append(desk.inbox.get(timeout=_idle(desk, next_beat)))  # type: ignore[arg-type] # only events get in
        while True:
            events.append(desk.inbox.get_nowait())  # type: ignore[arg-type] # only events get in
    for event in events:
        _took(desk, event)
    now = desk.clocks.monotonic()
    if desk.retry_at is not None and now >= desk.retry_at:
        desk.retry_at = None
        again, desk.postponed = desk.postponed, []
        events = [*again, *events]  # type: ignore[list-item] # what was postponed are events
    return events


def _took(desk: Desk, event: Event) -> None:
    """Note that a worker is free; once for each answer, however often that is then dealt with."""
    match event:
        case Surveyed():
            desk.locations[event.survey.place.name].scout.took()
        case ReadBack():
            desk.locations[event.location].reader.took()
        case Patrolled():
            desk.locations[event.patrol.location].scout.took()
        case Failed():
            location = desk.locations[event.location]
            (location.reader if event.task == "read" else location.scout).took()
        case _:
            pass


def _idle(desk: Desk, next_beat: float | None) -> float:
    now, wall = desk.clocks.monotonic(), desk.clocks.wall()
    times = [
        desk.timetable.idle_seconds(),
        *(at - now for at in (desk.arrivals.next_at(), desk.children.next_at(), desk.retry_at, next_beat) if at),
        *(at - now for at in (pinging.next_at(desk),) if at is not None),
        *(due - now for due in (one.due() for one in desk.locations.values()) if due is not None),
    ]
    with contextlib.suppress(AgentError, sqlite3.Error):
        due = outbox.next_due(desk.db, wall)
        if due is not None and not desk.children.busy("deliver"):
            times.append(max(due - wall, desk.next_delivery - now))
    busy_reader = any(one.reader.waiting for one in desk.locations.values())
    if busy_reader:
        times = [one if one > 0 else 1.0 for one in times]  # its answer wakes us
    return max(0.0, min(times))


def _handle(desk: Desk, event: Event) -> None:
    match event:
        case Hint():
            work.hint(desk, event)
        case Surveyed():
            work.surveyed(desk, event)
        case ReadBack():
            work.read_back(desk, event)
        case Patrolled():
            work.patrolled(desk, event)
        case Failed():
            work.failed(desk, event)
        case Signalled():
            _signalled(desk, event)
        case _:
            _called(desk, event)


def _called(desk: Desk, event: Called | Overslept | Tick | Ended) -> None:
    match event:
        case Called():
            slots.called(desk, event)
        case Overslept():
            slots.overslept(desk, event)
        case Tick():
            calls.ticked(desk, event)
        case Ended():
            _ended(desk, event)
        case _:
            assert_never(event)


def _signalled(desk: Desk, event: Signalled) -> None:
    if event.what == "validate":
        log.info("asked to reload: the configuration is checked first")
        desk.children.request("validate", "validate", ["config", "validate"], _PATIENCE)


def _look_round(desk: Desk) -> None:
    """Everything that is due by time: children, slots, surveys, readings, reminders and messages."""
    now = desk.clocks.monotonic()
    for child in desk.children.reap(now):
        _guarded(desk, functools.partial(_handle, desk, child), child)
    calls.watch_clock(desk)
    calls.watch_rebuild(desk)
    desk.timetable.run_pending()
    slots.call_again(desk)
    for location in desk.locations.values():
        work.ask_survey(desk, location, now)
    work.ask_reading(desk, now)
    calls.remind(desk)
    calls.deliver(desk)
    _guarded(desk, functools.partial(pinging.look_round, desk))
    desk.children.start_waiting(now)


def _ended(desk: Desk, child: Ended) -> None:
    if child.job != "validate":
        slots.ended(desk, child)
    elif child.exit_code == 0:
        desk.inbox.put(Signalled("reload"))
    else:
        log.error("the new configuration is not usable; the agent goes on with the old one")


def _guarded(desk: Desk, step: Callable[[], None], event: Event | None = None) -> None:
    """Do one step, so that whatever goes wrong with it does not end the agent and loses nothing."""
    try:
        try:
            step()
        except CannotWrite:
            if not reserve.spend(desk.state_dir):
                raise
            log.warning("no space for the ledger: its reserve is used")
            step()
            with contextlib.suppress(AgentError):
                calls.keep_reserve(desk)
    except Damaged as error:
        rebuild(desk, error)
    except (CannotWrite, TryLater) as error:
        log.error("%s %s", error.message, error.hint)  # noqa: TRY400 - the reason is in the message
        _postpone(desk, event)
    except sqlite3.DatabaseError as error:
        translated = ledger.ours(error)
        if isinstance(translated, Damaged):
            rebuild(desk, translated)
        else:
            log.exception("the ledger refused a step")
    except Exception:
        log.exception("a step of the agent failed; it goes on")


def _postpone(desk: Desk, event: Event | None) -> None:
    """Keep what would be lost; what comes again by itself is old news until then."""
    desk.retry_at = desk.clocks.monotonic() + _RETRY
    match event:
        case Surveyed():
            desk.locations[event.survey.place.name].hint(None, desk.retry_at)
        case None | Tick():
            pass
        case _:
            desk.postponed.append(event)


def rebuild(desk: Desk, error: Damaged) -> None:
    """Set a ledger aside that cannot be used, begin a new one, and look at every archive again."""
    now = desk.clocks.wall()
    with contextlib.suppress(sqlite3.Error):
        desk.db.close()
    stamp = (rfc3339(now) or "").replace(":", "").replace("-", "")
    kept = ledger.set_aside(desk.state_dir, stamp)
    desk.db = ledger.connect(desk.state_dir, create=True)
    why = f"{error.message}; every archive is proved again, the history up to now is lost"
    log.error("%s%s", why, f"; the old file is kept as {kept}" if kept else "")
    for location in desk.locations.values():
        location.hint(None, desk.clocks.monotonic())
    finding = rebuilt_finding(Level.WARNING, why, kept)
    with contextlib.suppress(AgentError), writing(desk.db):
        desk.rebuilding = True
        work.told(ledger.incidents.observe(desk.db, [finding], now, desk.telling.policy, desk.telling.severities))


def rebuilt_finding(level: Level, why: str, kept: str | None) -> Finding:
    """The finding about a ledger that had to be begun anew."""
    hint = f"The old file is kept as {kept}." if kept else "Find out who removed it."
    return Finding("ledger_rebuilt", "ledger", level, why, hint)


def _beat(environ: Mapping[str, str], words: str, unwell: str) -> None:
    if unwell:
        log.error("%s: systemd's watchdog is not fed", unwell)
        notify(environ, STATUS=unwell)
        return
    notify(environ, WATCHDOG="1", STATUS=words)
