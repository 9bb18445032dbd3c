"""A native snapshot of a Qdrant server: read as a stream, watched on its way, and compared with the server's word."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import json

from agent.adapters.qdrant.download import Download
from agent.adapters.qdrant.operations import Operations
from agent.adapters.qdrant.server import Server, Snapshot
from agent.errors import Damaged, TryLater
from agent.jobs.backup import witness
from agent.jobs.backup.engine import About
from agent.jobs.backup.witness import After, Before
from agent.rules.outline import Outline
from agent.rules.tarball import Walk


class Held:
    """A snapshot that lies on the server for us.

    Args:
        server: it lies there.
        name: of the collection.
        made: what the server says of it.
        info: the collection's own, from before it was made; empty where the server tells nothing of it.
        before: how the collection was then.
        operations: of this server.
    """

    tries = 3

    def __init__(
        self,
        server: Server,
        name: str,
        made: Snapshot,
        info: dict[str, Any],
        before: Before,
        operations: Operations,
    ) -> None:
        self._server = server
        self._name = name
        self._made = made
        self._info = info
        self._before = before
        self._operations = operations
        self._since = time.monotonic()
        self._walk = Walk()
        self._outline: Outline | None = None
        self.size = made.size

    @contextmanager
    def stream(self) -> "Iterator[Watched]":
        """Its bytes, from the beginning."""
        self._walk = Walk()
        download = Download(self._server.wire, self._server.download_path(self._name, self._made.name), self._made.size)
        try:
            yield Watched(download, self._walk)
        finally:
            download.close()

    def confirm(self, size: int, sha256: str) -> None:
        """Compare what was read with the server's word, and see that it is a whole snapshot.

        Raises:
            TryLater: other bytes came than the server promised.
            Damaged: it is what the server promised, and not whole.
        """
        made = self._made
        if size != made.size:
            raise TryLater(f"{size:,} bytes came of the {made.size:,} that the server promised")
        if made.checksum is not None and sha256 != made.checksum:
            raise TryLater(f"SHA-256 is {sha256[:16]}…, but the server says {made.checksum[:16]}… of its snapshot")
        self._outline = self._walk.finish()
        if not self._outline.complete:
            raise Damaged(f"the server's snapshot is not whole: {self._outline.why}", "Look at the server's disk.")

    def about(self) -> About:
        """What is known of it, now that it was read."""
        outline = self._outline
        assert outline is not None  # noqa: S101 - confirmed before
        after = self._after()
        config = self._info.get("config") or _config(outline)
        params = config.get("params") or {}
        return About(
            points_before=self._before.points,
            points_after=after.points,
            writes=after.writes,
            shards=outline.local,
            config=config,
            payload_schema=_schema(outline),
            snapshot=self._made.name,
            server_sha256=self._made.checksum,
            sharding=params.get("sharding_method") or "auto",
            shard_keys=_keys(outline),
            probes=after.probes,
            probes_why=after.probes_why,
            content=after.content,
            content_why=after.content_why,
        )

    def _after(self) -> After:
        if not self._info:
            return After(probes_why=self._before.why, content_why=self._before.why)
        return witness.after(self._server, self._name, self._before, self._operations, self._since)


class Watched:
    """A download, and how whole a snapshot it is so far."""

    def __init__(self, download: Download, walk: Walk) -> None:
        self._download = download
        self._walk = walk

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the buffer, or what there is of it; 0 at the end."""
        got = self._download.readinto(buffer)
        self._walk.feed(buffer[:got])
        return got


def _config(outline: Outline) -> dict[str, Any]:
    return dict(json.decode(outline.config or b"{}"))  # an object, else the archive were not whole


def _schema(outline: Outline) -> dict[str, Any]:
    try:
        return dict(json.decode(outline.payload_index or b"{}")["schema"])
    except (ValueError, KeyError, TypeError):
        return {}


def _keys(outline: Outline) -> tuple[dict[str, Any], ...]:
    try:
        return tuple(one for one in json.decode(outline.shard_key_mapping or b"[]") if isinstance(one, dict))
    except (ValueError, TypeError):
        return ()
