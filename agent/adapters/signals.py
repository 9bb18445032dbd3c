"""Signals from the system, heard at once.

A handler of Python's own runs in the main thread, and late when its signal comes just before that falls asleep: nothing
wakes it. The byte that the interpreter writes for each signal wakes the thread that reads it here.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType


def listen(numbers: Iterable[signal.Signals], hear: Callable[[signal.Signals], None]) -> Callable[[], None]:
    """Call `hear`, in a thread of its own, for each of these signals; returns what ends that.

    To be called in the main thread. Signals that somebody else handles meanwhile are theirs.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, _noted) for number in numbers}
    thread = threading.Thread(target=_read, args=(reading, hear), name="signals", daemon=True)
    thread.start()

    def end() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(writing)
        thread.join()
        os.close(reading)

    return end


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Nothing: that there is a handler is what makes the interpreter write."""


def _read(reading: int, hear: Callable[[signal.Signals], None]) -> None:
    while heard := os.read(reading, 512):
        for number in heard:
            if signal.getsignal(number) is _noted:
                hear(signal.Signals(number))
