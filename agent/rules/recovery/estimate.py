"""Say how long a restore may take, from what was measured here before."""

from collections.abc import Sequence

from msgspec import Struct

from agent.rules.words import count, size, span

# So few bytes say nothing about how long many take.
_TELLING = 1 << 20
_REMEMBERED = 20


class Estimate(Struct, frozen=True):
    """How long it may take, in seconds, and what that is drawn from; None if nothing is known."""

    seconds: float | None
    why: str


def estimate(raw_bytes: int, restores: Sequence[tuple[int, float]], drills: Sequence[tuple[int, float]]) -> Estimate:
    """How long so many unpacked bytes may take, from (bytes, seconds) of what was measured here; the newest is last."""
    for kind, measured in (("restore", restores), ("drill", drills)):
        telling = [one for one in measured if one[0] >= _TELLING and one[1] > 0][-_REMEMBERED:]
        if telling:
            rate = sum(one[0] for one in telling) / sum(one[1] for one in telling)
            number = f"{count(len(telling), f'earlier {kind}')} at {size(rate)}/s"
            return Estimate(raw_bytes / rate, f"about {span(raw_bytes / rate)}, from {number}")
    return Estimate(None, "unknown: nothing of some size was restored or drilled here so far")
