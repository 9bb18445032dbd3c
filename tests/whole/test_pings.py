"""What a watcher outside hears: a real HTTP server on loopback, and a real agent with real backups."""

import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
from program import Program, until

from agent.adapters import edge

NIGHTLY = '{daily: {cron: "0 2 * * *", keep: 30d}}'
EVERY_SECOND = '{daily: {cron: "* * * * * *", keep: 30d}}'


class Heard(NamedTuple):
    """One ping."""

    path: str
    rid: str
    body: str


class Watcher:
    """Notes every ping; answers with `code` and `words`."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.code, self.words = 200, b"OK"
        watcher = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                parts = urlsplit(self.path)
                watcher.heard.append(Heard(parts.path, parse_qs(parts.query).get("rid", [""])[0], body))
                self.send_response(watcher.code)
                self.end_headers()
                self.wfile.write(watcher.words)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def of(self, check: str) -> list[Heard]:
        """What was heard about one check."""
        return [one for one in self.heard if one.path.split("/")[1] == check]

    def signals(self, check: str) -> list[str]:
        """Only what stood behind the check."""
        return [one.path.removeprefix(f"/{check}") for one in self.of(check)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    made = Watcher()
    yield made
    made.close()


def configured(program: Program, watcher: Watcher, tiers: str = NIGHTLY, engine: str = "", more: str = "") -> None:
    jobs = f"backup:daily: {watcher.url}/daily-4711, report: {watcher.url}/report-4711"
    text = f"pings: {{agent: {watcher.url}/agent-4711, every: 10s, jobs: {{{jobs}}}}}\n{more}"
    program.write(tiers=tiers, more=text, **({"engine": engine} if engine else {}))


def texts(program: Program) -> str:
    """All that the agent wrote anywhere."""
    found = [path.read_bytes().decode("utf-8", "replace") for path in program.state.rglob("*") if path.is_file()]
    return "".join(found) + program.lines()


def test_a_scheduled_backup_is_told_when_it_begins_and_once_it_is_proved(program: Program, watcher: Watcher) -> None:
    edge.build_sample(str(program.home / "qdrant"), "articles", 300, 16)
    configured(program, watcher, EVERY_SECOND)
    with program.agent():
        until(lambda: "" in watcher.signals("daily-4711"), 30, "the success")
        first = next(one for one in watcher.of("daily-4711") if one.path == "/daily-4711")
        told = [one.path for one in watcher.of("daily-4711") if one.rid == first.rid]
        assert told == ["/daily-4711/start", "/daily-4711"]
        assert "1 collection written" in first.body
        backup = first.body.split()[1].rstrip(":")
        rows = program.query(f"SELECT state FROM archive WHERE folder = 'daily/{backup}'")
        assert rows == [("good",)] * 2, "it was told before it was proved"
        until(lambda: watcher.of("agent-4711"), what="a sign of life")
    assert len({one.rid for one in watcher.of("daily-4711") if one.path.endswith("/start")}) == len(
        [one for one in watcher.of("daily-4711") if one.path.endswith("/start")]
    ), "no start is told twice"
    assert "4711" not in texts(program)


def test_a_backup_that_fails_is_told_with_its_exit_code(program: Program, watcher: Watcher) -> None:
    script = program.home / "backup.sh"
    script.write_text("#!/bin/sh\necho no space >&2\nexit 7\n")
    script.chmod(0o755)
    configured(program, watcher, EVERY_SECOND, engine=f"{{kind: command, argv: [{script}]}}")
    with program.agent():
        until(lambda: "/7" in watcher.signals("daily-4711"), what="the failure")
    first, second = watcher.of("daily-4711")[:2]
    assert [one.path for one in (first, second)] == ["/daily-4711/start", "/daily-4711/7"]
    assert first.rid == second.rid
    assert "exit code 7" in second.body


def test_what_a_watcher_missed_while_it_was_away_is_told_when_it_is_back(program: Program, watcher: Watcher) -> None:
    configured(program, watcher)
    watcher.code = 503
    program.run("report", "send", expect=1)
    program.run("ping")
    assert set(watcher.signals("report-4711")) == {"/start"}
    assert program.query("SELECT tries FROM ping") == [(1,)]
    assert program.query("SELECT rule, subject FROM incident WHERE resolved IS NULL") == [("ping_failing", "report")]
    watcher.heard.clear()
    watcher.code = 200
    program.run("ping")
    assert watcher.heard == [], "it is too early to try again"
    with sqlite3.connect(program.state / "ledger.db") as db:
        db.execute("UPDATE ping SET next_try = 0")
    program.run("ping")
    assert watcher.signals("report-4711") == ["/start", ""]
    assert program.query("SELECT rule FROM incident WHERE resolved IS NULL") == []
    program.run("ping")
    assert len(watcher.heard) == 2, "nothing is told twice"


def test_an_agent_that_is_killed_forgets_nothing_that_was_to_be_told(program: Program, watcher: Watcher) -> None:
    edge.build_sample(str(program.home / "qdrant"), "articles", 20, 4)
    configured(program, watcher, EVERY_SECOND)
    watcher.code = 503
    with program.agent() as process:
        until(lambda: program.query("SELECT 1 FROM run WHERE outcome = 'ok'"), what="a backup")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = {row[0] for row in program.query("SELECT id FROM run WHERE outcome = 'ok'")}
    with sqlite3.connect(program.state / "ledger.db") as db:
        db.execute("UPDATE ping SET next_try = 0")
    watcher.heard.clear()
    watcher.code = 200
    configured(program, watcher)
    with program.agent():
        until(lambda: len(watcher.signals("daily-4711")) >= 2 * len(before), what="what was missed")
    assert set(watcher.signals("daily-4711")) <= {"/start", "", "/fail"}
    assert watcher.signals("daily-4711")[:2] == ["/start", ""]


def test_an_agent_that_ended_gives_no_sign_of_life(program: Program, watcher: Watcher) -> None:
    configured(program, watcher)
    with program.agent():
        until(lambda: watcher.of("agent-4711"), what="a sign of life")
    heard = len(watcher.of("agent-4711"))
    assert "parts work" in watcher.of("agent-4711")[0].body
    program.run("status", expect=None)
    program.run("ping")
    assert len(watcher.of("agent-4711")) == heard
