"""What time brings: slots of jobs, samplings, the end of children, and the outbox."""

import logging
from collections.abc import Collection

from agent.adapters.ledger import catalogue, incidents, outbox, replaced, reserve, runs, writing
from agent.adapters.ledger.runs import Pulse
from agent.daemon import work
from agent.daemon.children import Ended
from agent.daemon.desk import Desk
from agent.daemon.events import Called, Overslept, Tick
from agent.errors import FAULT, Damaged, TryLater
from agent.jobs.intake import losses
from agent.rules import storage, vitals
from agent.rules.archive import subject
from agent.rules.finding import Finding, Level
from agent.rules.server import COLLECTION_RULES
from agent.rules.words import count, rfc3339, span

log = logging.getLogger(__name__)

_ABOUT_LOCATIONS = frozenset(
    (
        *storage.PATROL_RULES,
        *("location_hung", "watch_blind", "archive_bad", "archives_vanished", "checksum_missing"),
        *("checksums_unreadable", "not_an_archive", "folder_unreadable", "arrival_stalled"),
    )
)
_ABOUT_TIERS = frozenset(("backup_failed", "backup_missed", "backup_degraded"))
_ABOUT_SERVER = frozenset(("server_unreachable", "server_denied", "server_version", "peer_unreachable"))
_ABOUT_SERVER |= COLLECTION_RULES
_SPAWN_AGAIN = 5.0
_SHORT_JOB = 900.0
_HANG = 60.0
_BUSY_AGAIN = 60.0


def called(desk: Desk, event: Called) -> None:
    """A slot is due: ask for the job, unless the same one is still under way."""
    due = event.due
    kind, _, tier = due.job.partition(":")
    words = {"backup": ["backup", tier], "report": ["report", "send"], "drill": ["drill", "--due"]}[kind]
    argv = [*words, "--slot", str(due.slot)]
    deadline = {"backup": desk.deadline, "drill": desk.drilling.budget + _SHORT_JOB}.get(kind, _SHORT_JOB)
    if due.caught_up:
        log.info("%s: the slot of %s is caught up, %s late", due.job, rfc3339(due.slot), span(due.late))
    if desk.children.request(kind, due.job, argv, deadline):
        desk.slots[due.job] = due
        return
    why = f"the slot of {rfc3339(due.slot)} was skipped: the run before it had not ended"
    with writing(desk.db):
        runs.note(desk.db, kind, tier, due.slot, "skipped", why, desk.clocks.wall())
        before = desk.slots.get(due.job)
        if before is not None and runs.settled(desk.db, kind, tier or None, before.slot) != before.slot:
            # It has not begun yet: if we die before it does, the next life has to begin there.
            runs.take_slot(desk.db, due.job, before.slot)
    if kind == "backup":
        hint = "Does the schedule leave enough time? `snapward status` shows what runs."
        work.tell(desk, [Finding("backup_missed", tier, Level.CRITICAL, why, hint)])


def overslept(desk: Desk, event: Overslept) -> None:
    """Slots were missed for good: that is an incident, not a line in a log."""
    missed = event.missed
    kind, _, tier = missed.job.partition(":")
    if not missed.slots:
        log.warning("%s: %s", missed.job, missed.why)
        return
    with writing(desk.db):
        runs.note(desk.db, kind, tier, missed.newest, "missed", missed.why, desk.clocks.wall())
    if kind == "backup":
        hint = f"Was the machine off? `snapward backup {tier}` makes one now."
        work.tell(desk, [Finding("backup_missed", tier, Level.CRITICAL, missed.why, hint)])


def ended(desk: Desk, child: Ended) -> None:
    """A child is over: close what it left open, and say so if it died."""
    close_orphans(desk)
    kind = child.job.partition(":")[0]
    died = child.exit_code < 0 or child.exit_code == FAULT
    if kind == "deliver" and child.exit_code:
        desk.next_delivery = desk.clocks.monotonic() + _SPAWN_AGAIN
    why = f"ended by signal {-child.exit_code}" if child.exit_code < 0 else f"ended with exit code {child.exit_code}"
    level = Level.WARNING if died else Level.OK
    hint = "The log has what it said last; the job runs again at its next slot."
    work.tell(desk, [Finding("job_failed", child.job, level, why, hint)])
    fine = logging.DEBUG if kind == "health" else logging.INFO  # it comes every minute, and its findings are told
    log.log(logging.WARNING if died else fine, "%s: %s", child.job, why)
    if kind in {"backup", "report", "drill"}:
        _account(desk, child, why)
    if kind == "backup" and child.exit_code in {0, 1} and desk.drilling.after_backup:
        desk.children.request("drill", "drill:after", ["drill", "--after"], desk.drilling.after_backup + _SHORT_JOB)


