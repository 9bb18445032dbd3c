import socket
import ssl
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme
from msgspec import structs
from parrot import Parrot, open_sockets, reset, said
from standin import StandIn

from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.reply import refusal, result
from agent.adapters.qdrant.trouble import Absent, Away, Busy, Garbled, Lost, Untrusted
from agent.adapters.qdrant.wire import Wire
from agent.errors import AgentError, BadConfig, CannotWrite, NoRights, Refused, TryLater, Unreachable

KEY = "k3y-that-nobody-may-see"
GOOD = said(200, b'{"result": [1, 2], "status": "ok", "time": 0.1}')


@pytest.fixture(autouse=True)
def no_socket_is_left() -> Iterator[None]:
    before = open_sockets()
    yield
    assert open_sockets() <= before


def wire(
    url: str, *, patience: float = 0.0, silence: float = 5.0, halted: Callable[[], str] = str, **more: Any
) -> Wire:
    return Wire(Address(url, patience=patience, silence=silence, **more), halted)


def after(seconds: float) -> Callable[[], str]:
    """Somebody who loses interest so many seconds from now."""
    until = time.monotonic() + seconds
    return lambda: "it was asked to stop" if time.monotonic() > until else ""


def numbers(one: Wire) -> list[int]:
    return one.ask("GET", "/numbers", list[int])


# The ways to a server.


def test_a_good_answer_is_what_it_promises_and_the_question_what_a_server_expects() -> None:
    with Parrot(GOOD) as parrot:
        assert numbers(wire(parrot.url, key=KEY)) == [1, 2]
        request = parrot.heard[0].decode()
    host = parrot.url.removeprefix("http://")
    assert request.startswith("GET /numbers HTTP/1.1\r\n")
    lines = request.lower().split("\r\n")
    assert {f"host: {host}", f"api-key: {KEY}", "accept-encoding: identity", "connection: close"} <= set(lines)


@pytest.mark.parametrize(
    ("base", "path"),
    [("", "/numbers"), ("/", "/numbers"), ("/a/b%20c/", "/a/b%20c/numbers"), ("/ä b", "/%C3%A4%20b/numbers")],
)
def test_a_server_below_a_path_is_asked_there(base: str, path: str) -> None:
    with Parrot(GOOD) as parrot:
        numbers(wire(parrot.url + base))
        assert parrot.heard[0].startswith(f"GET {path} HTTP/1.1\r\n".encode())


def test_a_server_with_an_ipv6_address_is_reached() -> None:
    try:
        parrot = Parrot(GOOD, host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with parrot:
        assert numbers(wire(parrot.url)) == [1, 2]
        assert f"Host: {parrot.url.removeprefix('http://')}\r\n".encode() in parrot.heard[0]


def test_of_a_hosts_addresses_the_one_that_answers_is_used() -> None:
    with Parrot(GOOD) as parrot:  # listens on 127.0.0.1 only, and localhost may be ::1 first
        assert numbers(wire(parrot.url.replace("127.0.0.1", "localhost"))) == [1, 2]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9", "http://a..b:6333", f"http://{'x' * 70}.invalid", "http://[::1]:9"]
)
def test_a_server_that_is_not_there_is_away(url: str) -> None:
    with pytest.raises(Away, match="cannot be reached") as caught:
        numbers(wire(url))
    assert url in caught.value.message
    assert "engine.url" in caught.value.hint


def test_an_answer_that_ends_with_its_length_needs_no_end_of_the_connection() -> None:
    with Parrot(GOOD, hold=True) as parrot:
        began = time.monotonic()
        assert numbers(wire(parrot.url)) == [1, 2]
        assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "answer",
    [
        said(200, b'{"result": [1, 2]}', length=False),
        said(200, b'{"result": [1, 2]}', "Content-Length: -5", length=False),
        said(200, b'12\r\n{"result": [1, 2]}\r\n0\r\n\r\n', "Transfer-Encoding: chunked", length=False),
        said(200, b'5\r\n{"res\r\nd;x=y\r\nult": [1, 2]}\r\n0\r\n\r\n', "Transfer-Encoding: chunked", length=False),
        b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD,
        GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_an_answer_may_come_in_any_way_that_http_knows(answer: bytes) -> None:
    with Parrot(answer) as parrot:
        assert numbers(wire(parrot.url)) == [1, 2]


# TLS.


def context(authority: trustme.CA, *names: str, **how: Any) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **how).configure_cert(made)
    return made


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def test_a_server_is_trusted_by_its_own_authority(authority: trustme.CA, ca_file: str) -> None:
    with Parrot(GOOD, tls=context(authority, "127.0.0.1")) as parrot:
        assert numbers(wire(parrot.url, ca_file=ca_file)) == [1, 2]


