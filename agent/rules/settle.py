"""Decide when a file that appeared has come to rest: same inode, size and times for the whole settle time."""

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from agent.rules.archive import Signature
from agent.rules.checksums import MANIFEST, SUMS

K = TypeVar("K", bound=Hashable)

# An archive that is still growing after this long is worth a word.
STALLED = 3600.0


class Settling(Generic[K]):
    """Files that are not at rest yet. Times are seconds of a clock that never goes back."""

    def __init__(self, settle: float) -> None:
        self._settle = settle
        self._waiting: dict[K, tuple[Signature, float, float]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: K) -> bool:
        return key in self._waiting

    def see(self, key: K, signature: Signature, now: float) -> None:
        """A file looks like this now; its time begins anew if it looked different before."""
        known = self._waiting.get(key)
        if known is None:
            self._waiting[key] = (signature, now, now)
        elif known[0] != signature:
            self._waiting[key] = (signature, now, known[2])

    def restart(self, key: K, signature: Signature, now: float) -> None:
        """A file was found to be still in somebody's hands: its time begins anew whatever it looks like."""
        first = self._waiting[key][2] if key in self._waiting else now
        self._waiting[key] = (signature, now, first)

    def drop(self, key: K) -> None:
        """A file is gone, or is taken care of."""
        self._waiting.pop(key, None)

    def ready(self, now: float) -> list[tuple[K, Signature]]:
        """What has come to rest; it stays in here until it is dropped."""
        return [(key, sig) for key, (sig, since, _) in self._waiting.items() if now >= since + self._settle]

    def next_at(self) -> float | None:
        """When the next file can come to rest at the earliest."""
        return min((since + self._settle for _, since, _ in self._waiting.values()), default=None)

    def stalled(self, now: float) -> list[K]:
        """What has not come to rest for an hour."""
        return [key for key, (_, _, first) in self._waiting.items() if now - first >= STALLED]


def promisers(name: str) -> Iterable[str]:
    """The checksum files that may speak of an archive: it is not judged while one of them is being written."""
    return (f"{name}.sha256", SUMS, MANIFEST)
