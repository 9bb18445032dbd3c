"""Give a server an archive to restore a collection from, as one stream and without a file of our own."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Protocol
from uuid import uuid4

from agent.adapters.qdrant import admin
from agent.adapters.qdrant.reply import Answer, refusal, result
from agent.adapters.qdrant.server import Server, Snapshot
from agent.adapters.qdrant.trouble import Absent, Away, Busy, Garbled, Lost
from agent.errors import AgentError, CannotWrite, Damaged, NoRights, Refused, TryLater, Unreachable
from agent.rules import retry
from agent.rules.words import size as sized

_PIECE = 1 << 20
# What we have uploaded is known by this, and so can be removed by whoever comes after a crash.
_OURS = "snapward-restore-"
# What a server says when it could not store what came; its disk is full, as a rule.
_NOT_KEPT = "An error occurred processing field"
# Once it has everything a server first compares the checksum, and nothing shows that it is at work: it is given so many
# seconds, and as many more as hashing takes at so many bytes a second.
_UNSEEN, _HASHING = 30.0, 100e6
# While the server is at work without anybody waiting, it is looked at so often, in seconds.
_LOOK = 10.0


class Source(Protocol):
    """Where the bytes of a snapshot come from."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the beginning of the buffer; 0 at the end. Whatever it raises ends the upload and passes through."""


def new_name() -> str:
    """A file's name that nobody else has, for one upload; it tells that the upload is ours."""
    return f"{_OURS}{uuid4()}.snapshot"


def uploads(server: Server, collection: str) -> list[Snapshot]:
    """The files that our uploads have left in a collection's snapshots on this server (of a cluster: this peer)."""
    return [one for one in server.snapshots(collection)[0] if one.name.startswith(_OURS)]


def clear(server: Server, collection: str, file_name: str) -> bool:
    """Remove the file that an upload has left; whether it is gone.

    Where there is no such collection (any more), its snapshots can be neither listed nor removed: then it is not.
    """
    server.delete(collection, file_name)
    return admin.exists(server, collection)


def upload(
    server: Server,
    collection: str,
    file_name: str,
    size: int,
    sha256: str,
    source: Source,
    until: float,
    progress: Callable[[int], None] = lambda _: None,
) -> str:
    """Restore a collection from `size` bytes of `source`, a raw snapshot with this SHA-256.

    The collection is made if it is not there; what it held is replaced. The request is completed only when `source` has
    told its end, so an archive that turns out to be damaged on the way restores nothing. The server keeps the file,
    even if it cannot restore from it: see `clear`.

    Args:
        server: in a cluster, the peer whose shards the snapshot holds.
        collection: to be restored; not an alias, which would lead to what is behind it.
        file_name: under which the server keeps the snapshot, see `new_name`.
        size: of the raw snapshot in bytes.
        sha256: of it, hexadecimal; the server compares before it touches anything.
        source: read once, in this thread, until it has told its end.
        until: monotonic deadline of it all. Once the server has everything it may be silent until then.
        progress: called with the number of bytes of the snapshot that were sent so far.

    Returns:
        Empty if the server says that it is done. Else why its answer was not heard although it got everything and is no
        longer at work: whether the collection is restored, only a look at it can tell.

    Raises:
        Damaged: the source has fewer or more bytes, or the server got others than those with this SHA-256: nothing was
            changed. Or the server could not restore from them: what the collection held may be lost.
        NoRights: the key may not restore. Nothing was changed.
        CannotWrite: the server's disk is full.
        Refused: the server does not restore this here, such as over a collection of another kind. Nothing was changed.
        TryLater, Unreachable: it was asked to stop, or the server cannot be reached, or the connection broke before
            everything had arrived: nothing was changed. Or the deadline has passed while the server was at work.
    """
    what = f"restoring {collection}"
    path = f"{admin.at(collection)}/snapshots/upload?wait=true&priority=snapshot&checksum={sha256}"
    body = _Body(source, file_name, size, until, progress)
    try:
        got = _sent(server, path, body, until)
        if body.whole and _goes_on(got):
            raise Lost(refusal(got, what).message)
        if got.status >= 300:
            raise _refused(got, what, size, whole=body.whole)
        result(got, what, bool)
        if not body.whole:
            raise Garbled(f"{what}: {server.url} says that it is done")
    except (Lost, Garbled) as error:
        if not body.whole:
            raise type(error)(f"{error.message}, after {body.told()}; nothing was restored", error.hint) from error
        _outlast(server, collection, file_name, size, until)
        return error.message
    return ""