def test_a_standin_speaks_tls_as_well(authority: trustme.CA, ca_file: str, tmp_path: Path) -> None:
    with StandIn(tmp_path / "server", tls=context(authority, "127.0.0.1")) as server:
        got = wire(server.url, ca_file=ca_file).ask("GET", "/collections", dict[str, list[Any]])
    assert got == {"collections": []}


def test_a_certificate_that_proves_nothing_is_told_at_once_with_what_to_do(
    authority: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    old = context(authority, "127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    cases = [
        (context(authority, "127.0.0.1"), str(stranger), "unable to get local issuer certificate"),
        (context(authority, "127.0.0.1"), None, "unable to get local issuer certificate"),
        (context(authority, "another.example"), ca_file, "127.0.0.1"),
        (old, ca_file, "expired"),
    ]
    for tls, trusted, why in cases:
        with Parrot(GOOD, tls=tls) as parrot, pytest.raises(Untrusted, match=why) as caught:
            numbers(wire(parrot.url, ca_file=trusted, patience=60))
        assert "engine.ca_file" in caught.value.hint
        assert len(parrot.heard) == 0


def test_http_where_tls_is_meant_and_the_other_way_round_is_told(authority: trustme.CA, ca_file: str) -> None:
    with Parrot(said(400), deaf=True, hold=True) as parrot, pytest.raises(Away, match="TLS fails") as caught:
        numbers(wire(parrot.url.replace("http", "https"), ca_file=ca_file))
    assert "speak TLS" in caught.value.hint
    with (
        Parrot(GOOD, tls=context(authority, "127.0.0.1")) as parrot,
        pytest.raises(Lost, match=r"not HTTP|without an answer|reset"),
    ):
        numbers(wire(parrot.url.replace("https", "http")))


@pytest.mark.parametrize("content", [None, "", "no certificate\n"])
def test_certificates_that_cannot_be_used_are_a_mistake_of_the_configuration(
    content: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadConfig, match=f"{path} cannot be used: "):
        wire("https://127.0.0.1:9", ca_file=str(path))


# The key.


def test_an_address_does_not_print_its_key() -> None:
    address = Address("http://a:1", KEY, ca_file="/x")
    shown = repr(address) + str(address) + repr(list(address.__rich_repr__())) + f"{address}"
    assert KEY not in shown
    assert repr(address) == "Address(url='http://a:1', key='***', patience=120.0, silence=60.0, ca_file='/x')"
    assert "key=''" in repr(structs.replace(address, key=""))
    assert address == Address("http://a:1", KEY, ca_file="/x") != Address("http://a:1", "other", ca_file="/x")


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY}\r\nX: y", f"{KEY}é", f"{KEY}\0", f"{KEY}\u2028"])
def test_a_key_that_no_header_can_carry_is_told_without_showing_it(key: str) -> None:
    with pytest.raises(BadConfig, match=r"engine\.api_key") as caught:
        Wire(Address("http://127.0.0.1:9", key))
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "answer",
    [
        said(401, f"wrong key {KEY}".encode()),
        said(400, f'{{"status": {{"error": "you said {KEY}"}}}}'.encode()),
        said(200, f"<pre>api-key: {KEY}</pre>".encode()),
        said(200, f'{{"result": "{KEY}"}}'.encode()),
        b"",
        f"{KEY}\r\n\r\n".encode(),
        f"HTTP/1.1 200 OK\r\n{KEY}\r\n\r\n".encode(),
        said(502, (KEY * 9000).encode()),
    ],
)
def test_whatever_a_server_says_the_key_is_in_no_message(answer: bytes) -> None:
    with Parrot(answer) as parrot, pytest.raises(AgentError) as caught:
        numbers(wire(parrot.url, key=KEY))
    assert KEY not in f"{caught.value.message} {caught.value.hint} {caught.value!r}"


