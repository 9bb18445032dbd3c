"""What goes wrong between us and a server, told apart by what may be done about it, in words for people."""

import http.client
import ssl

from agent.errors import Refused, TryLater, Unreachable

_LONGEST = 1000


class Lost(TryLater):
    """The question may have arrived, but no answer came: what was asked for may be done."""


class Busy(TryLater):
    """The server did nothing, and may do it later; `wait` is the pause in seconds that it asked for."""

    def __init__(self, message: str, hint: str = "", wait: float | None = None) -> None:
        super().__init__(message, hint)
        self.wait = wait


class Away(Unreachable):
    """There is no connection: the question was not heard."""


class Untrusted(Unreachable):
    """The server's certificate does not prove that it is the server; asking again does not help."""


class Garbled(Unreachable):
    """The answer is not one that Qdrant gives."""


class Absent(Refused):
    """The server does not know what it was asked about."""


def plain(text: str) -> str:
    """A stranger's words on one line, without what a terminal would obey and without a page's tags."""
    if text.lstrip().startswith("<"):
        text = "".join(part.partition(">")[2] + " " for part in text.split("<"))
    return "".join(filter(str.isprintable, " ".join(text.split())))[:_LONGEST]


def words(error: Exception) -> str:
    """What a connection died of."""
    match error:
        case TimeoutError():
            return "it stays silent"
        case http.client.RemoteDisconnected():
            return "it closed the connection without an answer"
        case http.client.IncompleteRead():
            return "the answer ends early"
        case http.client.BadStatusLine():
            return "what it says is not HTTP"
        case http.client.HTTPException():
            return f"what it says is no proper HTTP ({plain(str(error))})"
        case ssl.SSLError():
            return f"TLS fails: {(error.reason or str(error)).replace('_', ' ').lower()}"
        case OSError():
            return error.strerror or str(error) or type(error).__name__
    return plain(str(error))
