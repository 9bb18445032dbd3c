"""Remove backups one after the other. Each removal is a deed: begun in the ledger, done, ended there.

A backup leaves its place by one rename, into `.expiring`, and is taken apart there. Whatever kills us in between, the
deed is still open, and the next cleanup goes on where this one broke off.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress

from msgspec import Struct

from agent.adapters import host
from agent.adapters.ledger import catalogue, deeds, writing
from agent.adapters.shelf import remove
from agent.adapters.shelf.remove import Found, Freed, Top
from agent.errors import AgentError, CannotWrite, NoRights
from agent.rules import manifest
from agent.rules.checksums import MANIFEST, SUMS
from agent.rules.retention import Decision
from agent.rules.words import count, printable, size

KIND = "expire"
REMOVED, KEPT, FAILED = "removed", "kept", "failed"
_OWN_FILES = frozenset({MANIFEST, SUMS, "RESTORE.md"})
_OWN_ENDINGS = (".baseline.json", ".sha256")


class Shelf(Struct, frozen=True):
    """One location: its name, its folder, and the mount it is expected on."""

    name: str
    path: str
    mount: str | None = None


class Gone(Struct, frozen=True):
    """What became of one backup that was to go: removed, kept or failed, and why; `path` is tier/id, `size` bytes."""

    location: str
    path: str
    outcome: str
    why: str = ""
    size: int = 0
    error: AgentError | None = None


class Work(Struct, frozen=True):
    """What a cleanup works with: the ledger, the locations, who has asked for it, the clock, and whether to stop."""

    db: sqlite3.Connection
    shelves: Mapping[str, Shelf]
    who: str
    now: Callable[[], float]
    stopping: Callable[[], bool] = lambda: False


def finish(work: Work, going: Collection[tuple[str, str]], *, frozen: bool) -> Iterator[Gone]:
    """Bring to their end the removals that died, and remove what was put aside without a record of it.

    Args:
        work: what it works with.
        going: location and path (tier/id) of all that the present plan lets go.
        frozen: whether nothing may go now; what was taken apart already is removed all the same.
    """
    for deed in deeds.unfinished(work.db, KIND):
        shelf = work.shelves.get(deed.location)
        if shelf is None:
            _end(work, deed.id, f"{deeds.NOT_DONE}: its location is no longer configured")
        elif not host.root(shelf.path, shelf.mount).trouble:
            yield _guarded(_finished, work, shelf, deed.path, deed.id, going)
    for shelf in work.shelves.values():
        if not frozen and not host.root(shelf.path, shelf.mount).trouble:
            yield from _forgotten(work, shelf)


def objections(work: Work, going: Iterable[Decision]) -> Iterator[Gone]:
    """What `carry_out` would not remove, and why, as it lies there now. Changes nothing."""
    for one in going:
        path = "/".join(one.backup.key)
        seen = _guarded(_seen, work, work.shelves[one.location], path)
        if seen.outcome != REMOVED:
            yield seen


def carry_out(work: Work, going: Iterable[Decision]) -> Iterator[Gone]:
    """Remove what a plan lets go, the oldest first; a location that takes no more is left alone from then on.

    Yields what became of each once it is written down.
    """
    stuck: set[str] = set()
    for one in sorted(going, key=lambda one: (one.backup.started, one.backup.key)):
        if work.stopping():
            return
        if one.location not in stuck:
            shelf, path = work.shelves[one.location], "/".join(one.backup.key)
            done = _guarded(_removed, work, shelf, path, one.because)
            if isinstance(done.error, CannotWrite | NoRights):
                stuck.add(one.location)
            yield done


def _guarded(action: Callable[..., Gone], work: Work, shelf: Shelf, path: str, *more: object) -> Gone:
    try:
        return action(work, shelf, path, *more)
    except AgentError as error:
        return Gone(shelf.name, path, FAILED, error.message, error=error)


def _seen(work: Work, shelf: Shelf, path: str) -> Gone:
    with _opened(shelf) as top:
        found = remove.inspect(top, path)
        objection = _objection(work.db, shelf, path, found) if found else "it is gone already"
        return Gone(shelf.name, path, KEPT if objection else REMOVED, objection)


def _removed(work: Work, shelf: Shelf, path: str, why: str) -> Gone:
    with _opened(shelf) as top:
        found = remove.inspect(top, path)
        if found is None:
            return Gone(shelf.name, path, KEPT, "it is gone already")
        if objection := _objection(work.db, shelf, path, found):
            return Gone(shelf.name, path, KEPT, objection)
        with writing(work.db):
            number = deeds.begin(work.db, KIND, shelf.name, path, why, work.who, work.now())
        return _gone(work, top, shelf, path, found, number)


def _finished(work: Work, shelf: Shelf, path: str, number: int, going: Collection[tuple[str, str]]) -> Gone:
    with _opened(shelf) as top:
        if path in remove.waiting(top):
            return _cleared(work, top, shelf, path, number)
        found = remove.inspect(top, path)
        if found is None:
            remove.tidy(top)
            _end(work, number, "done")
            return Gone(shelf.name, path, REMOVED, "the cleanup before had removed it")
        objection = _objection(work.db, shelf, path, found)
        if objection or (shelf.name, path) not in going:
            remove.tidy(top)
            _end(work, number, f"{deeds.NOT_DONE}: kept after all")
            return Gone(shelf.name, path, KEPT, objection or "a cleanup was to remove it; it is wanted again")
        return _gone(work, top, shelf, path, found, number)


def _forgotten(work: Work, shelf: Shelf) -> Iterator[Gone]:
    """What waits in `.expiring` without a deed: the ledger that knew of it is lost."""
    open_now = {(one.location, one.path) for one in deeds.unfinished(work.db, KIND)}
    with _opened(shelf) as top:
        left = remove.waiting(top)
        remove.tidy(top)
    for path in left:
        if (shelf.name, path) not in open_now:
            yield _guarded(_taken_up, work, shelf, path)


def _taken_up(work: Work, shelf: Shelf, path: str) -> Gone:
    with _opened(shelf) as top:
        why = "a cleanup had put it aside, and there is no record of that any more"
        with writing(work.db):
            number = deeds.begin(work.db, KIND, shelf.name, path, why, work.who, work.now())
        return _cleared(work, top, shelf, path, number)


def _gone(work: Work, top: Top, shelf: Shelf, path: str, found: Found, number: int) -> Gone:
    try:
        remove.put_aside(top, path, found)
    except AgentError as error:
        # Else it has left its place, and the next cleanup goes on with the deed.
        with suppress(AgentError):
            if remove.inspect(top, path) is not None:
                _end(work, number, f"{deeds.NOT_DONE}: {error.message}")
        raise
    return _cleared(work, top, shelf, path, number)


def _cleared(work: Work, top: Top, shelf: Shelf, path: str, number: int) -> Gone:
    freed = remove.clear(top, path)
    _end(work, number, _words(freed))
    return Gone(shelf.name, path, REMOVED, size=freed.size)


def _opened(shelf: Shelf) -> AbstractContextManager[Top]:
    if trouble := host.root(shelf.path, shelf.mount).trouble:
        raise CannotWrite(f"{shelf.name} {trouble}", "Nothing is removed there until it is back.")
    return remove.opened(shelf.path)


def _objection(db: sqlite3.Connection, shelf: Shelf, path: str, found: Found) -> str:
    """Why what lies there is not what was judged: it is another folder, or holds what is no part of the backup."""
    known = {name: rest for name, *rest in catalogue.known(db, shelf.name, path)}
    changed = [name for name, rest in known.items() if name not in found.files or [*found.files[name]] != rest]
    if changed:
        return f"{min(changed)} is not what it was when it was judged"
    entry = catalogue.folder(db, shelf.name, path)
    described = catalogue.manifest(entry) if entry else None
    own = {printable(one) for one in manifest.promises(described)} if described else set()
    strange = [one for one in found.files if one not in own | known.keys() | _OWN_FILES and not _is_own(one)]
    return f"{min(strange)} lies in it, and is no part of the backup" if strange else ""


def _is_own(name: str) -> bool:
    return name.startswith(".") or name.endswith(_OWN_ENDINGS)


def _end(work: Work, number: int, outcome: str) -> None:
    with writing(work.db):
        deeds.end(work.db, number, work.now(), outcome)


def _words(freed: Freed) -> str:
    return f"{count(freed.files, 'file')}, {size(freed.size)}"
