"""Signals become events."""

import queue
import signal
from collections.abc import Callable

from agent.adapters.signals import listen
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
        listen(_ASKS, self._hear)

    def _hear(self, number: signal.Signals) -> None:
        what = _ASKS[number]
        if what == "stop" and self._asked:
            self._leave()
        self._asked = self._asked or what == "stop"
        self.inbox.put(Signalled(what))
