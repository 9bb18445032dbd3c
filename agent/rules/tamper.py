"""Notice that somebody else than the agent laid hands on backups: changed, took away or added some.

What the agent does itself is written down before it is done, and excuses what follows from it; nothing else does.
"""

from bisect import bisect_right
from collections.abc import Collection, Sequence

from msgspec import Struct

from agent.rules.archive import Signature, subject
from agent.rules.finding import Finding, Level, ok
from agent.rules.words import count, rfc3339, span

SLACK = 120.0  # seconds by which the clock of a file server may differ from ours
UNFINISHED = 86_400.0  # a job that was killed excuses nothing for longer
HOUR, DAY = 3600.0, 86_400.0
IN_AN_HOUR = 3
SHARE, LEAST = 0.1, 2  # of a location's archives in a day; one event is no rate
WRITING = frozenset({"backup", "repair"})
REMOVING = frozenset({"expire", "quarantine", "repair"})
RATED = frozenset(
    {"archive_changed", "archive_vanished", "archive_foreign", "manifest_unsigned", "manifest_forged", "chain_broken"}
)


class Sealed(Struct, frozen=True):
    """What is known of an archive since it was last proved, at `at` in epoch seconds."""

    signature: Signature
    sha256: str
    at: float


class Action(Struct, frozen=True):
    """Something that the agent itself did, or began to do, to a file or folder of a location and all below it.

    Attributes:
        kind: backup, expire, repair, quarantine, permissions.
        location: its name.
        path: inside the location; of a backup `tier/id`.
        began: epoch seconds, written down before anything was done.
        ended: None while it goes on, or if it was killed.
    """

    kind: str
    location: str
    path: str
    began: float
    ended: float | None = None


class Run(Struct, frozen=True):
    """A backup that we ran: its tier, and the backup's id if the run got as far as saying it."""

    tier: str
    started: float
    ended: float | None = None
    backup: str = ""


class Arrival(Struct, frozen=True):
    """A folder that appeared: `path` inside its location, and its manifest's tier, id and times."""

    location: str
    path: str
    tier: str
    backup: str
    started: float | None
    ended: float | None


class Event(Struct, frozen=True):
    """One finding of those in `RATED`, and when it was made."""

    rule: str
    subject: str
    at: float


def changed(
    location: str, folder: str, name: str, sealed: Sealed, found: Signature, sha256: str, actions: Sequence[Action]
) -> Finding | None:
    """The finding `archive_changed` about an archive that is still there; None where it has to be read first.

    Args:
        location: its location.
        folder: inside the location.
        name: of the file.
        sealed: what is known of it.
        found: what it looks like now.
        sha256: of what it holds now; empty where it has not been read since.
        actions: what the agent did lately.
    """
    about = subject(location, folder, name)
    differs = _differs(sealed.signature, found)
    if sha256 == sealed.sha256 and not differs:
        return ok("archive_changed", about, "as it was proved")
    content = found.size != sealed.signature.size or sha256 not in {"", sealed.sha256}
    if not content and not sha256:
        return None if differs else ok("archive_changed", about, "looks as it did when it was proved")
    path = f"{folder}/{name}" if folder else name
    kinds = WRITING if content else WRITING | REMOVING | {"permissions"}
    # What changed without its times was not us, although we did write it once.
    # Nor was it us if we were done with it before it was proved.
    lately = [one for one in actions if one.ended is None or one.ended >= sealed.at]
    excuse = _excuse(location, path, found.ctime_ns / 1e9, kinds, lately) if differs else ""
    if excuse:
        return ok("archive_changed", about, f"changed by the agent itself: {excuse}")
    since = f"after it was proved at {rfc3339(sealed.at)}"
    if not content:
        return Finding(
            "archive_changed",
            about,
            Level.WARNING,
            f"not its content, but its {' and '.join(differs)} changed {since}",
            "Somebody touched, replaced or copied it. If that was you, `snapward reconcile` accepts it.",
        )
    return Finding(
        "archive_changed",
        about,
        Level.CRITICAL,
        f"its content changed {since}: {_how(sealed, found, differs)}",
        "Do not restore from it. The other location may have it as it was; find out who or what writes there."
        " If that was you, `snapward reconcile` accepts it.",
    )


def vanished(location: str, folder: str, name: str, sealed: Sealed, actions: Sequence[Action]) -> Finding:
    """The finding `archive_vanished` about a proved archive that is gone, while its location is there."""
    about = subject(location, folder, name)
    path = f"{folder}/{name}" if folder else name
    for one in actions:
        if (
            one.kind in REMOVING
            and _covers(one, location, path)
            and (one.ended is None or one.ended >= sealed.at - SLACK)
        ):
            return ok("archive_vanished", about, f"taken away by the agent itself: {_told(one)}")
    return Finding(
        "archive_vanished",
        about,
        Level.CRITICAL,
        f"it was proved at {rfc3339(sealed.at)}, and is gone; the agent has not removed it",
        "Find out who or what did. If that was you, `snapward reconcile` accepts it.",
    )


