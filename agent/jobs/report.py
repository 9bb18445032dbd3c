"""The weekly report: drawn from the ledger, written as HTML, text and JSON, sent once per week and target."""

import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import tzinfo
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agent import __version__
from agent.adapters import pages
from agent.adapters.ledger import catalogue, drills, incidents, known, outbox, runs, writing
from agent.adapters.shelf import write
from agent.errors import TryLater
from agent.rules import drilling
from agent.rules.alert import clipped, inert, plain
from agent.rules.archive import Verdict
from agent.rules.drilling import Proof
from agent.rules.facts import Archive, Drilled, Facts, Run, Sample, Sent, Week
from agent.rules.finding import Level
from agent.rules.incident import Incident
from agent.rules.message import Message
from agent.rules.outlook import Prospect
from agent.rules.report import Report, report_json
from agent.rules.summary import summarise

T = TypeVar("T")

_CHAT = 900
_IN_CHAT = 5
_PERMISSIONS = write.Permissions(files=0o640, folders=0o750)


class Rendered(Struct, frozen=True):
    """A report and the three files it was written to."""

    report: Report
    html_path: str
    text_path: str
    json_path: str


def folder(state_dir: str) -> str:
    """Where the reports of an agent lie."""
    return os.path.join(state_dir, "reports")


def render(
    db: sqlite3.Connection,
    week: Week,
    out_dir: str,
    *,
    now: float,
    zone: tzinfo,
    host: str,
    locations: Mapping[str, str],
    tiers: Sequence[str],
    targets: Sequence[str],
    next_runs: Mapping[str, float],
    sample_every: float,
    outlook: Sequence[Prospect] = (),
    templates: str | None = None,
) -> Rendered:
    """Draw a week's report from the ledger and write it to `out_dir`, which is made if it is missing.

    Args:
        db: the ledger; a reader's connection will do.
        week: what it is about, see `agent.rules.summary.week_of`.
        out_dir: see `folder`.
        now: the moment of every age in it, epoch seconds.
        zone: of every time that people read.
        host: this machine's name.
        locations: paths by name.
        tiers: the configured ones.
        targets: names of all the places where people are told.
        next_runs: job to its next slot, epoch seconds.
        sample_every: how often storage is measured, seconds.
        outlook: of each location.
        templates: a folder of the operator's own templates.

    Raises:
        CannotWrite, NoRights: the files cannot be written.
    """
    paths = _paths(week.name, out_dir)
    report = summarise(
        Facts(
            week=week,
            now=now,
            zone=zone,
            host=host,
            agent=__version__,
            folders=known.folders(db),
            archives=_archives(db),
            verdicts=tuple((at, state) for _, at, state, *_ in catalogue.verdicts(db, week.start, week.end)),
            runs=_like(runs.between(db, week.start, week.end), Run),
            incidents=_incidents(db, week),
            sent=_like(_sent(db, week), Sent),
            samples=_samples(db, week, locations),
            drills=_like(drills.between(db, week.start, week.end), Drilled),
            drilled=drills.newest(db).keys(),
            locations=locations,
            tiers=tuple(tiers),
            targets=tuple(targets),
            sample_every=sample_every,
            next_runs=next_runs,
            outlook=tuple(outlook),
            json_path=paths.json,
        )
    )
    html, text = pages.report_pages(report, zone, templates)
    data = msgspec.json.format(msgspec.json.encode(report_json(report)), indent=2) + b"\n"
    write.make_folder(out_dir, _PERMISSIONS, below=os.path.dirname(out_dir))
    # The JSON last: it is what says that the report is there.
    for path, content in ((paths.html, html.encode()), (paths.text, text.encode()), (paths.json, data)):
        write.write_file(path, content, _PERMISSIONS)
    return Rendered(report, paths.html, paths.text, paths.json)


