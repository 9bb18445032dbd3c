"""What time brings: samplings, signs of life, and the outbox."""

import logging
from collections.abc import Collection

from agent.adapters.ledger import catalogue, deeds, incidents, outbox, replaced, reserve, runs, writing
from agent.adapters.ledger.runs import Pulse
from agent.daemon import slots, work
from agent.daemon.desk import Desk
from agent.daemon.events import Tick
from agent.daemon.slots import COMMANDS, SHORT_JOB
from agent.errors import Damaged
from agent.jobs import ping
from agent.jobs.intake import losses
from agent.rules import storage, vitals
from agent.rules.archive import subject
from agent.rules.finding import Finding, Level
from agent.rules.server import COLLECTION_RULES
from agent.rules.words import count

log = logging.getLogger(__name__)

_ABOUT_LOCATIONS = frozenset(
    (
        *storage.PATROL_RULES,
        *("location_hung", "watch_blind", "archive_bad", "archives_vanished", "checksum_missing"),
        *("checksums_unreadable", "not_an_archive", "folder_unreadable", "arrival_stalled"),
        *("archive_changed", "archive_vanished", "archive_foreign"),
    )
)
_ABOUT_TIERS = frozenset(("backup_failed", "backup_missed", "backup_degraded"))
_ABOUT_SERVER = frozenset(("server_unreachable", "server_denied", "server_version", "peer_unreachable"))
_ABOUT_SERVER |= COLLECTION_RULES
_HANG = 60.0


def end_strangers(desk: Desk) -> None:
    """End the incidents about what is no longer configured, and remember which of our own faults were open."""
    jobs = {f"backup:{tier}" for tier in desk.tiers}
    jobs |= {*COMMANDS, "deliver", "health", "upkeep", "repair", "ping", "heartbeat", "drill:after", "drill:overdue"}
    over = []
    for one in incidents.active(desk.db):
        if one.rule == "agent_error":
            desk.faults.add(one.subject)
        known: Collection[str] | None = None
        subject = one.subject
        if one.rule in _ABOUT_LOCATIONS:
            known, subject = desk.places, one.subject.partition(":")[0]
        elif one.rule in _ABOUT_TIERS:
            known = desk.tiers
        elif one.rule in _ABOUT_SERVER and not desk.remote:
            known = ()
        elif one.rule == "job_failed":
            known = jobs
        elif one.rule == "ping_failing":
            known = desk.pinging.jobs | ({ping.AGENT} if desk.pinging.agent else set())
        elif one.rule == "agent_error":
            known, subject = desk.places, one.subject.rpartition(" ")[2]
        if known is not None and subject not in known:
            over.append(Finding(one.rule, one.subject, Level.OK, "no longer configured"))
    work.tell(desk, over)


def deliver(desk: Desk) -> None:
    """Let a child send what is due in the outbox."""
    due = outbox.next_due(desk.db, desk.clocks.wall())
    if due is None or due > desk.clocks.wall() or desk.clocks.monotonic() < desk.next_delivery:
        return
    desk.next_delivery = desk.clocks.monotonic() + 1.0
    desk.children.request("deliver", "deliver", ["deliver"], SHORT_JOB)


def ticked(desk: Desk, event: Tick) -> None:
    """A sampling is due."""
    match event.what:
        case "scan":
            _scan(desk)
        case "sample":
            for location in desk.locations.values():
                if not location.scout.waiting:
                    work.ask_patrol(location)
            keep_reserve(desk)
        case "health":
            desk.children.request("health", "health", ["health"], SHORT_JOB)
        case "upkeep":
            slots.ask_upkeep(desk)
            if desk.repairs:
                desk.children.request("repair", "repair", ["repair", "--due"], desk.deadlines["repair"])
        case "trim":
            _trim(desk)


def _scan(desk: Desk) -> None:
    now = desk.clocks.monotonic()
    for location in desk.locations.values():
        location.hint(None, now)
        if location.blind():
            work.tell(desk, work.watch_again(desk, location))
    if replaced(desk.db, desk.state_dir):
        raise Damaged("the ledger's file was removed or replaced under the agent")
    work.tell(desk, _stalled(desk, now))
    slots.close_orphans(desk)
    pulse(desk)


def _trim(desk: Desk) -> None:
    with writing(desk.db):
        runs.trim(desk.db, desk.clocks.wall() - desk.history)
        deeds.trim(desk.db, desk.clocks.wall() - desk.history)
    desk.children.request("overdue", "drill:overdue", ["drill", "--overdue"], SHORT_JOB)
    losses.let_go(desk.db, desk.keeps, desk.clocks.wall(), desk.telling, everything=False)


