"""A restore as people and programs read it: what is going to happen, and what has."""

from collections.abc import Sequence
from datetime import tzinfo
from typing import Any

import click
from msgspec import Struct

from agent.cli import text
from agent.cli.restorable import Chosen
from agent.jobs.restore.carry import Done
from agent.rules.recovery.estimate import Estimate
from agent.rules.recovery.plan import Plan, Step
from agent.rules.recovery.risks import Risk
from agent.rules.recovery.scene import Scene
from agent.rules.words import count, moment, rfc3339, size, span

_NAMED = 5
_ACTIONS = {
    "create": "is made",
    "replace": "is replaced",
    "resume": "goes on where it broke off",
    "compare": "is there already, and is compared",
}


class View(Struct, frozen=True, kw_only=True):
    """Everything that a restore is told with."""

    found: Chosen
    scene: Scene
    plan: Plan
    estimate: Estimate
    now: float


def show_plan(view: View, zone: tzinfo) -> None:
    """Print what is going to happen, and what speaks against it."""
    backup, plan, scene = view.found.backup, view.plan, view.scene
    tier = f" ({backup.tier})" if backup.tier else ""
    text.say(f"restore of backup {text.bold(backup.id)}{tier} into {text.bold(scene.url)}, Qdrant {scene.version}")
    text.say(f"it holds what was there {_when(view, zone)}")
    text.say()
    heads = ("COLLECTION", "TARGET", "THERE NOW", "WHAT HAPPENS", "POINTS", "UNPACKED", "PROVED", "READ FROM")
    text.table(heads, [_row(one, view.now) for one in plan.steps])
    for step in plan.steps:
        for alias in step.aliases:
            left = f" is left: {alias.why}" if alias.why else f" → {alias.collection}"
            text.say(f"  alias {alias.alias}{left}")
    if plan.risks or any(one.risks for one in plan.steps):
        text.say()
    _show_risks(plan.every_risk)
    text.say(f"\ntime: {view.estimate.why}")


def _when(view: View, zone: tzinfo) -> str:
    started, ended = view.found.backup.started, view.found.backup.ended
    if started is None:
        return "at a time that nobody has written down"
    begun = f"{moment(started, zone)} ({rfc3339(started)})"
    if ended is None or ended - started < 1:
        return f"at {begun}, {span(view.now - started)} ago"
    return f"between {begun} and {moment(ended, zone)}, {span(view.now - ended)} ago"


def _row(step: Step, now: float) -> tuple[str, ...]:
    wanted, there = step.wanted, step.there
    now_there = "nothing" if not there.exists else "empty" if there.empty else "?"
    if there.points:
        now_there = count(there.points, "point")
    happens = "is backed up, then replaced" if step.save else _ACTIONS[step.action]
    if any(one.stops for one in step.risks):
        happens = "nothing: see below"
    level = wanted.level + (f", {span(now - wanted.proved)} ago" if wanted.proved is not None else "")
    places = dict.fromkeys(location for piece in wanted.pieces for location, _ in piece.spots[:1])
    return (
        wanted.collection,
        step.target,
        now_there,
        happens,
        expected(wanted.low, wanted.high),
        size(wanted.subject.raw_size),
        level,
        ", ".join(places) or "-",
    )


def _show_risks(risks: Sequence[Risk]) -> None:
    """Print what speaks against it, the worst first; what is so of many collections once, and each hint once."""
    about: dict[tuple[str, str], list[str]] = {}
    for one in sorted(risks, key=lambda one: (not one.stops, not one.warns)):
        about.setdefault((one.what, one.hint if one.stops or one.warns else ""), []).append(one.collection)
    words = {one.what: _level(one) for one in risks}
    hinted = ""
    for (what, hint), collections in about.items():
        named = ", ".join(filter(None, collections[:_NAMED]))
        more = f" and {len(collections) - _NAMED} more" if len(collections) > _NAMED else ""
        word = words[what]
        colour = {"refused": "red", "warning": "yellow"}.get(word)
        text.say(f"  {click.style(word.ljust(8), fg=colour)} {f'{named}{more}: ' if named else ''}{what}")
        if hint and hint != hinted:
            text.say(f"           {text.dim(hint)}")
        hinted = hint


