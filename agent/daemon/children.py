"""Heavy work runs as a child process: the very command an operator would type."""

import logging
import os
import signal
import subprocess

from msgspec import Struct

from agent.files import itself

log = logging.getLogger(__name__)

_GRACE = 30.0


class Child(Struct):
    """One child process: the job it does, its deadline and the end of the patience after that (monotonic)."""

    job: str
    process: "subprocess.Popen[bytes]"
    until: float
    asked: float | None = None


class Ended(Struct, frozen=True):
    """A child that is over; a negative exit code is the signal that ended it."""

    job: str
    pid: int
    exit_code: int


class Children:
    """The children under way. Jobs of one `lane` run one at a time, in the order in which they were asked for."""

    def __init__(self, config: str) -> None:
        self._config = config
        self._under_way: dict[str, Child] = {}
        self._queue: list[tuple[str, str, list[str], float]] = []

    def request(self, lane: str, job: str, argv: list[str], deadline: float) -> bool:
        """Ask for a job; False if this very job is under way or queued already. `deadline` is in seconds."""
        if self.busy(job):
            return False
        self._queue.append((lane, job, argv, deadline))
        return True

    def busy(self, job: str) -> bool:
        """Whether a job is under way or queued."""
        return any(one.job == job for one in self._under_way.values()) or any(one[1] == job for one in self._queue)

    def names(self) -> list[str]:
        """The jobs that are under way."""
        return [one.job for one in self._under_way.values()]

    def start_waiting(self, now: float) -> None:
        """Start what waits for a lane that is free."""
        for one in list(self._queue):
            lane, job, argv, deadline = one
            if lane not in self._under_way:
                self._queue.remove(one)
                self._under_way[lane] = Child(job, self._spawn(argv), now + deadline)

    def reap(self, now: float) -> list[Ended]:
        """Collect children that are over, and end those whose deadline has passed."""
        ended = []
        for lane, child in list(self._under_way.items()):
            code = child.process.poll()
            if code is not None:
                del self._under_way[lane]
                ended.append(Ended(child.job, child.process.pid, code))
            elif now >= child.until and child.asked is None:
                log.warning("%s has passed its deadline and is asked to end", child.job)
                child.asked = now
                child.process.terminate()
            elif child.asked is not None and now >= child.asked + _GRACE:
                child.process.kill()
        return ended

    def next_at(self) -> float | None:
        """When a deadline passes next (monotonic)."""
        times = [one.until if one.asked is None else one.asked + _GRACE for one in self._under_way.values()]
        return min(times, default=None)

    def stop(self, patience: float) -> None:
        """Ask every child to finish the step in hand, and end those that have not after `patience` seconds."""
        self._queue.clear()
        for child in self._under_way.values():
            child.process.terminate()
        for child in self._under_way.values():
            try:
                child.process.wait(patience)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        self._under_way.clear()

    def kill(self) -> None:
        """End every child now."""
        for child in self._under_way.values():
            child.process.send_signal(signal.SIGKILL)

    def _spawn(self, argv: list[str]) -> "subprocess.Popen[bytes]":
        # The daemon's own environment names systemd's socket; a child that spoke there would speak for us.
        command = itself("agent", "--config", self._config, *argv)
        environment = {k: v for k, v in os.environ.items() if k not in {"NOTIFY_SOCKET", "WATCHDOG_USEC"}}
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)
