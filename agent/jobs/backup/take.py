"""Take one backup: every collection of an engine into every location at once."""

import io
import os
import shutil
import socket
import tarfile
import time
from collections.abc import Callable, Mapping

from msgspec import Struct

from agent import __version__
from agent.adapters import host, press
from agent.adapters.ledger import deeds
from agent.adapters.press import Squeeze
from agent.adapters.shelf import write
from agent.adapters.shelf.write import Permissions
from agent.errors import AgentError, CannotWrite, Refused, TryLater
from agent.jobs.backup.book import Book
from agent.jobs.backup.engine import Engine, Order, Piece, Progress
from agent.jobs.backup.places import Places
from agent.jobs.backup.pour import pour
from agent.jobs.backup.writing import Writing, told
from agent.rules import checksums, manifest
from agent.rules.manifest import CollectionEntry, Failure, FileEntry, Manifest
from agent.rules.names import absent, backup_id, chosen
from agent.rules.words import rfc3339, size, span

CONFIG_ARCHIVE = "server-config.tar.gz"
# What is left of a collection's bytes when it is compressed: random floats keep more, and a disk that is short of even
# this need not be tried.
_KEPT = {"none": 1.0}
_KEPT_AT_LEAST = 0.5


class Taken(Struct, frozen=True):
    """One backup that was published. `state`: good (written everywhere), degraded, or incomplete."""

    id: str
    tier: str
    state: str
    manifest: Manifest
    locations: tuple[str, ...]
    failed_locations: dict[str, str]
    seconds: float


def take(
    engine: Engine,
    order: Order,
    now: Callable[[], float],
    notes: Callable[[Manifest], str],
    *,
    book: Book | None = None,
    stopping: Callable[[], bool] = lambda: False,
    progress: Progress = lambda _name, _done, _total: None,
) -> Taken:
    """Write every chosen collection into every location, and publish the backup by one rename in each.

    `book` is where it is written down that it is published.

    A collection that fails, or is not written by the deadline, leaves the backup incomplete, a location that
    fails leaves it degraded; what did succeed is published either way.

    Raises:
        BadConfig: there is no library for a compression.
        Refused: there is no collection to back up.
        CannotWrite: no location takes data; nothing is published.
        Unreachable: the engine's data cannot be read.
        TryLater: it was asked to stop; nothing is published.
    """
    began, clock = now(), time.monotonic()
    for squeeze in (order.squeeze, *(one for _, one in order.squeezes)):
        press.library(squeeze)  # is it there? To find out after an hour would be late
    identity = _free_id(order, began)
    known = engine.collections()
    names = chosen(known, order.include, order.exclude)
    unknown = absent(known, order.include, order.exclude)
    missing = [Failure(name=one, why="there is no such collection") for one in unknown]
    if not names:
        raise Refused(
            "there is no collection to back up; nothing was published",
            "Is it the right engine, and do engine.collections or --collection leave any?",
        )
    until = clock + order.deadline

    def halted() -> str:
        if stopping():
            return "it was asked to stop"
        return f"the deadline of {span(order.deadline)} has passed" if time.monotonic() > until else ""

    try:
        places = _prepare(order, identity)
        pieces, failures = _room(engine, names, places, order)
        around = engine.surroundings()  # before anything is made: afterwards a server that went away costs nothing
        work = Writing(engine, places, order, halted, progress, alone=len(pieces) == 1 or order.parallel == 1)
        entries, broken = work.all(pieces)
        if stopping():
            raise TryLater("the backup was stopped before it was complete; nothing was published")
        files, unread = _config(order, places)
        gaps = engine.gaps([(Piece(one.name, one.peer), tuple(one.shards)) for one in entries])
        described = Manifest(
            id=identity,
            tier=order.tier,
            partial=order.partial,
            engine=around.engine,
            agent={"version": __version__},
            host=socket.gethostname(),
            started=rfc3339(began) or "",
            ended=rfc3339(now()) or "",
            aliases=around.aliases,
            cluster=around.cluster,
            notes=list(around.notes),
            compression=told(order.squeeze),
            collections=entries,
            failed=_once([*missing, *failures, *broken, *gaps, *unread]),
            files=files,
        )
        described = _publish(described, places, order, notes, book or Book(), now)
    except BaseException:
        _clean(order, identity)
        raise
    _clean(order, identity)
    left = tuple(places.left())
    state = _state(described, places)
    failed = {name: error.message for name, error in places.failed.items()}
    return Taken(identity, order.tier, state, described, left, failed, time.monotonic() - clock)


def _free_id(order: Order, at: float) -> str:
    """The id of this second, or of the next one that no backup of the tier has yet."""
    while any(os.path.lexists(os.path.join(path, order.tier, backup_id(at))) for path, _ in order.locations.values()):
        at += 1
    return backup_id(at)


