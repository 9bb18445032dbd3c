"""Write Qdrant's own collection snapshot, tars within a tar, as a stream whose length is known beforehand.

Layout and dialect are the server's (lib/collection/src/collection/snapshots.rs, lib/common/common/src/tar_ext.rs):
GNU tar, old-GNU sparse entries, one nested tar a segment, `payload_index.json` last. Most of a shard's apparent size
is holes, and Python's tarfile can read sparse entries but not write them.
"""

import errno
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from msgspec import Struct

from agent.errors import NoRights, TryLater, Unreachable

ROOT_FILES = ("version.info", "config.json", "shard_key_mapping.json", "payload_index.json")
CHUNK = 1 << 20

_BLOCK = 512
_END = bytes(2 * _BLOCK)
_NAME = 100
# name, mode, uid, gid, size, mtime, checksum, type, magic, sparse map, "the map goes on", size with the holes
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100x8s80x41x96sc12s17x")
_EXTENSION = struct.Struct("504sc7x")
_IN_HEADER, _IN_EXTENSION = 4, 21


class File(Struct, frozen=True):
    """A file on disk as it was when planned.

    Attributes:
        name: name inside its tar.
        path: where it lies.
        size: bytes, holes included.
        mtime_ns: time of the last change, nanoseconds.
        inode: number of the inode, so that a replaced file is noticed.
        extents: (start, length) of what holds data, ascending; each start, and each end but the file's own, is a
            multiple of 512.
    """

    name: bytes
    path: str
    size: int
    mtime_ns: int
    inode: int
    extents: tuple[tuple[int, int], ...]


class Blob(Struct, frozen=True):
    """A file that is in no folder: its bytes are given."""

    name: bytes
    data: bytes


class Segment(Struct, frozen=True):
    """A segment: its files in a tar of their own."""

    name: bytes
    files: tuple[File, ...]
    size: int


Entry = File | Blob | Segment


