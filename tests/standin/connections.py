"""Connections and requests: who is connected, what is asked, what goes back."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from standin import download, routes, spoilt, upload
from standin.answers import Answer, Dropped, Refused, error, plain
from standin.keys import Access
from standin.request import Request
from standin.route import Match

if TYPE_CHECKING:
    from standin.server import StandIn

KEEP_ALIVE = 5.0  # seconds without a request, after which the server ends the connection


class Seen(msgspec.Struct):
    """A request as it was seen; `status` is 0 as long as, or because, no answer went back."""

    method: str
    path: str
    headers: dict[str, str]
    operation: str
    collection: str
    at: float
    status: int = 0


class Listener:
    """One life of the server, from its birth to its death."""

    def __init__(self, standin: "StandIn", port: int) -> None:
        self.standin = standin
        self.dying = threading.Event()
        self._lock = threading.Lock()
        self._live: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", port), self)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def welcome(self, connection: socket.socket) -> None:
        """Remember a connection, which has to end when the server does."""
        with self._lock:
            self._live.add(connection)
            if self.dying.is_set():
                cut(connection)

    def forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._live.discard(connection)

    def die(self) -> None:
        """Listen no more and end every connection."""
        self._server.shutdown()
        self._thread.join()
        self._server.socket.close()
        with self._lock:
            self.dying.set()
            for connection in self._live:
                cut(connection)
        self.standin.faults.release()

    def join(self) -> None:
        """Wait for the last thread."""
        self._server.server_close()


def cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], listener: Listener) -> None:
        self.listener = listener
        super().__init__(address, _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        context = self.listener.standin.tls
        if context is None:
            self._converse(request, client_address)
            return
        with context.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as secret:
            self._converse(secret, client_address)

    def _converse(self, connection: socket.socket, client_address: Any) -> None:
        self.listener.welcome(connection)
        try:
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            super().finish_request(connection, client_address)
        except (OSError, Dropped):
            pass  # the client went away, or is left alone
        except Exception as wrong:  # noqa: BLE001 - told where the stand-in ends, not lost with this thread
            self.listener.standin.failures.append(wrong)
        finally:
            self.listener.forget(connection)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def log_message(self, *_: object) -> None:
        pass

    def handle_one_request(self) -> None:
        self.connection.settimeout(KEEP_ALIVE)
        super().handle_one_request()

    def _serve(self) -> None:
        self.connection.settimeout(None)
        standin = self.server.listener.standin
        url = urlsplit(self.path)
        segments = tuple(unquote(part) for part in url.path.split("/") if part)
        headers = {name.lower(): value for name, value in self.headers.items()}
        if segments[:1] == ("__standin",):
            body = b"".join(upload.body(self.rfile, headers))
            self._send(spoilt.control(standin, self.command, segments[1:], body))
            return
        match = routes.find(self.command, segments)
        operation, collection = (match.route.operation, match.collection) if match else ("unknown", "")
        seen = Seen(self.command, self.path, headers, operation, collection, time.time())
        standin.requests.append(seen)
        request = Request(headers, dict(parse_qsl(url.query)), b"", time.perf_counter())
        if operation == "upload":
            self._upload(standin, match, request, seen)
        else:
            body = b"".join(upload.body(self.rfile, headers))
            self._answer(standin, match, msgspec.structs.replace(request, body=body), seen)

    def _upload(self, standin: "StandIn", match: Match | None, request: Request, seen: Seen) -> None:
        """Take the archive to disk, unless the key forbids it: the real server then reads nothing either."""
        access = standin.keys.access(seen.headers)
        if isinstance(access, Answer) or not access.manages:
            self.close_connection = True
            self._answer(standin, match, request, seen)
            return
        wrong = spoilt.instead(standin, "upload", seen.collection, self.server.listener.dying)
        if wrong is not None:
            self.close_connection = True
            self._send(wrong, seen)
            return
        spool = standin.snapshots.draft()
        try:
            wrongs = standin.faults.take("upload", seen.collection, "drop")
            upload.receive(upload.body(self.rfile, seen.headers), spool, wrongs)
            self._perform(standin, match, msgspec.structs.replace(request, spool=spool), seen)
        finally:
            spool.unlink(missing_ok=True)

    def _answer(self, standin: "StandIn", match: Match | None, request: Request, seen: Seen) -> None:
        wrong = spoilt.instead(standin, seen.operation, seen.collection, self.server.listener.dying)
        if wrong is None:
            self._perform(standin, match, request, seen)
        else:
            self._send(wrong, seen)

    def _perform(self, standin: "StandIn", match: Match | None, request: Request, seen: Seen) -> None:
        access = standin.keys.access(seen.headers)
        if isinstance(access, Answer):
            if match is None or match.route.need != "open":
                self._send(access, seen)
                return
            access = Access()
        if match is None:
            self._send(Answer(404), seen)
            return
        request = msgspec.structs.replace(request, access=access)
        if seen.operation == "download":
            self._download(standin, match, request, seen)
            return
        wrongs = standin.faults.take(seen.operation, seen.collection, *routes.KINDS)
        answer = routes.perform(standin, match, msgspec.structs.replace(request, faults=wrongs))
        self._send(spoilt.afterwards(wrongs["lost"]) if "lost" in wrongs else answer, seen)

    def _download(self, standin: "StandIn", match: Match, request: Request, seen: Seen) -> None:
        try:
            routes.allow(match, request)
            path = standin.snapshots.find(standin.store.get(match.collection).name, match.name)
        except Refused as refused:
            in_json = refused.status == 422
            self._send(error(422, refused.text) if in_json else plain(refused.status, refused.text), seen)
            return
        wrongs = standin.faults.take("download", match.collection, *download.KINDS)
        with path.open("rb") as file:
            answer = download.prepare(file, seen.headers, wrongs)
            seen.status = answer.status
            download.send(answer, file, self.connection, standin.faults, self.server.listener.dying)

    def _send(self, answer: Answer, seen: Seen | None = None) -> None:
        if seen is not None:
            seen.status = answer.status
        self.connection.sendall(answer.wire())
