"""A scratch Qdrant server as the place of a rehearsal: the archive is restored there, looked at, and deleted again."""

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator

import msgspec
from msgspec import Struct

from agent.adapters.qdrant import admin, copy, shards, upload
from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.server import Server
from agent.adapters.qdrant.wire import Wire
from agent.adapters.shelf import write
from agent.adapters.shelf.inflate import Inflated
from agent.errors import AgentError, Damaged, Refused, TryLater
from agent.jobs.drill.stage import Taken, Task
from agent.rules.rehearsal import Part, Seen
from agent.rules.subjects import Piece

_SAMPLE, _LARGE_SAMPLE = 1000, 100_000
_NOTE = "drill-on-server.json"
_PERMISSIONS = write.Permissions(files=0o640, folders=0o750)


class _Note(Struct, frozen=True):
    """What a drill is about to make on a server: written before, removed when it is gone from there."""

    url: str
    collection: str
    file: str


class _Key(Struct, frozen=True):
    """A shard key, as the manifest has it."""

    key: str | int
    shard_ids: list[int]


class OnServer:
    """A scratch server.

    Args:
        address: where it is.
        state_dir: where it is noted what may lie there.
        stopping: whether nobody waits any more.

    Raises:
        Unreachable: it does not answer.
    """

    def __init__(self, address: Address, state_dir: str, stopping: Callable[[], bool]) -> None:
        self._server = Server(Wire(address, lambda: "it was asked to stop" if stopping() else ""))
        self._path = os.path.join(state_dir, _NOTE)
        self.name = f"Qdrant {self._server.identity().version}"

    @contextlib.contextmanager
    def take(self, piece: Piece, *, alone: bool) -> Iterator[Taken]:
        """Nothing has to be made ready: what is read now is hashed, and sent when it is known to be good."""
        if not alone:
            raise Refused(f"{piece.file} is one peer's part of a cluster's collection: a single server takes none")
        yield _Hashed(self)

    def clear(self) -> list[str]:
        """Remove what a drill that died has left on the server; returns what was done, in words."""
        try:
            with open(self._path, "rb") as file:
                note = msgspec.json.decode(file.read(1 << 20), type=_Note)
        except (OSError, ValueError):
            return []
        if note.url != self._server.url:
            os.unlink(self._path)
            return [f"a drill that died may have left the collection {note.collection} on {note.url}"]
        try:
            self._remove(note)
        except AgentError as error:
            return [f"what a drill that died left on the server cannot be removed: {error.message}"]
        return [f"removed what a drill that died had left on the server: {note.collection}"]

    def look(self, task: Task, raw_size: int, sha256: str) -> Seen:
        """Restore an archive, look at it, and delete it again.

        Raises:
            AgentError: it could not be restored for a reason that lies not in the archive.
        """
        name = f"snapward-drill-{secrets.token_hex(8)}"
        note = _Note(self._server.url, name, upload.new_name())
        until = time.monotonic() + task.seconds
        write.write_file(self._path, msgspec.json.encode(note), _PERMISSIONS)
        try:
            self._make(name, task)
            try:
                with Inflated(task.path, None, raw_size, sha256) as source:
                    upload.upload(self._server, name, note.file, raw_size, sha256, _Source(source), until)
            except Damaged as error:
                return Seen(engine=self.name, parts=(Part(error=error.message),))
            admin.wait_ready(self._server, name, until)
            left = max(until - time.monotonic(), 1.0)
            sample = _LARGE_SAMPLE if task.whole else _SAMPLE
            return copy.seen(self._server, name, task.expected, seconds=left, sample=sample)
        finally:
            with contextlib.suppress(AgentError):  # the note stays, and the next drill tries again
                self._remove(note)

    def _make(self, name: str, task: Task) -> None:
        """Shard keys have to be there before; everything else is made from what the archive says."""
        if not task.entries or task.entries[0].sharding != "custom":
            return
        try:
            keys = msgspec.convert(task.entries[0].shard_keys, list[_Key])
        except msgspec.ValidationError as error:
            raise Refused(f"its manifest tells no shard keys that can be made: {error}") from error
        admin.create(self._server, name, task.entries[0].config)
        for one in sorted(keys, key=lambda one: min(one.shard_ids, default=0)):
            shards.add_shard_key(self._server, name, one.key, shards=len(one.shard_ids))

    def _remove(self, note: _Note) -> None:
        # First what was uploaded: without its collection the server neither lists nor removes it.
        upload.clear(self._server, note.collection, note.file)
        admin.drop(self._server, note.collection)
        with contextlib.suppress(OSError):
            os.unlink(self._path)


class _Source:
    """What an archive holds; one that is not any more what was read a moment ago is no fault of the server."""

    def __init__(self, inner: Inflated) -> None:
        self._inner = inner

    def readinto(self, buffer: memoryview, /) -> int:
        try:
            return self._inner.readinto(buffer)
        except Damaged as error:
            raise TryLater(error.message, error.hint) from error


class _Hashed:
    def __init__(self, stage: OnServer) -> None:
        self._stage = stage
        self._digest = hashlib.sha256()
        self.raw_size = 0

    def feed(self, data: memoryview, /) -> None:
        self._digest.update(data)
        self.raw_size += len(data)

    def see(self, task: Task) -> tuple[Seen, str]:
        return self._stage.look(task, self.raw_size, self._digest.hexdigest()), ""
