"""Work that outlives the request that asked for it, and dies with the server."""

import threading
from collections.abc import Callable
from typing import Any

from standin.answers import Dropped, Refused, internal
from standin.faults import Faults


class Job:
    """Work for one collection; `lost` once the server dies meanwhile."""

    def __init__(self, collection: str) -> None:
        self.collection = collection
        self.done = threading.Event()
        self.lost = threading.Event()
        self._result: Any = None
        self._error: Refused | None = None

    def wait(self) -> Any:
        """Its result.

        Raises:
            Refused: it failed.
            Dropped: it was lost.
        """
        self.done.wait()
        if self._error is not None:
            raise self._error
        if self.lost.is_set():
            raise Dropped
        return self._result

    def run(self, work: "Callable[[Job], Any]") -> None:
        try:
            self._result = work(self)
        except Refused as refused:
            self._error = refused
        except OSError as trouble:
            self._error = internal(f"File IO error: {trouble.strerror} (os error {trouble.errno})")


class Jobs:
    """The running jobs of one kind; `known` are the collections that had one."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self.known: set[str] = set()
        self._lock = threading.Lock()
        self._running: dict[Job, threading.Thread] = {}

    def start(self, collection: str, work: Callable[[Job], Any]) -> Job:
        """Begin and return at once."""
        job = Job(collection)
        thread = threading.Thread(target=self._run, args=(job, work))
        with self._lock:
            self._running[job] = thread
            self.known.add(collection)
            thread.start()  # within, so that `lose` finds none that cannot be joined yet
        return job

    def running(self, collection: str) -> int:
        with self._lock:
            return sum(job.collection == collection for job in self._running)

    def lose(self) -> None:
        """End every job without a trace, as the death of a server does."""
        with self._lock:
            running = dict(self._running)
        for job in running:
            job.lost.set()
        self._faults.release()
        for thread in running.values():
            thread.join()

    def _run(self, job: Job, work: Callable[[Job], Any]) -> None:
        try:
            job.run(work)
        finally:
            with self._lock:
                del self._running[job]
            job.done.set()
