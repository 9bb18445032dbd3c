"""Judge one archive: what was promised, what was read back, and what follows from both."""

import enum
from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct

from agent.rules.finding import Finding, Level
from agent.rules.words import count, size


class State(enum.StrEnum):
    """The verdicts. Only GOOD is good; NO_CHECKSUM says that too little could be compared."""

    GOOD = "good"
    CORRUPT = "corrupt"
    TRUNCATED = "truncated"
    UNDERSIZED = "undersized"
    NO_CHECKSUM = "no checksum"
    UNREADABLE = "unreadable"
    VANISHED = "vanished"
    MALFORMED = "malformed"
    UNRESTORABLE = "unrestorable"


BAD = frozenset(State) - {State.GOOD, State.NO_CHECKSUM}

_MANIFEST = "manifest.json"
_SNAPSHOTS = (".snapshot", ".snapshot.gz", ".snapshot.zst")
_GZIP = (".gz", ".tgz")
_ZSTD = (".zst", ".tzst")

ARRIVED = "arrived"
INTACT = "intact"
WELL_FORMED = "well-formed"
RESTORABLE = "restorable"
FAITHFUL = "faithful"
# What can be proved of an archive, the least first.
LEVELS = (ARRIVED, INTACT, WELL_FORMED, RESTORABLE, FAITHFUL)


def rank(level: str) -> int:
    """How much a level proves: 0 is arrived, and so is whatever is not known."""
    return LEVELS.index(level) if level in LEVELS else 0


def lowest(levels: Iterable[str]) -> str:
    """The level that all of them have reached; that of nothing is arrived."""
    return min(levels, key=rank, default=ARRIVED)