def foreign(arrival: Arrival, runs: Sequence[Run], actions: Sequence[Action], recorded: float) -> Finding:
    """The finding `archive_foreign` about a folder with a manifest that appeared in a tier.

    `recorded` is since when runs are on record, epoch seconds: of what is older nothing can be said.
    """
    about = f"{arrival.location}:{arrival.path}"
    for one in actions:
        if one.kind in WRITING and _covers(one, arrival.location, arrival.path):
            return ok("archive_foreign", about, f"written by the agent itself: {_told(one)}")
    why = _stray(arrival, runs, recorded)
    if not why:
        return ok("archive_foreign", about, "a run of ours made it, or it is older than what is on record")
    return Finding(
        "archive_foreign",
        about,
        Level.WARNING,
        f"it is in the form of our backups, but {why}",
        "Do not restore from it before you know who put it there. If that was you, `snapward reconcile` accepts it.",
    )


def tampering(location: str, events: Sequence[Event], archives: int, now: float) -> Finding:
    """The finding `tampering` about a location in which too much happened; it lasts for a day after that.

    Args:
        location: its name.
        events: findings about its archives and manifests; only the last day and those in `RATED` count.
        archives: how many it holds, those that are gone among them.
        now: epoch seconds.
    """
    lately: dict[str, float] = {}
    for one in sorted(events, key=lambda one: one.at):
        if one.rule in RATED and one.at > now - DAY:
            lately.setdefault(one.subject, one.at)
    times = sorted(lately.values())
    number = len(times)
    dense = max((bisect_right(times, first + HOUR) - index for index, first in enumerate(times)), default=0)
    if dense < IN_AN_HOUR and (number < LEAST or number <= SHARE * archives):
        return ok("tampering", location, f"{count(number, 'event')} within a day, among {count(archives, 'archive')}")
    several = ", ".join(list(lately)[:3]) + (f" and {number - 3:,} more" if number > 3 else "")
    return Finding(
        "tampering",
        location,
        Level.CRITICAL,
        f"{count(number, 'archive or manifest was', 'archives or manifests were')} changed, taken away or added by"
        f" somebody else within a day, up to {dense:,} within an hour, among {count(archives, 'archive')}: {several}",
        "Treat this host as broken into until you know better: cut off the other location before it is reached too,"
        " and restore only from a copy that this host cannot write to.",
    )


def _differs(sealed: Signature, found: Signature) -> list[str]:
    """What of a file is not as it was, in words. A new inode alone is nothing: some file systems give out new ones."""
    words = {
        "size": sealed.size != found.size,
        "modification time": sealed.mtime_ns != found.mtime_ns,
        "change time": sealed.ctime_ns != found.ctime_ns,
    }
    told = [word for word, differs in words.items() if differs]
    return [*told, "inode"] if told and sealed.inode != found.inode else told


def _how(sealed: Sealed, found: Signature, differs: Collection[str]) -> str:
    """How content changed, which may tell who did it."""
    grown = found.size - sealed.signature.size
    if grown:
        return f"{count(abs(grown), 'byte')} {'more' if grown > 0 else 'fewer'} than the {sealed.signature.size:,}"
    if not differs:
        return "its size and times are the same: a failing disk does that, or who writes past the file system"
    if "modification time" not in differs:
        return "its size is the same, and somebody has set its modification time back"
    return f"its size is the same; it was written to at {rfc3339(found.mtime_ns / 1e9)}"


def _stray(arrival: Arrival, runs: Sequence[Run], recorded: float) -> str:
    """Why a folder is not the work of a run of ours, or an empty text."""
    tier, _, name = arrival.path.rpartition("/")
    if name != arrival.backup:
        return f"its manifest is that of {arrival.backup}"
    if tier.rpartition("/")[2] != arrival.tier:
        return f"its manifest is that of a {arrival.tier} backup"
    started, ended = arrival.started, arrival.ended
    if started is None or ended is None:
        return "its manifest does not say when it was made"
    if started < recorded:
        return ""
    named = next((one for one in runs if one.backup == arrival.backup and one.tier == arrival.tier), None)
    for run in [named] if named else runs:
        until = run.ended if run.ended is not None else run.started + UNFINISHED
        if run.tier == arrival.tier and run.started - SLACK <= started <= ended <= until + SLACK:
            return ""
    times = f"from {rfc3339(started)} to {rfc3339(ended)}"
    return f"it says that it was made {times}, and our run was not then" if named else f"no run of ours made it {times}"


def _excuse(location: str, path: str, at: float, kinds: Collection[str], actions: Sequence[Action]) -> str:
    """What the agent did to a file at a moment, in words, or an empty text."""
    for one in actions:
        until = one.ended if one.ended is not None else one.began + UNFINISHED
        if one.kind in kinds and _covers(one, location, path) and one.began - SLACK <= at <= until + SLACK:
            return _told(one)
    return ""


def _covers(action: Action, location: str, path: str) -> bool:
    return action.location == location and (path == action.path or path.startswith(f"{action.path}/"))


def _told(action: Action) -> str:
    lasted = "" if action.ended is None else f", for {span(action.ended - action.began)}"
    return f"{action.kind} of {action.path} at {rfc3339(action.began)}{lasted}"