# Answers that are none.


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>It works!</body></html>",
        b'{"result": [1',
        b"null",
        b"[]",
        b"5",
        b'{"status": "ok"}',
        b'{"result": {"1": 2}}',
        b'{"result": ["one"]}',
        b'{"result": [1.5]}',
        b'{"result": null}',
        b'{"result": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"result": [' + b"9" * 5000 + b"]}",
        b'{"result": ["\xff\xfe"]}',
        b"\x1f\x8b\x08 compressed",
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_no_answer_of_qdrant_is_told_as_such(body: bytes) -> None:
    with (
        Parrot(said(200, body)) as parrot,
        pytest.raises(Garbled, match="GET /numbers: the answer is not Qdrant's") as caught,
    ):
        numbers(wire(parrot.url))
    assert "engine.url" in caught.value.hint
    assert len(caught.value.message) < 600


def test_what_it_says_instead_is_shown_on_one_line_without_what_a_terminal_obeys() -> None:
    body = b"<html>\r\n<h1>Nice\x1b[2J\x07 try</h1>\r\n<p>\xe2\x80\xaeok</p>"
    with Parrot(said(404, body)) as parrot, pytest.raises(Absent) as caught:
        numbers(wire(parrot.url))
    assert caught.value.message == "GET /numbers: the server answers 404: Nice[2J try ok"


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    def endless(connection: socket.socket) -> None:
        connection.sendall(said(200, b"", "Content-Length: 10000000000", length=False))
        zeros = bytes(1 << 20)
        while True:
            connection.sendall(zeros)
            sent.append(len(zeros))

    sent: list[int] = []
    with Parrot(endless) as parrot, pytest.raises(Garbled, match="more than 64 MiB"):
        numbers(wire(parrot.url))
    assert sum(sent) < 100 << 20


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "closed the connection without an answer"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "not HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not HTTP"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000, "no proper HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 2000, "no proper HTTP"),
        (GOOD[:-5], "ends early"),
        (said(200, b"ffff\r\n{}", "Transfer-Encoding: chunked", length=False), "ends early"),
        (said(200, b"zz\r\n{}", "Transfer-Encoding: chunked", length=False), "ends early"),
        (
            said(200, b"-5\r\n{}" + bytes(100_000), "Transfer-Encoding: chunked", length=False),
            "no proper HTTP|ends early",
        ),
        (reset, "reset|without an answer"),
    ],
)
def test_an_answer_that_breaks_off_is_lost_and_says_how(answer: Any, why: str) -> None:
    with Parrot(answer) as parrot, pytest.raises(Lost, match=f"{parrot.url} broke off: .*({why})"):
        numbers(wire(parrot.url))


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip"])
def test_a_proxy_that_compresses_is_told(coding: str) -> None:
    with (
        Parrot(said(200, b"\x1f\x8b", f"Content-Encoding: {coding}")) as parrot,
        pytest.raises(Garbled, match="compressed") as caught,
    ):
        numbers(wire(parrot.url))
    assert "Accept-Encoding" in caught.value.hint


@pytest.mark.parametrize(
    ("header", "clock", "pause"),
    [
        ("Date: Mon, 23 Nov 2026 05:56:29 GMT", 1795413389.0, None),
        ("Date: Mon, 23 Nov 2026 05:56:29 -0000", 1795413389.0, None),
        ("Date: tomorrow", None, None),
        ("Date: Mon, 23 Nov 99999999 05:56:29 GMT", None, None),
        ("Date: Mon, 23 Nov 2026 05:56:29 +99999999999", None, None),
        ("Date:", None, None),
        ("Retry-After: 7", None, 7.0),
        ("Retry-After: 0", None, 0.0),
        ("Retry-After: -3", None, None),
        ("Retry-After: 1e9", None, None),
        ("Retry-After: inf", None, None),
        ("Retry-After: nan", None, None),
        ("Retry-After: ٣", None, None),
        ("Retry-After: soon", None, None),
        ("Date: Mon, 23 Nov 2026 05:56:29 GMT\r\nRetry-After: Mon, 23 Nov 2026 05:57:00 GMT", 1795413389.0, 31.0),
        ("Date: Mon, 23 Nov 2026 05:56:29 GMT\r\nRetry-After: Mon, 23 Nov 2026 05:56:00 GMT", 1795413389.0, 0.0),
        (f"Retry-After: {formatdate(0, usegmt=True)}", None, 0.0),
    ],
)
def test_headers_say_what_time_it_is_and_when_to_come_back_or_nothing(
    header: str, clock: float | None, pause: float | None
) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + header.encode() + b"\r\nContent-Length: 2\r\n\r\n{}"
    with Parrot(answer) as parrot:
        got = wire(parrot.url).once("GET", "/")
    assert (got.status, got.body, got.clock, got.retry_after) == (200, b"{}", clock, pause)


