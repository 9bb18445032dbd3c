"""Move bad files to the quarantine of their location, each with what was found of it."""

import os
import sqlite3
from collections.abc import Callable

import msgspec
from msgspec import Struct

from agent.adapters.ledger import deeds, writing
from agent.adapters.shelf import copy as shelf
from agent.adapters.shelf import look, write
from agent.adapters.shelf.write import Permissions
from agent.errors import TryLater
from agent.rules.copies import File, Is
from agent.rules.repair import SIDES, Part
from agent.rules.words import printable, raw, rfc3339


class Move(Struct, frozen=True):
    """A file to be moved aside: where it lies, who wants that, and the rights of what is made for it."""

    location: str
    path: str
    name: str
    permissions: Permissions
    who: str


def in_the_way(part: Part, target: str, new: str) -> File | None:
    """What is to be moved aside before a file gets its place.

    Raises:
        TryLater: it is not what it was when it was judged.
    """
    seen = look.signature(target)
    if seen is None:
        return None
    before = part.bad.signature if part.bad is not None else None
    if before is not None and seen[:3] != before[:3]:  # moving it aside may have changed the last
        raise TryLater(f"{target} has changed since it was read", "`snapward verify` reads it again.")
    if part.bad is not None:
        return part.bad
    if part.promise.sha256 is None and shelf.same(target, new):
        return None
    if part.promise.sha256 is not None and part.name not in SIDES:
        raise TryLater(f"{target} has come meanwhile", "`snapward repair` looks again.")
    return File(state=Is.BAD, why=f"is not as in {part.source}", verdict="differs")


def set_aside(db: sqlite3.Connection, root: str, move: Move, bad: File, now: Callable[[], float]) -> None:
    """Move one bad file below `.quarantine` of the location at `root`; the deed is written down before.

    Raises:
        CannotWrite: it cannot be moved there.
    """
    path, name = move.path, move.name
    folder = os.path.join(root, write.QUARANTINE, raw(path))
    write.make_folder(folder, move.permissions, below=root)
    aside = shelf.free(os.path.join(folder, raw(name)), os.path.join(root, raw(path), raw(name)))
    told = {
        "schema_version": 1,
        "file": name,
        "state": bad.verdict,
        "why": bad.why,
        "level": bad.level,
        "checked": rfc3339(bad.checked),
        "sha256": bad.sha256,
        "moved": rfc3339(now()),
    }
    with writing(db):
        deed = deeds.begin(db, "quarantine", move.location, f"{path}/{name}", bad.why, move.who, now())
    said = msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n"
    write.write_file(f"{aside}.verdict.json", said, move.permissions)
    shelf.put_aside(os.path.join(root, raw(path), raw(name)), aside)
    with writing(db):
        deeds.end(db, deed, now(), f"moved to {write.QUARANTINE}/{path}/{printable(os.path.basename(aside))}")
