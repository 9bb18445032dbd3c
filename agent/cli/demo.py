"""`snapward demo`: everything the agent does, on an embedded Qdrant, in a scratch folder, without a network."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import click

from agent.adapters import edge, ledger
from agent.adapters.ledger import catalogue, drills, incidents, outbox
from agent.adapters.ledger.drills import Drill
from agent.cli import text
from agent.errors import AgentError, Refused
from agent.files import itself
from agent.jobs import overview
from agent.jobs.overview import Backup
from agent.rules.archive import FAITHFUL, Stream
from agent.rules.words import count, size, span

T = TypeVar("T")

_COLLECTIONS = {"articles": (3000, 128), "products": (2000, 64)}
_PATIENCE = 40.0
_LOG = "agent.log in the demo's folder says why."

_CONFIG = """\
# The configuration of the demo. `snapward config example` prints one for a server.
state_dir: {home}/state
engine: {{kind: edge, path: {home}/qdrant}}
locations:
  primary: {{path: {home}/primary}}
  secondary: {{path: {home}/secondary}}
tiers:
  daily: {{cron: "*/5 * * * * *", keep: 30d}}   # six fields: every five seconds
watch: {{settle: 1s, scan_every: 5s}}
alerts: {{group_wait: 0s}}
notify:
  targets:
    terminal: {{url: "console://"}}