def keep_reserve(desk: Desk) -> None:
    """Hold space back for the ledger, and say so when there is none."""
    there = reserve.keep(desk.state_dir)
    work.tell(
        desk,
        [
            Finding(
                "state_dir_full",
                desk.state_dir,
                Level.OK if there else Level.CRITICAL,
                "has space" if there else "there is no space left for the agent's own ledger",
                "Free space there: without it no verdict and no alert can be written down.",
            )
        ],
    )


def remind(desk: Desk) -> None:
    """Repeat what is still open, and open what was held back long enough."""
    wall = desk.clocks.wall()
    due = incidents.next_reminder(desk.db, wall, desk.telling.policy)
    if due is not None and due <= wall:
        with writing(desk.db):
            turns = incidents.remind(desk.db, wall, desk.telling.policy, desk.telling.severities)
        work.told(turns)


def watch_clock(desk: Desk) -> None:
    """Notice a wall clock that jumps; the finding ends an hour after the last jump."""
    now = desk.clocks.beat()
    jump = vitals.clock(desk.beat, now)
    desk.beat = now
    if jump:
        desk.jump_until = now.steady + vitals.JUMP_REMEMBERED
        work.tell(desk, [vitals.jumped(jump)])
    elif desk.jump_until is not None and now.steady >= desk.jump_until:
        desk.jump_until = None
        work.tell(desk, [Finding("clock_jumped", "clock", Level.OK, "steady for an hour")])


def watch_workers(desk: Desk) -> str:
    """Notice locations that do not answer; returns why the agent itself is not well, or an empty text."""
    now = desk.clocks.monotonic()
    silent = {}
    for name, location in desk.locations.items():
        for worker in (location.scout, location.reader):
            if not worker.alive():
                return f"the thread {worker.kind} of {name} is gone"
            silent[f"{worker.kind} {name}"] = worker.silent(now)
        quiet = max(location.scout.silent(now), location.reader.silent(now))
        if quiet > _HANG and name not in desk.excused:
            work.tell(desk, [storage.hung(name, location.place.path, quiet)])
            desk.excused |= {name}
        elif quiet <= _HANG and name in desk.excused:
            desk.excused -= {name}
            work.tell(desk, [Finding("location_hung", name, Level.OK, "answers again")])
    excused = frozenset(f"{kind} {name}" for name in desk.excused for kind in ("scout", "reader"))
    return vitals.stale(silent, {}, excused)


def watch_rebuild(desk: Desk) -> None:
    """End the incident of a ledger that was begun anew, once every archive has been proved again."""
    if not desk.rebuilding or len(desk.arrivals):
        return
    if all(one.at_rest() for one in desk.locations.values()):
        desk.rebuilding = False
        number = count(sum(catalogue.present(desk.db, name) for name in desk.locations), "archive")
        work.tell(desk, [Finding("ledger_rebuilt", "ledger", Level.OK, f"{number} proved again")])


def pulse(desk: Desk) -> None:
    """Write down that the agent works, for those who only read the ledger."""
    wall, now = desk.clocks.wall(), desk.clocks.monotonic()
    pulses = [Pulse("agent", wall, ", ".join(desk.children.names()) or "idle")]
    for name, location in desk.locations.items():
        if location.surveyed_at is not None:
            pulses.append(
                Pulse(f"scan:{name}", wall - (now - location.surveyed_at), location.root.trouble or "scanned")
            )
    for job, at in desk.timetable.next_runs().items():
        if job.partition(":")[0] in COMMANDS:
            pulses.append(Pulse(f"next:{job}", at, "planned"))
    with writing(desk.db):
        runs.beat(desk.db, pulses)
    desk.pulsed_at = now


def words(desk: Desk) -> str:
    """One line about what the agent does now, for systemd's status."""
    arriving = len(desk.arrivals)
    doing = ", ".join(desk.children.names())
    parts = [f"running {doing}" if doing else "idle"]
    if arriving:
        parts.append(f"{count(arriving, 'file')} arriving")
    return "; ".join(parts)


def _stalled(desk: Desk, now: float) -> list[Finding]:
    stalled = {subject(*key) for key in desk.arrivals.stalled(now)}
    over = [
        Finding("arrival_stalled", one.subject, Level.OK, "came to rest")
        for one in incidents.active(desk.db)
        if one.rule == "arrival_stalled" and one.subject not in stalled
    ]
    return over + [
        Finding(
            "arrival_stalled",
            one,
            Level.WARNING,
            "has been written to for more than an hour; it is judged when it comes to rest",
            "Is the program that writes it still at work? `fuser -v FILE` shows who has it open.",
        )
        for one in stalled
    ]
