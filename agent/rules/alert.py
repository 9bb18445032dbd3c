"""What an alert message says: the changes of each incident merged, worst first, in words that can do no harm."""

import re
import shlex
from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Protocol

from msgspec import Struct

from agent.rules.finding import Level
from agent.rules.incident import Change, Incident
from agent.rules.words import count, moment, span

TITLE = 200  # the least of what mail, Slack and their like show of a title
LABELS = {
    "agent_error": "the agent stumbled",
    "archive_bad": "archive damaged",
    "archive_changed": "archive changed by somebody else",
    "archive_foreign": "a backup that is not ours",
    "archive_vanished": "archive removed by somebody else",
    "archives_vanished": "archives vanished",
    "arrival_stalled": "archive never finished",
    "backup_degraded": "backup not in every location",
    "backup_missed": "backup did not run",
    "chain_broken": "the chain of backups is broken",
    "backup_late": "no backup as new as it should be",
    "checksum_missing": "archives without a checksum",
    "checksums_unreadable": "checksum file cannot be read",
    "cleanup_failed": "old backups could not be removed",
    "cleanup_frozen": "no old backup is removed",
    "cleanup_late": "cleanup is late",
    "clock_jumped": "the clock jumped",
    "collection_late": "no backup of a collection as new as it should be",
    "collection_missing": "a collection is no longer backed up",
    "copies_unequal": "a location lacks good copies",
    "drill_failed": "backup would not restore",
    "drill_late": "drill is late",
    "drill_overdue": "restore not rehearsed",
    "duration_changed": "a backup took unusually long or short",
    "folder_unreadable": "folder cannot be read",
    "ledger_rebuilt": "the ledger was rebuilt",
    "location_hung": "location does not answer",
    "location_unavailable": "location is not there",
    "location_unwritable": "location takes no data",
    "manifest_forged": "manifest forged",
    "manifest_unsigned": "manifest without its signature",
    "message_dropped": "a message was given up",
    "ping_failing": "a watcher outside hears nothing",
    "report_late": "report is late",
    "reread_late": "archives are not read again",
    "next_backup_too_big": "no room for the next backup",
    "not_an_archive": "named like an archive, but none",
    "permissions_drift": "modes or owners are not as configured",
    "points_changed": "unusually many or few points",
    "ratio_changed": "packs unusually well or badly",
    "reverify_behind": "archives are not read again often enough",
    "render_failed": "a template fails",
    "size_changed": "unusually large or small",
    "state_dir_full": "no room for the agent's own records",
    "storage_forecast": "storage will soon be full",
    "storage_inodes": "inodes are running out",
    "storage_space": "storage is filling up",
    "tampering": "somebody else changes backups",
    "target_failing": "messages do not get through",
    "watch_blind": "changes go unnoticed",
}
_MANY = frozenset({"archive_bad", "archive_changed", "archive_vanished"})
_DAMAGE = {
    "truncated": "archive truncated",
    "undersized": "archive too small",
    "unreadable": "archive cannot be read",
    "vanished": "archive vanished",
}
_COMMANDS = {
    "archive": "snapward list",
    "chain_broken": "snapward audit",
    "checksum": "snapward list",
    "cleanup_": "snapward expire",
    "collection_late": "snapward list",
    "collection_missing": "snapward list",
    "copies_unequal": "snapward repair",
    "drill_": "snapward drill",
    "duration_changed": "snapward show",
    "folder_": "snapward check",
    "location_": "snapward check",
    "manifest_": "snapward audit",
    "message_": "snapward alert list",
    "not_an_archive": "snapward list",
    "permissions_drift": "snapward repair --permissions",
    "points_changed": "snapward show",
    "ratio_changed": "snapward show",
    "report_late": "snapward report send",
    "reread_late": "snapward verify --again",
    "reverify_behind": "snapward verify --again",
    "render_failed": "snapward check",
    "size_changed": "snapward show",
    "state_dir": "snapward check",
    "storage_forecast": "snapward status",
    "storage_": "snapward list",
    "tampering": "snapward alert list",
    "target_": "snapward alert test",
    "watch_": "snapward check",
}
_WORD = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
_BACKUP_ID = re.compile(r"\d{8}T\d{6}Z")
_COMMAND_WIDTH = 72


class News(Protocol):
    """One change of one incident, as it was when it happened: a row of the outbox."""

    @property
    def incident(self) -> Incident:
        """What it is about, as it is by now."""

    @property
    def change(self) -> Change:
        """What happened."""

    @property
    def at(self) -> float:
        """When it happened, epoch seconds."""

    @property
    def level(self) -> Level:
        """How bad it was then."""

    @property
    def why(self) -> str:
        """What was found then."""


class Item(Struct, frozen=True):
    """One incident as a message tells it. `word` is its pill: CRITICAL, WARNING or RESOLVED."""

    word: str
    level: Level
    label: str
    subject: str
    why: str
    story: str
    hint: str = ""
    command: str = ""


class Alert(Struct, frozen=True):
    """All that one message says: `title` is one line, `lead` one sentence; `level` is OK when all is over."""

    title: str
    lead: str
    level: Level
    items: tuple[Item, ...] = ()


