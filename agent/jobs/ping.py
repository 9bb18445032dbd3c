"""Tell a watcher outside of the starts and ends of jobs, and that the agent is alive."""

import logging
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping

from msgspec import Struct

from agent.adapters.ledger import catalogue, incidents, pings, writing
from agent.adapters.ledger.catalogue import Archive, Key
from agent.adapters.ledger.pings import Told
from agent.adapters.ledger.runs import Run
from agent.rules.finding import Level
from agent.rules.incident import Policy
from agent.rules.pings import (
    KEPT,
    SUCCESS,
    Ping,
    Proof,
    failing,
    is_due,
    job_of,
    next_try,
    of_run,
    proof,
    run_id,
    url,
)

AGENT = "agent"
Send = Callable[[Ping], str]

log = logging.getLogger(__name__)


class News(Struct, frozen=True):
    """What is to be told of one run now: that it began, that it is over, or both; `why` what came of it."""

    run: Run
    job: str
    tries: int
    start: bool
    outcome: str
    why: str


class Look(Struct, frozen=True):
    """What is to be told now, oldest first, and the jobs whose run has begun and is not over."""

    news: list[News]
    running: frozenset[str]


def look(db: sqlite3.Connection, jobs: Collection[str], now: float) -> Look:
    """Find what the watchers of these jobs are to be told.

    A backup has succeeded only once each of its archives has been read back and is good.
    """
    from agent.rules.drilling import AFTER  # noqa: PLC0415 - the daemon does without it where nobody watches

    found, running, held = [], set(), set()
    for told in pings.untold(db, jobs, now - KEPT):
        job = job_of(told.run.job, told.run.subject)
        # The quick drill after each backup is no run of the drill that is planned.
        if job == "drill" and told.run.subject == AFTER:
            continue
        if told.run.outcome == "running":
            running.add(job)
        if not is_due(told.next_try, now):
            held.add(job)  # a failure that is told after a later success would be taken for news
        one = _news(db, told, job, now)
        if job not in held and (one.start or one.outcome):
            found.append(one)
    return Look(found, frozenset(running))


def _news(db: sqlite3.Connection, told: Told, job: str, now: float) -> News:
    run = told.run
    start = not told.start and run.pid is not None  # without a process it never began
    outcome, why = run.outcome, run.why
    if outcome == "running":
        outcome = ""
    elif outcome == "ok" and run.job == "backup":
        seen = _proof(db, run, now)
        outcome = "ok" if seen.proved else "incomplete" if seen.why else ""
        why = f"{run.why}; {seen.why}" if seen.why else run.why
    elif outcome == "ok" and (run.exit_code or 0) > 1:
        outcome = "failed"  # it did its work, and what it found is bad
    return News(run, job, told.tries, start, outcome, why)


def _proof(db: sqlite3.Connection, run: Run, now: float) -> Proof:
    made: Iterable[Archive | None]
    if "id" in run.figures:
        made = pings.made(db, run.subject, run.figures["id"], run.figures.get("locations", ()))
    else:
        made = [catalogue.archive(db, _key(name)) for name in run.figures.get("arrived", ())]
    ended = now if run.ended is None else run.ended
    states = [one.state if one is not None and one.vanished is None else None for one in made]
    return proof(states, ended - run.started, ended, now)


def _key(name: str) -> Key:
    """The archive that a site's own program is said to have made: location:folder/name."""
    location, _, path = name.partition(":")
    folder, _, file = path.rpartition("/")
    return Key(location, folder, file)


def tell(
    db: sqlite3.Connection,
    checks: Mapping[str, str],
    host: str,
    send: Send,
    now: Callable[[], float],
    policy: Policy,
    severities: Mapping[str, Level],
) -> int:
    """Tell the watcher of each job what is to be told now; returns how many pings failed.

    What got through is written down after each ping: whoever is killed in between says a thing twice and forgets none.
    Of a job whose watcher does not answer nothing more is tried this time, so that its starts and ends keep their
    order.

    Args:
        db: the ledger, for writing.
        checks: the address of the check of each job.
        host: what tells our runs from those of other machines.
        send: sends one ping, and says why that failed.
        now: the clock, epoch seconds.
        policy: of alerts.
        severities: the least level that each target of alerts wants.
    """
    failed: set[str] = set()
    for one in look(db, checks, now()).news:
        if one.job in failed:
            continue
        why = _tell(db, one, checks[one.job], host, send)
        if why:
            failed.add(one.job)
            log.warning("the watcher of %s was not told: %s", one.job, why)
        with writing(db):
            if why:
                pings.postponed(db, one.run.id, next_try(one.tries, now()))
            incidents.observe(db, [failing(one.job, why)], now(), policy, severities)
    return len(failed)


def _tell(db: sqlite3.Connection, one: News, base: str, host: str, send: Send) -> str:
    rid = run_id(host, one.job, one.run.id, one.run.started)
    for outcome in (["running"] if one.start else []) + ([one.outcome] if one.outcome else []):
        words = f"{one.job} has begun" if outcome == "running" else one.why
        ping = of_run(base, outcome, one.run.exit_code, words, rid)
        why = send(ping) if ping is not None else ""
        if why:
            return why
        with writing(db):
            pings.told(db, one.run.id, over=outcome != "running")
    return ""


def beat(
    db: sqlite3.Connection,
    base: str,
    words: str,
    send: Send,
    now: Callable[[], float],
    policy: Policy,
    severities: Mapping[str, Level],
) -> str:
    """Show the watcher of the agent that it is alive; returns why that failed."""
    why = send(Ping(url(base, SUCCESS), words.encode("utf-8", "replace")))
    if why:
        known = any(one.rule == "ping_failing" and one.subject == AGENT for one in incidents.active(db))
        log.log(logging.DEBUG if known else logging.WARNING, "the watcher of the agent was not told: %s", why)
    with writing(db):
        incidents.observe(db, [failing(AGENT, why)], now(), policy, severities)
    return why