def _prepare(order: Order, identity: str) -> Places:
    """A folder below `.incoming` in every location that can be used."""
    folders = {
        name: os.path.join(os.path.realpath(path), write.INCOMING, identity)
        for name, (path, _) in order.locations.items()
    }
    places = Places(folders)
    for name, (path, mount) in order.locations.items():
        try:
            trouble = host.root(path, mount)
            if trouble.trouble:
                raise CannotWrite(f"{path} {trouble.trouble}", trouble.hint)
            real = os.path.realpath(path)
            write.make_folder(folders[name], order.permissions, below=real)
            why = host.probe(folders[name])
            if why:
                raise CannotWrite(f"{path}: {why}", "`snapward check` shows what each location lacks.")
        except AgentError as error:
            places.fail(name, error)
    places.left()
    return places


def _room(engine: Engine, names: list[str], places: Places, order: Order) -> tuple[list[Piece], list[Failure]]:
    """See that there is room for what is known of the collections, and cut them into archives.

    Raises:
        CannotWrite: no location has room, or the engine itself has none.
    """
    sizes = engine.sizes(names)
    needed = sum(int(known * _KEPT.get(order.squeeze_of(name).format, _KEPT_AT_LEAST)) for name, known in sizes.items())
    for location, folder in places.left().items():
        free = host.space(folder).free
        if free < needed:
            why = f"{folder} has {size(free)} free; the backup needs {size(needed)} or more"
            places.fail(location, CannotWrite(why, "Free space there; `snapward status` shows how full it is."))
    places.left()
    engine.room(sizes, order.parallel)
    return engine.pieces(names)


def _once(failures: list[Failure]) -> list[Failure]:
    """One failure a name: the first reason is the cause."""
    return list({one.name: one for one in reversed(failures)}.values())[::-1]


def _config(order: Order, places: Places) -> tuple[list[FileEntry], list[Failure]]:
    """The configured server configuration files as one archive; none configured or one unreadable, no archive."""
    if not order.config_files:
        return [], []
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in order.config_files:
            try:
                archive.add(path, arcname=path.lstrip("/"))
            except OSError as error:
                why = f"the configuration file {path} cannot be read: {error.strerror or error}"
                return [], [Failure(name=CONFIG_ARCHIVE, why=why)]
    packed.seek(0)
    written = pour(packed, places, CONFIG_ARCHIVE, Squeeze(), order.permissions)
    return [FileEntry(file=CONFIG_ARCHIVE, size=written.size, sha256=written.sha256)], []


def _describe(described: Manifest, places: Places, permissions: Permissions, notes: Callable[[Manifest], str]) -> None:
    """RESTORE.md, SHA256SUMS, and last of all the manifest: a folder without one is not a backup of ours."""
    listed: list[CollectionEntry | FileEntry] = [*described.collections, *described.files]
    sums = b"".join(checksums.line(entry.sha256, entry.file) for entry in listed)
    text, said = notes(described).encode(), manifest.encode(described)

    def into(folder: str) -> None:
        write.write_file(os.path.join(folder, "RESTORE.md"), text, permissions)
        write.write_file(os.path.join(folder, checksums.SUMS), sums, permissions)
        write.write_file(os.path.join(folder, checksums.MANIFEST), said, permissions)

    places.each(into)


def _state(described: Manifest, places: Places) -> str:
    return "incomplete" if described.failed else "degraded" if places.failed else "good"


def _publish(
    described: Manifest,
    places: Places,
    order: Order,
    notes: Callable[[Manifest], str],
    book: Book,
    now: Callable[[], float],
) -> Manifest:
    """Describe the backup and give it its place in every location; returns the manifest as it was published."""
    locations = {folder: name for name, folder in places.left().items()}
    tiers = {name: os.path.join(os.path.realpath(path), order.tier) for name, (path, _) in order.locations.items()}
    described = book.describe(described, {name: tiers[name] if name in places.left() else None for name in tiers})
    _describe(described, places, order.permissions, notes)

    def into(folder: str) -> None:
        book.begin(locations[folder], f"{order.tier}/{described.id}", now())
        _rename(folder, order, described.id)

    try:
        places.each(into)
    finally:
        failed = {name: f"{deeds.NOT_DONE}: {error.message}" for name, error in places.failed.items()}
        book.end(failed, _state(described, places), manifest.epoch(described.started), now())
    return described


def _rename(folder: str, order: Order, identity: str) -> None:
    with write.explained(folder):
        write.sync_folder(folder)  # still there? Else nothing may be made where its disk was
    root = os.path.dirname(os.path.dirname(folder))
    tier = os.path.join(root, order.tier)
    write.make_folder(tier, order.permissions, below=root)
    write.publish(folder, os.path.join(tier, identity))


def _clean(order: Order, identity: str) -> None:
    """Take away what is left below `.incoming`; what was published is no longer there."""
    for path, _ in order.locations.values():
        folder = os.path.join(os.path.realpath(path), write.INCOMING, identity)
        shutil.rmtree(folder, ignore_errors=True)


def clean_leftovers(locations: Mapping[str, tuple[str, str | None]]) -> list[str]:
    """Remove what backups that died left below `.incoming`; only for the holder of the backup lock.

    Returns the folders removed.
    """
    removed = []
    for path, mount in locations.values():
        if host.root(path, mount).trouble:
            continue
        for folder in write.leftovers(os.path.realpath(path)):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed
