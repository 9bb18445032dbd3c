"""How answers look on a terminal, and how they leave as JSON."""

import os
import sys
import time
import unicodedata
from collections.abc import Sequence
from typing import Any

import click
import msgspec

_COLOURS = {
    "ok": "green",
    "good": "green",
    "passed": "green",
    "inconclusive": "yellow",
    "warning": "yellow",
    "unknown": "yellow",
    "no checksum": "yellow",
    "incomplete": "red",
    "critical": "red",
    "bad": "red",
    "failed": "red",
}

# How a state becomes an exit code, in Nagios' order.
EXIT = {"ok": 0, "good": 0, "warning": 1, "critical": 2, "bad": 2, "incomplete": 2, "unknown": 3}


def as_json(answer: dict[str, Any]) -> None:
    """Print one object, and nothing else, with the schema's version first."""
    sys.stdout.buffer.write(msgspec.json.encode({"schema_version": 1, **answer}) + b"\n")
    sys.stdout.buffer.flush()


def say(line: str = "") -> None:
    """Print a line for people; colour only where a terminal shows it."""
    click.echo(line, color=_colour(sys.stdout))


def note(line: str) -> None:
    """Print a line beside the answer, on standard error."""
    click.echo(line, err=True, color=_colour(sys.stderr))


def state(word: str, width: int = 0) -> str:
    """A state in its colour, filled up to `width`."""
    return click.style(word.ljust(width), fg=_COLOURS.get(word), bold=word in {"critical", "bad"})


def bold(words: str) -> str:
    """Words that stand out."""
    return click.style(words, bold=True)


def dim(words: str) -> str:
    """Words that stand back."""
    return click.style(words, dim=True)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns as wide as they need; the last one is cut at the terminal's edge."""
    widths = [max(map(_width, column)) for column in zip(heads, *rows, strict=True)]
    room = _room() if sys.stdout.isatty() else 10_000
    say("\n".join([dim(_row(heads, widths, room)), *(_row(row, widths, room) for row in rows)]))


def _room() -> int:
    import shutil  # noqa: PLC0415 - 3 ms that only a terminal is worth

    return shutil.get_terminal_size((200, 24)).columns


def _row(cells: Sequence[str], widths: Sequence[int], room: int) -> str:
    out, used = [], 0
    for cell, width in zip(cells[:-1], widths, strict=False):
        out.append(cell + " " * (width - _width(cell)))
        used += width + 2
    last = cells[-1]
    if _width(last) > room - used > 10:
        last = click.unstyle(last)[: room - used - 1] + "…"
    return "  ".join([*out, last]).rstrip()


def _width(words: str) -> int:
    if "\x1b" in words:
        words = click.unstyle(words)
    if words.isascii():
        return len(words)
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in words)


def _colour(stream: Any) -> bool:
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


class Progress:
    """One line that shows how long work gets on, on a terminal only; elsewhere it prints nothing."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._began = time.monotonic()
        self._shown = 0.0
        self._on = sys.stderr.isatty()

    def add(self, more: int) -> None:
        """So many bytes more are done; may be called from several threads."""
        self._done += more
        now = time.monotonic()
        if self._on and now - self._shown >= 0.2:
            self._shown = now
            self._draw(now)

    def end(self) -> None:
        """Take the line away again."""
        if self._on and self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _draw(self, now: float) -> None:
        from agent.rules.words import size, span  # noqa: PLC0415 - only while something is drawn

        passed = max(now - self._began, 0.001)
        rate = self._done / passed
        share = min(1.0, self._done / self._total) if self._total else 0.0
        left = span((self._total - self._done) / rate) if rate and self._total > self._done else "?"
        filled = round(share * 24)
        bar = "█" * filled + "░" * (24 - filled)
        line = f"{self._what} {bar} {share:4.0%}  {size(self._done)}  {size(rate)}/s  {left} left"
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()