class _Body:
    """A form with the snapshot in it, piece by piece; `whole` once all of it was taken."""

    def __init__(
        self, source: Source, file_name: str, size: int, until: float, progress: Callable[[int], None]
    ) -> None:
        edge = uuid4().hex
        about = f'Content-Disposition: form-data; name="snapshot"; filename="{file_name}"'
        self._before = f"--{edge}\r\n{about}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
        self._after = f"\r\n--{edge}--\r\n".encode()
        self._source, self._size, self._until, self._progress = source, size, until, progress
        self._sent = 0
        self.whole = False
        self.headers = {
            "Content-Type": f"multipart/form-data; boundary={edge}",
            "Content-Length": str(len(self._before) + size + len(self._after)),
        }

    def __iter__(self) -> Iterator[bytes | memoryview]:
        yield self._before
        buffer = memoryview(bytearray(_PIECE))
        # One byte beyond its length is asked for, since a source may be found wrong only where it ends.
        while got := self._source.readinto(buffer[: max(1, self._size - self._sent)]):
            if self._sent == self._size:
                raise Damaged(f"the snapshot is longer than the {self._size:,} bytes that it should have")
            if time.monotonic() >= self._until:
                raise TryLater(f"the deadline has passed after {self.told()}; nothing was restored")
            yield buffer[:got]
            self._sent += got
            self._progress(self._sent)
        if self._sent < self._size:
            raise Damaged(f"the snapshot ends after {self._sent:,} of the {self._size:,} bytes that it should have")
        yield self._after
        self.whole = True

    def told(self) -> str:
        """How far it got, for people."""
        return f"{sized(self._sent)} of {sized(self._size)}"


def _sent(server: Server, path: str, body: _Body, until: float) -> Answer:
    """Send it, as soon as there is a connection."""
    bearable = min(until, time.monotonic() + server.wire.address.patience)
    for attempt in itertools.count():
        try:
            return server.wire.whole(server.wire.pour("POST", path, body, body.headers, until))
        except Away:
            wait = retry.pause(attempt)
            if time.monotonic() + wait > bearable:
                raise
            server.wire.rest(wait)
    raise AssertionError("counting has no end")


def _goes_on(got: Answer) -> bool:
    """Whether that is the word of a proxy that did not wait for the server."""
    return got.status == 408 or (got.status >= 500 and not got.own and not got.words.startswith(_NOT_KEPT))


def _refused(got: Answer, what: str, size: int, *, whole: bool) -> AgentError:
    """What the server says against it, in our own kinds."""
    error = refusal(got, what)
    told = error.message
    if isinstance(error, NoRights):
        return NoRights(told, "Set engine.restore_api_key to a key with the right to manage: to restore takes no less.")
    if isinstance(error, CannotWrite) or got.words.startswith(_NOT_KEPT):
        return CannotWrite(
            told, f"Has the server's disk room for {sized(size)}, and for what is in it, beside its data?"
        )
    if got.status == 413:
        return Refused(
            told, f"A proxy takes nothing as large as {sized(size)}: let engine.url lead to the server itself."
        )
    if got.words.startswith("Checksum mismatch"):
        return Damaged(f"{told}; nothing was restored", "Other bytes arrived than were in the archive: try again.")
    if whole and got.status >= 500:
        return Damaged(told, "What the collection held may be lost. The server's log says more; is its disk full?")
    error.hint = "Nothing was restored." if isinstance(error, Busy) else error.hint
    return error


def _arrived(server: Server, collection: str, file_name: str) -> bool:
    """Whether the server has the file among its snapshots, where it puts it once it has compared the checksum."""
    try:
        return any(one.name == file_name for one in server.snapshots(collection)[0])
    except Absent:
        return False


def _outlast(server: Server, collection: str, file_name: str, size: int, until: float) -> None:
    """Wait until the server is no longer at work on what it was given.

    Raises:
        TryLater: it is, at the deadline.
        Unreachable: it does not come back.
    """
    unseen = time.monotonic() + _UNSEEN + size / _HASHING
    seen = False
    for attempt in itertools.count():
        try:
            arrived = seen or _arrived(server, collection, file_name)
            running = admin.restoring(server, collection)
        except (Away, Lost) as error:
            why = f"{error.message}; it had everything, and may have died restoring {collection}"
            raise Unreachable(
                why, "Look at the server's log and disk. The collection is to be restored again."
            ) from error
        now = time.monotonic()
        if (seen and running is False) or (not running and now > unseen):
            return
        if now >= until:
            raise TryLater(f"{server.url} had not restored {collection} by the deadline")
        seen = arrived or running is True
        server.wire.rest(min(_LOOK, retry.pause(attempt), max(0.0, until - now)))
