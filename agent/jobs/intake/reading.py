"""Read one file back: an archive to its end, or a checksum file for what it promises."""

import hashlib
import os
import re
from collections.abc import Callable, Mapping

from msgspec import Struct, structs

from agent.adapters.ledger.catalogue import Folder, Key
from agent.adapters.shelf import look, read
from agent.errors import AgentError
from agent.rules import checksums, manifest, seal
from agent.rules.archive import Promise, Reading, Signature
from agent.rules.words import printable, raw


class Work(Struct, frozen=True):
    """One file to be read: the signature it must still have, and whether to inflate it.

    `proved` is an earlier reading of content that was inflated to its end and looked through: if the file still has
    its SHA-256, inflating it again would prove nothing.
    """

    key: Key
    path: str
    signature: Signature | None
    proved: Reading | None = None


class Outcome(Struct, frozen=True):
    """What reading one file gave: a reading, or the promises of a checksum file; or it is not at rest.

    `moved` is set when the file changed under the reader or is open for writing; `signature` is then
    what it looks like now, None if it is gone.
    """

    key: Key
    signature: Signature | None
    moved: bool = False
    reading: Reading | None = None
    promised: dict[str, Promise] | None = None
    problem: str = ""
    folder: Folder | None = None
    absent: tuple[str, ...] = ()


def read_back(work: Work, names: re.Pattern[str], progress: Callable[[int], None] = lambda _: None) -> Outcome:
    """Read one file: an archive to its end, a checksum file for its promises. Raises nothing for what it finds.

    `progress` is called with the number of bytes read since its last call.
    """
    try:
        if checksums.is_checksum_file(work.key.name):
            return _read_promises(work, names)
        return _read_archive(work, progress)
    except read.Moved:
        return Outcome(work.key, look.signature(work.path), moved=True)


def _read_archive(work: Work, progress: Callable[[int], None]) -> Outcome:
    reading, seen = read.read(work.path, work.signature, stream=work.proved is None, progress=progress)
    if work.proved is not None and not reading.error:
        if reading.sha256 == work.proved.sha256:
            reading = structs.replace(work.proved, seconds=reading.seconds)
        else:
            reading, seen = read.read(work.path, seen, progress=progress)
    return Outcome(work.key, seen, reading=reading)


def _read_promises(work: Work, names: re.Pattern[str]) -> Outcome:
    key = work.key
    try:
        data, seen = read.read_small(work.path)
    except (OSError, AgentError) as error:
        now = look.signature(work.path)
        if now is None:
            raise read.Moved from error
        why = error.message if isinstance(error, AgentError) else error.strerror
        problem = f"{key.name} cannot be read: {why}"
        return Outcome(key, now, promised={}, problem=problem, folder=_unknown_folder(key, problem))
    if work.signature is not None and seen != work.signature:
        raise read.Moved
    if key.name != checksums.MANIFEST:
        promised, problems = checksums.promises_of(data, raw(key.name))
        return Outcome(
            key, seen, promised=promised, problem="; ".join(problems[:3]), absent=_absent(work, promised, names)
        )
    try:
        described, digest = manifest.decode(data), seal.seen(data).digest
    except ValueError as error:
        return Outcome(key, seen, promised={}, problem=str(error), folder=_unknown_folder(key, str(error)))
    promised = manifest.promises(described)
    folder = structs.replace(_folder(key, described), sha256=hashlib.sha256(data).hexdigest(), digest=digest)
    return Outcome(key, seen, promised=promised, folder=folder, absent=_absent(work, promised, names))


def _absent(work: Work, promised: Mapping[str, Promise], names: re.Pattern[str]) -> tuple[str, ...]:
    here = os.path.dirname(work.path)
    return tuple(
        printable(name)
        for name in promised
        if names.match(printable(name)) and "/" not in name and not os.path.lexists(os.path.join(here, name))
    )


def _folder(key: Key, described: manifest.Manifest) -> Folder:
    return Folder(
        key.location,
        key.folder,
        described.tier,
        described.id,
        str(described.engine.get("kind", "unknown")),
        manifest.epoch(described.started),
        manifest.epoch(described.ended),
        len(described.failed),
        manifest.encode(manifest.bare(described)).decode(),
    )


def _unknown_folder(key: Key, problem: str) -> Folder | None:
    if key.name != checksums.MANIFEST:
        return None
    above, _, last = key.folder.rpartition("/")
    return Folder(key.location, key.folder, above.rpartition("/")[2], last, "unknown", problem=problem)
