"""Real servers on loopback for the services that messages are sent to, as fixtures of every test."""

import email.message
import email.policy
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


class Mailbox:
    """An SMTP server with STARTTLS and login. It is down until `start`, and may be stopped and started again."""

    user = "agent"
    password = "p@ss/w0rd"

    def __init__(self, context: ssl.SSLContext) -> None:
        self.mails: list[email.message.EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.refused: set[str] = set()
        self.answer = "250 taken"
        self._context = context
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port = free.getsockname()[1]
        self._controller: Controller | None = None

    def url(self, to: str = "ops@example.org", password: str = "") -> str:
        login = f"{self.user}:{password or quote(self.password, safe='')}"
        return f"mailtos://{login}@localhost:{self.port}/?from=agent@example.org&to={to}"

    def start(self) -> None:
        self._controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            tls_context=self._context,
            require_starttls=True,
            auth_required=True,
            authenticator=self._login,
        )
        self._controller.start()

    def stop(self) -> None:
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def _login(self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, data: object) -> AuthResult:
        asked = isinstance(data, LoginPassword) and (data.login.decode(), data.password.decode())
        return AuthResult(success=asked == (self.user, self.password), handled=False)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.refused:
            return "550 5.1.1 nobody of this name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - the same
        if self.answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
            self.recipients.append(envelope.rcpt_tos)
        return self.answer


class Sink:
    """An HTTP server that keeps the JSON it is sent and answers with `status`, or with nothing while it `hangs`."""

    def __init__(self) -> None:
        self.status, self.body = 200, b"ok"
        self.hangs = False
        self.arrived: list[dict[str, object]] = []
        self.paths: list[str] = []
        self.released = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.port = self.server.server_port

    def url(self, path: str = "alerts") -> str:
        return f"json://127.0.0.1:{self.port}/{path}"

    def handler(self) -> type[BaseHTTPRequestHandler]:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.paths.append(self.path)
                sink.arrived.append(json.loads(body))
                if sink.hangs:
                    sink.released.wait(30)
                    self.close_connection = True
                    return
                self.send_response(sink.status)
                self.send_header("Content-Length", str(len(sink.body)))
                self.end_headers()
                self.wfile.write(sink.body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class Slack(Sink):
    """hooks.slack.com, behind a proxy that lets nothing else through and that only HTTPS_PROXY leads to."""

    token = "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def url(self, path: str = "") -> str:
        return f"slack://{self.token}/{path}"

    def handler(self) -> type[BaseHTTPRequestHandler]:
        inside, context = super().handler(), self._context

        class Proxy(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                if self.path != "hooks.slack.com:443":
                    self.send_error(403)
                    return
                self.send_response(200)
                self.end_headers()
                with closing(context.wrap_socket(self.connection, server_side=True)) as tls:
                    inside(tls, self.client_address, self.server)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        return Proxy


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that nobody trusts yet."""
    return trustme.CA()


@pytest.fixture
def smtp_server(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """A running mail server whose authority is trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", _written(authority, tmp_path))
    mailbox = Mailbox(_context(authority, "localhost"))
    mailbox.start()
    yield mailbox
    mailbox.stop()


@pytest.fixture
def slack_server(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slack]:
    """A running Slack whose authority is trusted, and the way to it."""
    slack = Slack(_context(authority, "hooks.slack.com"))
    for name in ("https_proxy", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{slack.port}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", _written(authority, tmp_path))
    with _serving(slack):
        yield slack


@pytest.fixture
def http_sink() -> Iterator[Sink]:
    """A running HTTP server for json:// targets."""
    sink = Sink()
    with _serving(sink):
        yield sink


@contextmanager
def _serving(sink: Sink) -> Iterator[None]:
    thread = threading.Thread(target=sink.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        sink.released.set()
        sink.server.shutdown()
        sink.server.server_close()
        thread.join()


def _context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def _written(authority: trustme.CA, folder: Path) -> str:
    path = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)
