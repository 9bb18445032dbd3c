"""Send what waits in the outbox: each message once, or again until its target has it."""

import logging
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from agent.adapters.ledger import incidents, outbox, writing
from agent.adapters.ledger.incidents import News, Notice
from agent.adapters.notify import Sent
from agent.rules import delivery
from agent.rules.alert import inert, plain
from agent.rules.finding import Finding, Level, ok
from agent.rules.incident import Policy
from agent.rules.message import Message
from agent.rules.words import count

_ABOUT_TARGETS = ("target_failing", "message_dropped")
_CHAT = 900

log = logging.getLogger(__name__)


class Target(Struct, frozen=True):
    """One place to send to. `url` is the real one, with its secrets; `severity` is the least level it hears of."""

    url: str
    severity: Level
    fallback: str | None = None


class Tally(Struct, frozen=True):
    """What became of the messages that were due."""

    delivered: int = 0
    postponed: int = 0
    dropped: int = 0


def deliver(
    db: sqlite3.Connection,
    targets: Mapping[str, Target],
    render: Callable[[Notice, list[News]], Message],
    send: Callable[[str, Message], Sent],
    now: Callable[[], float],
    policy: Policy,
    severities: Mapping[str, Level],
    *,
    only: int | None = None,
) -> Tally:
    """Send every message that is due, or `only` one, each once; the caller holds the lock of `deliver`.

    What became of a message and what that says about its target is one transaction, after the sending: a process
    that is killed in between repeats a message and never loses one.

    Raises:
        CannotWrite, TryLater, Damaged: the ledger's; nothing more is sent then.
    """
    with writing(db):
        outbox.recover(db)
        incidents.observe(db, _left(db, targets), now(), policy, severities)
    tried: dict[int, str] = {}
    while True:
        with writing(db):
            notice = outbox.claim(db, now(), only, tried)
        if notice is None:
            break
        news, target = outbox.news(db, notice.id), targets.get(notice.target)
        sent, findings = _attempt(notice, news, target, render, send)
        at = now()
        with writing(db):
            tried[notice.id], said = _settle(db, notice, news, target, sent, at)
            incidents.observe(db, [*findings, *said], at, policy, severities)
    return Tally(**Counter(tried.values()))


def _left(db: sqlite3.Connection, targets: Mapping[str, Target]) -> list[Finding]:
    """The end of every incident about a target that has left the configuration."""
    return [
        ok(one.rule, one.subject, f"{one.subject} is no longer configured")
        for one in incidents.active(db)
        if one.rule in _ABOUT_TARGETS and one.subject not in targets
    ]


def _attempt(
    notice: Notice,
    news: list[News],
    target: Target | None,
    render: Callable[[Notice, list[News]], Message],
    send: Callable[[str, Message], Sent],
) -> tuple[Sent | None, list[Finding]]:
    """Render and send one message; None when there was nothing to send or nobody to send it to."""
    if target is None:
        return None, []
    findings = [ok("render_failed", notice.kind)]
    try:
        message = render(notice, news)
    except Exception as error:
        log.exception("message %d to %s could not be laid out", notice.id, notice.target)
        findings = [delivery.unrendered(notice.kind, f"{type(error).__name__}: {error}")]
        if notice.kind == "report":
            return None, findings
        message = _plain(notice, news)
    if news and all(one.incident.rule == "render_failed" for one in news):
        findings = []  # or the news that a template works again, told by one that fails, would go on for ever
    if delivery.maybe_arrived(notice.error):
        message = replace(message, title=f"{message.title} (may be a repeat)")
    return send(target.url, message), findings


def _settle(
    db: sqlite3.Connection, notice: Notice, news: list[News], target: Target | None, sent: Sent | None, at: float
) -> tuple[str, list[Finding]]:
    """Write down what became of a message; returns its new state and what this says about its target."""
    name = notice.target
    if target is None:
        return "dropped", [_drop(db, notice, news, "the configuration no longer names this target")]
    if sent is not None and sent.ok:
        outbox.delivered(db, notice.id, at)
        log.info("message %d has reached %s", notice.id, name)
        return "delivered", [ok(rule, name, "it takes messages again") for rule in _ABOUT_TARGETS]
    error = sent.error if sent is not None else "it could not be laid out"
    again = delivery.next_try(notice.attempts, at, random.random())  # noqa: S311 - it spreads retries, no more
    outbox.postponed(db, notice.id, error, again)
    log.warning("message %d has not reached %s: %s", notice.id, name, error)
    findings = []
    if sent is not None:
        attempts = max(one.attempts for one in outbox.waiting(db) if one.target == name)
        findings.append(delivery.failing(name, error, attempts, again - at))
        if target.fallback is not None and notice.attempts >= delivery.FALLBACK_AFTER and notice.kind != "test":
            outbox.send_to_fallback(db, notice, target.fallback, at)
    news = outbox.news(db, notice.id)  # more may have joined
    newest = max((one.at for one in news), default=notice.created)
    patient = notice.kind == "report" or any(one.level is Level.CRITICAL for one in news)
    if not delivery.expired(newest, notice.attempts, at, critical=patient):
        return "postponed", findings
    return "dropped", [*findings, _drop(db, notice, news, error)]


def _drop(db: sqlite3.Connection, notice: Notice, news: list[News], error: str) -> Finding:
    outbox.dropped(db, notice.id, error)
    log.error("message %d to %s is given up: %s", notice.id, notice.target, error)
    level = max((one.level for one in news), default=Level.OK)
    return delivery.given_up(notice.target, error, level, len(news))


def _plain(notice: Notice, news: list[News]) -> Message:
    """The message in bare words, for when its template fails: an alert must get through all the same."""
    lines = [f"{one.level.word}, {one.change}: {plain(one.incident.subject)}: {plain(one.why)}" for one in news]
    told = count(len(news), "change") if news else f"a {notice.kind} message"
    text = "\n".join([*lines, "This message is plain because its template failed: see the agent's log."])
    level = max((one.level for one in news), default=Level.OK)
    return Message(f"snapward: {told}", text, inert(text)[:_CHAT], level=level)
