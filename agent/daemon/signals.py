"""Signals become events.

A handler of Python's own runs late when its signal comes just before the main thread falls asleep: nothing wakes that.
The byte that the interpreter writes for each signal wakes the thread that reads it here.
"""

import os
import queue
import signal
import threading
from collections.abc import Callable

from agent.daemon.events import Signalled

_ASKS = {
    signal.SIGTERM: "stop",
    signal.SIGINT: "stop",
    signal.SIGHUP: "validate",
    signal.SIGCHLD: "child",
}


class Signals:
    """Puts signals into an inbox, from now on; `leave` is called at the second one that asks to stop."""

    def __init__(self, inbox: "queue.SimpleQueue[object]", leave: Callable[[], None]) -> None:
        self.inbox, self._leave = inbox, leave
        self._asked = False
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in _ASKS:
            signal.signal(number, lambda _number, _frame: None)
        threading.Thread(target=self._hear, args=(reading,), name="signals", daemon=True).start()

    def _hear(self, reading: int) -> None:
        while heard := os.read(reading, 512):
            for number in heard:
                self._tell(_ASKS[signal.Signals(number)])

    def _tell(self, what: str) -> None:
        if what == "stop" and self._asked:
            self._leave()
        self._asked = self._asked or what == "stop"
        self.inbox.put(Signalled(what))
