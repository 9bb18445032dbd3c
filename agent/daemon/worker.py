"""A thread that does one task after the other and always answers, with a result or with a failure."""

import logging
import queue
import threading
import time
from collections.abc import Callable

from agent.daemon.events import Failed

log = logging.getLogger(__name__)


class Worker:
    """Tasks of one location, in order. `beat` is when the task in hand last showed that it gets on."""

    def __init__(self, location: str, kind: str, answer: Callable[[object], None]) -> None:
        self.location = location
        self.kind = kind
        self.beat: float | None = None
        self.waiting = 0
        self._answer = answer
        self._tasks: queue.SimpleQueue[tuple[str, Callable[[], object]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"{kind}-{location}", daemon=True)
        self._thread.start()

    def give(self, name: str, task: Callable[[], object]) -> None:
        """Hand over a task; what it returns goes to the inbox."""
        self.waiting += 1
        self._tasks.put((name, task))

    def took(self) -> None:
        """Note, on the deciding thread, that an answer of this worker was taken out of the inbox."""
        self.waiting -= 1

    def touch(self, _: int = 0) -> None:
        """Called by a long task while it gets on."""
        self.beat = time.monotonic()

    def silent(self, now: float) -> float:
        """For how long the task in hand has not shown that it gets on, in seconds; 0 between tasks."""
        beat = self.beat
        return 0.0 if beat is None else now - beat

    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def stop(self, patience: float) -> None:
        """Let the task in hand end, and take no other; waits at most `patience` seconds."""
        self._tasks.put(None)
        self._thread.join(patience)

    def _work(self) -> None:
        while (given := self._tasks.get()) is not None:
            name, task = given
            self.touch()
            try:
                answer = task()
            except Exception as error:
                log.exception("%s of location %s failed", name, self.location)
                answer = Failed(self.location, name, f"{type(error).__name__}: {error}")
            self.beat = None
            self._answer(answer)
