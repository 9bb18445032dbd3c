"""What was recorded of a collection: in the manifest beside its archive, or by an earlier drill."""

import os
from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from agent.adapters.shelf import read, write
from agent.adapters.shelf.write import Permissions
from agent.errors import AgentError
from agent.rules import manifest, rehearsal
from agent.rules.checksums import MANIFEST
from agent.rules.manifest import CollectionEntry
from agent.rules.rehearsal import Baseline, Expected
from agent.rules.subjects import Spot, Subject
from agent.rules.words import printable, raw

_SUFFIX = ".baseline.json"


class Recorded(Struct, frozen=True):
    """What a drill compares with, the manifest's entries of the collection, and why there is not more of both."""

    expected: Expected
    entries: tuple[CollectionEntry, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def bare(self) -> bool:
        """Whether there is nothing but a number of points to compare with."""
        return not self.expected.probes and self.expected.content is None


def path_of(roots: Mapping[str, str], spot: Spot, name: str) -> str:
    """Where a file lies; names are in printable form."""
    location, folder = spot
    return os.path.join(os.path.realpath(roots[location]), raw(folder), raw(name))


def recorded(subject: Subject, roots: Mapping[str, str], sha256: str) -> Recorded:
    """What is on record about a collection, read anew from the disk; nothing there is believed to be in order.

    Args:
        subject: the collection.
        roots: the locations' folders.
        sha256: of its archive's file as it was read now; a baseline of another file says nothing.
    """
    found = _described(subject, roots) if subject.described else Recorded(Expected())
    if not found.bare or len(subject.pieces) != 1:
        return found
    notes = list(found.notes)
    for spot in subject.pieces[0].spots:
        path = path_of(roots, spot, f"{subject.pieces[0].file}{_SUFFIX}")
        try:
            seen = _baseline(path, sha256)
        except (ValueError, AgentError, OSError, read.Moved) as error:
            if not isinstance(error, FileNotFoundError):
                notes.append(f"the baseline {path} cannot be used: {_words(error)}")
            continue
        counted = found.expected
        expected = rehearsal.as_expected(seen)
        if counted.low is not None:
            expected = replace(expected, low=counted.low, high=counted.high)
        return Recorded(expected, found.entries, tuple(notes))
    return Recorded(found.expected, found.entries, tuple(notes))


def keep(
    seen: Baseline, file: str, spots: Iterable[Spot], roots: Mapping[str, str], permissions: Permissions
) -> list[str]:
    """Write a baseline beside each copy of an archive; returns where that was not possible, and why."""
    notes = []
    for spot in spots:
        path = path_of(roots, spot, f"{file}{_SUFFIX}")
        try:
            write.write_file(path, rehearsal.encode_baseline(seen), permissions)
        except AgentError as error:
            notes.append(f"the baseline could not be kept in {spot[0]}: {error.message}")
    return notes


def _described(subject: Subject, roots: Mapping[str, str]) -> Recorded:
    wanted = {piece.file: piece.sha256 for piece in subject.pieces}
    notes = []
    for spot in subject.pieces[0].spots:
        path = path_of(roots, spot, MANIFEST)
        try:
            said = manifest.decode(read.read_small(path)[0])
        except (ValueError, AgentError, OSError, read.Moved) as error:
            notes.append(f"{path} cannot be read: {_words(error)}")
            continue
        entries = tuple(one for one in said.collections if one.name == subject.collection)
        if {printable(one.file): one.sha256.lower() for one in entries}.items() >= wanted.items():
            return Recorded(rehearsal.expected(entries), entries, tuple(notes))
        notes.append(f"{path} is not as it was: it speaks of other archives of {subject.collection}")
    return Recorded(Expected(), (), tuple(notes))


def _baseline(path: str, sha256: str) -> Baseline:
    seen = rehearsal.decode_baseline(read.read_small(path)[0])
    if seen.sha256 != sha256:
        raise ValueError("it is of another archive")
    return seen


def _words(error: Exception) -> str:
    if isinstance(error, AgentError):
        return error.message
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) or "it changes while it is read"
