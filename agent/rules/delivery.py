"""When an undelivered message is tried again, when it goes elsewhere too, and when it is given up."""

from agent.rules.finding import Finding, Level
from agent.rules.words import count, span

# From this attempt on the fallback is told as well, and the failure is critical.
FALLBACK_AFTER = 3
# How an error begins when the target may have taken the message all the same.
NO_ANSWER = "no answer"
INTERRUPTED = "interrupted while sending"

# No try is planned further ahead than this, in seconds.
LONGEST_PLAN = 2 * 3600.0

_FIRST_WAIT = 30.0
_LONGEST_WAIT = 3600.0
_SPREAD = 0.2
_LEAST_ATTEMPTS = 8  # about an hour of them
_PATIENCE = 24 * 3600.0
_PATIENCE_CRITICAL = 72 * 3600.0


def next_try(attempts: int, now: float, jitter: float) -> float:
    """When to try again after so many attempts; epoch seconds.

    30 s, doubled with each attempt up to an hour, and spread by 20 % either way: `jitter` is from 0 to 1.
    """
    wait = min(_FIRST_WAIT * 2.0 ** min(max(attempts - 1, 0), 16), _LONGEST_WAIT)
    return now + wait * (1 - _SPREAD + 2 * _SPREAD * jitter)


def expired(since: float, attempts: int, now: float, *, critical: bool) -> bool:
    """Whether a message whose newest content is of `since` is to be given up: after 24 h, after 72 h if critical.

    One that was hardly tried is kept: the machine may have been off, and its network may be a minute behind.
    A clock that went back makes nothing old.
    """
    return attempts >= _LEAST_ATTEMPTS and now - since > (_PATIENCE_CRITICAL if critical else _PATIENCE)


def maybe_arrived(error: str) -> bool:
    """Whether the attempt that ended with this error may have delivered the message all the same."""
    return error.startswith((NO_ANSWER, INTERRUPTED))


def failing(target: str, error: str, attempts: int, wait: float) -> Finding:
    """The finding that a target does not take messages; `wait` is the time to the next try in seconds."""
    level = Level.CRITICAL if attempts >= FALLBACK_AFTER else Level.WARNING
    why = f"{target} did not take a message: {error}; {count(attempts, 'attempt')}, next try in {span(wait)}"
    return Finding("target_failing", target, level, why, "Mend it, then try it with `snapward alert test`.")


def given_up(target: str, error: str, level: Level, told: int) -> Finding:
    """The finding that a message with `told` changes of incidents was dropped, and why."""
    content = f" with {count(told, 'change')} of incidents" if told else ""
    why = f"a message to {target}{content} was given up: {error}"
    return Finding("message_dropped", target, max(level, Level.WARNING), why, "See them with `snapward alert list`.")


def unrendered(kind: str, error: str) -> Finding:
    """The finding that the templates fail for a kind of message."""
    instead = "it waits" if kind == "report" else "it was sent in plain words"
    why = f"a message of the kind {kind} could not be laid out: {error}; {instead}"
    return Finding("render_failed", kind, Level.WARNING, why, "If templates of your own are in use, mend them.")
