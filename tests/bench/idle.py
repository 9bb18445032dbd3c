"""What the agent takes while nothing happens, beside monit."""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from figures import Figure, below, mebibytes, per_second, percent, ratio
from measure import ENVIRONMENT
from msgspec import Struct
from stage import Home, thousand

from agent.adapters import ledger
from agent.adapters.ledger import runs

_SETTLED = 8.0  # files come to rest within two seconds; whatever follows a start is over by then
_MONIT = """\
set daemon 30
set pidfile {0}/monit.pid
set idfile {0}/monit.id
set statefile {0}/monit.state
set httpd unixsocket {0}/monit.socket
  allow monit:monit
check system here
  if memory usage > 99% then alert
check filesystem root with path /
  if space usage > 99% then alert
check directory primary with path {0}/primary
  if timestamp > 100 days then alert
check file ledger with path {0}/state/ledger.db
  if size > 10 GB then alert
"""


class Use(Struct, frozen=True):
    """What a process has used so far: bytes resident now, and processor seconds and voluntary waits of its threads."""

    resident: float = 0.0
    cpu: float = 0.0
    waits: float = 0.0


def idle(home: Home, window: float) -> Iterator[Figure]:
    """An agent in its second life that knows a thousand archives, beside monit with four checks.

    Both are looked at in the same `window` of seconds.
    """
    thousand(home)
    with _process(home.command("run"), home.folder / "first.log"):
        _until(lambda: home.known() == 1000, "the verdicts on a thousand archives")
    began = time.time()
    with ExitStack() as stack:
        ours = stack.enter_context(_process(home.command("run"), home.folder / "second.log"))
        _until(lambda: _pulse(home) >= began, "the agent's first pulse")
        theirs = stack.enter_context(_monit(home.folder)) if shutil.which("monit") else None
        time.sleep(_SETTLED)
        before = _use(ours), _use(theirs)
        time.sleep(window)
        after = _use(ours), _use(theirs)
    absent = "" if theirs else "no monit here"
    cpu, waits = (
        ((after[0].cpu - before[0].cpu) / window, (after[1].cpu - before[1].cpu) / window),
        ((after[0].waits - before[0].waits) / window, (after[1].waits - before[1].waits) / window),
    )
    resident = after[0].resident, after[1].resident
    yield below("idle, 1,000 archives known: resident", [resident], mebibytes, 32 * 2**20, absent=absent)
    yield below("idle: share of one core", [cpu], percent, 0.001, absent=absent)
    if theirs:
        yield ratio("idle: wake-ups", [waits], per_second)
    else:
        yield Figure("idle: wake-ups", per_second(waits[0]), absent)


@contextmanager
def _process(argv: Sequence[str], log: Path) -> "Iterator[subprocess.Popen[bytes]]":
    with log.open("wb") as file:
        process = subprocess.Popen(argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextmanager
def _monit(folder: Path) -> "Iterator[subprocess.Popen[bytes]]":
    control = folder / "monitrc"
    control.write_text(_MONIT.format(folder), encoding="utf-8")
    control.chmod(0o600)
    with _process(["monit", "-I", "-c", str(control)], folder / "monit.log") as process:
        _until((folder / "monit.state").exists, "monit's first round")
        yield process


def _use(process: "subprocess.Popen[bytes] | None") -> Use:
    if process is None:
        return Use()
    if process.poll() is not None:
        raise RuntimeError(f"{process.args} ended with {process.returncode}")
    here = Path(f"/proc/{process.pid}")
    threads = list((here / "task").iterdir())
    cpu = sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9
    waits = sum(_field(one / "status", "voluntary_ctxt_switches") for one in threads)
    return Use(_field(here / "status", "VmRSS") * 1024.0, cpu, waits)


def _field(status: Path, name: str) -> int:
    for line in status.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0])
    raise RuntimeError(f"{status} has no {name}")


def _pulse(home: Home) -> float:
    with closing(ledger.connect_reader(str(home.state))) as db:
        pulse = runs.pulses(db).get("agent")
    return pulse.at if pulse else 0.0


def _until(seen: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not seen():
        if time.monotonic() > end:
            raise RuntimeError(f"{what} did not come within a minute")
        time.sleep(0.1)
