"""A burst: thousands of archives renamed into a watched folder as fast as the kernel takes it."""

import contextlib
import hashlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
from msgspec import Struct
from program import Program, until

OVERFLOWED = "Inotify queue overflowed"
_QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")
# A checksum file goes first, so that its archive is judged once, with everything known.
_RENAME = """
import os, sys
here, there = sys.argv[1:]
for name in sorted(os.listdir(here)):
    if os.path.exists(f"{here}/{name}.sha256"):
        os.rename(f"{here}/{name}.sha256", f"{there}/{name}.sha256")
    if not name.endswith(".sha256"):
        os.rename(f"{here}/{name}", f"{there}/{name}")
"""


class Burst(Struct, frozen=True):
    """How a burst went: archives, seconds of renaming, seconds until the last verdict, the agent's CPU seconds."""

    archives: int
    renaming: float
    judged: float
    cpu: float
    overflowed: bool
    queue: int

    def __str__(self) -> str:
        return (
            f"{self.archives:,} archives renamed in {self.renaming:.2f} s, the last verdict {self.judged:.1f} s after"
            f" that; {self.cpu:.1f} s of CPU; the kernel's queue of {self.queue:,} events"
            f" {'overflowed' if self.overflowed else 'held'}"
        )


@contextlib.contextmanager
def short_queue(events: int | None) -> Iterator[int]:
    """Let the kernel keep so few events for a new watcher, if we may; yields how many it keeps."""
    before = _QUEUE.read_text()
    if events is None:
        yield int(before)
        return
    with contextlib.suppress(OSError):
        _QUEUE.write_text(str(events))
    try:
        yield int(_QUEUE.read_text())
    finally:
        with contextlib.suppress(OSError):
            _QUEUE.write_text(before)


def burst(program: Program, number: int, *, promise: bool, within: float, queue: int | None = None) -> Burst:
    """Rename `number` archives into a watched folder, and see every one judged exactly once.

    With `queue` the kernel keeps only so many events meanwhile, for every watcher of this machine, if we are root.
    """
    waiting, watched = program.home / "waiting", program.primary / "daily"
    waiting.mkdir()
    watched.mkdir()
    _prepare(waiting, number, promise=promise)
    with short_queue(queue) as kept, program.agent() as process:
        mark = program.lines().count(OVERFLOWED)
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", _RENAME, waiting, watched], check=True)
        renamed = time.monotonic()
        until(lambda: program.query("SELECT count(*) FROM archive")[0][0] >= number, within, "the last verdict")
        judged = time.monotonic()
        cpu = psutil.Process(process.pid).cpu_times()
        # A new archive takes the whole way once more: what was still under way is written down by then.
        (waiting / "last.snapshot").write_bytes(b"archive " + os.urandom(2040))
        (waiting / "last.snapshot").rename(watched / "last.snapshot")
        until(lambda: "primary:daily/last.snapshot" in program.states(), what="the one after the burst")
    verdicts = Counter(row[0] for row in program.query("SELECT name FROM verdict WHERE name != 'last.snapshot'"))
    assert len(verdicts) == number
    twice = {name: times for name, times in verdicts.items() if times > 1}
    assert not twice, f"{len(twice)} judged more than once: {dict(list(twice.items())[:5])}"
    states = Counter(row[0] for row in program.query("SELECT state FROM archive WHERE name != 'last.snapshot'"))
    assert states == {"good" if promise else "no checksum": number}
    overflowed = program.lines().count(OVERFLOWED) > mark
    return Burst(number, renamed - began, judged - renamed, cpu.user + cpu.system, overflowed, kept)


def _prepare(folder: Path, number: int, *, promise: bool) -> None:
    for index in range(number):
        name, data = f"{index:06}.snapshot", b"archive " + os.urandom(2040)
        (folder / name).write_bytes(data)
        if promise:
            (folder / f"{name}.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  {name}\n", encoding="ascii")