class Signature(NamedTuple):
    """Tells without reading whether a file is still the one that was read."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Promise(Struct, frozen=True):
    """What one checksum file says an archive should be; None where it says nothing."""

    source: str
    sha256: str | None = None
    size: int | None = None


class Stream(enum.StrEnum):
    """What reading a compressed archive to its end showed."""

    PLAIN = "plain"
    COMPLETE = "complete"
    ENDED_EARLY = "ended early"
    DAMAGED = "damaged"
    NOT_READ = "not read"


class Form(enum.StrEnum):
    """What looking through the content of an archive showed; OTHER is no snapshot of a collection or a shard at all."""

    NOT_READ = "not read"
    SNAPSHOT = "snapshot"
    BROKEN = "broken"
    OTHER = "other"


class Reading(Struct, frozen=True):
    """One archive read back from the disk, from its first byte to its last.

    `error` is why it could not be read, and then nothing else counts. `stream_why` is the
    decompressor's own word on a stream that is not complete, or why one that should have been read could not be.
    `seconds` is the time it took. `form_why` says what was found in it.
    """

    size: int = 0
    sha256: str = ""
    stream: Stream = Stream.PLAIN
    stream_why: str = ""
    error: str = ""
    seconds: float = 0.0
    form: Form = Form.NOT_READ
    form_why: str = ""

    @property
    def proved(self) -> bool:
        """Whether content of the same SHA-256 need not be inflated again: it was, to its end, and looked through."""
        return self.stream is Stream.COMPLETE and self.form is not Form.NOT_READ


class Verdict(Struct, frozen=True):
    """The outcome of one check of one archive: state, the level it proves, and why."""

    state: State
    level: str
    why: str

    @property
    def bad(self) -> bool:
        """Whether this archive must not be relied on."""
        return self.state in BAD


def is_snapshot(name: str) -> bool:
    """Whether an archive of this name is said to be a snapshot of Qdrant."""
    return name.endswith(_SNAPSHOTS)


def judge(reading: Reading, promises: tuple[Promise, ...], minimum_size: int, name: str = "") -> Verdict:
    """What `reading` proves of an archive that `promises` describe; `minimum_size` in bytes."""
    bad = _damage(reading, promises, name) or _malformed(reading, promises, name)
    state, why = bad or _fits(reading, promises, minimum_size, name)
    proved = WELL_FORMED if reading.form is Form.SNAPSHOT else INTACT
    return Verdict(state, proved if state is State.GOOD else ARRIVED, why)


def _damage(reading: Reading, promises: tuple[Promise, ...], name: str) -> tuple[State, str] | None:
    if reading.error:
        return State.UNREADABLE, reading.error
    if reading.size == 0:
        return State.TRUNCATED, "is empty: 0 bytes"
    for promise in promises:
        if promise.size is not None and reading.size != promise.size:
            return _other_size(reading.size, promise.size, promise.source)
    if reading.stream is Stream.ENDED_EARLY:
        return State.TRUNCATED, f"the compressed stream ends early: {reading.stream_why}"
    for promise in promises:
        if promise.sha256 is not None and reading.sha256 != promise.sha256:
            return State.CORRUPT, (
                f"SHA-256 is {reading.sha256[:16]}…, but {promise.source} promises {promise.sha256[:16]}…"
            )
    if reading.stream is Stream.DAMAGED:
        return State.CORRUPT, f"the compressed stream is damaged: {reading.stream_why}"
    if reading.stream is Stream.PLAIN and name.endswith((*_GZIP, *_ZSTD)):
        return State.CORRUPT, f"is named as {_format(name)}, but does not begin as {_format(name)} does"
    return None


def _malformed(reading: Reading, promises: tuple[Promise, ...], name: str) -> tuple[State, str] | None:
    if reading.form is Form.BROKEN:
        return State.MALFORMED, reading.form_why
    ours = is_snapshot(name) and any(promise.source == _MANIFEST for promise in promises)
    if reading.form is Form.OTHER and ours:
        return State.MALFORMED, f"{_MANIFEST} promises a snapshot, but {reading.form_why}"
    return None


def _other_size(found: int, promised: int, source: str) -> tuple[State, str]:
    if found < promised:
        missing = promised - found
        return State.TRUNCATED, (f"{count(missing, 'byte')} of the {promised:,} that {source} promises are missing")
    return (
        State.CORRUPT,
        f"is {count(found - promised, 'byte')} longer than the {promised:,} {source} promises",
    )


def _fits(reading: Reading, promises: tuple[Promise, ...], minimum_size: int, name: str) -> tuple[State, str]:
    if reading.stream is Stream.NOT_READ and not reading.stream_why:
        return State.NO_CHECKSUM, "its compressed stream was not read, so nothing is proved"
    if reading.size < minimum_size and not any(promise.size == reading.size for promise in promises):
        return State.UNDERSIZED, f"has {count(reading.size, 'byte')}; the minimum is {size(minimum_size)}"
    readable = {
        Stream.COMPLETE: f"; {_format(name)} read to its end",
        Stream.NOT_READ: f"; its {_format(name)} stream was not read: {reading.stream_why}",
    }.get(reading.stream, "")
    if reading.form is Form.SNAPSHOT or (reading.form is Form.OTHER and is_snapshot(name)):
        readable += f"; {reading.form_why}"
    sources = [promise.source for promise in promises if promise.sha256 is not None]
    if not sources:
        return State.NO_CHECKSUM, f"nothing promises its SHA-256, so it could not be compared{readable}"
    return State.GOOD, f"size and SHA-256 equal {' and '.join(sources)}{readable}"


def _format(name: str) -> str:
    return "zstd" if name.endswith(_ZSTD) else "gzip"


def finding(subject: str, verdict: Verdict) -> Finding:
    """The finding that a verdict on the archive `subject` is."""
    if not verdict.bad:
        return Finding("archive_bad", subject, Level.OK, verdict.why)
    hint = {
        State.VANISHED: "Look for what removed it. If that was on purpose, `snapward reconcile` accepts it.",
        State.UNREADABLE: "Give the agent's user the right to read it, or check the disk: dmesg, smartctl.",
        State.MALFORMED: "Do not restore from it. If its SHA-256 is as promised, it was so when it was made: look at"
        " the log and the disk of what made it, and take a new backup.",
    }.get(verdict.state, "Do not restore from it. Compare the other location's copy, and take a new backup.")
    return Finding("archive_bad", subject, Level.CRITICAL, f"{verdict.state}: {verdict.why}", hint)


def uncompared(subject: str, number: int) -> Finding:
    """The finding about a folder in which `number` archives have no promised checksum."""
    if not number:
        return Finding("checksum_missing", subject, Level.OK, "every archive has a promised checksum")
    return Finding(
        "checksum_missing",
        subject,
        Level.WARNING,
        f"{count(number, 'archive')} could be read, but not compared: nothing promises the SHA-256",
        "Let the program that writes them run `sha256sum FILE > FILE.sha256` when it is done.",
    )


def subject(location: str, folder: str, name: str) -> str:
    """How an archive is called everywhere: location:folder/name."""
    return f"{location}:{folder}/{name}" if folder else f"{location}:{name}"


def backup_state(states: list[State], missing: int) -> str:
    """good, bad, incomplete or unknown: what the archives of one backup add up to.

    `missing` is how many collections the backup's own manifest reports as failed.
    """
    if any(state in BAD for state in states):
        return "bad"
    if missing:
        return "incomplete"
    if not states or any(state is State.NO_CHECKSUM for state in states):
        return "unknown"
    return "good"
