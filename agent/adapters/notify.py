"""Apprise behind one door: whether a target's URL can be used, and sending one message there.

A URL holds secrets, and apprise logs URLs, tokens and payloads. So its log leads nowhere; what is worth knowing of
it becomes the error of that one call, without anything that the URL keeps secret.

A target takes a message as a whole. When one of three recipients of a mail is refused, the message counts as not
sent, and the next attempt goes to all three again: whoever minds configures one target a person.
"""

import base64
import contextlib
import difflib
import logging
import os
import re
import smtplib
import ssl
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote

from msgspec import Struct

from agent.rules.delivery import NO_ANSWER
from agent.rules.finding import Level
from agent.rules.message import Message
from agent.rules.words import span

if TYPE_CHECKING:
    from apprise import AppriseAsset, NotifyBase

CONSOLE = "console://"
_MAIL = ("mailto", "mailtos")
_KINDS = {Level.OK: "info", Level.WARNING: "warning", Level.CRITICAL: "failure"}
# Apprise waits 4 s. A server that takes a message after 5 s would get it again and again.
_TIMEOUTS = {"cto": ("socket_connect_timeout", 10.0), "rto": ("socket_read_timeout", 20.0)}
# What the query of a mail URL says openly; an error without it would help nobody.
_OPEN = frozenset({"to", "cc", "bcc", "from", "reply", "name", "smtp", "mode", "format", "verify", "cto", "rto"})
_LONGEST_ERROR = 300


class Sent(Struct, frozen=True):
    """What became of one attempt. `error` says why it failed and holds no secret."""

    ok: bool
    error: str = ""


def unusable(url: str) -> str | None:
    """Why apprise cannot send to a URL, without quoting it; None when it can."""
    if url.startswith(CONSOLE):
        return None
    found = re.match(r"([A-Za-z0-9+_-]{1,20})://", url)
    if found is None:
        return "it does not begin with a service, as slack:// and mailtos:// do"
    from apprise import Apprise  # noqa: PLC0415 - it costs 0.4 s and 37 MiB

    scheme = found[1].lower()
    with _listening() as ear:
        try:
            service = Apprise.instantiate(url, asset=_asset(), suppress_exceptions=False)
            reasons = ear.said if service is not None else []
        except Exception as error:  # noqa: BLE001 - each of 180 plugins refuses in its own way
            service, reasons = None, [str(error)]
    if reasons:
        return f"apprise cannot use this {scheme}:// address: {_told(reasons, url)}"
    return _unknown(scheme) if service is None else None


def send(url: str, message: Message, *, timeout: float = 60.0) -> Sent:
    """Send one message to one target, and wait for its answer for at most `timeout` seconds.

    Mail gets the HTML (apprise makes the plain text of it) or else the text, and the attachments that exist; every
    other service the short form, as text that it escapes. `console://` prints.
    """
    if url.startswith(CONSOLE):
        print(message.title, message.text, sep="\n", flush=True)
        return Sent(ok=True)
    answers: list[Sent] = []
    # A daemon thread of our own: one of apprise's pool would hold up the end of the process for as long as it hangs.
    sender = threading.Thread(target=lambda: answers.append(_send(url, message)), daemon=True)
    sender.start()
    sender.join(timeout)
    return answers[0] if answers else Sent(False, f"{NO_ANSWER} within {span(timeout)}")


def _send(url: str, message: Message) -> Sent:
    from apprise import Apprise, NotifyFormat  # noqa: PLC0415 - it costs 0.4 s and 37 MiB

    with _listening() as ear:
        try:
            service = Apprise.instantiate(url, asset=_asset(), suppress_exceptions=False)
            if service is None:
                return Sent(False, "apprise cannot use its URL: look at `snapward check`")
            _be_patient(service, url)
            mail = _scheme(url) in _MAIL
            html = mail and bool(message.html)
            box = Apprise(asset=service.asset)
            box.add(service)
            result = box.notify(
                title=message.title,
                body=message.html if html else message.text if mail else message.chat,
                body_format=NotifyFormat.HTML if html else NotifyFormat.TEXT,
                notify_type=_KINDS[message.level],
                attach=[path for path in message.attachments if mail and os.path.isfile(path)] or None,
            )
        except Exception as error:  # noqa: BLE001 - whatever one of 180 plugins raises is this attempt's failure
            return Sent(False, _told([_cause(error) or _named(error)], url))
    if result:
        return Sent(ok=True)
    return Sent(False, _told(ear.reasons(), url) or f"apprise gave no reason ({result.status.name})")


def _asset() -> "AppriseAsset":
    from apprise import AppriseAsset  # noqa: PLC0415 - it costs 0.4 s and 37 MiB

    return AppriseAsset(
        app_id="snapward",
        app_desc="snapward",
        app_url="",
        image_url_mask="",  # else chats fetch icons from a third party
        image_url_logo="",
        service_timeout=0,  # else apprise sends from a pool of its own
    )


def _be_patient(service: "NotifyBase", url: str) -> None:
    from apprise import URLBase  # noqa: PLC0415 - it costs 0.4 s and 37 MiB

    for option, (name, seconds) in _TIMEOUTS.items():
        if f"{option}=" not in url and getattr(service, name) == getattr(URLBase, name):
            setattr(service, name, seconds)


