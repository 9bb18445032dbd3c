"""What is done with each event in the inbox: one call each into a job, and what follows for the next round."""

import functools
import logging
import os
import re

from agent.adapters import host
from agent.adapters.ledger import connect_reader, incidents, writing
from agent.daemon.desk import Desk
from agent.daemon.events import Failed, Hint, Patrolled, ReadBack, Surveyed
from agent.daemon.locations import Location
from agent.daemon.worker import Worker
from agent.jobs import patrol
from agent.jobs.intake import losses, reading, survey, verdicts
from agent.jobs.intake.reading import Work
from agent.jobs.intake.survey import Place
from agent.rules.finding import Finding, Level
from agent.rules.incident import Turn
from agent.rules.storage import Patrol
from agent.rules.words import count, span

log = logging.getLogger(__name__)


def hint(desk: Desk, event: Hint) -> None:
    """Look at a folder soon."""
    desk.locations[event.location].hint(event.folder, desk.clocks.monotonic())


def surveyed(desk: Desk, event: Surveyed) -> None:
    """Take in what is new, write down what is gone, and notice when the folder is another one."""
    found = event.survey
    succeeded(desk, "survey", found.place.name)
    location = desk.locations[found.place.name]
    now, wall = desk.clocks.monotonic(), desk.clocks.wall()
    if location.surveyed(found, now):
        tell(desk, watch_again(desk, location))
        ask_patrol(location)
        if not found.root.trouble:
            location.hint(None, now)
    if found.root.trouble:
        report_root(desk, location)
        return
    if found.gone or found.odd or found.unread or found.whole:
        turns = losses.part_with(desk.db, found, desk.keeps, desk.minimum_size, wall, desk.telling)
        told(turns + losses.returned(desk.db, found.place.name, wall, desk.telling))
    desk.arrivals.surveyed(found, now)
    if found.changed:
        log.debug("%s: %s new or changed", found.place.name, count(len(found.changed), "file"))


def read_back(desk: Desk, event: ReadBack) -> None:
    """Judge what was read."""
    succeeded(desk, "read", event.location)
    now = desk.clocks.monotonic()
    judged = [outcome for outcome in event.outcomes if not outcome.moved]
    if judged:
        wall = desk.clocks.wall()
        turns = verdicts.accept(desk.db, judged, desk.minimum_size, wall, desk.telling)
        told(turns + losses.returned(desk.db, event.location, wall, desk.telling))
        for outcome in judged:
            log.debug("%s judged", "/".join(outcome.key))
    # Only now: what the ledger did not take stays in hand, and is not read again meanwhile.
    desk.arrivals.answered(event.outcomes, now)
    if len(judged) < len(event.outcomes):
        desk.locations[event.location].hint(None, now)


def patrolled(desk: Desk, event: Patrolled) -> None:
    """Note how the storage looks."""
    succeeded(desk, "patrol", event.patrol.location)
    desk.locations[event.patrol.location].patrolled_at = desk.clocks.monotonic()
    turns = patrol.accept(
        desk.db,
        event.patrol,
        desk.limits,
        desk.clocks.wall(),
        desk.telling.policy,
        dict(desk.telling.severities),
    )
    told(turns)


def succeeded(desk: Desk, task: str, location: str) -> None:
    """A task went well: if it had failed before, that is over."""
    subject = f"{task} {location}"
    if subject in desk.faults:
        desk.faults.discard(subject)
        tell(desk, [Finding("agent_error", subject, Level.OK, "goes well again")])


def failed(desk: Desk, event: Failed) -> None:
    """A task of ours went wrong in a way nobody expected: say so, and look again."""
    now = desk.clocks.monotonic()
    if event.task == "read":
        desk.arrivals.give_back(event.location, now)
    desk.faults.add(f"{event.task} {event.location}")
    tell(
        desk,
        [
            Finding(
                "agent_error",
                f"{event.task} {event.location}",
                Level.WARNING,
                f"a part of the agent failed: {event.why}",
                "The agent goes on and tries again. Please report this with the log.",
            )
        ],
    )


def ask_survey(desk: Desk, location: Location, now: float) -> None:
    """Let the scout look, if there is something to look at and it is free."""
    due = location.due()
    if due is not None and now >= due:
        task = functools.partial(_survey, desk.state_dir, location.place, desk.names, location.take())
        location.scout.give("survey", task)


def ask_patrol(location: Location) -> None:
    """Let the scout look at the storage."""
    place = location.place
    location.scout.give("patrol", lambda: Patrolled(host.patrol(place.name, place.path, place.mount)))


def ask_reading(desk: Desk, now: float) -> None:
    """Let readers that are free read what has come to rest."""
    at = desk.arrivals.next_at()
    if at is None or now < at or not any(not one.reader.waiting for one in desk.locations.values()):
        return
    busy = {name for name, one in desk.locations.items() if one.reader.waiting}
    for name, works in desk.arrivals.ready(now, busy).items():
        reader = desk.locations[name].reader
        reader.give("read", functools.partial(_read, name, works, desk.names, reader))


def watch_again(desk: Desk, location: Location) -> list[Finding]:
    """Watch the folder that the path means now, and say whether that worked."""
    name = location.place.name
    if location.watch is None or not os.path.isdir(location.place.path):
        return []
    trouble = location.watch_anew()
    if not trouble:
        return [Finding("watch_blind", name, Level.OK, "events come again")]
    return [
        Finding(
            "watch_blind",
            name,
            Level.WARNING,
            f"{trouble}; new archives are found by scanning, every {span(desk.scan_every)}",
            "`sysctl fs.inotify` shows the kernel's limits.",
        )
    ]


def report_root(desk: Desk, location: Location) -> None:
    """A location that cannot be used is an incident at once, without waiting for the next patrol."""
    place = location.place
    patrolled(desk, Patrolled(Patrol(place.name, place.path, location.root)))


def tell(desk: Desk, findings: list[Finding]) -> None:
    """Turn findings into incidents and notices."""
    if findings:
        wall = desk.clocks.wall()
        with writing(desk.db):
            turns = incidents.observe(desk.db, findings, wall, desk.telling.policy, desk.telling.severities)
        told(turns)


def told(turns: list[Turn]) -> None:
    """Log what changed: one line for each incident that opened, worsened or ended."""
    for turn in turns:
        if turn.incident is not None and turn.change is not None:
            level = logging.WARNING if turn.change not in {"resolved", "better"} else logging.INFO
            one = turn.incident
            log.log(level, "%s %s: %s: %s", turn.change, one.rule, one.subject, one.why)


def _survey(state_dir: str, place: Place, names: re.Pattern[str], only: set[str] | None) -> Surveyed:
    db = connect_reader(state_dir)
    try:
        return Surveyed(survey.survey(db, place, names, only))
    finally:
        db.close()


def _read(location: str, works: list[Work], names: re.Pattern[str], reader: Worker) -> ReadBack:
    return ReadBack(location, [reading.read_back(work, names, reader.touch) for work in works])
