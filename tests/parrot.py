"""Servers that say what they are told to, to the byte, and proxies that lose what others say."""

import contextlib
import http.client
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

Saying = bytes | Callable[[socket.socket], None]


def said(status: int, body: bytes = b"", *headers: str, length: bool = True) -> bytes:
    """A whole answer; with `length` it says how long its body is."""
    lines = [f"HTTP/1.1 {status} As Told", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def reset(connection: socket.socket) -> None:
    """End a connection as a crash does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Parrot:
    """Says to each connection in turn what it is told, the last to all that follow.

    Args:
        sayings: bytes, or what is to be done with the connection once the request was heard.
        hold: keep each connection open afterwards.
        deaf: do not wait for a request.
        host: to listen on.
        tls: context for HTTPS.
    """

    def __init__(
        self,
        *sayings: Saying,
        hold: bool = False,
        deaf: bool = False,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.heard: list[bytes] = []
        self._sayings, self._hold, self._deaf, self._tls = sayings, hold, deaf, tls
        self._over = threading.Event()
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
        self._threads = [threading.Thread(target=self._listen)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for one in self._threads:
            one.join()
        self._listener.close()

    def _listen(self) -> None:
        number = 0
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            saying = self._sayings[min(number, len(self._sayings) - 1)]
            number += 1
            self._threads.append(threading.Thread(target=self._speak, args=(connection, saying)))
            self._threads[-1].start()

    def _speak(self, connection: socket.socket, saying: Saying) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            spoken = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
            with spoken:
                if not self._deaf:
                    self.heard.append(_request(spoken))
                if isinstance(saying, bytes):
                    spoken.sendall(saying)
                else:
                    saying(spoken)
                if self._hold:
                    self._over.wait(10)


def _request(connection: socket.socket) -> bytes:
    text = b""
    while b"\r\n\r\n" not in text and (more := connection.recv(65536)):
        text += more
    return text


class Lossy:
    """A proxy that hands on every question; of answers to `method` it gives `instead` to the first `times`.

    `instead` is an answer of its own, or nothing: then it hangs up. It does so as soon as it has handed on the
    question, or with `late` once the answer has come.
    """

    def __init__(self, url: str, method: str, *instead: bytes, times: int = 1, late: bool = False) -> None:
        self.left = times
        at, lossy, waiting = urlsplit(url), self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with waiting:
                    loses = self.command == method and lossy.left > 0
                    lossy.left -= loses
                connection = http.client.HTTPConnection(at.netloc, timeout=30)
                try:
                    connection.request(self.command, self.path, body, dict(self.headers))
                    answer = None if loses and not late else connection.getresponse()
                    text = answer.read() if answer else b""
                    if loses or answer is None:
                        self.wfile.write(b"".join(instead))
                    else:
                        headers = [f"{name}: {value}" for name, value in answer.getheaders()]
                        self.wfile.write(said(answer.status, text, *headers, length=False))
                finally:
                    connection.close()
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((at.hostname or "", 0), Handler)
        self.url = f"http://{at.hostname}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def open_sockets() -> int:
    """How many sockets this process holds."""
    import os

    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
    return found
