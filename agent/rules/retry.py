"""Which answers of a server may be another one later, and how long to wait before asking again."""

LONGEST = 30.0

# A proxy's 502 to 504, a server that is busy, limited or still starting; and its own 500, which an optimiser in the way
# gives rise to as well as a full disk.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
# What it says when asking again changes nothing.
_FULL = ("no space left", "os error 28)", "quota exceeded", "os error 122)")
_STAYING = (*_FULL, "permission denied", "os error 13)", "read-only file system", "os error 30)")


def passes(status: int, text: str) -> bool:
    """Whether a server that answered with this HTTP status and text may answer otherwise later."""
    return status in _PASSING and not _any(_STAYING, text)


def is_full(status: int, text: str) -> bool:
    """Whether the server says that it has no space."""
    return status == 507 or (status >= 500 and _any(_FULL, text))


def pause(attempt: int, asked: float | None = None) -> float:
    """Seconds to wait after the attempt of this number (from 0) has failed; at least what the server asked for."""
    return max(min(LONGEST, 0.25 * 2.0 ** min(attempt, 10)), asked or 0.0)


def _any(words: tuple[str, ...], text: str) -> bool:
    return any(one in text.lower() for one in words)
