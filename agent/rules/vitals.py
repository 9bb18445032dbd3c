"""Decide whether the agent itself is well: is every part fresh, and does the clock go as a clock should."""

from collections.abc import Mapping

from msgspec import Struct

from agent.rules.finding import Finding, Level
from agent.rules.words import span

JUMP = 60.0
SILENCE = 120.0  # seconds that a part may show nothing, unless it has a limit of its own
JUMP_REMEMBERED = 3600.0


class Beat(Struct, frozen=True):
    """What both clocks showed at one moment: wall (epoch seconds), and one that only counts seconds passed."""

    wall: float
    steady: float


def clock(before: Beat, now: Beat) -> float:
    """By how many seconds the wall clock jumped between two beats; small corrections count as none."""
    drift = (now.wall - before.wall) - (now.steady - before.steady)
    return drift if abs(drift) > JUMP else 0.0


def jumped(seconds: float) -> Finding:
    """The finding that a jump of the clock is."""
    return Finding(
        "clock_jumped",
        "clock",
        Level.WARNING,
        f"the clock went {'forward' if seconds > 0 else 'back'} by {span(seconds)}; no slot is run twice for it",
        "Look at the time service: `timedatectl`. Ages and schedules are only as right as the clock.",
    )


def stale(silent: Mapping[str, float], limits: Mapping[str, float], excused: frozenset[str]) -> str:
    """The first part that has been silent for longer than its limit, or an empty text.

    `excused` are parts whose silence is an open incident already: restarting the agent would not wake them.
    """
    for part, seconds in silent.items():
        if part not in excused and seconds > limits.get(part, SILENCE):
            return f"{part} has shown no sign of life for {span(seconds)}"
    return ""