def enqueue(db: sqlite3.Connection, week: str, targets: Iterable[str], now: float) -> list[str]:
    """Put a week's report into the outbox for each target, in one transaction; each target gets it once, ever.

    Returns the targets that had not been given it before.
    """
    with writing(db):
        return [target for target in targets if outbox.enqueue(db, target, "report", week, now) is not None]


def message_for(week: str, out_dir: str) -> Message:
    """The message that carries a rendered report, from the files that `render` wrote.

    Raises:
        TryLater: it has not been rendered, or its files cannot be read.
    """
    paths = _paths(week, out_dir)
    try:
        written = msgspec.json.decode(_read(paths.json), type=_Written)
        html, text = _read(paths.html).decode(), _read(paths.text).decode()
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise TryLater(
            f"the report of {week} cannot be read: {error}", f"Make it with `snapward report render --week {week}`."
        ) from error
    return Message(
        title=written.subject,
        text=text,
        chat=_chat(written),
        html=html,
        level=Level[written.level.upper()],
        attachments=(paths.text, paths.json),
    )


class _Named(Struct, frozen=True):
    what: str


class _Needed(Struct, frozen=True):
    level: str
    label: str
    subject: str
    command: str


class _Written(Struct, frozen=True):
    """As much of a report's JSON as its message needs."""

    subject: str
    level: Literal["ok", "warning", "critical"]
    headline: str
    summary: str
    needs: list[_Needed]
    unchecked: list[_Named]


class _Paths(Struct, frozen=True):
    html: str
    text: str
    json: str


def _paths(week: str, out_dir: str) -> _Paths:
    return _Paths(*(os.path.join(out_dir, f"{os.path.basename(week)}.{end}") for end in ("html", "txt", "json")))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _chat(written: _Written) -> str:
    """The report in a few lines: the answer, what needs somebody, and how much was not checked."""
    lines = [f"{written.headline} {written.summary}"]
    lines += [
        f"{need.level.upper()} {need.label}: {clipped(need.subject, 70)} → {need.command}"
        for need in written.needs[:_IN_CHAT]
    ]
    if len(written.needs) > _IN_CHAT:
        lines.append(f"+{len(written.needs) - _IN_CHAT} more: snapward alert list")
    lines.append(f"Not checked: {', '.join(clipped(one.what, 40) for one in written.unchecked[:4]) or 'nothing'}.")
    return clipped("\n".join(inert(plain(line)) for line in lines), _CHAT)


def _archives(db: sqlite3.Connection) -> tuple[Archive, ...]:
    """Every archive, with what drills have shown of it."""
    proofs = drills.proofs(db)
    return tuple(_laid(one, proofs.get(one.sha256)) for one in known.archives(db))


def _laid(one: Archive, proof: Proof | None) -> Archive:
    verdict = drilling.laid(Verdict(one.state, one.level, one.why), proof)
    return replace(one, state=verdict.state, level=verdict.level, why=verdict.why)


def _incidents(db: sqlite3.Connection, week: Week) -> tuple[Incident, ...]:
    found = {one.id: one for one in [*incidents.between(db, week.start, week.end), *incidents.active(db)]}
    return tuple(found.values())


def _sent(db: sqlite3.Connection, week: Week) -> list[incidents.Notice]:
    found = {one.id: one for one in [*outbox.between(db, week.start, week.end), *outbox.waiting(db)]}
    return list(found.values())


def _samples(db: sqlite3.Connection, week: Week, locations: Iterable[str]) -> tuple[Sample, ...]:
    found = []
    for name in locations:
        its = runs.samples(db, name, week.start, week.end)
        newest = runs.last_sample(db, name)
        found += its if newest is None or newest in its else [*its, newest]
    return _like(found, Sample)


def _like(rows: object, kind: type[T]) -> tuple[T, ...]:
    """Rows of the ledger, cut down to the fields that a rule wants."""
    return msgspec.convert(rows, tuple[kind, ...], from_attributes=True)  # type: ignore[valid-type] # made at run time
