"""Pings to a watcher outside, in the manner of healthchecks.io: one small POST, tried a few times.

Nothing that is said of a failure holds the address: whoever knows it can speak in our name.
"""

import http.client
import socket
import ssl
import urllib.request
from collections.abc import Callable
from email.message import Message
from http.client import HTTPException
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from agent import __version__
from agent.rules.pings import Ping

TRIES = 3
TIMEOUT = 10.0
_BREATH = 1.0
_ANSWER = 200  # bytes of an answer that are looked at
# Of what is refused, these may be taken the next time.
_PASSING = frozenset((408, 425, 429))


def send(ping: Ping, wait: Callable[[float], object], timeout: float = TIMEOUT) -> str:
    """Send one ping; returns why that failed, or an empty text. It never raises.

    Proxies are those of the environment; certificates are checked against the system's, or `SSL_CERT_FILE`.

    Args:
        ping: what to send where.
        wait: lets so many seconds pass between two tries.
        timeout: seconds that the watcher may say nothing.
    """
    why = ""
    for attempt in range(TRIES):
        if attempt:
            wait(_BREATH * 2 ** (attempt - 1))
        why, passing = _once(ping, timeout)
        if not passing:
            return why
    return f"{why}, {TRIES} times"


def _once(ping: Ping, timeout: float) -> tuple[str, bool]:
    """Why one try failed, and whether another may not."""
    try:
        if urlsplit(ping.url).scheme not in {"http", "https"}:
            return "its address is no http:// or https:// URL", False
        request = urllib.request.Request(  # noqa: S310 - of these two schemes
            ping.url,
            ping.body,
            {"User-Agent": f"snapward/{__version__}", "Content-Type": "text/plain; charset=utf-8"},
            method="POST",
        )
        with urllib.request.build_opener(_Stay).open(request, timeout=timeout) as answer:
            return _refusal(answer.read(_ANSWER))
    except HTTPError as error:
        error.close()
        said = http.client.responses.get(error.code, "")
        return f"the watcher answered {error.code} {said}".rstrip(), error.code >= 500 or error.code in _PASSING
    except (ValueError, http.client.InvalidURL):
        return "its address is no URL that can be asked", False
    except (OSError, HTTPException) as error:
        return _words(error), True


def _refusal(answer: bytes) -> tuple[str, bool]:
    """Healthchecks answers 200 also to what it throws away."""
    if b"(not found)" in answer:
        return "the watcher has no such check", False
    if b"(rate limited)" in answer:
        return "the watcher was pinged too often, and threw this away", True
    return "", False


def _words(error: OSError | HTTPException) -> str:
    reason = error.reason if isinstance(error, URLError) else error
    match reason:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not to be trusted: {reason.verify_message}"
        case TimeoutError():
            return "the watcher did not answer in time"
        case socket.gaierror():
            return "the name of its host is not known"
        case ssl.SSLError():
            return f"no TLS: {reason.reason}"
        case OSError() if reason.strerror:
            return reason.strerror.lower()
    return f"the answer could not be read: {type(reason).__name__}"


class _Stay(urllib.request.HTTPRedirectHandler):
    """A watcher that answers from elsewhere is none that we were given: a POST would become a GET on the way."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> None:
        """No redirect is followed."""