OWN = '{{"status": {{"error": "{}"}}, "time": 0.0}}'
REFUSALS: list[tuple[int, str, type[AgentError]]] = [
    (401, "Must provide an API key or an Authorization bearer token", NoRights),
    (403, OWN.format("Forbidden: Global access is required"), NoRights),
    (400, OWN.format("Wrong input: no"), Refused),
    (404, OWN.format("Not found: Collection `x` doesn't exist!"), Absent),
    (409, OWN.format("already exists"), Refused),
    (422, OWN.format("Validation error"), Refused),
    (301, "<html>moved", Refused),
    (429, OWN.format("Rate limiting exceeded"), Busy),
    (500, OWN.format("Service internal error: the optimiser is at work"), Busy),
    (500, OWN.format("Service internal error: No space left on device (os error 28)"), CannotWrite),
    (500, OWN.format("Service internal error: Disk quota exceeded (os error 122)"), CannotWrite),
    (500, OWN.format("Service internal error: Permission denied (os error 13)"), Unreachable),
    (500, OWN.format("Service internal error: Read-only file system (os error 30)"), Unreachable),
    (507, OWN.format("Insufficient storage: quota"), CannotWrite),
    (502, "<html><title>502 Bad Gateway</title>", Busy),
    (503, OWN.format("Shard unavailable"), Busy),
    (504, "<html><title>504 Gateway Time-out</title>", Busy),
    (501, "", Unreachable),
]


@pytest.mark.parametrize(("status", "body", "kind"), REFUSALS)
def test_each_refusal_is_of_the_kind_that_says_what_to_do(status: int, body: str, kind: type[AgentError]) -> None:
    with Parrot(said(status, body.encode())) as parrot:
        got = wire(parrot.url).once("GET", "/x")
    assert got.own == body.startswith("{")
    error = refusal(got, "GET /x")
    assert type(error) is kind
    assert error.message.startswith(f"GET /x: the server answers {status}: ")
    assert "<" not in error.message
    assert "{" not in error.message
    with pytest.raises(kind):
        result(got, "GET /x", dict)


# Asking again.


@pytest.mark.parametrize(
    "trouble", [b"", reset, said(503, b"starting"), said(429, b"{}", "Retry-After: 0"), said(500, b"busy")]
)
def test_a_trouble_that_passes_is_borne(trouble: Any) -> None:
    with Parrot(trouble, GOOD) as parrot:
        assert numbers(wire(parrot.url, patience=10)) == [1, 2]
    assert len(parrot.heard) == 2


@pytest.mark.parametrize(
    "trouble",
    [said(403, b"no"), said(400, b"no"), said(507, b"full"), said(200, b"<html>"), said(500, b"No space left")],
)
def test_a_trouble_that_stays_is_told_at_once(trouble: bytes) -> None:
    with Parrot(trouble) as parrot, pytest.raises(AgentError):
        numbers(wire(parrot.url, patience=60))
    assert len(parrot.heard) == 1


def test_a_server_that_restarts_is_waited_for(tmp_path: Path) -> None:
    with StandIn(tmp_path / "server") as server:
        server.restart(down_for=0.2)
        assert wire(server.url, patience=10).ask("GET", "/collections", dict[str, list[Any]]) == {"collections": []}


def test_patience_has_an_end() -> None:
    began = time.monotonic()
    with pytest.raises(Away):
        numbers(wire("http://127.0.0.1:9", patience=0.4))
    assert 0.2 < time.monotonic() - began < 3


