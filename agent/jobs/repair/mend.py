"""Make what a location lacks from another one's copy; what is bad is moved aside with its verdict, and never deleted.

Everything new is made below `.repairing` of its own location, proved on the way, and renamed to its place when it is
whole. The deed is written down before, and stays open when the process dies: then the next repair goes on.
"""

import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from msgspec import Struct

from agent.adapters import host
from agent.adapters.host import Anchor
from agent.adapters.ledger import deeds, writing
from agent.adapters.shelf import copy as shelf
from agent.adapters.shelf import look, read, write
from agent.adapters.shelf.write import Permissions
from agent.errors import AgentError, CannotWrite, TryLater
from agent.jobs.repair import aside
from agent.rules import manifest
from agent.rules.archive import Promise
from agent.rules.checksums import MANIFEST
from agent.rules.repair import BASELINE, SIDES, Item, Part
from agent.rules.words import count, printable, raw, size

_MARGIN = 1 << 20  # bytes that a disk keeps beside what is copied to it


class Stopped(Exception):
    """It was asked to leave off; what was begun is finished next time."""


class Bench(Struct, frozen=True):
    """What repairs are made with.

    Attributes:
        places: path and mount of each location.
        permissions: mode and owner of what is made.
        quarantine: whether a bad file is moved aside; else it is left, and nothing is made in its place.
        who: for the audit trail.
        now: tells the time, epoch seconds.
        progress: hears of the bytes that were copied; may wait, so that the disks are not kept too busy.
        stopping: whether to leave off.
    """

    places: Mapping[str, tuple[str, str | None]]
    permissions: Permissions
    quarantine: bool
    who: str
    now: Callable[[], float]
    progress: Callable[[int], None] = lambda _: None
    stopping: Callable[[], bool] = lambda: False


class Done(Struct, frozen=True):
    """What became of one item: `why` says what stood in the way, or is empty; sizes in bytes."""

    item: Item
    made: int
    size: int
    aside: int
    why: str = ""
    hint: str = ""


def repair(db: sqlite3.Connection, items: Iterable[Item], bench: Bench) -> Iterator[Done]:
    """Make what each item lacks; what cannot be made is told, and does not keep the others from being made.

    Only for the holder of the lock.

    Raises:
        Stopped: it was asked to leave off.
    """
    tidy(bench)
    for item in items:
        if bench.stopping():
            raise Stopped
        try:
            yield _one(db, item, bench)
        except AgentError as error:
            yield Done(item, 0, 0, 0, error.message, error.hint)


def tidy(bench: Bench) -> None:
    """Take away what a repair that died has left unfinished below `.repairing`."""
    for path, mount in bench.places.values():
        with host.anchored(path, mount) as anchor:
            if anchor.at:
                shelf.clear(os.path.join(anchor.at, write.REPAIRING))


def settle(db: sqlite3.Connection, lacking: Collection[tuple[str, str]], bench: Bench) -> None:
    """End the deeds of repairs that died when all was in its place: nothing lacks there any more.

    Only for the holder of the lock. `lacking` are all locations and paths where something does, those that are away
    among them.
    """
    with writing(db):
        for kind in ("repair", "quarantine"):
            for one in deeds.unfinished(db, kind):
                inside = any((one.location, one.path[:end]) in lacking for end in _ends(one.path))
                if not inside:
                    deeds.end(db, one.id, bench.now(), "done; its process died before it could say so")


def _ends(path: str) -> list[int]:
    """Where a path and the folders above it end."""
    return [at for at, char in enumerate(path) if char == "/"] + [len(path)]


def _one(db: sqlite3.Connection, item: Item, bench: Bench) -> Done:
    with host.anchored(*bench.places[item.location]) as anchor:
        if not anchor.at:
            raise CannotWrite(f"{anchor.path} {anchor.root.trouble}", anchor.root.hint)
        parts = _parts(item, bench)
        _room(anchor, sum(one.promise.size or 0 for one in parts))
        deed, again = _begin(db, item, bench)
        work = os.path.join(anchor.at, write.REPAIRING, raw(item.backup.path))
        placed: list[str] = []
        try:
            copied = _copied(anchor, work, item, parts, bench)
            _place(db, anchor, work, item, parts, bench, placed)
        except AgentError as error:
            told = type(error)(error.message.replace(anchor.at, os.path.realpath(anchor.path)), error.hint)
            if not placed and not again:  # else it is half done, and the next repair goes on
                _end(db, deed, item, bench, f"{deeds.NOT_DONE}: {told.message}")
            raise told from error
        finally:
            shelf.clear(os.path.join(anchor.at, write.REPAIRING))
        sources = " and ".join(sorted({one.source for one in parts}))
        _end(db, deed, item, bench, f"{count(len(parts), 'file')}, {size(copied)}, made from {sources}")
        return Done(item, len(parts), copied, sum(one.bad is not None for one in parts))


