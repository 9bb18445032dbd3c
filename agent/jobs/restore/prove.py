"""Read every archive again, from its first byte to its last, before one byte of any is sent."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from agent.adapters.shelf import look, read
from agent.errors import Refused, TryLater
from agent.rules import archive
from agent.rules.archive import Form, Promise, Reading, Signature
from agent.rules.recovery.plan import Step
from agent.rules.recovery.scene import Wanted
from agent.rules.subjects import Piece, Spot
from agent.rules.words import printable

# Two readers hash two archives on two cores; more would only wait for each other.
_READERS = 2


class Proved(Struct, frozen=True):
    """A copy of an archive to restore from, what it holds, and what is to be said of the copies that were not taken."""

    path: str
    location: str
    signature: Signature | None
    raw_size: int
    raw_sha256: str
    notes: tuple[str, ...] = ()


Where = Callable[[Spot, str], str]


def prove(
    steps: Sequence[Step],
    where: Where,
    known: Mapping[str, Reading],
    *,
    skip: bool,
    progress: Callable[[int], None],
    stopping: Callable[[], bool],
) -> dict[tuple[str, str], Proved]:
    """Choose a sound copy of each archive; returns them by target and file.

    Args:
        steps: what is going to be restored.
        where: the path of a file in a location's folder.
        known: by SHA-256 of a file, what reading it to its end has shown. The same bytes are only hashed again: to
            inflate them once more would show the same.
        skip: take the first copy as it is, if it is known what is in it.
        progress: called with the bytes that were read.
        stopping: whether nobody waits for it any more.

    Raises:
        Refused: an archive has no sound copy.
        TryLater: it was asked to stop.
    """

    def heard(done: int) -> None:
        if stopping():
            raise _Stopped
        progress(done)

    def one(work: tuple[Step, Piece]) -> tuple[tuple[str, str], Proved]:
        step, piece = work
        return (step.target, piece.file), _sound(step.wanted, piece, where, known, heard, skip=skip)

    works = [(step, piece) for step in steps for piece in step.wanted.pieces]
    try:
        with ThreadPoolExecutor(_READERS, "prove") as readers:
            return dict(readers.map(one, works))
    except _Stopped:
        raise TryLater("stopped before anything was sent; nothing was changed") from None


class _Stopped(Exception):
    """Nobody waits for it any more; no error of reading, which would be the archive's."""


def _sound(
    wanted: Wanted,
    piece: Piece,
    where: Where,
    known: Mapping[str, Reading],
    progress: Callable[[int], None],
    *,
    skip: bool,
) -> Proved:
    """The first copy of an archive that is as it should be."""
    entry = next((one for one in wanted.entries if printable(one.file) == piece.file), None)
    raw_size, raw_sha256 = (entry.raw_size, entry.raw_sha256) if entry else (None, None)
    notes = []
    for spot in piece.spots or (sorted(wanted.subject.spots) if skip else ()):
        path = where(spot, piece.file)
        if skip and raw_size is not None and raw_sha256 is not None:
            return Proved(path, spot[0], look.signature(path), raw_size, raw_sha256)
        whole = known.get(piece.sha256)
        measured = None if raw_size is not None and raw_sha256 is not None else _Measure()
        try:
            reading, seen = read.read(
                path,
                None,
                stream=whole is None or measured is not None,
                content=measured.add if measured else None,
                keep=True,
                progress=progress,
            )
        except read.Moved:
            notes.append(f"{spot[0]}: is gone, or is being written")
            continue
        if whole is not None and measured is None and reading.sha256 == piece.sha256:
            reading = whole
        if why := _wrong(reading, piece):
            notes.append(f"{spot[0]}: {why}")
            continue
        told = tuple(f"{wanted.collection} is read from {spot[0]}; the copy in {note}" for note in notes)
        if measured is not None:
            raw_size, raw_sha256 = measured.size, measured.digest.hexdigest()
        return Proved(path, spot[0], seen, raw_size or 0, raw_sha256 or "", told)
    every = "; ".join((*notes, *piece.bad)) or "there is none"
    raise Refused(
        f"{wanted.collection}: no copy of {piece.file} is sound: {every}",
        "Nothing was changed. Take another backup: `snapward list` shows those there are.",
    )


class _Measure:
    """Size and SHA-256 of what an archive holds, where nobody has written them down."""

    def __init__(self) -> None:
        self.size = 0
        self.digest = hashlib.sha256()

    def add(self, piece: memoryview) -> None:
        self.size += len(piece)
        self.digest.update(piece)


def _wrong(reading: Reading, piece: Piece) -> str:
    """Why an archive must not be restored; empty if nothing speaks against it."""
    verdict = archive.judge(reading, (Promise("its backup", piece.sha256 or None, piece.size or None),), 0, piece.file)
    if verdict.bad:
        return f"{verdict.state}: {verdict.why}"
    if reading.form is Form.OTHER:
        return reading.form_why
    return "" if reading.form is Form.SNAPSHOT else f"could not be read to its end: {verdict.why}"