def _unknown(scheme: str) -> str:
    from apprise import NotificationManager  # noqa: PLC0415 - it costs 0.4 s and 37 MiB

    services = NotificationManager()  # type: ignore[no-untyped-call] # apprise left it so
    if scheme in ("http", "https"):
        return f"apprise knows no service at this {scheme}:// address; a web hook of your own is jsons://host/path"
    if scheme not in services:
        near = difflib.get_close_matches(scheme, services.schemas(), 1)  # type: ignore[no-untyped-call] # the same
        return f"apprise knows no service '{scheme}'" + (f"; did you mean {near[0]}?" if near else "")
    plugin = services[scheme]
    if not plugin.enabled:
        return f"{scheme}:// needs what is not installed here: {plugin.requirements.get('packages_required', '?')}"
    return f"apprise cannot read this {scheme}:// address; {plugin.setup_url} says how it is written"


class _Ear:
    """Hears what apprise logs in one call: `said` its warnings, `causes` the exceptions it was handling then."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.causes: list[str] = []
        self.answer = ""

    def hear(self, record: logging.LogRecord) -> None:
        """Keep what explains a failure; everything else, tokens and payloads among it, is not even formatted."""
        error = sys.exc_info()[1]
        if cause := _cause(error):
            self.causes.append(cause)
        elif record.levelno in (logging.WARNING, logging.ERROR):
            self.said.append(record.getMessage().rstrip(". ") + (f" ({_named(error)})" if error else ""))
        elif str(record.msg).startswith("Response Details:"):
            self.answer = re.sub(r"""^b?(['"])(.*)\1$""", r"\2", record.getMessage().partition(":")[2].strip())

    def reasons(self) -> list[str]:
        """What explains a failure best."""
        if self.causes:
            return self.causes
        return [*self.said, f"it answered: {self.answer}"] if self.answer else self.said


_listening_ear: ContextVar[_Ear | None] = ContextVar("_listening_ear", default=None)


@contextlib.contextmanager
def _listening() -> Iterator[_Ear]:
    logging.getLogger("urllib3").setLevel(logging.WARNING)  # below, it logs paths, and those are tokens
    logger = logging.getLogger("apprise")
    logger.addFilter(_withhold)
    logger.setLevel(logging.DEBUG)
    ear = _Ear()
    token = _listening_ear.set(ear)
    try:
        yield ear
    finally:
        _listening_ear.reset(token)


def _withhold(record: logging.LogRecord) -> bool:
    """Let this call hear a record and nobody else, whatever handlers there are and whatever their level."""
    ear = _listening_ear.get()
    if ear is not None:
        ear.hear(record)
    return False


def _cause(error: BaseException | None) -> str:
    """Why talking to a server failed, in few words; "" if this is about something else.

    It lies deep: what the web client itself says is little more than the URL.
    """
    if not isinstance(error, OSError):
        return ""
    chain: list[BaseException] = [error]
    while (deeper := _deeper(chain[-1])) is not None and deeper not in chain:
        chain.append(deeper)
    for one in chain:
        match one:
            case smtplib.SMTPRecipientsRefused():
                refused = one.recipients.items()
                return "; ".join(f"{who} was refused: {code} {_decoded(said)}" for who, (code, said) in refused)
            case smtplib.SMTPResponseException():
                return f"{one.smtp_code} {_decoded(one.smtp_error)}"
            case ssl.SSLCertVerificationError():
                return f"its certificate is not trusted: {one.verify_message}"
            case TimeoutError():
                return f"{NO_ANSWER} in time"
            case OSError() if one.strerror:
                return one.strerror
    return _named(chain[-1])


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _deeper(error: BaseException) -> BaseException | None:
    inside = error.args[0] if error.args else None  # where urllib3 keeps what it has not raised itself
    return error.__cause__ or error.__context__ or (inside if isinstance(inside, BaseException) else None)


def _decoded(said: bytes | str) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said


def _told(reasons: list[str], url: str) -> str:
    """Reasons in one short line, without anything that the URL keeps secret."""
    text = "; ".join(dict.fromkeys(reasons))
    for secret in _secrets(url):
        text = text.replace(secret, "***")
    shown = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(shown.split())[:_LONGEST_ERROR]


def _secrets(url: str) -> list[str]:
    """What of a URL must not be told, in every quoting that it may turn up in, longest first."""
    rest = url.partition("://")[2] or url
    address, _, query = rest.partition("?")
    login, _, _ = address.rpartition("@")
    user, _, password = login.partition(":")
    if _scheme(url) in _MAIL:
        parts = [value for name, _, value in (pair.partition("=") for pair in query.split("&")) if name not in _OPEN]
    else:
        parts = [user, *re.split(r"[/?&=:@,;#]", rest)]
    basic = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    told = {part for part in (url, rest, login, *parts) if len(part) > 3} | {password}
    plain = {unquote(unquote(part)) for part in told} | {unquote(part) for part in told}
    forms = {form(part) for part in plain for form in (str, quote, quote_plus, lambda part: quote(part, safe=""))}
    return sorted((told | forms | {basic}) - {""}, key=len, reverse=True)


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()
