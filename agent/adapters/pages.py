"""Render alerts, reports and restore notes from Jinja2 templates: the operator's own where there are any.

No message is lost to a template: where one of the operator's own fails, the shipped one is used, and the message
ends with a note that says so.
"""

import html
import json
import re
import shlex
import textwrap
import traceback
import urllib.parse
from collections.abc import Mapping, Sequence
from datetime import date, datetime, tzinfo
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from agent.files import shipped
from agent.rules import alert
from agent.rules.alert import News, clipped, inert, plain
from agent.rules.manifest import CollectionEntry, Manifest
from agent.rules.message import Message
from agent.rules.report import Report
from agent.rules.summary import period
from agent.rules.words import count, moment, rfc3339, size, span

if TYPE_CHECKING:
    from jinja2 import Environment

CHAT = 900  # characters; Teams takes 1,000 in all
WIDTH = 80
SHOWN, FEW = 40, 15  # rows of the scorecard, and of any other list: mail programs cut a page at about 100 KB
_MOST_IN_CHAT = 12
_UNPACK = {".gz": "gunzip -c", ".tgz": "gunzip -c", ".zst": "zstd -dc"}
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class Notice(Protocol):
    """One message to one target: a row of the outbox."""

    @property
    def target(self) -> str:
        """The target's name."""

    @property
    def kind(self) -> str:
        """Alert or test."""

    @property
    def created(self) -> float:
        """When it was put into the outbox, epoch seconds."""

    @property
    def fallback_of(self) -> int | None:
        """The message of another target that this one stands in for."""


def alert_message(
    notice: Notice, news: Sequence[News], *, host: str, zone: tzinfo, folder: str | None = None
) -> Message:
    """Put what happened into the words of one message; templates in `folder` replace the shipped ones."""
    told = alert.trial(host, notice.target) if notice.kind == "test" else alert.tell(news, host, zone)
    values = {
        "alert": told,
        "host": plain(host),
        "at": notice.created,
        "zone": datetime.fromtimestamp(notice.created, zone).tzname() or "UTC",
        "fallback": notice.fallback_of is not None,
        "shown": SHOWN,
    }
    text, why_text = _rendered("alert.txt.j2", values, zone, folder)
    text = _tidy(text)
    page, why_html = _rendered("alert.html.j2", values, zone, folder)
    chat, why_chat = _chat(values, told, zone, folder)
    note = "\n".join(why for why in (why_text, why_html, why_chat) if why)
    if note:
        text = f"{text}\n{textwrap.fill(note, WIDTH)}\n"
        chat = f"{clipped(chat, CHAT - 302)}\n\n{clipped(inert(note), 300)}"
        page = _with_note(page, note)
    return Message(title=told.title, text=text, chat=clipped(chat, CHAT), html=page, level=told.level)


def report_pages(report: Report, zone: tzinfo, folder: str | None = None) -> tuple[str, str]:
    """The weekly report as (HTML, text); templates in `folder` replace the shipped ones."""
    days, bounds = period(report.week, zone)
    values = {"report": report, "days": days, "bounds": bounds, "shown": SHOWN, "few": FEW}
    page, why_html = _rendered("report.html.j2", values, zone, folder)
    text, why_text = _rendered("report.txt.j2", values, zone, folder)
    text = _tidy(text)
    note = "\n".join(why for why in (why_html, why_text) if why)
    if note:
        page, text = _with_note(page, note), f"{text}\n{textwrap.fill(note, WIDTH)}\n"
    return page, text


def restore_notes(manifest: Manifest) -> str:
    """RESTORE.md of a backup: the exact commands that restore it with curl, gunzip and sha256sum alone."""
    kind, version = (plain(str(manifest.engine.get(key, ""))) for key in ("kind", "version"))
    values = {
        "id": inert(plain(manifest.id)),
        "tier": inert(plain(manifest.tier)),
        "host": inert(plain(manifest.host)),
        "started": inert(plain(manifest.started)),
        "engine": f"Qdrant {'Edge ' if kind == 'edge' else ''}{inert(version)}".strip(),
        "version": "" if kind == "edge" else inert(version),
        "embedded": kind == "edge",
        "cluster": any(one.peer is not None for one in manifest.collections),
        "room": max((one.raw_size or 0 for one in manifest.collections), default=0),
        "steps": [_step(number, one) for number, one in enumerate(manifest.collections, 1)],
        "failed": [inert(f"{plain(one.name)}: {plain(one.why)}") for one in manifest.failed],
        "files": [plain(one.file) for one in manifest.files],
        "aliases": [_alias(alias, name) for alias, name in sorted(manifest.aliases.items())],
    }
    return _environment(None, None).get_template("RESTORE.md.j2").render(values)


def _step(number: int, entry: CollectionEntry) -> dict[str, Any]:
    """The words of one collection's commands, each safe to paste into a shell."""
    packed = next((command for end, command in _UNPACK.items() if entry.file.endswith(end)), "")
    checksum = entry.raw_sha256 or ("" if packed else entry.sha256)
    checksum = checksum.lower() if _SHA256.fullmatch(checksum) else ""
    escaped = entry.file.replace("\\", "\\\\").replace('"', '\\"')  # as curl reads names in its -F
    return {
        "name": inert(plain(entry.name)),
        "file": shlex.quote(f"./{entry.file}"),
        "folder": f"restored-{number}",
        "packed": packed,
        "checksum": checksum,
        "path": urllib.parse.quote(entry.name, safe="", errors="surrogateescape"),
        "query": "wait=true&priority=snapshot" + (f"&checksum={checksum}" if checksum else ""),
        "form": f'"snapshot=@$WORK/restore-{number}.snapshot"' if packed else shlex.quote(f'snapshot=@"./{escaped}"'),
        "points": _points(entry),
        "peer": entry.peer,
        "shards": ", ".join(str(one) for one in entry.shards),
        "custom": entry.sharding == "custom",
    }


