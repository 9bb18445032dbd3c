"""A token bucket: those who read or write tell of their bytes, and wait where that was too quick."""

import threading
import time
from collections.abc import Callable

_SPARE = 1.0  # seconds of the rate that may be taken at once after a rest


class Pace:
    """Keeps the bytes a second of all who share it below a rate.

    Args:
        rate: bytes a second.
        wait: lets so many seconds pass.
        clock: tells seconds that never go back.
    """

    def __init__(
        self,
        rate: float,
        wait: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._wait = wait
        self._clock = clock
        self._lock = threading.Lock()
        self._free = clock()

    def __call__(self, more: int) -> None:
        """So many bytes went by; returns when the next may."""
        with self._lock:
            now = self._clock()
            self._free = max(self._free, now - _SPARE) + more / self._rate
            late = self._free - now
        if late > 0:
            self._wait(late)
