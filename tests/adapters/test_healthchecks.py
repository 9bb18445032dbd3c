"""Pings over real HTTP and TLS, to servers on loopback that refuse, stall, lie and come back."""

import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from agent.adapters.healthchecks import TRIES, send
from agent.rules.pings import Ping

SECRET = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"


class Watcher:
    """Answers with what is next in `answers`, the last of them for ever; None says nothing at all."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: list[tuple[int, bytes] | None] = [(200, b"OK")]
        self.heard: list[tuple[str, str, bytes]] = []
        self.headers: dict[str, str] = {}
        self.release = threading.Event()
        watcher = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                watcher.heard.append((self.command, self.path, body))
                watcher.headers = dict(self.headers)
                answers = watcher.answers
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if answer is None:
                    watcher.release.wait(10)
                    return
                self.send_response(answer[0])
                if 300 <= answer[0] < 400:
                    self.send_header("Location", f"{watcher.url}/elsewhere")
                self.end_headers()
                self.wfile.write(answer[1])

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"{'https' if tls else 'http'}://localhost:{self._server.server_port}"

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    made = Watcher()
    yield made
    made.close()


@pytest.fixture
def waited() -> list[float]:
    return []


def test_a_ping_is_one_small_post(watcher: Watcher, waited: list[float]) -> None:
    said = "3 collections written: Bücher".encode()
    assert send(Ping(f"{watcher.url}/{SECRET}/7?rid=1", said), waited.append) == ""
    assert watcher.heard == [("POST", f"/{SECRET}/7?rid=1", said)]
    assert watcher.headers["User-Agent"].startswith("snapward/")
    assert waited == []


@pytest.mark.parametrize("code", [500, 503, 429, 408])
def test_what_may_pass_is_tried_again_with_a_pause_that_grows(watcher: Watcher, waited: list[float], code: int) -> None:
    watcher.answers = [(code, b""), (code, b""), (200, b"OK")]
    assert send(Ping(f"{watcher.url}/{SECRET}"), waited.append) == ""
    assert waited == [1.0, 2.0]
    assert len(watcher.heard) == 3


def test_a_watcher_that_stays_down_is_given_up_and_named_by_its_answer(watcher: Watcher, waited: list[float]) -> None:
    watcher.answers = [(503, b"")]
    why = send(Ping(f"{watcher.url}/{SECRET}"), waited.append)
    assert why == "the watcher answered 503 Service Unavailable, 3 times"
    assert len(watcher.heard) == TRIES


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, b""), "404 Not Found"),
        ((409, b""), "409 Conflict"),
        ((400, b""), "400 Bad Request"),
        ((200, b"OK (not found)"), "has no such check"),
        ((302, b""), "302 Found"),
        ((307, b""), "307"),
    ],
)
def test_what_will_not_pass_is_asked_once(
    watcher: Watcher, waited: list[float], answer: tuple[int, bytes], words: str
) -> None:
    watcher.answers = [answer]
    assert words in send(Ping(f"{watcher.url}/{SECRET}"), waited.append)
    assert len(watcher.heard) == 1


def test_a_ping_that_is_thrown_away_does_not_count(watcher: Watcher, waited: list[float]) -> None:
    watcher.answers = [(200, b"OK (rate limited)"), (200, b"OK")]
    assert send(Ping(f"{watcher.url}/{SECRET}"), waited.append) == ""
    assert len(watcher.heard) == 2


def test_a_watcher_that_says_nothing_is_not_waited_for(watcher: Watcher, waited: list[float]) -> None:
    watcher.answers = [None]
    why = send(Ping(f"{watcher.url}/{SECRET}"), waited.append, timeout=0.1)
    assert why == "the watcher did not answer in time, 3 times"


def test_a_watcher_that_is_not_there_is_told_without_its_address(waited: list[float]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert send(Ping(f"http://127.0.0.1:{port}/{SECRET}"), waited.append) == "connection refused, 3 times"


@pytest.mark.parametrize(
    "url",
    [
        "",
        f"/{SECRET}",
        f"mailto:{SECRET}@example.org",
        f"file:///{SECRET}",
        f"http://[{SECRET}",
        f"http://localhost:{SECRET}/",
        f"http://localhost:1/{SECRET} x\n",
        f"http://{'a' * 70}.invalid/{SECRET}",
        f"http:///{SECRET}",
    ],
)
def test_no_address_is_so_broken_that_it_raises_and_none_is_repeated(url: str, waited: list[float]) -> None:
    why = send(Ping(url), waited.append, timeout=0.2)
    assert why
    assert SECRET not in why


def test_an_answer_that_is_none_is_told(waited: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def babble() -> None:
            for _ in range(TRIES):
                with server.accept()[0] as line:
                    line.recv(65536)
                    line.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        why = send(Ping(f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}", b"x"), waited.append)
        thread.join()
    assert why == "the answer could not be read: BadStatusLine, 3 times"


def test_a_certificate_is_checked(tmp_path: Path, waited: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    watcher = Watcher(context)
    try:
        why = send(Ping(f"{watcher.url}/{SECRET}"), waited.append)
        assert why.startswith("its certificate is not to be trusted: ")
        assert watcher.heard == []
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert send(Ping(f"{watcher.url}/{SECRET}"), waited.append) == ""
        assert len(watcher.heard) == 1
    finally:
        watcher.close()


def test_the_proxy_of_the_environment_is_used(
    watcher: Watcher, waited: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", watcher.url)
    assert send(Ping(f"http://hc.example.invalid/{SECRET}"), waited.append) == ""
    assert watcher.heard == [("POST", f"http://hc.example.invalid/{SECRET}", b"")]