"""


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave the agent running and keep the folder.")
@click.option("--folder", type=click.Path(), help="Where; else a new folder below the system's temporary one.")
def demo_(folder: str | None, *, keep: bool) -> int:
    """Show all of it in under a minute: a backup is made, proved, rehearsed, damaged, told about, mended, reported."""
    began = time.monotonic()
    home = os.path.abspath(folder) if folder else tempfile.mkdtemp(prefix="snapward-demo-")
    for name in ("qdrant", "primary", "secondary"):
        os.makedirs(os.path.join(home, name))
    config = os.path.join(home, "snapward.yaml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(_CONFIG.format(home=home))
    _step("An embedded Qdrant with two collections")
    for name, (points, dimensions) in _COLLECTIONS.items():
        edge.build_sample(os.path.join(home, "qdrant"), name, points, dimensions)
        text.say(f"  {name}: {points:,} points of {dimensions} dimensions")
    _step("The agent starts: a backup every five seconds, into two locations")
    text.say(text.dim(f"  snapward --config {config} run"))
    with _agent(config, keep=keep) as process:
        with contextlib.closing(_ledger(home, process)) as db:
            _story(db, home, process)
        report = _report(config)
        text.say(f"\nThe week's report: {text.bold(report)}")
        passed = span(time.monotonic() - began)
        text.say(f"{text.state('ok')}  all of this took {passed}")
    if keep:
        text.say(f"\nThe agent goes on as process {process.pid}: snapward --config {config} status")
        text.say(text.dim(f"End it with: kill {process.pid}"))
    else:
        text.say(text.dim(f"The agent has ended; everything is still in {home}"))
    return 0


def _story(db: sqlite3.Connection, home: str, process: "subprocess.Popen[bytes]") -> None:
    backup = _until("a proved backup", process, lambda: _proved(db))
    number = sum(len(backup.collections) for _ in backup.locations)
    text.say(f"  backup {text.bold(backup.id)} arrived in {' and '.join(backup.locations)}")
    for one in backup.collections:
        saved = f", {1 - one.size / one.raw_size:.0%} smaller than the snapshot" if one.raw_size else ""
        text.say(f"    {one.name}: {one.points:,} points, {size(one.size)}{saved}")
    text.say(f"  {text.state('ok')}  {count(number, 'archive')} read back: {backup.collections[0].why}")

    _step("Its restore is rehearsed: unpacked, opened, counted, asked, compared")
    backup = _until("a rehearsed backup", process, lambda: _rehearsed(db))
    for drill in drills.between(db, 0, float("inf")):
        if drill.backup == backup.id:
            text.say(f"    {drill.collection}: {_figures(drill)}")
    text.say(f"  {text.state('ok')}  backup {backup.id} is proved {text.bold(FAITHFUL)}: it would restore as it was")

    _step("One byte of one archive is changed")
    where = os.path.join(home, "primary", backup.locations["primary"].path)
    path = os.path.join(where, backup.collections[0].file)
    offset = os.stat(path).st_size // 2
    before = _swap(path, offset, None)
    subject = f"primary:{backup.locations['primary'].path}/{backup.collections[0].file}"
    text.say(f"  {path}, byte {offset:,}")
    changed = time.monotonic()
    _until("the alert", process, lambda: _told(db, subject, "opened"))
    text.say(f"  {text.state('critical')}  found, and told, {span(time.monotonic() - changed)} after the change")

    _step("The byte is put back")
    mended = time.monotonic()
    _swap(path, offset, before)
    _until("the end of the incident", process, lambda: _told(db, subject, "resolved"))
    text.say(f"  {text.state('ok')}  proved again, and told, after {span(time.monotonic() - mended)}")


def _proved(db: sqlite3.Connection) -> Backup | None:
    """The newest backup that is good, with every archive inflated to its end, in both locations."""
    for one in overview.backups(db):
        copies = one.locations.values()
        if len(copies) == 2 and all(copy.state == "good" for copy in copies) and _all_read(db, one):
            return one
    return None


def _rehearsed(db: sqlite3.Connection) -> Backup | None:
    """The newest backup of which every copy is faithful."""
    for one in overview.backups(db):
        if len(one.locations) == 2 and all(copy.level == FAITHFUL for copy in one.locations.values()):
            return one
    return None


def _figures(one: Drill) -> str:
    same, compared = one.evidence.get("same", 0), one.evidence.get("compared", 0)
    told = [f"{one.points or 0:,} points counted"]
    told += [f"{one.matched} of {one.asked} recorded questions answered alike"] if one.asked else []
    told += [f"{same:,} of {compared:,} points as they were"] if compared else []
    return f"{', '.join(told)}, in {span(one.seconds)} by {one.engine}"


def _all_read(db: sqlite3.Connection, backup: Backup) -> bool:
    archives = [one for name, copy in backup.locations.items() for one in catalogue.archives(db, name, copy.path)]
    return all(one.reading is not None and one.reading.stream is Stream.COMPLETE for one in archives)


def _told(db: sqlite3.Connection, subject: str, change: str) -> bool:
    """Whether the terminal was told of a change of the incident about a subject."""
    ours = [one.id for one in incidents.recent(db, 50) if one.subject == subject]
    return any(
        news.incident.id in ours and news.change == change
        for notice in outbox.between(db, 0, float("inf"))
        if notice.state == "delivered"
        for news in outbox.news(db, notice.id)
    )


def _swap(path: str, offset: int, byte: int | None) -> int:
    """Change one byte of a file in place; returns the one that was there."""
    with open(path, "r+b") as file:
        file.seek(offset)
        before = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([before ^ 1 if byte is None else byte]))
    return before


@contextlib.contextmanager
def _agent(config: str, *, keep: bool) -> "Iterator[subprocess.Popen[bytes]]":
    log = open(os.path.join(os.path.dirname(config), "agent.log"), "wb")  # noqa: SIM115 - the child keeps it
    with log:
        process = subprocess.Popen(
            itself("agent", "--config", config, "run"),
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=keep,
        )
    try:
        yield process
    except BaseException:
        process.kill()
        raise
    if not keep:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _ledger(home: str, process: "subprocess.Popen[bytes]") -> sqlite3.Connection:
    def opened() -> sqlite3.Connection | None:
        with contextlib.suppress(AgentError, sqlite3.Error):
            return ledger.connect_reader(os.path.join(home, "state"))
        return None

    return _until("the agent's ledger", process, opened)


def _until(what: str, process: "subprocess.Popen[bytes]", seen: Callable[[], T | None]) -> T:
    """Wait until `seen` sees something true.

    Raises:
        Refused: the agent ended, or it did not come in time.
    """
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        found = seen()
        if found:
            return found
        if process.poll() is not None:
            raise Refused(f"the agent ended with {process.returncode} before {what}", _LOG)
        time.sleep(0.05)
    raise Refused(f"{what} did not come within {span(_PATIENCE)}", _LOG)


def _report(config: str) -> str:
    """Render the report of the week that is running, as an operator would."""
    done = subprocess.run(
        itself("agent", "--config", config, "report", "render", "--week", "current"),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Refused(f"the report was not rendered: {done.stderr.strip()}")
    return done.stdout.strip().splitlines()[-1]


def _step(words: str) -> None:
    text.say(f"\n{text.bold(words)}")
