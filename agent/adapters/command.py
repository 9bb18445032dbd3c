"""Run a site's own program, keep the end of what it prints, and stop it at its deadline."""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from agent.errors import BadConfig, NoRights

_TAIL = 16 << 10
_GRACE = 10.0


class Finished(Struct, frozen=True):
    """How a program ended: its exit code (negative: the signal), and the last 16 KiB of both its outputs."""

    exit_code: int
    output: str
    seconds: float
    timed_out: bool = False
    stopped: bool = False


def run(
    argv: Sequence[str],
    environment: Mapping[str, str],
    deadline: float,
    stopping: Callable[[], bool] = lambda: False,
) -> Finished:
    """Run `argv` in a session of its own, with `environment` added to ours, for at most `deadline` seconds.

    At the deadline, or when `stopping` says so, its whole process group gets SIGTERM, and SIGKILL 10 s later.

    Raises:
        BadConfig: there is no such program.
        NoRights: it may not be run, or not be ended.
    """
    began = time.monotonic()
    try:
        process = subprocess.Popen(
            list(argv),
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise BadConfig(f"there is no program {argv[0]}", "Mend engine.argv in the configuration.") from error
    except OSError as error:
        raise NoRights(f"{argv[0]} cannot be run: {error.strerror}", "Is it executable for the agent?") from error
    timed_out, stopped, tail = _attend(process, began + deadline, stopping)
    text = bytes(tail).decode("utf-8", "replace")
    return Finished(process.returncode, text, time.monotonic() - began, timed_out, stopped)


def _attend(
    process: "subprocess.Popen[bytes]", until: float, stopping: Callable[[], bool]
) -> tuple[bool, bool, bytearray]:
    tail = bytearray()
    timed_out = stopped = False
    kill_at: float | None = None
    assert process.stdout is not None  # noqa: S101 - Popen was given a pipe
    with process.stdout, selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        while not _over(process, ready, told=kill_at is not None):
            if ready.select(0.25 if ready.get_map() else 0.05):
                data = os.read(process.stdout.fileno(), 65536)
                tail += data
                del tail[:-_TAIL]
                if not data:
                    ready.unregister(process.stdout)
            now = time.monotonic()
            if kill_at is None and (now >= until or stopping()):
                timed_out, stopped = now >= until, now < until
                kill_at = now + _GRACE
                _signal(process, signal.SIGTERM)
            elif kill_at is not None and now >= kill_at:
                _signal(process, signal.SIGKILL)
                break
    process.wait()
    return timed_out, stopped, tail


def _over(process: "subprocess.Popen[bytes]", ready: selectors.BaseSelector, *, told: bool) -> bool:
    """Whether it ended and all is read; what it left running is waited for only once all were told to end."""
    if process.poll() is None or (ready.get_map() and ready.select(0)):
        return False
    return not told or not _anybody(process.pid)


def _anybody(group: int) -> bool:
    """Whether a process of the group still runs; what has ended and is only not collected yet does not count."""
    for number in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{number}/stat", "rb") as file:
            state, _, its_group = file.read().rpartition(b") ")[2].split()[:3]
            if int(its_group) == group and state not in {b"Z", b"X"}:
                return True
    return False


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise NoRights(
            f"process {process.pid} cannot be ended: it runs as another user",
            "Let the whole agent run as that user instead of calling the program through sudo.",
        ) from error
