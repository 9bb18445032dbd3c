"""`snapward report`: render a week, or send it to those who get reports."""

import socket
import sqlite3

import click

from agent.adapters import logs
from agent.adapters.ledger import incidents, runs, writing
from agent.cli import parts, text
from agent.cli.alert import deliver_now
from agent.cli.outlook import prospects
from agent.errors import AgentError
from agent.jobs import report
from agent.jobs.report import Rendered
from agent.rules import timetable
from agent.rules.facts import Week
from agent.rules.finding import Finding, Level
from agent.rules.summary import week_of
from agent.settings import Settings, secrets_of, zone
from agent.settings.parts import telling

WEEK = click.option("--week", metavar="2026-W47", help="The ISO week, or current; else the last complete one.")


@click.group("report")
def report_() -> None:
    """Render or send the weekly report."""


@report_.command("render")
@WEEK
@parts.JSON
@click.pass_context
def render(ctx: click.Context, week: str | None, *, json_: bool) -> int:
    """Write the report as HTML, text and JSON into state_dir/reports, and print where the HTML is."""
    settings = parts.configuration(ctx).settings
    chosen = week_of(week, parts.now(), zone(settings.timezone))
    with parts.reader(settings) as db:
        made = _render(db, settings, chosen)
    if json_:
        files = {"html": made.html_path, "text": made.text_path, "json": made.json_path}
        text.as_json({"week": chosen.name, "subject": made.report.subject, "files": files})
    else:
        text.note(made.report.subject)
        text.say(made.html_path)
    return 0


@report_.command("send")
@WEEK
@click.option("--slot", type=float, hidden=True, help="The slot it was scheduled for, epoch seconds.")
@parts.JSON
@click.pass_context
def send(ctx: click.Context, week: str | None, slot: float | None, *, json_: bool) -> int:
    """Render the report and send it to every target with `reports: true`; each gets a week once."""
    settings = parts.configuration(ctx).settings
    logs.begin(settings.logs.format, verbose=ctx.obj["verbose"])
    logs.hide(secrets_of(settings))
    chosen = week_of(week, parts.now(), zone(settings.timezone))
    wanted = [name for name, one in settings.notify.targets.items() if one.reports]
    with parts.writer(settings, create=True) as db:
        with writing(db):
            run = runs.begin(db, "report", chosen.name, slot, parts.now())
        try:
            _render(db, settings, chosen)
            new = report.enqueue(db, chosen.name, wanted, parts.now())
        except AgentError as error:
            _ended(db, run, settings, "failed", error.message)
            raise
        why = f"{chosen.name} for {', '.join(new)}" if new else f"{chosen.name}: nothing to send"
        _ended(db, run, settings, "ok", why)
        if new and not parts.agent_runs(settings):
            deliver_now(db, settings)
    if json_:
        text.as_json({"week": chosen.name, "targets": wanted, "sent_now": new})
    elif not wanted:
        text.say("nobody gets the report: give a target `reports: true`")
    elif not new:
        text.say(f"the report of {chosen.name} has been sent to {', '.join(wanted)} before")
    else:
        text.say(f"the report of {chosen.name} is on its way to {', '.join(new)}")
    return 0 if wanted else 1


def _render(db: sqlite3.Connection, settings: Settings, week: Week) -> Rendered:
    now, local = parts.now(), zone(settings.timezone)
    crons = {f"backup:{name}": one.cron for name, one in settings.tiers.items()}
    crons |= {"report": settings.report.cron, "drill": settings.drills.cron}
    return report.render(
        db,
        week,
        report.folder(settings.state_dir),
        now=now,
        zone=local,
        host=socket.gethostname(),
        locations={name: one.path for name, one in settings.locations.items()},
        tiers=list(settings.tiers),
        targets=list(settings.notify.targets),
        next_runs={job: timetable.next_slot(cron, now, local) for job, cron in crons.items()},
        sample_every=settings.storage.sample_every,
        outlook=prospects(db, settings, local, now),
        templates=settings.templates,
    )


def _ended(db: sqlite3.Connection, run: int, settings: Settings, outcome: str, why: str) -> None:
    told = telling(settings)
    level = Level.OK if outcome == "ok" else Level.WARNING
    hint = "The log says more; `snapward report send` tries again."
    with writing(db):
        runs.end(db, run, outcome, parts.now(), why=why)
        finding = Finding("report_failed", "report", level, why, hint)
        incidents.observe(db, [finding], parts.now(), told.policy, told.severities)