def test_a_pause_that_is_longer_than_patience_is_not_made() -> None:
    with (
        Parrot(said(429, b"slow down", "Retry-After: 3600")) as parrot,
        pytest.raises(Busy, match="slow down") as caught,
    ):
        numbers(wire(parrot.url, patience=30))
    assert caught.value.wait == 3600.0


def test_a_pause_that_a_server_asks_for_is_made() -> None:
    with Parrot(said(503, b"", "Retry-After: 1"), GOOD) as parrot:
        began = time.monotonic()
        assert numbers(wire(parrot.url, patience=30)) == [1, 2]
    assert time.monotonic() - began >= 1


def test_a_question_that_takes_its_time_may_be_answered_later_than_silence_allows() -> None:
    def slowly(connection: socket.socket) -> None:
        assert connection.recv(100) == b""  # nothing is said until the other side has given up, or 0.4 s have passed

    def late(connection: socket.socket) -> None:
        connection.settimeout(0.4)
        with suppress(TimeoutError):
            connection.recv(100)
        connection.sendall(GOOD)

    with Parrot(late) as parrot:
        assert wire(parrot.url, silence=0.2).ask("POST", "/count", list[int], {"exact": True}, takes=20) == [1, 2]
    with Parrot(slowly) as parrot, pytest.raises(Lost, match="stays silent"):
        numbers(wire(parrot.url, silence=0.2))


def test_silence_in_the_middle_of_an_answer_is_not_borne_for_long() -> None:
    for cut in (5, 30, len(GOOD) - 3):
        began = time.monotonic()
        with Parrot(GOOD[:cut], hold=True) as parrot, pytest.raises(Lost, match="stays silent"):
            wire(parrot.url, silence=0.2).once("GET", "/", until=time.monotonic() + 60)
        assert time.monotonic() - began < 3


# Stopping.


@pytest.mark.parametrize("cut", [0, 5, 30, len(GOOD) - 3])
def test_who_is_asked_to_stop_stops_at_any_moment_of_an_answer(cut: int) -> None:
    began = time.monotonic()
    with Parrot(GOOD[:cut], hold=True) as parrot, pytest.raises(TryLater, match=r"given up .*asked to stop") as caught:
        numbers(wire(parrot.url, silence=60, patience=60, halted=after(0.1)))
    assert not isinstance(caught.value, Lost)
    assert time.monotonic() - began < 2


def test_who_is_asked_to_stop_stops_between_two_attempts() -> None:
    began = time.monotonic()
    with Parrot(said(429, b"", "Retry-After: 30")) as parrot, pytest.raises(TryLater, match="asked to stop"):
        numbers(wire(parrot.url, patience=60, halted=after(0.1)))
    assert time.monotonic() - began < 2


def test_who_is_asked_to_stop_stops_while_tls_begins(ca_file: str) -> None:
    with Parrot(b"", deaf=True, hold=True) as parrot, pytest.raises(TryLater, match="asked to stop"):
        numbers(wire(parrot.url.replace("http", "https"), ca_file=ca_file, halted=after(0.1)))


def test_who_is_asked_to_stop_stops_while_nobody_takes_the_connection() -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # what the system takes in without the listener; what follows waits
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        with pytest.raises(TryLater, match="asked to stop"):
            numbers(wire(f"http://127.0.0.1:{listener.getsockname()[1]}", halted=after(0.1)))


def test_who_is_asked_to_stop_stops_while_nobody_reads_the_question() -> None:
    body = {"query": [0.123456789] * 2_000_000}
    with Parrot(b"", deaf=True, hold=True) as parrot:
        with pytest.raises(TryLater, match="asked to stop"):
            wire(parrot.url, silence=60, halted=after(0.1)).ask("POST", "/query", list[int], body)
        with pytest.raises(Lost, match="stays silent"):
            wire(parrot.url, silence=0.2).ask("POST", "/query", list[int], body)


def test_nothing_is_asked_of_a_server_that_is_away_once_it_is_over() -> None:
    with pytest.raises(TryLater, match="asked to stop"):
        numbers(wire("http://127.0.0.1:9", patience=60, halted=lambda: "it was asked to stop"))
