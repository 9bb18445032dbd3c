"""Choose the backup that is brought back, and tell whether an earlier attempt at it broke off."""

from collections.abc import Collection, Iterable
from datetime import datetime, tzinfo

from msgspec import Struct

# What a restore itself puts aside is brought back only by its own id.
SET_ASIDE = "pre-restore"
# A restore that broke off is taken up again within this time (seconds); later, what lies there may be anybody's.
TAKEN_UP_WITHIN = 86_400.0


class Candidate(Struct, frozen=True):
    """A backup as far as it matters for choosing one; times in epoch seconds, `names` of the collections in it."""

    id: str
    tier: str
    state: str
    started: float | None
    ended: float | None
    names: frozenset[str]

    @property
    def over(self) -> float | None:
        """When the last of it was taken."""
        return self.started if self.ended is None else self.ended


def moment(text: str, zone: tzinfo) -> float | None:
    """A day with a time of it, in RFC 3339 or by the wall clock of `zone`, in epoch seconds; None for anything else."""
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if len(text.strip()) <= len("2026-11-22"):
        return None
    return (at if at.tzinfo else at.replace(tzinfo=zone)).timestamp()


def newest(known: Iterable[Candidate], at: float | None, names: Collection[str] = ()) -> Candidate | None:
    """The newest good backup that was over by then and holds all of these collections; None if there is none.

    A backup that was still being made at that time may hold what came later, so it does not count.
    """
    fit = [
        one
        for one in known
        if one.state == "good"
        and one.tier != SET_ASIDE
        and one.over is not None
        and (at is None or one.over <= at)
        and one.names.issuperset(names)
    ]
    return max(fit, key=lambda one: (one.over or 0.0, one.id), default=None)


def broken_since(runs: Iterable[tuple[float, str]], now: float) -> float | None:
    """When the restore began that has not come to its end yet, over all attempts at it; None if there is none.

    Args:
        runs: start and outcome of the earlier restores of a backup, the oldest first.
        now: a restore that began too long ago is not taken up.
    """
    since = None
    for started, outcome in runs:
        if outcome == "ok":
            since = None
        elif since is None and now - started <= TAKEN_UP_WITHIN:
            since = started
    return since
