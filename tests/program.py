"""Runs snapward as people do: as a process, with a configuration of its own, in a folder of its own."""

import contextlib
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

ENVIRONMENT = {
    k: v
    for k, v in os.environ.items()
    if k not in {"SNAPWARD_CONFIG", "NOTIFY_SOCKET", "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"}
}
COMMAND = [sys.executable, "-m", "agent"]


def until(seen: Callable[[], T], seconds: float = 20.0, what: str = "it") -> T:
    """Wait for a condition, and fail with its name when it does not come."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        found = seen()
        if found:
            return found
        assert time.monotonic() < end, f"{what} did not come within {seconds:g} s"
        pause.wait(0.02)


class Program:
    """One installation: a folder with a configuration, two locations and a state folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config = home / "config.yaml"
        self.primary = home / "primary"
        self.secondary = home / "secondary"
        self.state = home / "state"
        self.log = home / "agent.log"
        self.environment = dict(ENVIRONMENT)
        for folder in (self.primary, self.secondary, home / "qdrant"):
            folder.mkdir(parents=True)

    def write(
        self,
        *,
        engine: str = "{kind: edge, path: qdrant}",
        tiers: str = '{daily: {cron: "0 2 * * *", keep: 30d}}',
        settle: str = "200ms",
        scan_every: str = "60s",
        targets: str = "{}",
        alerts: str = "{group_wait: 0s}",
        more: str = "",
        secondary: bool = True,
    ) -> None:
        """Write the configuration; everything not named is as small and quick as tests like it.

        No drill follows a backup, unless `more` says so.
        """
        if "drills:" not in more:
            more += "drills: {after_backup: 0s}\n"
        second = "\n  secondary: {path: secondary}" if secondary else ""
        self.config.write_text(
            f"state_dir: state\ntimezone: UTC\nengine: {engine}\n"
            f"locations:\n  primary: {{path: primary}}{second}\n"
            f"tiers: {tiers}\nwatch: {{settle: {settle}, scan_every: {scan_every}}}\n"
            f"alerts: {alerts}\nnotify: {{targets: {targets}}}\n{more}",
            encoding="utf-8",
        )

    def run(self, *arguments: str, expect: int | None = 0, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        done = subprocess.run(
            [*COMMAND, "--config", str(self.config), *arguments],
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=timeout,
            check=False,
        )
        if expect is not None:
            assert done.returncode == expect, f"{arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done

    def json(self, *arguments: str, expect: int | None = 0) -> Any:
        """The JSON answer of one command; nothing else may be on standard output."""
        return json.loads(self.run(*arguments, "--json", expect=expect).stdout)

    @contextlib.contextmanager
    def agent(self, *arguments: str) -> "Iterator[subprocess.Popen[bytes]]":
        """The daemon, ready; ended politely after the block unless the block ended it."""
        process = self.start(*arguments)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start the daemon and wait until it has looked at every location that it can look at."""
        began = time.time()
        process = self.spawn(*arguments)
        until(lambda: process.poll() is not None or self._pulse() >= began, 30, "the agent's first pulse")
        return process

    def spawn(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start the daemon and wait for nothing; it leads a process group, to which all its children belong."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*COMMAND, "--config", str(self.config), *arguments, "run"],
                stdout=log,
                stderr=log,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                process_group=0,
            )

    def _pulse(self) -> float:
        with contextlib.suppress(sqlite3.Error):
            row = self.query("SELECT at FROM pulse WHERE part = 'agent'")
            return row[0][0] if row else 0.0
        return 0.0

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the ledger."""
        path = self.state / "ledger.db"
        if not path.exists():
            return []
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            return db.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []  # it is being built at this moment
            raise
        finally:
            db.close()

    def states(self) -> dict[str, str]:
        """Verdict by location:folder/name."""
        rows = self.query("SELECT location, folder, name, state FROM archive")
        return {f"{a}:{b}/{c}" if b else f"{a}:{c}": state for a, b, c, state in rows}

    def open_incidents(self) -> dict[tuple[str, str], str]:
        """What is open: (rule, subject) and why."""
        rows = self.query("SELECT rule, subject, why FROM incident WHERE resolved IS NULL AND opened IS NOT NULL")
        return {(rule, subject): why for rule, subject, why in rows}

    def lines(self) -> str:
        """The daemon's log."""
        return self.log.read_text(encoding="utf-8", errors="replace")


def archive(folder: Path, name: str, data: bytes | None = None, *, promise: bool = True) -> Path:
    """A loose archive, put in place by one rename, with its checksum file first."""
    folder.mkdir(parents=True, exist_ok=True)
    content = os.urandom(4096) if data is None else data
    if promise:
        (folder / f"{name}.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  {name}\n", encoding="ascii")
    part = folder / f".{name}.part"
    part.write_bytes(content)
    part.rename(folder / name)
    return folder / name


def flip(path: Path, offset: int) -> None:
    """Change one byte in place; a second call puts it back."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x20]))
