"""Signs of life for a watcher outside, in the manner of healthchecks.io: it speaks up when they stay away.

A ping goes to the URL of a check: as it is for success, with `/start`, `/fail`, `/log` or an exit code behind it for
what else there is to say, and with `rid`, which tells the watcher which start belongs to which end.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from msgspec import Struct

from agent.rules.archive import BAD, State
from agent.rules.finding import Finding, Level
from agent.rules.vitals import stale
from agent.rules.words import count, span

BODY = 100_000  # bytes that a watcher keeps of what it is told
START, SUCCESS, FAIL, LOG = "start", "", "fail", "log"
KEPT = 86_400.0  # seconds for which it is tried to tell of a run that was over then
_AGAIN = 30.0
_SELDOMEST = 3600.0
_PROVING = 3600.0  # seconds that reading a backup back may take, unless it took longer to make
# A site's own program may write no checksums, which is an alert of its own: its archives were read all the same.
_READ = frozenset((State.GOOD, State.NO_CHECKSUM))
# What of a run's outcome is told, as `agent.adapters.ledger.runs.Run` has it. What was skipped says nothing: the
# run that was under way then does.
_SIGNALS = {"running": START, "ok": SUCCESS, "incomplete": FAIL, "interrupted": FAIL, "missed": FAIL, "failed": FAIL}


class Ping(Struct, frozen=True):
    """One request to make: POST `body` to `url`. That it fails must never fail what it tells of."""

    url: str
    body: bytes = b""


def url(base: str, signal: str, rid: str = "") -> str:
    """Where to ping.

    Args:
        base: of the check, by its id or by a key and a slug, with or without a query such as `create=1`.
        signal: `START`, `SUCCESS`, `FAIL`, `LOG`, or an exit code from 0 to 255 as text.
        rid: of the run, see `run_id`.
    """
    parts = urlsplit(base)
    path = parts.path.rstrip("/") + (f"/{signal}" if signal else "")
    query = [one for one in parse_qsl(parts.query, keep_blank_values=True) if one[0] != "rid"]
    return urlunsplit(parts._replace(path=path, query=urlencode([*query, ("rid", rid)] if rid else query)))


def run_id(host: str, job: str, run: int, started: float) -> str:
    """The UUID by which the watcher knows a run: the same whenever it is asked for, so that a restart keeps it."""
    raw = bytearray(blake2b(f"{host}\0{job}\0{run}\0{started:.3f}".encode(), digest_size=16).digest())
    raw[6] = raw[6] & 0x0F | 0x80  # version 8, of RFC 9562: made as its maker likes
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def of_run(base: str, outcome: str, exit_code: int | None, why: str, rid: str, *, proved: bool = True) -> Ping | None:
    """What to send when a run has come to an outcome; None where nothing is to be said.

    Args:
        base: of the job's check.
        outcome: of the run; `running` when it begins.
        exit_code: of a run that failed, below 0 for a signal's number.
        why: what came of it, in words.
        rid: of the run.
        proved: whether what it made has been read back: until then a success is none.
    """
    signal = _SIGNALS.get(outcome)
    if signal is None or (outcome == "ok" and not proved):
        return None
    if outcome == "failed" and exit_code:
        # A signal's number is told as shells do.
        signal = str(min(exit_code if exit_code > 0 else 128 - exit_code, 255))
    return Ping(url(base, signal, rid), _body(why))


def job_of(job: str, subject: str) -> str:
    """How the configuration calls the job of a run: backups by their tier."""
    return f"{job}:{subject}" if job == "backup" else job


def next_try(tries: int, now: float) -> float:
    """When to try again after so many tries that failed; epoch seconds."""
    return now + min(_AGAIN * 2.0 ** min(tries, 20), _SELDOMEST)


def is_due(planned: float, now: float) -> bool:
    """Whether a try that was planned is due; one planned too far ahead was planned by a clock that has gone back."""
    return planned <= now or planned > now + _SELDOMEST


class Proof(Struct, frozen=True):
    """Whether what a run has made was read back: so far, or `why` it never will be."""

    proved: bool
    why: str = ""


def proof(states: Sequence[State | None], took: float, ended: float, now: float) -> Proof:
    """Judge whether a backup has been proved.

    Args:
        states: of each of its archives in each location that it was written to; None for one not seen there yet.
        took: seconds that the backup took.
        ended: when it was over, epoch seconds.
        now: epoch seconds.
    """
    bad = sum(one in BAD for one in states)
    if bad:
        return Proof(proved=False, why=f"{count(bad, 'archive')} of {len(states)} turned out bad when read back")
    left = sum(one not in _READ for one in states)
    if not left:
        return Proof(proved=True)
    patience = max(_PROVING, 2 * took)
    if now > ended + patience:
        return Proof(proved=False, why=f"{count(left, 'archive')} not read back within {span(patience)}")
    return Proof(proved=False)


def failing(subject: str, why: str) -> Finding:
    """The finding about a watcher that cannot be told; all is well where there is no reason."""
    if not why:
        return Finding("ping_failing", subject, Level.OK, "the watcher was told")
    hint = "Until it is mended the watcher outside hears nothing, and will speak up: see `pings` in the configuration."
    return Finding("ping_failing", subject, Level.WARNING, f"its ping does not get through: {why}", hint)


def heartbeat(
    base: str,
    silent: Mapping[str, float],
    parts: frozenset[str],
    limits: Mapping[str, float],
    last: float | None,
    now: float,
    every: float,
) -> Ping | None:
    """The agent's own sign of life, if it is time for one and every part has shown one lately.

    Args:
        base: of the agent's check.
        silent: for how many seconds each part has shown nothing.
        parts: those that there should be; one that is not in `silent` has never shown anything.
        limits: seconds of silence that each part may keep, as `vitals.stale` takes them.
        last: when the last one was tried, whatever came of it; epoch seconds, None if never.
        now: epoch seconds.
        every: seconds from one to the next.
    """
    # A clock that went back must not silence it.
    if last is not None and last <= now < last + every:
        return None
    if not parts or parts - silent.keys() or stale(silent, limits, frozenset()):
        return None
    return Ping(url(base, SUCCESS), _body(f"{len(silent)} parts work"))


def _body(text: str) -> bytes:
    """As much of a text as is kept, cut between two characters."""
    return text.encode("utf-8", "replace")[:BODY].decode("utf-8", "ignore").encode()