def tell(news: Sequence[News], host: str, zone: tzinfo) -> Alert:
    """Merge what happened, oldest first in `news`, into one alert; open incidents come first, worst first."""
    host = inert(plain(host, 80))
    merged: dict[tuple[str, str, float], list[News]] = {}
    for one in news:
        merged.setdefault((one.incident.rule, one.incident.subject, one.incident.since), []).append(one)
    # Archives come in hundreds; what else is wrong is often why, and must not drown among them.
    few_first = sorted(merged.items(), key=lambda one: one[0][0] in _MANY)
    told = sorted((_item(steps, zone) for _, steps in few_first), key=lambda item: (item.level == 0, -item.level))
    still = [item for item in told if item.level]
    over = len(told) - len(still)
    level = max((item.level for item in told), default=Level.OK)
    if not told:
        return Alert(f"[OK] {host}: nothing new", "Nothing has changed.", Level.OK)
    if len(told) == 1:
        only = told[0]
        again = "still open: " if only.story.startswith("still open") else ""
        title = _titled(f"[{only.word}] {host}: {again}{only.label}: ", only.subject)
    elif still:
        also = f", {over} resolved" if over else ""
        title = clipped(f"[{level.name}] {host}: {count(len(still), 'problem')}{also}", TITLE)
    else:
        title = clipped(f"[RESOLVED] {host}: {count(over, 'problem')} over", TITLE)
    return Alert(title, _lead(len(still), over, host), level, tuple(told))


def trial(host: str, target: str) -> Alert:
    """The message of `snapward alert test`."""
    host, target = inert(plain(host, 80)), inert(plain(target, 80))
    lead = f"This is a test. You are reading it, so alerts from {host} reach {target}. Nothing is wrong."
    return Alert(clipped(f"[TEST] {host}: messages get through", TITLE), lead, Level.OK)


def label(rule: str, why: str = "") -> str:
    """What kind of trouble a rule finds, in a few words."""
    if rule == "archive_bad":
        return _DAMAGE.get(why.partition(":")[0], LABELS[rule])
    return LABELS.get(rule) or plain(rule).replace("_", " ")


def command(rule: str, subject: str) -> str:
    """The command to begin with when this incident is open, safe to paste into a shell."""
    if rule in {"archive_bad", "archive_changed"}:
        *_, folder, name = ["", *subject.partition(":")[2].rsplit("/", 2)]
        line = f"snapward verify {shlex.quote(folder if _BACKUP_ID.fullmatch(folder) else name)}"
        # A name that was not written by us may start like an option or span lines: the list shows it anyway.
        if len(line) <= _COMMAND_WIDTH and line.isprintable() and not name.startswith("-"):
            return line
    if rule.startswith("drill_") and rule != "drill_late":
        line = f"snapward drill --collection {shlex.quote(subject)}"
        if len(line) <= _COMMAND_WIDTH and line.isprintable() and not subject.startswith("-"):
            return line
    if rule.startswith("backup_") and _WORD.fullmatch(subject):
        return f"snapward backup {subject}"
    return next((line for start, line in _COMMANDS.items() if rule.startswith(start)), "snapward status")


def plain(text: str, limit: int = 400) -> str:
    """Text in one line: what cannot be printed (control, direction and surrogate characters) becomes a space."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return clipped(text, limit)


def clipped(text: str, limit: int) -> str:
    """At most `limit` characters: the middle of a longer text becomes an ellipsis, as names differ at their ends."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"


def inert(text: str) -> str:
    """Text in which no chat finds a mention, a link or a mark-up: look-alikes stand in for their characters."""
    return text.translate(_INERT).replace("://", ": //")


_INERT = str.maketrans({"<": "‹", ">": "›", "@": "＠", "`": "ˋ", "*": "∗", "|": "¦", "[": "［", "]": "］"})  # noqa: RUF001 - look-alikes are the point


def _titled(head: str, subject: str) -> str:
    room = max(TITLE - len(head), 20)
    return clipped(head + clipped(inert(plain(subject)), room), TITLE)


def _item(steps: Sequence[News], zone: tzinfo) -> Item:
    last = steps[-1]
    incident = last.incident
    over = last.change is Change.RESOLVED
    bad = [step for step in steps if step.change is not Change.RESOLVED]
    why = bad[-1].why if bad else ""
    what = label(incident.rule, why or incident.why)
    if over:
        why = " → ".join(dict.fromkeys(plain(text) for text in (why, last.why) if text))
        return Item("RESOLVED", Level.OK, what, plain(incident.subject), why, _story(steps, zone))
    return Item(
        last.level.name,
        last.level,
        what,
        plain(incident.subject),
        plain(why),
        _story(steps, zone),
        plain(incident.hint),
        command(incident.rule, incident.subject),
    )


def _story(steps: Sequence[News], zone: tzinfo) -> str:
    """When it began and how it went on: opened 02:00, resolved 02:14, lasted 14 min."""
    last = steps[-1]
    since = last.incident.since
    if last.change is Change.RESOLVED:
        lasted = span(last.at - since)
        return f"opened {moment(since, zone)}, resolved {_later(last.at, since, zone)}, lasted {lasted}"
    if last.change is Change.REPEATED:
        return f"still open after {span(last.at - since)}, since {moment(since, zone)}"
    worse = [step for step in steps if step.change is Change.WORSE]
    also = f", worse since {_later(worse[-1].at, since, zone)}" if worse else ""
    return f"since {moment(since, zone)}{also}"


def _later(at: float, before: float, zone: tzinfo) -> str:
    """A moment, without its day where that is the day of an earlier one."""
    then, now = datetime.fromtimestamp(before, zone), datetime.fromtimestamp(at, zone)
    return f"{now:%H:%M:%S}" if then.date() == now.date() else moment(at, zone)


def _lead(still: int, over: int, host: str) -> str:
    if not still:
        return f"{'The problem' if over == 1 else f'{over} problems'} on {host} {'is' if over == 1 else 'are'} over."
    ended = f" {count(over, 'problem')} {'is' if over == 1 else 'are'} over." if over else ""
    return f"{count(still, 'problem')} on {host} {'needs' if still == 1 else 'need'} attention.{ended}"
