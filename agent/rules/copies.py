"""What is known of the copies of a backup, and what it has to be, going by those that can be believed."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from agent.rules.archive import Promise, Signature


class Is(StrEnum):
    """What a file is where it lies; `UNREAD` while nobody has looked at it."""

    GOOD = "good"
    BAD = "bad"
    MISSING = "missing"
    UNREAD = "unread"


class File(Struct, frozen=True, kw_only=True):
    """One archive of a copy as it was judged last.

    Attributes:
        state: what it is.
        sha256: of what was read.
        why: the verdict's words.
        verdict: the verdict's name.
        level: what was proved.
        checked: when, epoch seconds.
        had: whether it was ever there and good.
        signature: of what was read.
    """

    state: Is
    sha256: str = ""
    why: str = ""
    verdict: str = ""
    level: str = ""
    checked: float | None = None
    had: bool = False
    signature: Signature | None = None


class Copy(Struct, frozen=True, kw_only=True):
    """One location's copy of a backup.

    Attributes:
        there: whether anything of it is there.
        had: whether it was ever there.
        promised: what its manifest promises of each file; None where there is no manifest, or none that can be read.
        files: its archives.
        sides: the SHA-256 of the small files beside them, by name; None where nobody has looked.
        problem: what is wrong with its manifest.
        trusted: whether its manifest's signature is right, or there is none to be checked.
    """

    there: bool = True
    had: bool = True
    promised: Mapping[str, Promise] | None = None
    files: Mapping[str, File] = {}
    sides: Mapping[str, str] | None = None
    problem: str = ""
    trusted: bool = True

    @property
    def whole(self) -> bool:
        """Whether all of it is there and good."""
        return self.there and self.promised is not None and all(self.has(name) for name in self.promised)

    def has(self, name: str, promise: Promise | None = None) -> bool:
        """Whether it has a file as its own manifest promises it, or as another one does."""
        promise = promise or (self.promised or {}).get(name)
        file = self.files.get(name)
        return file is not None and file.state is Is.GOOD and promise is not None and file.sha256 == promise.sha256


class Backup(Struct, frozen=True, kw_only=True):
    """A backup with its copies by location. `made` is when it was published, as far as that is known."""

    tier: str
    id: str
    path: str
    started: float
    made: float
    complete: bool
    copies: Mapping[str, Copy]
    pinned: bool = False


class Model(Struct, frozen=True):
    """What a backup has to be: by file what is promised and where it lies good; and whose small files are believed."""

    promised: Mapping[str, Promise]
    sources: Mapping[str, tuple[str, ...]]
    believed: str

    @property
    def complete(self) -> bool:
        """Whether each file lies good somewhere."""
        return all(self.sources.values())


def _whole(backup: Backup, here: Iterable[str]) -> list[str]:
    """The locations with a whole copy, those first whose manifest's signature is right."""
    found = [name for name in here if name in backup.copies and backup.copies[name].whole]
    return sorted(found, key=lambda name: not backup.copies[name].trusted)


def at_odds(backup: Backup, here: Iterable[str]) -> list[str]:
    """Locations whose copy is whole, but promises other things than a whole one that is believed no more than it is."""
    whole = _whole(backup, here)
    differ = [name for name in whole[1:] if not same(backup.copies[name], backup.copies[whole[0]])]
    return [] if not differ or not _equally_trusted(backup, whole) else differ


def _equally_trusted(backup: Backup, whole: Sequence[str]) -> bool:
    return len({backup.copies[name].trusted for name in whole}) == 1


def same(one: Copy, other: Copy) -> bool:
    """Whether two copies promise the same."""
    return _digests(one) == _digests(other)


def _digests(one: Copy) -> dict[str, str | None]:
    return {name: promise.sha256 for name, promise in (one.promised or {}).items()}


def model_of(backup: Backup, here: Sequence[str]) -> Model | None:
    """What a backup has to be; None where nobody can say.

    Args:
        backup: what is known of it.
        here: the locations that are there, in the order in which their copies are believed.
    """
    if at_odds(backup, here):
        return None
    whole = _whole(backup, here)
    readable = [name for name in here if name in backup.copies and backup.copies[name].promised is not None]
    readable = [name for name in readable if backup.copies[name].there]
    if not whole and len({tuple(sorted(_digests(backup.copies[name]).items())) for name in readable}) != 1:
        return None
    believed = (whole or readable)[0]
    promised = backup.copies[believed].promised or {}
    sources = {
        name: tuple(at for at in here if at in backup.copies and backup.copies[at].has(name, promise))
        for name, promise in promised.items()
    }
    return Model(promised, sources, believed)
