"""A connection on which nothing waits for longer than it is wanted."""

import errno
import io
import os
import select
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

# Seconds for a connection to come about, TLS and all, unless silence is borne for less.
CONNECT = 10.0
# Who waits asks so often whether to go on, in seconds.
SLICE = 0.2
_ALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))


class Line:
    """A connection in place of a socket, as far as `http.client` uses one.

    Args:
        sock: not connected yet; it belongs to this line from now on.
        silence: seconds that the other side may let pass before it says, or takes, a byte.
        check: raises when nobody waits any more; asked a few times a second.
    """

    def __init__(self, sock: socket.socket, silence: float, check: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._silence = silence
        self._check = check
        self._first: float | None = None
        self._early = b""
        self.file: io.BufferedReader = io.BufferedReader(_Incoming(self._receive))

    def join(self, address: Any, host: str, tls: ssl.SSLContext | None) -> None:
        """Connect to `address`, which has to prove that it is `host` where TLS is spoken.

        Raises:
            OSError: it does not answer, or not as it has to.
        """
        until = time.monotonic() + min(CONNECT, self._silence)
        code = self._sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            self._wait(select.POLLOUT, until)
            code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _ALIVE:
            self._sock.setsockopt(socket.IPPROTO_TCP, option, value)
        if tls is not None:
            self._sock = encrypted = tls.wrap_socket(self._sock, server_hostname=host, do_handshake_on_connect=False)
            self._patiently(encrypted.do_handshake, select.POLLIN, until)

    def expect(self, until: float) -> None:
        """Wait for the next byte until then (monotonic), however long the silence."""
        self._first = until

    def sendall(self, data: Any) -> None:
        """Send it all, or raise."""
        rest = memoryview(data).cast("B")
        while rest:
            until = time.monotonic() + self._silence
            rest = rest[self._patiently(partial(self._sock.send, rest), select.POLLOUT, until) :]

    def offer(self, data: Any) -> bool:
        """Send it all, unless an answer comes meanwhile, or nobody takes it any more; returns whether it was sent.

        Who refuses what comes says so at once and hangs up: what was said can be read all the same.
        """
        rest = memoryview(data).cast("B")
        until = time.monotonic() + self._silence
        while rest and not self._spoken():
            try:
                rest = rest[self._sock.send(rest) :]
                until = time.monotonic() + self._silence
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                self._wait(select.POLLIN | select.POLLOUT, until)
            except OSError:
                return False
        return not rest

    def makefile(self, *_how: object) -> io.BufferedReader:
        """What comes in."""
        return self.file

    def close(self) -> None:
        """Do nothing: `http.client` lets go of a connection before the answer was read."""

    def hang_up(self) -> None:
        """Let go of the connection."""
        self._sock.close()

    def _spoken(self) -> bool:
        """Whether the other side has said something, or has hung up."""
        try:
            self._early = self._early or self._sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            pass
        return True

    def _receive(self, buffer: Any) -> int:
        if self._early:
            buffer[:1], self._early = self._early, b""
            return 1
        until = self._first or time.monotonic() + self._silence
        got = self._patiently(partial(self._sock.recv_into, buffer), select.POLLIN, until)
        self._first = None
        return got

    def _patiently(self, action: Callable[[], T], events: int, until: float) -> T:
        while True:
            try:
                return action()
            except BlockingIOError:
                self._wait(events, until)
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, until)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT, until)

    def _wait(self, events: int, until: float) -> None:
        poll = select.poll()
        poll.register(self._sock, events)
        while not poll.poll(1000 * max(0.0, min(SLICE, until - time.monotonic()))):
            self._check()
            if time.monotonic() >= until:
                raise TimeoutError


class _Incoming(io.RawIOBase):
    def __init__(self, receive: Callable[[Any], int]) -> None:
        self._receive = receive

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._receive(buffer)


def dial(host: str, port: int, tls: ssl.SSLContext | None, silence: float, check: Callable[[], None]) -> Line:
    """Connect to whichever address of a host answers first in the resolver's order.

    Raises:
        OSError: none does, or its certificate is not trusted.
        ValueError: there can be no such host.
    """
    trouble: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        line = None
        try:
            line = Line(socket.socket(family, kind, protocol), silence, check)
            line.join(address, host, tls)
        except BaseException as error:
            if line is not None:
                line.hang_up()
            if not isinstance(error, OSError) or isinstance(error, ssl.SSLError):
                raise
            trouble = trouble or error
        else:
            return line
    raise trouble or OSError(f"{host} has no address")
