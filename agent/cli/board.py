"""How a backup gets on, for a terminal: a line for each archive that is done, and one for all that is under way."""

import sys
import threading
import time

from msgspec import Struct

from agent.rules.words import size, span

_EVERY = 0.2
_SHOWN = 3


class _Part(Struct):
    """One archive: raw bytes done and in all, and when it began (monotonic)."""

    began: float
    done: int = 0
    total: int = 0


class Board:
    """Hears from every collection; prints only where standard error is a terminal."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._began = time.monotonic()
        self._parts: dict[str, _Part] = {}
        self._drawn = 0.0
        self._turn = threading.Lock()

    def __call__(self, label: str, done: int, total: int) -> None:
        """So many raw bytes of an archive are done."""
        if not self._on:
            return
        now = time.monotonic()
        with self._turn:
            part = self._parts.setdefault(label, _Part(now))
            was_done = part.total and part.done >= part.total
            part.done, part.total = done, total
            if done >= total and not was_done:
                seconds = max(now - part.began, 0.001)
                self._say(f"  {label}: {size(total)} in {span(seconds)}, {size(total / seconds)}/s\n")
            if now - self._drawn >= _EVERY:
                self._drawn = now
                self._say(self._line(now))

    def end(self) -> None:
        """Take the line away."""
        if self._on and self._drawn:
            self._say("")

    def _line(self, now: float) -> str:
        total = sum(one.total for one in self._parts.values())
        done = sum(one.done for one in self._parts.values())
        rate = done / max(now - self._began, 0.001)
        under_way = {name: one for name, one in self._parts.items() if one.done < one.total}
        each = ", ".join(f"{name} {one.done / one.total:.0%}" for name, one in list(under_way.items())[:_SHOWN])
        more = f" and {len(under_way) - _SHOWN} more" if len(under_way) > _SHOWN else ""
        left = f"{span((total - done) / rate)} left" if rate and total > done else ""
        finished = len(self._parts) - len(under_way)
        return f"backup  {finished} done  {size(done)} of {size(total)}  {size(rate)}/s  {left}  {each}{more}"

    def _say(self, line: str) -> None:
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()
