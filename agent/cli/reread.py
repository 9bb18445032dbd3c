"""`snapward verify --again`: read again what was not read for longest, as much as a day may take."""

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from agent.adapters import host, locks, logs
from agent.adapters.ledger import catalogue, incidents, runs, writing
from agent.adapters.ledger.catalogue import Key
from agent.adapters.shelf import look
from agent.adapters.shelf.pace import Pace
from agent.cli import parts, text
from agent.cli.arrived import arrived
from agent.errors import AgentError
from agent.jobs import reread
from agent.jobs.intake import sweep
from agent.jobs.reread import JOB, Budget, Tally
from agent.rules.archive import BAD
from agent.rules.checksums import is_checksum_file
from agent.rules.reverify import Plan, Work
from agent.rules.words import count, size
from agent.settings import Settings, zone
from agent.settings.parts import places, telling

log = logging.getLogger(__name__)

_NICE = 10
_BATCH = 32  # archives after which it is written down what of the budget is gone
_HEAVY = 1 << 30  # bytes, the same


def budget(settings: Settings) -> Budget:
    """What reading again may take."""
    wanted = settings.reread
    return Budget(wanted.budget, wanted.volume, wanted.rate, wanted.every)


def again(settings: Settings, slot: float | None, *, json_: bool) -> int:
    """Read them, with a row in the ledger about the run; exit code 2 if one is bad."""
    if slot is not None:
        logs.begin(settings.logs.format)
        with contextlib.suppress(OSError):  # the unit forbids it, and has a niceness of its own
            os.nice(_NICE)
    with (
        locks.held(settings.state_dir, JOB),
        parts.writer(settings, create=True) as db,
        parts.finishing() as stopping,
    ):
        answer = _recorded(db, settings, slot, stopping)
    if json_:
        text.as_json(answer)
    else:
        bad = f", {count(len(answer['bad']), 'bad one', 'bad ones')} among them" if answer["bad"] else ""
        words = f"{count(answer['archives'], 'archive')} read again, {size(answer['bytes'])}{bad}"
        for line in (words, *answer["plans"].values()):
            if slot is None:
                text.say(line)
            else:
                log.info("reread: %s", line)
    if stopping():
        return 130
    return 2 if answer["bad"] else 0


def _recorded(
    db: sqlite3.Connection, settings: Settings, slot: float | None, stopping: Callable[[], bool]
) -> dict[str, Any]:
    with writing(db):
        for dead in (one for one in runs.orphans(db) if one.job == JOB):  # where no agent closes them
            runs.end(db, dead.id, "interrupted", parts.now(), why=f"its process {dead.pid} died before it was done")
        run = runs.begin(db, JOB, "", slot, parts.now())
    tally = Tally()
    try:
        answer = _read(db, settings, tally, run, stopping)
    except AgentError as error:
        with writing(db):
            runs.end(db, run, "failed", parts.now(), why=error.message, exit_code=error.exit_code)
        raise
    told, now = telling(settings), parts.now()
    plans = _plans(db, settings, {}, now)
    with writing(db):
        outcome, code = ("interrupted", 130) if stopping() else ("ok", 2 if answer["bad"] else 0)
        why = f"{count(answer['archives'], 'archive')} read again, {size(answer['bytes'])}"
        runs.end(db, run, outcome, now, why=why, exit_code=code, figures=tally.figures())
        if settings.reread.budget:
            incidents.observe(db, reread.findings(plans), now, told.policy, told.severities)
    return answer


def _read(
    db: sqlite3.Connection, settings: Settings, tally: Tally, run: int, stopping: Callable[[], bool]
) -> dict[str, Any]:
    arrived(db, settings, stopping, loose=False)
    now, allowed = parts.now(), budget(settings)
    spent = reread.spent(db, now, zone(settings.timezone))
    plans = _plans(db, settings, spent, now)
    pace, bad = Pace(allowed.rate), []
    line = text.Progress("verify", sum(plan.work.bytes for plan in plans.values()))

    def progress(more: int) -> None:
        line.add(more)
        pace(more)

    for name, plan in plans.items():
        left = allowed.seconds / len(settings.locations) - spent.get(name, Work()).seconds
        until = time.monotonic() + max(left, plan.work.seconds)

        def over(until: float = until) -> bool:
            return stopping() or time.monotonic() > until

        for keys in _batches(db, plan.now):
            began = time.monotonic()
            read = list(_prove(db, settings, name, keys, progress, over))
            tally.add(name, time.monotonic() - began, sum(one[1] for one in read), len(read))
            bad += [key for key, _ in read if _is_bad(db, key)]
            with writing(db):
                runs.so_far(db, run, tally.figures())
            if over():
                break
    line.end()
    words = {name: f"{name}: {plan.why}" for name, plan in plans.items()}
    sums = tally.figures()
    return {
        "archives": sums["archives"],
        "bytes": sums["bytes"],
        "seconds": sums["seconds"],
        "bad": [f"{key.location}:{key.folder}/{key.name}" for key in bad],
        "plans": words,
    }


def _plans(db: sqlite3.Connection, settings: Settings, spent: Mapping[str, Work], now: float) -> dict[str, Plan[Key]]:
    """What to read where; of a location that is away nothing can be read, nor is that what is wrong with it."""
    found = reread.plans(db, settings.locations, budget(settings), spent, now)
    away = {name for name, one in settings.locations.items() if host.root(one.path, one.mount).trouble}
    return {name: plan for name, plan in found.items() if name not in away}


def _batches(db: sqlite3.Connection, keys: Sequence[Key]) -> Iterator[list[Key]]:
    """The oldest first, a few at a time, so that a run that is ended has read the oldest."""
    batch: list[Key] = []
    heavy = 0
    for key in keys:
        known = catalogue.signature(db, key)
        batch.append(key)
        heavy += known.size if known is not None else 0
        if len(batch) >= _BATCH or heavy >= _HEAVY:
            yield batch
            batch, heavy = [], 0
    if batch:
        yield batch


def _prove(
    db: sqlite3.Connection,
    settings: Settings,
    name: str,
    keys: Sequence[Key],
    progress: Callable[[int], None],
    over: Callable[[], bool],
) -> Iterator[tuple[Key, int]]:
    """Read them and judge them as ever; content that was inflated to its end once is only hashed again."""
    todo = sweep.works(db, places(settings)[name], [(key, None) for key in keys], trust=True)
    names, least = look.pattern(settings.watch.patterns), settings.watch.minimum_size
    outcomes = sweep.prove(db, todo, names, least, parts.now, telling(settings), progress=progress, stopping=over)
    for one in outcomes:
        if one.reading is not None and not is_checksum_file(one.key.name):
            yield one.key, one.reading.size


def _is_bad(db: sqlite3.Connection, key: Key) -> bool:
    known = catalogue.archive(db, key)
    return known is not None and known.state in BAD
