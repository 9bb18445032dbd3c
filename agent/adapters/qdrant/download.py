"""Read a snapshot from the server as one stream, over as many connections as that takes."""

import http.client
import time

from agent.adapters.qdrant.reply import Reply, refusal
from agent.adapters.qdrant.trouble import Away, Busy, Lost, plain, words
from agent.adapters.qdrant.wire import Wire
from agent.errors import TryLater
from agent.rules import retry
from agent.rules.words import size

_LARGEST_REFUSAL = 1 << 20
_WHAT = "downloading the snapshot"


class Download:
    """A snapshot as it comes; a broken connection is taken up where it broke.

    What is read until the end is never fewer bytes than were expected, and never more.

    Args:
        wire: the server.
        path: of the snapshot.
        expected: its length in bytes.
    """

    def __init__(self, wire: Wire, path: str, expected: int) -> None:
        self._wire = wire
        self._path = path
        self._expected = expected
        self._at = 0
        self._ended = False
        self._failed = 0  # in a row, without a byte between
        self._until: float | None = None  # then such failing is too much (monotonic)
        self._tag: str | None = None
        self._reply: Reply | None = None

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the beginning of the buffer with what there is by now; 0 at the end.

        Raises:
            TryLater: it was asked to stop; or the stream broke and could not be taken up; or other bytes come than
                were promised.
            Unreachable: the server does not come back.
            NoRights, Refused: the server does not give it.
        """
        while not self._ended:
            if why := self._wire.halted():
                raise TryLater(f"broken off after {self._progress()}: {why}")
            try:
                if self._reply is None:
                    self._connect()
                got = self._read(buffer)
            except (Lost, Busy, Away, OSError, http.client.HTTPException) as error:
                self.close()
                self._ended = self._at == self._expected > 0  # what is missing is only how it says that this is all
                if not self._ended:
                    self._again(error)
                continue
            if got:
                return got
            self.close()
            self._ended = True
        return 0

    def close(self) -> None:
        """Let go of the connection."""
        if self._reply is not None:
            self._reply.close()
            self._reply = None

    def _read(self, buffer: memoryview) -> int:
        assert self._reply is not None  # noqa: S101 - connected just before
        got = self._reply.readinto(buffer)
        self._at += got
        if got:
            self._failed, self._until = 0, None
        elif self._at < self._expected:
            raise Lost(f"the server's answer ended after {self._progress()}")
        if self._at > self._expected:
            raise TryLater(f"more bytes come than the {self._expected:,} that the server promised")
        return got

    def _connect(self) -> None:
        headers = {}
        if self._at:
            if self._tag is None:
                raise TryLater(f"{self._came()}, and this server cannot go on from there")
            headers = {"Range": f"bytes={self._at}-", "If-Match": self._tag}
        reply = self._wire.open("GET", self._path, headers=headers)
        try:
            self._accept(reply)
        except BaseException:
            reply.close()
            raise
        self._reply = reply

    def _accept(self, reply: Reply) -> None:
        """See that what begins here is what was asked for."""
        if reply.status == (206 if self._at else 200):
            promised = None if reply.left is None else self._at + reply.left
            if promised is not None and promised > self._expected:
                raise TryLater(f"{promised:,} bytes are to come instead of the {self._expected:,} that were promised")
            if not self._at:
                tag = reply.headers.get("ETag")
                ranges = reply.headers.get("Accept-Ranges") == "bytes"
                self._tag = tag if ranges and tag and not tag.startswith("W/") else None
                return
            told = reply.headers.get("Content-Range", "")
            if told.startswith(f"bytes {self._at}-") and told.endswith((f"/{self._expected}", "/*")):
                return
            raise TryLater(f"{self._came()}, and what comes after it is something else: {plain(told)[:100]}")
        if self._at and reply.status == 200:
            raise TryLater(f"{self._came()}, and the server begins anew instead of going on from there")
        if self._at and reply.status == 412:
            raise TryLater(f"{self._came()}, and the snapshot is another one since")
        if self._at and reply.status in {404, 416}:
            gone = "is not there any more" if reply.status == 404 else "has no more"
            raise TryLater(f"{self._came()}, and it {gone}")
        raise refusal(reply.whole(_LARGEST_REFUSAL), _WHAT)

    def _again(self, error: Exception) -> None:
        """Wait before the next attempt, unless there have been enough; after some progress it is made at once."""
        asked, now = getattr(error, "wait", None), time.monotonic()
        wait = retry.pause(self._failed - 1, asked) if self._failed else asked or 0.0
        self._until = self._until or now + self._wire.address.patience
        if now + wait > self._until:
            if isinstance(error, Lost | Busy | Away):
                raise error
            raise TryLater(f"the connection broke after {self._progress()}: {words(error)}") from error
        self._wire.rest(wait)
        self._failed += 1

    def _progress(self) -> str:
        return f"{size(self._at)} of {size(self._expected)}"

    def _came(self) -> str:
        return f"{self._at:,} bytes came of the {self._expected:,} that the server promised"