def _begin(db: sqlite3.Connection, item: Item, bench: Bench) -> tuple[int, bool]:
    """The deed, begun now or by a repair that died, and whether it is the latter."""
    path = item.backup.path
    begun = [one for one in deeds.unfinished(db, "repair") if (one.location, one.path) == (item.location, path)]
    if begun:
        return begun[-1].id, True
    with writing(db):
        return deeds.begin(db, "repair", item.location, path, item.why, bench.who, bench.now()), False


def _end(db: sqlite3.Connection, deed: int, item: Item, bench: Bench, outcome: str) -> None:
    """The deed is over, and so is what an earlier life has moved aside for it."""
    now = bench.now()
    with writing(db):
        deeds.end(db, deed, now, outcome)
        for one in deeds.unfinished(db, "quarantine"):
            if one.location == item.location and one.path.startswith(f"{item.backup.path}/"):
                deeds.end(db, one.id, now, f"moved to {write.QUARANTINE}")


def _source(bench: Bench, part: Part, item: Item) -> str:
    root = os.path.realpath(bench.places[part.source][0])
    return os.path.join(root, raw(item.backup.path), raw(part.name))


def _parts(item: Item, bench: Bench) -> list[Part]:
    """All that is to be made, the manifest last; to a whole copy belong the small files beside the archives too."""
    parts = list(item.parts)
    if not bench.quarantine and any(one.bad is not None for one in parts):
        raise _kept(item)
    if item.whole:
        believed = item.believed
        _confirm(item, bench)
        root = os.path.realpath(bench.places[believed][0])
        named = {one.name for one in parts}
        there = [one[0] for one in look.listing(root, item.backup.path).files]
        extra = [
            name for name in there if name not in named and (name in SIDES or name.removesuffix(BASELINE) in named)
        ]
        parts += [Part(name=name, source=believed, promise=Promise(believed), why="belongs to it") for name in extra]
    return sorted(parts, key=lambda one: (one.name == MANIFEST, one.name in SIDES, one.name))


def _kept(item: Item) -> AgentError:
    why = f"{item.location}: {item.backup.path} has bad files, and repair.quarantine keeps them where they are"
    return TryLater(why, "Move them away, or let repair.quarantine be true.")


def _confirm(item: Item, bench: Bench) -> None:
    """See that the manifest that comes along is still the one that the ledger knows."""
    path = os.path.join(os.path.realpath(bench.places[item.believed][0]), raw(item.backup.path), MANIFEST)
    try:
        said = manifest.promises(manifest.decode(read.read_small(path)[0]))
    except (OSError, ValueError, AgentError, read.Moved) as error:
        raise TryLater(f"{path} cannot be read: {error}", "`snapward verify` tells what is wrong with it.") from error
    known = {one.name: one.promise.sha256 for one in item.parts}
    if {printable(name): one.sha256 for name, one in said.items()} != known:
        raise TryLater(f"{path} is not the one that was read", "`snapward verify` reads it again.")


def _room(anchor: Anchor, needed: int) -> None:
    free = host.space(anchor.at).free
    if free < needed + _MARGIN:
        why = f"{anchor.path} has {size(free)} free; the repair needs {size(needed + _MARGIN)}"
        raise CannotWrite(why, "Free space there; `snapward status` shows how full it is.")


def _copied(anchor: Anchor, work: str, item: Item, parts: Iterable[Part], bench: Bench) -> int:
    """All of it, proved and on the disk, in the folder where it is made."""
    write.make_folder(work, bench.permissions, below=anchor.at)

    def progress(more: int) -> None:
        bench.progress(more)
        if bench.stopping():
            raise Stopped

    return sum(
        shelf.copy(
            _source(bench, one, item), os.path.join(work, raw(one.name)), one.promise, bench.permissions, progress
        )
        for one in parts
    )


def _place(
    db: sqlite3.Connection,
    anchor: Anchor,
    work: str,
    item: Item,
    parts: Iterable[Part],
    bench: Bench,
    placed: list[str],
) -> None:
    """Give all of it its place; `placed` tells how far that has come."""
    path = raw(item.backup.path)
    final = os.path.join(anchor.at, path)
    _still(anchor)
    if not os.path.lexists(final):
        if not item.whole:
            raise TryLater(f"{final} has gone meanwhile", "`snapward repair` looks again.")
        write.make_folder(os.path.dirname(final), bench.permissions, below=anchor.at)
        write.publish(work, final)
        return
    for part in parts:
        target, new = os.path.join(final, raw(part.name)), os.path.join(work, raw(part.name))
        bad = aside.in_the_way(part, target, new)
        if bad is not None and not bench.quarantine:
            raise _kept(item)
        _still(anchor)
        placed.append(part.name)
        if bad is not None:
            move = aside.Move(item.location, item.backup.path, part.name, bench.permissions, bench.who)
            aside.set_aside(db, anchor.at, move, bad, bench.now)
        shelf.put(new, target)


def _still(anchor: Anchor) -> None:
    if not anchor.there():
        raise CannotWrite(f"{anchor.path} went away in the middle of the repair", "Mount it; the repair goes on then.")
