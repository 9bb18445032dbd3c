"""The manifest of a backup: what the archives do not say about themselves. It is written last."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

from agent.rules.archive import Promise

SCHEMA_VERSION = 1

# A number that SQLite can hold; JSON's may have any length.
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class CollectionEntry(Struct, frozen=True, kw_only=True):
    """One collection's archive. Sizes in bytes, times in seconds, `points_*` exact counts."""

    name: str
    file: str
    size: Number
    sha256: str
    raw_size: Number | None = None
    raw_sha256: str | None = None
    points_before: Number | None = None
    points_after: Number | None = None
    shards: list[int] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    payload_schema: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None


class FileEntry(Struct, frozen=True, kw_only=True):
    """A file of the backup that is no collection, such as the server's configuration."""

    file: str
    size: Number
    sha256: str


class Failure(Struct, frozen=True, kw_only=True):
    """A collection that should be in the backup and is not."""

    name: str
    why: str


class Manifest(Struct, frozen=True, kw_only=True):
    """manifest.json; unknown fields are ignored, so that a newer agent's manifest can be read."""

    schema_version: int = SCHEMA_VERSION
    id: str
    tier: str
    engine: dict[str, Any]
    agent: dict[str, Any] = field(default_factory=dict)
    host: str = ""
    started: str = ""
    ended: str = ""
    compression: dict[str, Any] = field(default_factory=dict)
    collections: list[CollectionEntry] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    files: list[FileEntry] = field(default_factory=list)


def decode(data: bytes) -> Manifest:
    """Read manifest.json.

    Raises:
        ValueError: it is not JSON, or not a manifest; the message says where.
    """
    try:
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"manifest.json cannot be read: {error}") from error


def encode(manifest: Manifest) -> bytes:
    """Write manifest.json, indented for the person who reads it without us."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def promises(manifest: Manifest) -> dict[str, Promise]:
    """What the manifest promises, by file name."""
    entries: list[CollectionEntry | FileEntry] = [*manifest.collections, *manifest.files]
    return {entry.file: Promise("manifest.json", entry.sha256.lower(), entry.size) for entry in entries}


def epoch(text: str) -> float | None:
    """RFC 3339 as epoch seconds; None for anything else."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.timestamp() if at.tzinfo else None
