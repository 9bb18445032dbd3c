"""HTTP to a Qdrant server: one connection a question, JSON in and out, errors in our own kinds."""

import functools
import http.client
import itertools
import math
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.line import SLICE, Line, dial
from agent.adapters.qdrant.reply import Answer, Reply, result
from agent.adapters.qdrant.trouble import Away, Garbled, Lost, Untrusted, words
from agent.errors import BadConfig, TryLater
from agent.rules import retry

T = TypeVar("T")
Halted = Callable[[], str]

_LARGEST_ANSWER = 64 << 20


class Wire:
    """Asks one server. May be used from several threads.

    Args:
        address: where it is.
        halted: why nobody waits for it any more; empty while somebody does. Asked a few times a second.

    Raises:
        BadConfig: the key cannot be sent, or the file of certificates cannot be used.
    """

    def __init__(self, address: Address, halted: Halted = lambda: "") -> None:
        parts = urlsplit(address.url)
        self.address = address
        self.halted = halted
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._base = quote(parts.path.rstrip("/"), safe="/%:!$&'()*+,;=~")
        self._tls = _context(address.ca_file) if parts.scheme == "https" else None
        if not (address.key.isascii() and address.key.isprintable()):
            raise BadConfig(
                "engine.api_key has a character that cannot be sent", "Is there a line break at the end of the secret?"
            )

    def ask(
        self,
        method: str,
        path: str,
        shape: type[T],
        body: Any = None,
        *,
        patience: float = math.inf,
        takes: float = 0.0,
    ) -> T:
        """Ask until there is an answer that stays; returns its `result`.

        Only for questions that may be asked twice. Failing is borne as long as the address says, but at most
        `patience` seconds. The server may need `takes` seconds, where that is longer than its usual silence.

        Raises:
            NoRights: the key is refused.
            Unreachable: the server cannot be reached, fails, or is no Qdrant.
            TryLater: it was asked to stop meanwhile, or the server is too busy.
            CannotWrite: the server's disk is full.
            Refused: the server does not do that, such as for a collection that is not there.
        """
        got = self.answer(method, path, body, patience=patience, takes=takes)
        return result(got, f"{method} {path}", shape)

    def answer(
        self, method: str, path: str, body: Any = None, *, patience: float = math.inf, takes: float = 0.0
    ) -> Answer:
        """Like `ask`, with all that was said; any status that stays is an answer."""
        bearable = None
        for attempt in itertools.count():
            outcome: Answer | Lost | Away
            try:
                outcome = self.once(method, path, body, until=time.monotonic() + max(takes, self.address.silence))
            except (Lost, Away) as error:
                outcome = error
            if isinstance(outcome, Answer) and not retry.passes(outcome.status, outcome.words):
                return outcome
            wait = retry.pause(attempt, outcome.retry_after if isinstance(outcome, Answer) else None)
            now = time.monotonic()
            bearable = bearable or now + min(patience, self.address.patience)
            if now + wait > bearable:
                if isinstance(outcome, Answer):
                    return outcome
                raise outcome
            self.rest(wait)
        raise AssertionError("counting has no end")

    def once(self, method: str, path: str, body: Any = None, *, until: float | None = None) -> Answer:
        """Ask once. With `until` (monotonic) the first word of the answer is waited for so long, else `silence`.

        Raises:
            Away: no connection; the question was not heard.
            Lost: it was sent, and no whole answer came.
            TryLater: it was asked to stop meanwhile.
            Garbled, Untrusted: what speaks there is not Qdrant, or may not be.
        """
        reply = self.open(method, path, body, until=until)
        return self.whole(reply)

    def open(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        until: float | None = None,
    ) -> Reply:
        """Ask once, as `once` does, and return when the answer begins; the caller reads and closes it."""
        payload = None if body is None else msgspec.json.encode(body)
        line = self._dial()
        try:
            with self._breaking():
                connection = self._begin(line, method, path, payload, self._headers(payload) | dict(headers or {}))
                return self._reply(line, connection, until)
        except BaseException:
            line.hang_up()
            raise

    def pour(
        self, method: str, path: str, pieces: Iterable[bytes | memoryview], headers: Mapping[str, str], until: float
    ) -> Reply:
        """Ask once, with a body that is sent piece by piece, and return when the answer begins.

        `headers` tell its kind and length. Once an answer begins no further piece is asked for. What `pieces` raises
        breaks the connection and passes through. The first word of the answer is waited for until then (monotonic).
        Raises what `once` does.
        """
        line = self._dial()
        try:
            with self._breaking():
                connection = self._begin(line, method, path, None, self._headers(None) | dict(headers))
            for piece in pieces:
                self.check()
                with self._breaking():
                    if not line.offer(piece):
                        break
            with self._breaking():
                return self._reply(line, connection, until)
        except BaseException:
            line.hang_up()
            raise

    def whole(self, reply: Reply) -> Answer:
        """All of an answer that has begun, and the end of its connection. Raises what `once` does."""
        try:
            with self._breaking():
                return reply.whole(_LARGEST_ANSWER)
        finally:
            reply.close()

    def check(self) -> None:
        """Go on only while it is wanted.

        Raises:
            TryLater: it was asked to stop.
        """
        if why := self.halted():
            raise TryLater(f"given up while waiting for {self.address.url}: {why}")

    def rest(self, seconds: float) -> None:
        """Wait, but not longer than anybody wants the work done.

        Raises:
            TryLater: it was asked to stop.
        """
        until = time.monotonic() + seconds
        self.check()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, SLICE))
            self.check()

    def _dial(self) -> Line:
        url = self.address.url
        try:
            return dial(self._host, self._port, self._tls, self.address.silence, self.check)
        except ssl.SSLCertVerificationError as error:
            raise Untrusted(
                f"{url} cannot be trusted: {error.verify_message}",
                "Set engine.ca_file to the authority of its certificate (PEM), or mend the certificate.",
            ) from error
        except (OSError, ValueError) as error:
            hint = "Does the server speak TLS at all?" if isinstance(error, ssl.SSLError) else "Does the server run?"
            raise Away(f"{url} cannot be reached: {words(error)}", f"{hint} Is engine.url right?") from error

    def _begin(
        self, line: Line, method: str, path: str, payload: bytes | None, headers: Mapping[str, str]
    ) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self._host, self._port)
        connection.sock = line
        connection.request(method, self._base + path, payload, headers)
        return connection

    def _reply(self, line: Line, connection: http.client.HTTPConnection, until: float | None) -> Reply:
        if until is not None:
            line.expect(until)
        reply = Reply(line, connection.getresponse(), self.address.key)
        self._readable(reply)
        return reply

    @contextmanager
    def _breaking(self) -> Iterator[None]:
        """Say in our own words what a connection broke of."""
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error

    def _headers(self, payload: bytes | None) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity", "Connection": "close", "User-Agent": "snapward"}
        if self.address.key:
            headers["api-key"] = self.address.key
        if payload is not None:
            headers["Content-Type"] = "application/json"
        return headers

    def _readable(self, reply: Reply) -> None:
        coding = reply.headers.get("Content-Encoding", "identity").lower()
        if coding not in {"identity", ""}:
            raise Garbled(
                f"{self.address.url} sends its answers compressed ({coding[:20]}) although it was asked not to",
                "Something between here and the server does that: it must leave Accept-Encoding alone.",
            )

    def _lost(self, error: Exception) -> Lost:
        return Lost(f"{self.address.url} broke off: {words(error)}", "Look at the server's log.")


@functools.cache
def _context(ca_file: str | None) -> ssl.SSLContext:
    """Read the certificates once, however many connections there are."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        why = getattr(error, "reason", None) or error.strerror or error
        raise BadConfig(f"engine.ca_file {ca_file} cannot be used: {why}", "It has to be PEM.") from error
