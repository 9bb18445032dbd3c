"""Start the process that opens copies, listen to it, and say how it ended."""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable

from msgspec import DecodeError, json

from agent.adapters.edge.child import Line, Task
from agent.files import itself
from agent.rules.manifest import Probe
from agent.rules.rehearsed import Part
from agent.rules.words import printable, size, span

_TAIL = 16 << 10
_LISTEN = 0.1
_ALLOCATION = re.compile(r"memory allocation of (\d+) bytes failed")
_SYSTEM = re.compile(r"\bos error (\d+)|\bOs \{ code: (\d+)")
# What the system says when it is the machine that lacks something, and not the archive.
_MEMORY = frozenset({11, 12})  # no more threads, no more memory
_MACHINE = frozenset({1, 5, 13, 23, 24, 28, 30, 122})  # rights, a failing disk, too many open files, no space
_ROOM = 8 << 20


class Run:
    """What was heard of one process.

    Attributes:
        parts: what each copy showed so far, by its number in the task.
        done: those of which all is known.
        panicked: those over which the engine stumbled.
        probes: that it drew.
        engine: its name and version.
        ended: empty if it came to its end, else as in `agent.rules.rehearsed.Seen`.
        why: that in words.
        at: number of the copy that it was at.
        step: what it did then.
        peak: memory it took at the most beside the files that it mapped, bytes.
    """

    def __init__(self) -> None:
        self.parts: dict[int, Part] = {}
        self.done: set[int] = set()
        self.panicked: set[int] = set()
        self.probes: tuple[Probe, ...] = ()
        self.engine = self.ended = self.why = self.step = ""
        self.at = self.peak = 0

    def hear(self, data: bytes | bytearray) -> None:
        """Take one line of what it prints."""
        try:
            line = json.decode(data, type=Line)
        except DecodeError:
            return  # the engine's own
        if line.engine:
            self.engine = line.engine
        elif line.unable:
            self.end("unable", line.unable)
        elif line.probes is not None:
            self.probes = line.probes
        else:
            self.at, self.step = line.copy, line.step
            if line.part:
                self.parts[line.copy] = line.part
                if not line.step:
                    self.done.add(line.copy)
            if line.panic:
                self.panicked.add(line.copy)

    def end(self, ended: str, why: str) -> None:
        """Say how it ended; the first reason is the one that is told."""
        if not self.ended:
            self.ended, self.why = ended, why


def run(folder: str, task: Task, stopping: Callable[[], bool]) -> Run:
    """Have a task done in a folder, for as long as it says; whatever the engine does, this returns."""
    heard = Run()
    if task.seconds <= 0:
        heard.end("time", "there is no time left")
        return heard
    try:
        with tempfile.TemporaryFile(dir=folder) as given:
            given.write(json.encode(task))
            given.seek(0)
            process = subprocess.Popen(
                itself("agent.adapters.edge.child"),
                cwd=folder,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
    except OSError as error:
        heard.end("unable", f"no process can be started in {folder}: {error.strerror}")
        return heard
    try:
        complaint = _listen(process, heard, time.monotonic() + task.seconds, stopping)
    finally:
        process.kill()
        process.wait()
    if heard.ended == "time":
        heard.why = f"the engine did not come to an end within {span(task.seconds)}"
    if process.returncode == -signal.SIGBUS and _full(folder):
        heard.end("unable", f"{folder} is full")
    heard.end(*_ending(process.returncode, complaint, task))
    return heard


def _listen(process: "subprocess.Popen[bytes]", heard: Run, until: float, stopping: Callable[[], bool]) -> str:
    """Hear it to its end; returns the end of what it complained about."""
    assert process.stdout is not None  # noqa: S101 - Popen was given pipes
    assert process.stderr is not None  # noqa: S101
    rest, tail = bytearray(), bytearray()
    with process.stdout as told, process.stderr as complained, selectors.DefaultSelector() as ready:
        ready.register(told, selectors.EVENT_READ)
        ready.register(complained, selectors.EVENT_READ)
        while ready.get_map():
            for which, _ in ready.select(_LISTEN):
                data = os.read(which.fd, 1 << 20)
                if not data:
                    ready.unregister(which.fileobj)
                elif which.fileobj is complained:
                    tail += data
                    del tail[:-_TAIL]
                else:
                    *lines, last = (rest + data).split(b"\n")
                    for line in lines:
                        heard.hear(line)
                    rest = bytearray(last)
            heard.peak = max(heard.peak, _memory(process.pid))
            if time.monotonic() >= until or stopping():
                heard.end("stopped" if stopping() else "time", "it was asked to stop")
                process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, until - time.monotonic()))
    return tail.decode("utf-8", "replace")


def _ending(code: int, complaint: str, task: Task) -> tuple[str, str]:
    """How a process ended by itself, and why."""
    last = printable(([line for line in complaint.splitlines() if line.strip()] or [""])[-1].strip())[:300]
    if code == 0:
        return "", ""
    if asked := _ALLOCATION.search(complaint):
        return "memory", f"the engine asked for {size(int(asked[1]))} at once: {asked[0]}"
    if "MemoryError" in last or code == -signal.SIGKILL:
        return "memory", f"the engine needed more than {size(task.memory)}{f': {last}' if last else ''}"
    if code == -signal.SIGXCPU:
        return "time", f"the engine took the processor for longer than {span(task.seconds)} on each core"
    if code > 0:
        return "unable", f"the process that opens copies failed: {last or f'exit code {code}'}"
    return "abort", f"the engine was ended by {signal.Signals(-code).name}{f': {last}' if last else ''}"


def lacking(words: str) -> str:
    """What the machine lacks when the engine fails with these words: "memory", "unable"; empty if it is the archive."""
    said = _SYSTEM.search(words)
    number = int(said[1] or said[2]) if said else 0
    return "memory" if number in _MEMORY else "unable" if number in _MACHINE else ""


def _full(folder: str) -> bool:
    """Whether its disk is; what is written to a hole then kills the process that does."""
    there = os.statvfs(folder)
    return there.f_bavail * there.f_frsize < _ROOM


def _memory(process: int) -> int:
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{process}/status", "rb") as file:
        for line in file:
            if line.startswith(b"RssAnon:"):
                return int(line.split()[1]) << 10
    return 0