class SnapshotPlan(Struct, frozen=True):
    """All that an archive will hold.

    Attributes:
        entries: in the order in which they are written.
        raw_size: exact length of the archive, bytes.
    """

    entries: tuple[Entry, ...]
    raw_size: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the archive in pieces of at most 1 MiB; each call reads the files anew.

        Raises:
            TryLater: a file is no longer as it was when planned.
            NoRights: a file may not be read.
            Unreachable: a file cannot be read.
        """
        for entry in self.entries:
            yield from _written(entry)
        yield _END


def plan(
    shards: Mapping[int, str],
    root_files: Mapping[str, bytes],
    shard_files: Mapping[int, Mapping[str, bytes]],
) -> SnapshotPlan:
    """Look at every file once and fix what the archive will hold.

    Args:
        shards: shard id to the folder with its `segments` and `wal`.
        root_files: bytes of each of `ROOT_FILES`.
        shard_files: shard id to what follows the shard's own files (`replica_state.json`, `shard_config.json`), by
            name, in this order.

    Raises:
        TryLater: a file went away meanwhile.
        NoRights: a file or folder may not be read.
        Unreachable: a file or folder cannot be read.
    """
    entries: list[Entry] = []
    for number, folder in sorted(shards.items()):
        entries += _shard(f"{number}/", folder)
        entries += [Blob(f"{number}/{name}".encode(), data) for name, data in shard_files[number].items()]
    entries += [Blob(name.encode(), root_files[name]) for name in ROOT_FILES]
    return SnapshotPlan(tuple(entries), _total(entries))


def _shard(prefix: str, folder: str) -> Iterator[Entry]:
    segments = os.path.join(folder, "segments")
    for name in _names(segments):
        if _is_segment(os.path.join(segments, name)):
            files = tuple(_files(os.path.join(segments, name), "snapshot/files/"))
            yield Segment(os.fsencode(f"{prefix}segments/{name}.tar"), files, _total(files))
    yield from _present(prefix, folder, "newest_clocks.json", "oldest_clocks.json")
    wal = os.path.join(folder, "wal")
    for name in _names(wal):
        if name != ".wal":  # the lock
            yield _file(os.path.join(wal, name), f"{prefix}wal/{name}")
    yield from _present(prefix, folder, "applied_seq.json")


def _is_segment(folder: str) -> bool:
    """Whether the engine would load it: what a crash left half-written has no version yet."""
    hidden = os.path.basename(folder).startswith(".") or folder.endswith(".deleted")
    return not hidden and os.path.isfile(os.path.join(folder, "version.info"))


def _present(prefix: str, folder: str, *names: str) -> Iterator[File]:
    for name in names:
        if os.path.exists(os.path.join(folder, name)):
            yield _file(os.path.join(folder, name), prefix + name)


def _files(folder: str, prefix: str) -> Iterator[File]:
    for name in _names(folder):
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            yield from _files(path, f"{prefix}{name}/")
        else:
            yield _file(path, prefix + name)


def _names(folder: str) -> list[str]:
    with _told(folder):
        return sorted(os.listdir(folder))


def _file(path: str, name: str) -> File:
    with _told(path), open(path, "rb", buffering=0) as file:
        facts = os.fstat(file.fileno())
        extents = _extents(file.fileno(), facts.st_size)
    return File(os.fsencode(name), path, facts.st_size, facts.st_mtime_ns, facts.st_ino, extents)


def _extents(file: int, size: int) -> tuple[tuple[int, int], ...]:
    found = []
    at = 0
    while at < size:
        try:
            start = os.lseek(file, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                break
            if error.errno == errno.EINVAL:  # a file system that knows no holes
                return ((0, size),)
            raise
        start, at = _in_blocks(start, os.lseek(file, start, os.SEEK_HOLE), size)
        found.append((start, at - start))
    return tuple(found)


def _in_blocks(start: int, end: int, size: int) -> tuple[int, int]:
    """Widen a piece of data to whole blocks: readers of a tar count the data in blocks."""
    return start - start % _BLOCK, min(size, end + _padding(end))


def _total(entries: Iterable[Entry]) -> int:
    return sum(map(_length, entries)) + len(_END)


def _length(entry: Entry) -> int:
    stored = _stored(entry)
    return len(_head(entry)) + stored + _padding(stored)


def _stored(entry: Entry) -> int:
    match entry:
        case File():
            return sum(length for _, length in entry.extents)
        case Blob():
            return len(entry.data)
        case Segment():
            return entry.size


def _written(entry: Entry) -> Iterator[bytes]:
    yield _head(entry)
    match entry:
        case File():
            yield from _content(entry)
        case Blob():
            yield entry.data
        case Segment():
            for file in entry.files:
                yield from _written(file)
            yield _END
    yield bytes(_padding(_stored(entry)))


def _content(planned: File) -> Iterator[bytes]:
    with _told(planned.path), open(planned.path, "rb", buffering=0) as file:
        for start, length in planned.extents:
            at, end = start, start + length
            while at < end:
                chunk = os.pread(file.fileno(), min(CHUNK, end - at), at)
                if not chunk:
                    raise _changed(planned)
                yield chunk
                at += len(chunk)
        now = os.fstat(file.fileno())
        if (now.st_size, now.st_mtime_ns, now.st_ino) != (planned.size, planned.mtime_ns, planned.inode):
            raise _changed(planned)


def _changed(planned: File) -> TryLater:
    return TryLater(
        f"{planned.path} changed while it was being backed up", "stop what writes to it, then back up again"
    )


def _head(entry: Entry) -> bytes:
    stored = _stored(entry)
    if not isinstance(entry, File):
        return _header(entry.name, stored, 0, b"0")
    mtime = max(0, entry.mtime_ns // 1_000_000_000)
    if stored == entry.size:
        return _header(entry.name, stored, mtime, b"0")
    extents = [*entry.extents]
    if not extents or sum(extents[-1]) < entry.size:
        extents.append((entry.size, 0))
    spans = [_number(start, 12) + _number(length, 12) for start, length in extents]
    head = _header(entry.name, stored, mtime, b"S", spans, entry.size)
    for at in range(_IN_HEADER, len(spans), _IN_EXTENSION):
        more = at + _IN_EXTENSION < len(spans)
        head += _EXTENSION.pack(b"".join(spans[at : at + _IN_EXTENSION]), bytes([more]))
    return head


def _header(name: bytes, stored: int, mtime: int, kind: bytes, spans: Sequence[bytes] = (), size: int = 0) -> bytes:
    long = b""
    if len(name) > _NAME:
        long = _header(b"././@LongLink", len(name) + 1, 0, b"L")
        long += name + bytes(1 + _padding(len(name) + 1))
    fields = [name[:_NAME], _number(0o644, 8), _number(0, 8), _number(0, 8), _number(stored, 12), _number(mtime, 12)]
    fields += [b" " * 8, kind, b"ustar  \0", b"".join(spans[:_IN_HEADER]), bytes([len(spans) > _IN_HEADER])]
    fields += [_number(size, 12) if spans else b""]
    fields[6] = b"%06o\0 " % sum(_HEADER.pack(*fields))
    return long + _HEADER.pack(*fields)


def _number(value: int, width: int) -> bytes:
    if value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return b"\x80" + value.to_bytes(width - 1, "big")


def _padding(size: int) -> int:
    return -size % _BLOCK


@contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise TryLater(f"{path} went away while it was being backed up", "back up again") from error
    except PermissionError as error:
        raise NoRights(f"{path} may not be read", "run as the user that owns the collections") from error
    except OSError as error:
        raise Unreachable(f"{path} cannot be read: {error.strerror}", "look at the disk and its log") from error
