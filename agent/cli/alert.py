"""`snapward alert`, and the `deliver` that the agent starts when a message is due."""

import contextlib
import functools
import socket
import sqlite3
import sys
from typing import Any

import click

from agent.adapters import locks, logs, notify, pages
from agent.adapters.ledger import incidents, outbox, writing
from agent.adapters.ledger.incidents import News, Notice
from agent.cli import parts, text
from agent.errors import BadUsage
from agent.jobs import report
from agent.jobs.deliver import Target, deliver
from agent.rules.finding import Level
from agent.rules.incident import Incident
from agent.rules.message import Message
from agent.rules.words import rfc3339, span
from agent.settings import Settings, check_secrets, load, secrets_of, zone
from agent.settings.parts import telling


@click.group("alert")
def alert_() -> None:
    """Look at incidents, and try out the targets."""


@alert_.command("list")
@click.option("--limit", default=20, show_default=True, help="How many that are over.")
@parts.JSON
@click.pass_context
def list_(ctx: click.Context, limit: int, *, json_: bool) -> int:
    """List what is open, worst first, and what was resolved last."""
    settings = parts.configuration(ctx).settings
    with parts.reader(settings) as db:
        found = incidents.recent(db, limit)
        waiting = outbox.waiting(db)
    open_ = [one for one in found if one.resolved is None]
    worst = max((one.level for one in open_), default=Level.OK)
    if json_:
        shown = [_shown(one) for one in found]
        text.as_json({"incidents": shown, "waiting": [_waiting(one) for one in waiting]})
        return int(worst)
    if not found:
        text.say("no incident is known")
    for one in found:
        opened = one.opened or one.since
        over = one.resolved is not None
        head = text.dim("resolved") if over else text.state(one.level.word, 8)
        lasted = span((one.resolved or parts.now()) - opened)
        held = " (held back)" if one.opened is None else ""
        when = f"{'lasted' if over else 'for'} {lasted}{held}"
        text.say(f"{head}  {one.rule}  {one.subject}: {one.why}  {text.dim(when)}")
        if one.hint and not over:
            text.say(f"          {text.dim(one.hint)}")
    for notice in waiting:
        text.say(f"{text.state('warning', 8)}  a message to {notice.target} waits: {notice.error or 'not due yet'}")
    return int(worst)


def _shown(one: Incident) -> dict[str, Any]:
    return {
        "id": one.id,
        "rule": one.rule,
        "subject": one.subject,
        "severity": one.level.word,
        "state": "resolved" if one.resolved is not None else "open" if one.opened is not None else "pending",
        "why": one.why,
        "hint": one.hint if one.resolved is None else "",
        "opened": rfc3339(one.opened),
        "told": rfc3339(one.told),
        "resolved": rfc3339(one.resolved),
        "acknowledged": None,
        "silenced_until": None,
    }


def _waiting(one: Notice) -> dict[str, Any]:
    return {
        "id": one.id,
        "target": one.target,
        "kind": one.kind,
        "attempts": one.attempts,
        "next_try": rfc3339(one.next_try),
        "error": one.error,
    }


@alert_.command("test")
@click.argument("target", required=False)
@parts.JSON
@click.pass_context
def test(ctx: click.Context, target: str | None, *, json_: bool) -> int:
    """Send a test message to TARGET, or to every target, now."""
    loaded = load(ctx.obj["config"])
    check_secrets(loaded)
    settings = loaded.settings
    logs.begin(settings.logs.format, verbose=ctx.obj["verbose"])
    logs.hide(secrets_of(settings))
    names = list(settings.notify.targets) if target is None else [target]
    if not names or names[0] not in settings.notify.targets:
        known = ", ".join(settings.notify.targets) or "none"
        raise BadUsage(f"there is no target {target!r}" if target else "no target is configured", f"Known: {known}.")
    parts.own(settings)
    results = []
    with locks.held(settings.state_dir, "deliver"), parts.writer(settings, create=True) as db:
        for name in names:
            with writing(db):
                notice = outbox.enqueue(db, name, "test", rfc3339(parts.now()) or "", parts.now())
            # A target that prints must not print into the JSON.
            with contextlib.redirect_stdout(sys.stderr if json_ else sys.stdout):
                _deliver(db, settings, only=notice)
            row = next((one for one in outbox.waiting(db) if one.id == notice), None)
            if row is not None:
                with writing(db):
                    outbox.dropped(db, row.id, row.error)  # a test is not tried again later
            results.append({"target": name, "ok": row is None, "error": row.error if row else ""})
    if json_:
        text.as_json({"results": results})
    else:
        for one in results:
            text.say(f"{text.state('ok' if one['ok'] else 'critical', 8)}  {one['target']}  {one['error']}")
    return 0 if all(one["ok"] for one in results) else 2


@click.command("deliver", hidden=True)
@click.pass_context
def deliver_(ctx: click.Context) -> int:
    """Send what waits in the outbox and is due. The agent starts this when it has to."""
    settings = parts.configuration(ctx).settings
    logs.begin(settings.logs.format, verbose=ctx.obj["verbose"])
    logs.hide(secrets_of(settings))
    with parts.writer(settings) as db:
        deliver_now(db, settings)
    return 0


def deliver_now(db: sqlite3.Connection, settings: Settings) -> None:
    """Send what is due.

    Raises:
        TryLater: another process is sending.
    """
    with locks.held(settings.state_dir, "deliver"):
        _deliver(db, settings, only=None)


def _deliver(db: sqlite3.Connection, settings: Settings, *, only: int | None) -> None:
    told = telling(settings)
    targets = {
        name: Target(one.url.reveal(), Level[one.severity.upper()], one.fallback)
        for name, one in settings.notify.targets.items()
    }
    render = functools.partial(_render, settings)
    deliver(db, targets, render, notify.send, parts.now, told.policy, told.severities, only=only)


def _render(settings: Settings, notice: Notice, news: list[News]) -> Message:
    if notice.kind == "report":
        return report.message_for(notice.body, report.folder(settings.state_dir))
    return pages.alert_message(
        notice, news, host=socket.gethostname(), zone=zone(settings.timezone), folder=settings.templates
    )
