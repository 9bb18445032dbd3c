"""Take one backup with an engine that gives us its collections as streams."""

import io
import os
import shutil
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from agent import __version__
from agent.adapters import host
from agent.adapters.shelf import write
from agent.adapters.shelf.write import Permissions
from agent.errors import AgentError, CannotWrite, Refused, TryLater
from agent.jobs.backup.engine import Engine, Order, Progress, Source
from agent.jobs.backup.fanout import Places, Written, pour
from agent.rules import checksums, manifest
from agent.rules.manifest import CollectionEntry, Failure, FileEntry, Manifest
from agent.rules.names import backup_id, chosen, file_stem
from agent.rules.words import rfc3339, size, span

CONFIG_ARCHIVE = "server-config.tar.gz"


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
    stopping: Callable[[], bool] = lambda: False,
    progress: Progress = lambda _name, _done, _total: None,
) -> Taken:
    """Write every chosen collection into every location, and publish the backup by one rename in each.

    A collection that fails, or is not written by the deadline, leaves the backup incomplete, a location that
    fails leaves it degraded; what did succeed is published either way.

    Raises:
        Refused: there is no collection to back up.
        CannotWrite: no location takes data; nothing is published.
        Unreachable: the engine's data cannot be read.
        TryLater: it was asked to stop; nothing is published.
    """
    began, clock = now(), time.monotonic()
    identity = _free_id(order, began)
    names = chosen(engine.collections(), order.include, order.exclude)
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
        entries, failures = _collections(engine, names, places, order, halted, progress)
        if stopping():
            raise TryLater("the backup was stopped before it was complete; nothing was published")
        files, unread = _config(order, places)
        described = Manifest(
            id=identity,
            tier=order.tier,
            engine={"kind": engine.kind, "version": engine.version()},
            agent={"version": __version__},
            host=socket.gethostname(),
            started=rfc3339(began) or "",
            ended=rfc3339(now()) or "",
            compression={"format": "gzip", "level": order.level, "library": "zlib"},
            collections=entries,
            failed=failures + unread,
            files=files,
        )
        _describe(described, places, order.permissions, notes)
        places.each(lambda folder: _publish(folder, order, identity))
    except BaseException:
        _clean(order, identity)
        raise
    _clean(order, identity)
    left = tuple(places.left())
    state = "incomplete" if described.failed else "degraded" if places.failed else "good"
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


def _collections(
    engine: Engine,
    names: list[str],
    places: Places,
    order: Order,
    halted: Callable[[], str],
    progress: Progress,
) -> tuple[list[CollectionEntry], list[Failure]]:
    entries: list[CollectionEntry] = []
    failures: list[Failure] = []
    turn = threading.Lock()

    def one(name: str) -> None:
        try:
            if why := halted():
                raise TryLater(f"its turn did not come: {why}")
            entry = _collection(engine, name, places, order, halted, progress)
            with turn:
                entries.append(entry)
        except AgentError as error:
            places.left()  # without a place to write to there is no backup at all
            with turn:
                failures.append(Failure(name=name, why=error.message))

    with ThreadPoolExecutor(order.parallel, thread_name_prefix="collection") as pool:
        for done in [pool.submit(one, name) for name in names]:
            done.result()
    return sorted(entries, key=lambda entry: entry.name), sorted(failures, key=lambda one: one.name)


def _collection(
    engine: Engine, name: str, places: Places, order: Order, halted: Callable[[], str], progress: Progress
) -> CollectionEntry:
    began = time.monotonic()
    file = f"{file_stem(name)}.snapshot.gz"
    with engine.open(name) as source:
        chunks = _whole(source, halted, progress)
        written = pour(chunks, places, file, order.level, order.permissions)
        return _entry(source, file, written, time.monotonic() - began)


def _whole(source: Source, halted: Callable[[], str], progress: Progress) -> Iterator[bytes]:
    """The pieces of a collection while there is time, and in all as many bytes as were planned."""
    done, total = 0, source.plan.raw_size
    for chunk in source.plan.chunks():
        if why := halted():
            raise TryLater(f"broken off after {size(done)} of {size(total)}: {why}")
        yield chunk
        done += len(chunk)
        progress(source.name, done, total)
    if done != total:
        raise TryLater(f"{done:,} bytes came instead of {total:,}: it changed while it was read")


def _entry(source: Source, file: str, written: Written, seconds: float) -> CollectionEntry:
    return CollectionEntry(
        name=source.name,
        file=file,
        size=written.size,
        sha256=written.sha256,
        raw_size=written.raw_size,
        raw_sha256=written.raw_sha256,
        points_before=source.points,
        points_after=source.points,
        shards=list(source.shards),
        config=source.config,
        payload_schema=source.payload_schema,
        seconds=round(seconds, 3),
    )


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
    chunks = iter(lambda: packed.read(1 << 20), b"")
    written = pour(chunks, places, CONFIG_ARCHIVE, order.level, order.permissions)
    return [FileEntry(file=CONFIG_ARCHIVE, size=written.size, sha256=written.sha256)], []


def _describe(described: Manifest, places: Places, permissions: Permissions, notes: Callable[[Manifest], str]) -> None:
    """RESTORE.md, SHA256SUMS, and last of all the manifest: a folder without one is not a backup of ours."""
    listed: list[CollectionEntry | FileEntry] = [*described.collections, *described.files]
    sums = b"".join(checksums.line(entry.sha256, entry.file) for entry in listed)
    text = notes(described).encode()

    def into(folder: str) -> None:
        write.write_file(os.path.join(folder, "RESTORE.md"), text, permissions)
        write.write_file(os.path.join(folder, checksums.SUMS), sums, permissions)
        write.write_file(os.path.join(folder, checksums.MANIFEST), manifest.encode(described), permissions)

    places.each(into)


def _publish(folder: str, order: Order, identity: str) -> None:
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