def _account(desk: Desk, child: Ended, why: str) -> None:
    """See that a slot is settled; one whose run never began is tried again, if only the lock was held."""
    due = desk.slots.pop(child.job, None)
    kind, _, tier = child.job.partition(":")
    if due is None or runs.settled(desk.db, kind, tier or None, due.slot) == due.slot:
        return
    busy = child.exit_code == TryLater.exit_code
    if busy and desk.clocks.wall() - due.slot <= max(desk.catch_up, _BUSY_AGAIN):
        log.info("%s: another run holds the lock; tried again in %s", child.job, span(_BUSY_AGAIN))
        desk.again.append((desk.clocks.monotonic() + _BUSY_AGAIN, Called(due)))
        return
    reason = "another run held the lock all the time" if busy else f"its process {why} before it began"
    missed = f"the slot of {rfc3339(due.slot)} could not be run: {reason}"
    with writing(desk.db):
        runs.note(desk.db, kind, tier, due.slot, "missed", missed, desk.clocks.wall())
    if kind == "backup":
        hint = f"`snapward check` shows what is wrong; `snapward backup {tier}` makes one now."
        work.tell(desk, [Finding("backup_missed", tier, Level.CRITICAL, missed, hint)])
    elif kind == "report":
        hint = "`snapward check` shows what is wrong; `snapward report send` sends it now."
        work.tell(desk, [Finding("report_failed", "report", Level.WARNING, missed, hint)])


def call_again(desk: Desk) -> None:
    """Ask again for jobs whose lock was held."""
    now = desk.clocks.monotonic()
    for one in [one for one in desk.again if one[0] <= now]:
        desk.again.remove(one)
        called(desk, one[1])


def close_orphans(desk: Desk) -> None:
    """Runs noted as running whose process is gone ended in an interruption."""
    now = desk.clocks.wall()
    for run in runs.orphans(desk.db):
        why = f"its process {run.pid} died before it was done"
        with writing(desk.db):
            runs.end(desk.db, run.id, "interrupted", now, why=why)
            if run.job == "backup":
                hint = f"The log says more. `snapward backup {run.subject}` makes one now."
                finding = Finding("backup_failed", run.subject, Level.CRITICAL, why, hint)
                policy, severities = desk.telling.policy, desk.telling.severities
                work.told(incidents.observe(desk.db, [finding], now, policy, severities))
        if run.job == "report":
            # Each target gets a week once, so that asking again can only send what was not.
            desk.children.request("report", "report", ["report", "send", "--week", run.subject], _SHORT_JOB)


def end_strangers(desk: Desk) -> None:
    """End the incidents about what is no longer configured, and remember which of our own faults were open."""
    jobs = {f"backup:{tier}" for tier in desk.tiers}
    jobs |= {"report", "deliver", "health", "drill", "drill:after", "drill:overdue"}
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
    desk.children.request("deliver", "deliver", ["deliver"], _SHORT_JOB)


def ticked(desk: Desk, event: Tick) -> None:
    """A sampling is due."""
    now = desk.clocks.monotonic()
    if event.what == "scan":
        for location in desk.locations.values():
            location.hint(None, now)
            if location.blind():
                work.tell(desk, work.watch_again(desk, location))
        if replaced(desk.db, desk.state_dir):
            raise Damaged("the ledger's file was removed or replaced under the agent")
        work.tell(desk, _stalled(desk, now))
        close_orphans(desk)
        pulse(desk)
    elif event.what == "sample":
        for location in desk.locations.values():
            if not location.scout.waiting:
                work.ask_patrol(location)
        keep_reserve(desk)
    elif event.what == "health":
        desk.children.request("health", "health", ["health"], _SHORT_JOB)
    elif event.what == "trim":
        with writing(desk.db):
            runs.trim(desk.db, desk.clocks.wall() - desk.history)
        desk.children.request("overdue", "drill:overdue", ["drill", "--overdue"], _SHORT_JOB)
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
        if ":" in job or job in {"report", "drill"}:
            pulses.append(Pulse(f"next:{job}", at, "planned"))
    with writing(desk.db):
        runs.beat(desk.db, pulses)


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
