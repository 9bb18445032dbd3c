"""Carry out a restore: prove, put aside what is replaced, bring back one collection after the other."""

import sqlite3
import time
from collections.abc import Callable, Mapping
from shlex import quote

from msgspec import Struct, structs

from agent.adapters.ledger import restores, writing
from agent.adapters.ledger.restores import Restored
from agent.adapters.qdrant import admin
from agent.errors import AgentError
from agent.jobs.restore.bring import Brought, bring, compare
from agent.jobs.restore.look import Site
from agent.jobs.restore.prove import Proved
from agent.rules.recovery.plan import Plan, Step
from agent.rules.rehearsal import Expected

# What is put aside first: the collections' names to the id of the backup that has them.
Save = Callable[[list[str]], str]


class Order(Struct, frozen=True, kw_only=True):
    """What is restored, and from what.

    Attributes:
        plan: that was agreed to.
        backup: its id.
        tier: of it.
        expected: by target, what was recorded.
        proved: by target and archive's file, the copies that are restored from.
        deadline: seconds that one collection may take.
    """

    plan: Plan
    backup: str
    tier: str
    expected: Mapping[str, Expected]
    proved: Mapping[tuple[str, str], Proved]
    deadline: float


class Done(Struct, frozen=True, kw_only=True):
    """What became of one collection: good, bad, unknown, or left, where it was not begun."""

    collection: str
    target: str
    state: str
    why: str
    points: int | None = None
    low: int | None = None
    high: int | None = None
    notes: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    pre_restore: str | None = None
    seconds: float = 0.0


def carry_out(
    order: Order,
    site: Site,
    db: sqlite3.Connection,
    now: Callable[[], float],
    pre_restore: str | None,
    *,
    progress: Callable[[int], None] = lambda _: None,
    said: Callable[[Done], None] = lambda _: None,
) -> list[Done]:
    """Bring back one collection after the other, each noted before the server is touched; nothing is raised for one.

    After one that failed, those that would replace something are not begun.

    Args:
        order: what is restored.
        site: the server.
        db: the ledger.
        now: the time, epoch seconds.
        pre_restore: the backup of what is replaced, if anything is.
        progress: called with the bytes that were sent.
        said: hears what became of each.
    """
    found: list[Done] = []
    failed = ""
    for step in order.plan.steps:
        stops = site.first.wire.halted() or (failed if step.action in {"replace", "resume"} else "")
        if stops:
            done = _done(step, Brought("left", f"not begun, because {stops}"))
        else:
            done = _one(order, site, db, now, step, pre_restore, progress)
            if done.state != "good" and step.action != "compare":
                failed = failed or f"{done.target} failed"
        found.append(done)
        said(done)
    return found


def _one(
    order: Order,
    site: Site,
    db: sqlite3.Connection,
    now: Callable[[], float],
    step: Step,
    pre_restore: str | None,
    progress: Callable[[int], None],
) -> Done:
    """Restore one collection, with its notes."""
    clock, expected = time.monotonic(), order.expected[step.target]
    if step.action == "compare":
        try:
            brought = _looked_at(compare(site.first, step, expected, [], []))
        except AgentError as error:
            brought = Brought("unknown", error.message)
        if brought.state == "bad":
            _let_go(db, site.first.url, step.target, now(), brought.why)
        brought, aliases = _lead(site, step, brought)
        kept = step.earlier.pre_restore if step.earlier else None
        return _done(step, brought, aliases, kept, time.monotonic() - clock)
    note = _note(order, site, step, pre_restore, now())
    with writing(db):
        number = restores.begin(db, note)
    proved = {file: one for (target, file), one in order.proved.items() if target == step.target}
    try:
        brought = bring(site, step, proved, expected, clock + order.deadline, progress)
    except AgentError as error:
        brought = Brought("bad", f"{error.message} {error.hint}".strip())
    brought, aliases = _lead(site, step, brought)
    notes = (*(told for one in proved.values() for told in one.notes), *brought.notes)
    back = f"; {way_back(note.pre_restore, step.target)}" if brought.state == "bad" and note.pre_restore else ""
    brought = structs.replace(brought, notes=notes, why=f"{brought.why}{back}")
    with writing(db):
        state = "done" if brought.state == "good" else "failed"
        restores.end(db, number, state, now(), points=brought.points, why=brought.why)
    return _done(step, brought, aliases, note.pre_restore, time.monotonic() - clock)


def _note(order: Order, site: Site, step: Step, pre_restore: str | None, began: float) -> Restored:
    """What is written down before the server is touched."""
    earlier = step.earlier
    return Restored(
        url=site.first.url,
        target=step.target,
        backup=order.backup,
        tier=order.tier,
        collection=step.wanted.collection,
        state="begun",
        replaced=step.save or (earlier is not None and earlier.replaced),
        pre_restore=pre_restore if step.save else earlier.pre_restore if earlier else None,
        began=began,
        raw_bytes=step.raw_bytes,
    )


def _let_go(db: sqlite3.Connection, url: str, target: str, now: float, why: str) -> None:
    """Note that what an earlier attempt has restored is no longer ours: it is somebody's by now."""
    note = restores.newest(db, url, target)
    if note is not None:
        with writing(db):
            restores.end(db, note.id, "left", now, points=note.points, why=why)


def _looked_at(found: Brought) -> Brought:
    """What was restored by an earlier attempt: left as it is, also where it is not so any more."""
    if found.state == "good":
        return structs.replace(found, notes=("it was restored by an earlier attempt",))
    why = f"it was restored by an earlier attempt and is not so any more, so it is left as it is: {found.why}"
    return structs.replace(found, why=f"{why}; --replace restores it again")


def _lead(site: Site, step: Step, brought: Brought) -> tuple[Brought, tuple[str, ...]]:
    """Let the aliases lead to what was restored and is right, all in one request; returns those that do."""
    names = tuple(one.alias for one in step.aliases if not one.why)
    if brought.state != "good" or not names:
        return brought, ()
    try:
        admin.change_aliases(site.first, [admin.point_alias(one, step.target) for one in names])
    except AgentError as error:
        why = f"{brought.why}; but its aliases could not be set, {', '.join(names)}: {error.message}"
        return structs.replace(brought, state="bad", why=why), ()
    return brought, names


def way_back(backup: str, target: str) -> str:
    """How what was there before is brought back, in words."""
    return f"what was there before is in backup {backup}: `snapward restore {backup} --collection {quote(target)}`"


def _done(
    step: Step, brought: Brought, aliases: tuple[str, ...] = (), pre_restore: str | None = None, seconds: float = 0.0
) -> Done:
    return Done(
        collection=step.wanted.collection,
        target=step.target,
        state=brought.state,
        why=brought.why,
        points=brought.points,
        low=step.wanted.low,
        high=step.wanted.high,
        notes=brought.notes,
        aliases=aliases,
        pre_restore=pre_restore,
        seconds=seconds,
    )