def _alias(alias: str, collection: str) -> str:
    """The body of the request that makes an alias, quoted for a shell; JSON's escapes keep it to plain ASCII."""
    made = {"create_alias": {"collection_name": collection, "alias_name": alias}}
    return shlex.quote(json.dumps({"actions": [made]}))


def _points(entry: CollectionEntry) -> str:
    counts = sorted({one for one in (entry.points_before, entry.points_after) if one is not None})
    if len(counts) > 1:
        return f"{counts[0]:,} to {counts[1]:,} points: it was written to meanwhile"
    return count(counts[0], "point") if counts else ""


def _chat(values: Mapping[str, Any], told: alert.Alert, zone: tzinfo, folder: str | None) -> tuple[str, str]:
    """The short form: as many items as fit, worst first, and how many more there are."""
    text = why = ""
    for shown in range(min(len(told.items), _MOST_IN_CHAT), -1, -1):
        more = len(told.items) - shown
        text, why = _rendered("alert.chat.j2", {**values, "items": told.items[:shown], "more": more}, zone, folder)
        text = _tidy(text).strip()
        if len(text) <= CHAT:
            break
    return text, why


def _rendered(name: str, values: Mapping[str, Any], zone: tzinfo, folder: str | None) -> tuple[str, str]:
    """A page, and why the operator's own template for it was not used."""
    if folder:
        try:
            return _environment(zone, folder, chat=".chat." in name).get_template(name).render(values), ""
        except Exception as error:  # noqa: BLE001 - a template can raise anything, and no alert may be lost to it
            why = _why(error, name, folder)
    else:
        why = ""
    return _environment(zone, None, chat=".chat." in name).get_template(name).render(values), why


def _why(error: Exception, name: str, folder: str) -> str:
    where = name
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(folder):
            where = f"{frame.filename.removeprefix(folder).lstrip('/')}, line {frame.lineno}"
    kind = type(error).__name__
    return plain(
        f"Your own template {name} in {folder} could not be used ({where}: {kind}: {error}); the shipped one was."
    )


def _environment(zone: tzinfo | None, folder: str | None, *, chat: bool = False) -> "Environment":
    import jinja2  # noqa: PLC0415 - only processes that render pay for it
    import markupsafe  # noqa: PLC0415 - as jinja2

    own = [jinja2.FileSystemLoader(folder)] if folder else []
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([*own, jinja2.FunctionLoader(_shipped)]),
        autoescape=jinja2.select_autoescape(("html.j2",), default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # In a chat a name such as <!channel> would call everybody.
        finalize=_inert if chat else None,
    )
    environment.filters |= {
        "size": size,
        "span": span,
        "rfc3339": rfc3339,
        "count": count,
        "signed": _signed,
        "clip": clipped,
        "cell": _cell,
        "quote": shlex.quote,
        "fill": _fill,
        "ticks": lambda text: markupsafe.Markup(_ticks(text)),  # noqa: S704 - escaped there
        "weekday": lambda day: date.fromisoformat(day).strftime("%a"),
    }
    if zone is not None:
        environment.filters["moment"] = partial(moment, zone=zone)
        environment.filters["when"] = lambda at: moment(at, zone).rpartition(":")[0]
    return environment


def _shipped(name: str) -> str | None:
    source = shipped("templates").joinpath(name)
    return source.read_text("utf-8") if source.is_file() else None


def _inert(value: object) -> object:
    return inert(value) if isinstance(value, str) else value


def _signed(number: float | None, words: str = "") -> str:
    """A change with its sign: +300; `words` is `size` for bytes, and what is None gives nothing."""
    if number is None:
        return ""
    amount = size(abs(number)) if words == "size" else f"{abs(number):,}"
    return f"{'+' if number > 0 else '−' if number < 0 else '±'}{amount}"  # noqa: RUF001 - a true minus


def _cell(text: object, width: int) -> str:
    """Text in a column of a table; a negative width aligns it right."""
    short = clipped(str(text), abs(width))
    return short.ljust(width) if width > 0 else short.rjust(-width)


def _fill(text: str, indent: int = 0, first: str = "") -> str:
    """Text in lines of 80 columns, each indented; the first line begins with `first` instead."""
    space = " " * indent
    return textwrap.fill(text, WIDTH, initial_indent=first or space, subsequent_indent=space)


def _ticks(text: str) -> str:
    """Text as HTML, with what stands between back-ticks as code."""
    code = r'<code style="font-family:Menlo,Consolas,monospace;font-size:0.92em">\1</code>'
    return re.sub("`([^`]+)`", code, html.escape(text))


def _tidy(text: str) -> str:
    """Text without spaces at the ends of lines, and with one empty line where a template left several."""
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" +$", "", text.strip(), flags=re.MULTILINE)) + "\n"


def _with_note(page: str, note: str) -> str:
    style = "margin:16px;padding:12px 16px;border:1px solid #f0b429;color:#7a4b00;font:13px/20px Arial,sans-serif"
    body, end, rest = page.rpartition("</body>")
    paragraph = f'<p style="{style}">{html.escape(note)}</p>'
    return f"{body}{paragraph}{end}{rest}" if end else f"{page}{paragraph}"
