"""Answers that are given instead of the right one, and the way to ask for them over HTTP."""

import json
import threading
from typing import TYPE_CHECKING

from msgspec import to_builtins

from standin.answers import Answer, Dropped, bare_json, error, phrase, plain
from standin.faults import Fault

if TYPE_CHECKING:
    from standin.server import StandIn

_PROXY = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n</body>\r\n</html>\r\n"
)


def instead(server: "StandIn", operation: str, collection: str, dying: threading.Event) -> Answer | None:
    """The wrong answer to a request, if there is to be one.

    Raises:
        Dropped: the request is never answered.
    """
    wrong = server.faults.take(operation, collection, "hang", "refuse", "garbage")
    if "hang" in wrong:
        server.faults.pause(wrong["hang"].seconds, dying)
        raise Dropped
    if "refuse" in wrong:
        return _refusal(wrong["refuse"])
    if "garbage" in wrong:
        text = wrong["garbage"].text or '{"result": [{"name"'
        return Answer(200, text.encode(), {"content-type": "application/json"})
    return None


def afterwards(lost: Fault) -> Answer:
    """What a proxy says that did not wait for the answer.

    Raises:
        Dropped: it says nothing.
    """
    if lost.status < 502:
        raise Dropped
    return _refusal(lost)


def _refusal(fault: Fault) -> Answer:
    match fault.status:
        case 401 | 403:
            return plain(fault.status, fault.text or "Invalid API key or JWT", fault.headers)
        case 413 | 502 | 503 | 504:
            page = fault.text or _PROXY.format(f"{fault.status} {phrase(fault.status)}")
            return Answer(fault.status, page.encode(), {"content-type": "text/html", **fault.headers})
        case 404:
            return plain(404, fault.text or "Not found: Snapshot not found")
        case 429:
            text = fault.text or "Rate limiting exceeded: Read rate limit exceeded, retry later"
            return error(429, text, 0.0, {"retry-after": "1", **fault.headers})
    text = fault.text or "Service internal error: No space left on device (os error 28)"
    return error(fault.status, text, 0.0, fault.headers)


def control(server: "StandIn", method: str, segments: tuple[str, ...], body: bytes) -> Answer:
    """Answer what is asked of the stand-in itself, below `/__standin/`."""
    match method, segments:
        case "GET", ("requests",):
            return bare_json(to_builtins(server.requests))
        case "DELETE", ("requests",):
            server.requests.clear()
        case "POST", ("faults",):
            given = json.loads(body)
            for one in given if isinstance(given, list) else [given]:
                server.faults.add(**one)
        case "DELETE", ("faults",):
            server.faults.clear()
        case "POST", ("release",):
            server.faults.release()
        case "POST", ("restart",):
            # From a thread of its own: the one of this request would wait for itself.
            threading.Thread(target=server.restart, kwargs=json.loads(body or b"{}")).start()
        case "GET", ("faults",):
            pass
        case _:
            return Answer(404)
    return bare_json(server.faults.left())