def _level(risk: Risk) -> str:
    return "refused" if risk.stops else "warning" if risk.warns else "note"


def expected(low: int | None, high: int | None) -> str:
    """How many points there should be."""
    if high is None:
        return "?"
    return f"{high:,}" if low in {None, high} else f"{low:,} to {high:,}"


def answer(
    view: View, done: Sequence[Done] | None, *, state: str, pre_restore: str | None, seconds: float, dry_run: bool
) -> dict[str, Any]:
    """The same, and what has happened, for programs; `done` None if nothing has."""
    backup, scene = view.found.backup, view.scene
    by_target = {one.target: one for one in done or ()}
    return {
        "backup": backup.id,
        "tier": backup.tier,
        "started": rfc3339(backup.started),
        "ended": rfc3339(backup.ended),
        "url": scene.url,
        "version": scene.version,
        "state": state,
        "dry_run": dry_run,
        "pre_restore": pre_restore,
        "collections": [_shown(one, by_target.get(one.target), dry_run=dry_run) for one in view.plan.steps],
        "aliases": {alias: one.target for one in done or () for alias in one.aliases},
        "risks": [_risk(one) for one in view.plan.every_risk],
        "raw_bytes": view.plan.raw_bytes,
        "estimate_seconds": None if view.estimate.seconds is None else round(view.estimate.seconds, 1),
        "estimate": view.estimate.why,
        "seconds": round(seconds, 3),
    }


def _shown(step: Step, done: Done | None, *, dry_run: bool) -> dict[str, Any]:
    stops = next((one.what for one in step.risks if one.stops), "")
    state = done.state if done else "refused" if stops else "planned" if dry_run else "left"
    return {
        "name": step.wanted.collection,
        "target": step.target,
        "points": done.points if done else None,
        "expected": [step.wanted.low, step.wanted.high],
        "state": state,
        "why": done.why if done else stops,
        "action": step.action,
        "there": step.there.points if step.there.exists else None,
        "level": step.wanted.level,
        "raw_bytes": step.wanted.subject.raw_size,
        "pre_restore": done.pre_restore if done else None,
        "notes": list(done.notes) if done else [],
        "seconds": round(done.seconds, 3) if done else None,
    }


def _risk(risk: Risk) -> dict[str, Any]:
    told = {"collection": risk.collection, "what": risk.what, "level": _level(risk)}
    return {**told, "unless": risk.unless, "hint": risk.hint}


def show_done(done: Done) -> None:
    """Print what became of one collection."""
    at = f" as {done.target}" if done.target != done.collection else ""
    took = f", in {span(done.seconds)}" if done.seconds else ""
    text.say(f"  {text.state(done.state, 8)} {done.collection}{at}: {done.why}{took}")
    for note in done.notes:
        text.say(f"           {text.dim(note)}")
    for alias in done.aliases:
        text.say(f"           {text.dim(f'alias {alias} → {done.target}')}")


def show_end(done: Sequence[Done], pre_restore: str | None, written: Sequence[str], seconds: float) -> None:
    """Print how it ended."""
    if written:
        text.say(f"  {count(len(written), 'file')} of the server put back")
    good = sum(one.state == "good" for one in done)
    state = text.state("good" if good == len(done) else "bad")
    text.say(f"{state} {good} of {count(len(done), 'collection')} restored, in {span(seconds)}")
    if pre_restore:
        text.say(f"what was there before is in backup {text.bold(pre_restore)}")
    if any(one.state in {"bad", "left"} for one in done):
        text.say("the same command, run again, goes on with what is not done")
