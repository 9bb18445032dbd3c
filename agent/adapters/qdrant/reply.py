"""What a server says to one question, while it comes and once it has come."""

import http.client
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TypeVar

import msgspec
from msgspec import Struct

from agent.adapters.qdrant.line import Line
from agent.adapters.qdrant.trouble import Absent, Busy, Garbled, plain
from agent.errors import AgentError, CannotWrite, NoRights, Refused, Unreachable
from agent.rules import retry
from agent.rules.words import size

T = TypeVar("T")

_PIECE = 64 << 10
# Bytes of an answer that are looked at for its words, where it is a good one and where not; characters that are shown.
_GLANCE, _READ, _SHOWN = 2 << 10, 64 << 10, 300


class Answer(Struct, frozen=True):
    """What a server has said.

    Attributes:
        status: of HTTP.
        body: all of it.
        words: what it says in short, for people; never our key.
        own: whether those words come in the way in which Qdrant itself tells errors, and not a proxy before it.
        clock: the server's own time, epoch seconds, if it told.
        retry_after: seconds after which it wants to be asked again, if it told.
    """

    status: int
    body: bytes
    words: str
    own: bool
    clock: float | None
    retry_after: float | None


class Reply:
    """An answer of which status and headers have come. It has to be closed.

    Args:
        line: on which it comes, and which ends with it.
        response: that came so far.
        key: which no words may contain.
    """

    def __init__(self, line: Line, response: http.client.HTTPResponse, key: str) -> None:
        self.status = response.status
        self.headers = response.headers
        self.left = None if response.chunked else response.length
        self._line = line
        self._response = response
        self._key = key

    def readinto(self, buffer: memoryview) -> int:
        """What there is of the body by now; 0 at its end.

        Raises:
            OSError, http.client.HTTPException: it broke off before.
            TryLater: nobody waits any more.
        """
        if self._response.chunked:
            data = self._response.read1(len(buffer))
            if len(data) > len(buffer):
                raise http.client.HTTPException("a chunk of negative length")
            buffer[: len(data)] = data
            return len(data)
        if self.left is None:  # then the connection's end is the body's
            return self._line.file.readinto1(buffer)
        got = self._line.file.readinto1(buffer[: self.left]) if self.left else 0
        if self.left and not got:
            raise http.client.IncompleteRead(b"", self.left)
        self.left -= got
        return got

    def whole(self, most: int) -> Answer:
        """The answer, with the body.

        Raises:
            OSError, http.client.HTTPException: it broke off before.
            Garbled: it is longer than `most` bytes.
            TryLater: nobody waits any more.
        """
        body, piece = bytearray(), memoryview(bytearray(_PIECE))
        while got := self.readinto(piece):
            body += piece[:got]
            if len(body) > most:
                raise Garbled(f"an answer of more than {size(most)}", "Does engine.url name a Qdrant server?")
        words, own = _said(self.status, bytes(body[: _READ if self.status >= 400 else _GLANCE]), self._key)
        clock = _moment(self.headers.get("Date"))
        return Answer(self.status, bytes(body), words, own, clock, _pause(self.headers.get("Retry-After"), clock))

    def close(self) -> None:
        """Let go of the connection."""
        self._response.close()
        self._line.hang_up()


class _Envelope(Struct):
    result: msgspec.Raw


class _Error(Struct):
    error: str


class _Bad(Struct):
    status: _Error


def result(got: Answer, what: str, shape: type[T]) -> T:
    """The `result` of a good answer to the question `what`.

    Raises:
        NoRights, CannotWrite, Busy, Unreachable, Refused: it is no good one.
        Garbled: it is not of this shape.
    """
    if not 200 <= got.status < 300:
        raise refusal(got, what)
    return parsed(parsed(got.body, got, what, _Envelope).result, got, what, shape)


def parsed(text: bytes | msgspec.Raw, got: Answer, what: str, shape: type[T]) -> T:
    """JSON that is part of an answer.

    Raises:
        Garbled: it is not of this shape.
    """
    try:
        return msgspec.json.decode(text, type=shape)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        why = f"{what}: the answer is not Qdrant's ({plain(str(error))}): {got.words[:_SHOWN]}"
        raise Garbled(why, "Does engine.url name a Qdrant server?") from error


def refusal(got: Answer, what: str) -> AgentError:
    """A bad answer in our own kinds."""
    told = f"{what}: the server answers {got.status}: {got.words}"
    if got.status in {401, 403}:
        return NoRights(told, "Mend engine.api_key: it needs the right to manage, or rw on every collection.")
    if got.status == 404:
        return Absent(told, "Was it removed meanwhile?")
    if retry.is_full(got.status, got.words):
        return CannotWrite(told, "Free space on the server: its snapshots and temporary files need it.")
    if retry.passes(got.status, got.words):
        return Busy(told, "The server was asked several times; look at its log and load.", got.retry_after)
    if got.status >= 500:
        return Unreachable(told, "Look at the server's log.")
    if 300 <= got.status < 400:
        return Refused(told, "Something in between leads elsewhere: set engine.url to where it leads.")
    return Refused(told, "")


def _said(status: int, body: bytes, key: str) -> tuple[str, bool]:
    """What an answer says in words, and whether that is an error as Qdrant itself tells it."""
    own = status >= 400
    try:
        text = msgspec.json.decode(body, type=_Bad).status.error if own else ""
    except (msgspec.DecodeError, ValueError, RecursionError):
        own = False
    if not own:
        text = body.decode("utf-8", "replace")
    return plain(text.replace(key, "***") if key else text), own


def _moment(date: str | None) -> float | None:
    """A header's date in epoch seconds; None where there is none, or nonsense."""
    try:
        told = parsedate_to_datetime(date or "")
        return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _pause(asked: str | None, clock: float | None) -> float | None:
    """Seconds from `Retry-After`, which tells them, or a date."""
    if asked is None:
        return None
    if asked.strip().isdecimal() and asked.isascii():
        return float(asked)
    until = _moment(asked)
    return None if until is None else max(0.0, until - (clock or time.time()))
