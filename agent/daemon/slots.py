"""Jobs and their slots: asked for when due, accounted for when over, told of when missed."""

import logging

from agent.adapters.ledger import incidents, runs, writing
from agent.daemon import pinging, work
from agent.daemon.children import Ended
from agent.daemon.desk import Desk
from agent.daemon.events import Called, Overslept
from agent.errors import FAULT, TryLater
from agent.rules.finding import Finding, Level
from agent.rules.words import rfc3339, span

log = logging.getLogger(__name__)

# What a job's command is; a backup's tier follows.
COMMANDS = {
    "backup": ["backup"],
    "report": ["report", "send"],
    "drill": ["drill", "--due"],
    "cleanup": ["expire", "--yes"],
    "reread": ["verify", "--again"],
}
SHORT_JOB = 900.0
_SPAWN_AGAIN = 5.0
_BUSY_AGAIN = 60.0


def called(desk: Desk, event: Called) -> None:
    """A slot is due: ask for the job, unless the same one is still under way."""
    due = event.due
    kind, _, tier = due.job.partition(":")
    argv = [*COMMANDS[kind], *([tier] if tier else []), "--slot", str(due.slot)]
    deadline = desk.deadlines.get(kind, SHORT_JOB)
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
    _missed(desk, kind, tier, why, "Does the schedule leave enough time? `snapward status` shows what runs.")


def overslept(desk: Desk, event: Overslept) -> None:
    """Slots were missed for good: that is an incident, not a line in a log."""
    missed = event.missed
    kind, _, tier = missed.job.partition(":")
    if not missed.slots:
        log.warning("%s: %s", missed.job, missed.why)
        return
    with writing(desk.db):
        runs.note(desk.db, kind, tier, missed.newest, "missed", missed.why, desk.clocks.wall())
    if kind == "backup":  # the newest slot of the others may be made up for: `upkeep` sees to it
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
    # These come again and again, and what they find is told.
    fine = logging.DEBUG if kind in {"health", "upkeep", "repair", "ping", "heartbeat"} else logging.INFO
    if kind == "ping" and child.exit_code:
        pinging.failed(desk)
    log.log(logging.WARNING if died else fine, "%s: %s", child.job, why)
    if kind in COMMANDS:
        _account(desk, child, why)
    if kind == "backup" and child.exit_code in {0, 1} and desk.drilling.after_backup:
        desk.children.request("drill", "drill:after", ["drill", "--after"], desk.drilling.after_backup + SHORT_JOB)


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
    _missed(desk, kind, tier, missed, f"`snapward check` shows what is wrong; `snapward backup {tier}` makes one now.")


def _missed(desk: Desk, kind: str, tier: str, why: str, hint: str) -> None:
    """Tell of a slot that was not run; of other jobs than backups `upkeep` does, which sees what else they did."""
    if kind == "backup":
        work.tell(desk, [Finding("backup_missed", tier, Level.CRITICAL, why, hint)])
    else:
        ask_upkeep(desk)


def ask_upkeep(desk: Desk) -> None:
    """Let a child look through the books."""
    desk.children.request("upkeep", "upkeep", ["upkeep"], SHORT_JOB)


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
            desk.children.request("report", "report", ["report", "send", "--week", run.subject], SHORT_JOB)
