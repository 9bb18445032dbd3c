"""Run programs and see what they take: wall clock and processor time, ours and theirs in turns."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from msgspec import Struct

# What an operator has: bytecode is cached, and no configuration but the one that is named.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in {"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "SNAPWARD_CONFIG", "NOTIFY_SOCKET"}
}
_INSTALLED = Path(sys.executable).with_name("snapward")
SNAPWARD = [str(_INSTALLED)] if _INSTALLED.exists() else [sys.executable, "-m", "agent"]

# Above this share of all processors, what other programs do is felt in what is measured.
_CALM = 0.1


class Cost(Struct, frozen=True):
    """What one run took, in seconds; `cpu` is user and system time, children included.

    `written` is what it gave to disks, in bytes.
    """

    wall: float
    cpu: float
    written: int = 0


def run(argv: Sequence[str], *, cwd: Path | None = None, codes: frozenset[int] = frozenset({0})) -> Cost:
    """Run a program to its end, its output thrown away.

    Raises:
        RuntimeError: it ended with an exit code that is not in `codes`; what was measured is worth nothing then.
    """
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            argv, cwd=cwd, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in codes:
            said.seek(0)
            words = said.read().decode(errors="replace")
            raise RuntimeError(f"{' '.join(argv)} ended with {process.returncode}: {words}")
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_oublock * 512)


def peak(argv: Sequence[str]) -> int:
    """Run a program to its end; returns the most memory that it had at a time, in bytes, its children left out.

    The kernel's own figure for a child, ru_maxrss, counts ours too: what a process had before exec stays in it.
    """
    process = subprocess.Popen(argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    most, pause = 0, threading.Event()
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
            most = max([most, *(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))])
        pause.wait(0.005)
    if process.wait():
        raise RuntimeError(f"{' '.join(argv)} ended with {process.returncode}")
    return most


def interleaved(
    rounds: int, ours: Callable[[], Cost], theirs: Callable[[], Cost], before: Callable[[], None] = lambda: None
) -> list[tuple[Cost, Cost]]:
    """Measure both in turns, after one round that does not count; who is first changes every round.

    `before` is called ahead of each run. Where other programs are at work, up to three times as many rounds are made,
    and those in which they took least count; which these are is not decided by what was measured.
    """
    pairs: list[tuple[float, Cost, Cost]] = []
    for number in range(1 + 3 * rounds):
        cost, others = {}, 0.0
        for one in (ours, theirs) if number % 2 else (theirs, ours):
            before()
            began, busy = time.perf_counter(), _busy()
            cost[one] = one()
            passed = (time.perf_counter() - began) * (os.cpu_count() or 1)
            others = max(others, (_busy() - busy - cost[one].cpu) / passed)
        if number:
            pairs.append((others, cost[ours], cost[theirs]))
        calm = sorted(pairs, key=lambda one: one[0])[:rounds]
        if len(calm) == rounds and calm[-1][0] < _CALM:
            break
    else:
        print(f" others took up to {calm[-1][0]:.0%} of the processors meanwhile;", end="", flush=True)
    return [(mine, other) for _, mine, other in calm]


def _busy() -> float:
    """Seconds of processor that all programs have used since the machine was started."""
    used = psutil.cpu_times()
    return float(sum(used) - used.idle - used.iowait - used.guest - used.guest_nice)


def read_into_cache(files: Sequence[Path]) -> None:
    """Read files, so that no run is held up by the disk: ours drops what it has read from the page cache."""
    buffer = bytearray(1 << 20)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
