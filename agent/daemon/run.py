"""Start the daemon: read the configuration, open the ledger, serve, and begin anew when asked to reload."""

import contextlib
import logging
import os
import signal
import socket
import sqlite3
import sys
import time
import warnings
from collections.abc import Mapping

from agent.adapters import ledger, locks, logs
from agent.adapters.clock import Timetable
from agent.adapters.ledger import reserve, runs, schedule, writing
from agent.adapters.service import notify
from agent.adapters.shelf import look
from agent.daemon.children import Children
from agent.daemon.desk import Clocks, Desk, Drilling, Pinging
from agent.daemon.events import Called, Overslept, Tick
from agent.daemon.loop import close, rebuild, serve
from agent.daemon.signals import Signals
from agent.daemon.slots import SHORT_JOB
from agent.errors import AgentError, CannotWrite, Damaged
from agent.rules.words import rfc3339
from agent.settings import Loaded, Settings, check_secrets, load, parts, secrets_of, zone
from agent.settings.shape import OWN_TIERS

log = logging.getLogger(__name__)

_TRIM_EVERY = 6 * 3600.0
_UPKEEP_EVERY = 600.0


def run(config: str, environ: Mapping[str, str], *, verbose: bool = False) -> int:
    """Guard until asked to stop; returns the exit code.

    Raises:
        BadConfig: the configuration cannot be used.
        TryLater: an agent is running already.
        CannotWrite: the state folder cannot be written.
    """
    # Watchdog says at length that it watches a folder which came back; that is what it should do.
    warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)
    loaded = load(config)
    check_secrets(loaded)
    logs.begin(loaded.settings.logs.format, verbose=verbose)
    with locks.held(loaded.settings.state_dir, "agent"):
        children = Children(os.path.abspath(loaded.path))
        desk = open_desk(loaded, children, _clocks())
        signals = Signals(desk.inbox, lambda: _leave(children))
        while True:
            why = serve(desk, environ)
            if why == "stop":
                notify(environ, STOPPING="1", STATUS="finishing what is in hand")
                log.info("stopping; a second signal leaves at once")
                close(desk)
                return 0
            desk.db.close()
            loaded = _read_anew(config, loaded)
            logs.begin(loaded.settings.logs.format, verbose=verbose)
            desk = open_desk(loaded, children, _clocks())
            signals.inbox = desk.inbox


def _read_anew(config: str, before: Loaded) -> Loaded:
    """The configuration as it is now; the lock and the ledger stay where they are, so state_dir cannot move."""
    loaded = load(config)
    if loaded.settings.state_dir != before.settings.state_dir:
        log.error("state_dir has changed, which takes a restart; the agent goes on with the old configuration")
        return before
    log.info("the configuration was read anew")
    return loaded


def open_desk(loaded: Loaded, children: Children, clocks: Clocks) -> Desk:
    """Lay the desk out from the configuration; a ledger that cannot be used is set aside."""
    settings = loaded.settings
    logs.hide(secrets_of(settings))
    for warning in loaded.warnings:
        log.warning("%s", warning)
    damage: Damaged | None = None
    try:
        db = _ledger(settings.state_dir)
    except Damaged as error:
        damage = error
        db = ledger.blank()
    local = zone(settings.timezone)
    timetable = Timetable(
        local, clocks.wall, clocks.monotonic, settings.catch_up, settings.jitter, socket.gethostname()
    )
    desk = Desk(
        db=db,
        state_dir=settings.state_dir,
        config=loaded.path,
        zone=local,
        clocks=clocks,
        places=parts.places(settings),
        names=look.pattern(settings.watch.patterns),
        settle=settings.watch.settle,
        minimum_size=settings.watch.minimum_size,
        scan_every=settings.watch.scan_every,
        keeps=parts.keeps(settings),
        limits=parts.limits(settings),
        telling=parts.telling(settings),
        timetable=timetable,
        history=settings.logs.keep,
        deadlines={
            "backup": settings.engine.deadline + 600,
            "drill": settings.drills.budget + SHORT_JOB,
            "cleanup": 6 * 3600.0,
            "repair": settings.engine.deadline,
            "reread": settings.reread.budget + SHORT_JOB,
        },
        repairs=settings.repair.automatic and len(settings.locations) > 1,
        drilling=Drilling(settings.drills.budget, settings.drills.after_backup),
        pinging=Pinging(
            frozenset(settings.pings.jobs),
            settings.pings.agent is not None,
            settings.pings.every,
            settings.storage.sample_every,
        ),
        catch_up=settings.catch_up,
        tiers=frozenset((*settings.tiers, *OWN_TIERS)),
        remote=settings.engine.kind == "qdrant",
        children=children,
    )
    if damage is not None:
        rebuild(desk, damage)
    _plan(desk, settings)
    return desk


def _ledger(state_dir: str) -> sqlite3.Connection:
    """The ledger, opened and looked through; on a full disk its reserve makes room."""
    try:
        db = ledger.connect(state_dir, create=True)
    except CannotWrite:
        if not reserve.spend(state_dir):
            raise
        log.warning("no space for the ledger: its reserve is used")
        db = ledger.connect(state_dir, create=True)
    ledger.check(db)
    return db


def _plan(desk: Desk, settings: Settings) -> None:
    """Put every job on the timetable; a job only puts an event into the inbox."""

    def persist(job: str, slot: float) -> None:
        with writing(desk.db):
            runs.take_slot(desk.db, job, slot)

    jobs = {job: cron for job, (cron, _) in parts.promised(settings).items()}
    with contextlib.suppress(AgentError):  # `upkeep` does it too; a full disk must not keep the agent from its work
        if any(schedule.changes(desk.db, jobs, desk.clocks.wall())):
            with writing(desk.db):
                schedule.begin(desk.db, jobs, desk.clocks.wall())
    for job, cron in jobs.items():
        desk.timetable.add_cron(
            job,
            cron,
            _last_slot(desk, job),
            lambda due: desk.inbox.put(Called(due)),
            lambda missed: desk.inbox.put(Overslept(missed)),
            persist,
        )
    for what, seconds in (
        ("scan", settings.watch.scan_every),
        ("sample", settings.storage.sample_every),
        ("trim", _TRIM_EVERY),
        ("upkeep", _UPKEEP_EVERY),
        *([("health", settings.health.every)] if settings.engine.kind == "qdrant" else []),
    ):
        desk.timetable.add_every(what, seconds, lambda what=what: desk.inbox.put(Tick(what)))  # type: ignore[misc] # a bound default


def _last_slot(desk: Desk, job: str) -> float | None:
    """The newest slot of a job that is settled: one that was taken by a life that died then is not."""
    last = runs.last_slot(desk.db, job)
    kind, _, tier = job.partition(":")
    if last is None or desk.children.busy(job) or not last.is_integer():  # no cron line means it
        return last
    settled = runs.settled(desk.db, kind, tier or None, last)
    if settled == last or last < desk.clocks.wall() - desk.history:
        return last
    log.warning("%s: the slot of %s was taken, but its run never began", job, rfc3339(last))
    return last - 1.0 if settled is None else settled


def _clocks() -> Clocks:
    return Clocks(time.time, time.monotonic, lambda: time.clock_gettime(time.CLOCK_BOOTTIME))


def _leave(children: Children) -> None:
    children.kill()
    sys.stderr.flush()
    os._exit(128 + signal.SIGINT)
