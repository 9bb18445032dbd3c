"""The manifest of a backup: what the archives do not say about themselves. It is written last."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field, structs

from agent.rules.archive import Promise
from agent.rules.seal import Previous

SCHEMA_VERSION = 1

# A number that SQLite can hold; JSON's may have any length.
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Probe(Struct, frozen=True, kw_only=True):
    """A query with its exact answers. `query` is the body of REST's `points/query`, asked about the point `point`.

    `vector` is the vector's name ("" for the unnamed one), `kind` dense, sparse or multi; `answers` have `id` and
    `score`, the nearest first.
    """

    vector: str
    kind: str
    point: int | str
    query: dict[str, Any]
    answers: list[dict[str, Any]]


class Content(Struct, frozen=True, kw_only=True):
    """Points of a collection that were the same before its snapshot was made and after it was read.

    Attributes:
        of: how many points the collection had.
        drawn: how many of them were looked at; all of them, where that is as many as there are.
        changed: how many of those were not the same afterwards, and are left out.
        points: id to digest, see `agent.rules.content`.
    """

    of: Number
    drawn: Number
    changed: Number = 0
    points: dict[str, str] = field(default_factory=dict)


class CollectionEntry(Struct, frozen=True, kw_only=True):
    """One archive: a collection, or in a cluster what one peer holds of it.

    Sizes in bytes, times in seconds, `points_*` exact counts over the whole collection.

    Attributes:
        name: of the collection.
        file: of the archive, beside the manifest.
        size: of the file.
        sha256: of the file.
        raw_size: of the snapshot in it.
        raw_sha256: of the snapshot in it; what a server compares when it restores.
        compression: format, and the library with its level.
        points_before: before the snapshot was made.
        points_after: when it had been read.
        writes: how many operations were carried out on it between these two; None where that is not known.
        shards: those in the archive.
        peer: the cluster's peer that made it.
        snapshot: what the server called it.
        server_sha256: what the server said of it; None where it keeps no checksums, as on S3.
        config: the collection's own.
        payload_schema: payload field to its index, as `payload_index.json` has it.
        sharding: auto, or custom: then the shard keys have to be there before it is restored.
        shard_keys: key to shards, where sharding is custom.
        probes: questions with their answers.
        probes_why: why there are not more of them.
        content: points with what they hold; None where nobody looked at any.
        content_why: why there are not more of them.
        seconds: from the first question to the last byte read back.
    """

    name: str
    file: str
    size: Number
    sha256: str
    raw_size: Number | None = None
    raw_sha256: str | None = None
    compression: dict[str, Any] = field(default_factory=dict)
    points_before: Number | None = None
    points_after: Number | None = None
    writes: Number | None = None
    shards: list[int] = field(default_factory=list)
    peer: Number | None = None
    snapshot: str | None = None
    server_sha256: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    payload_schema: dict[str, Any] = field(default_factory=dict)
    sharding: str = "auto"
    shard_keys: list[dict[str, Any]] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    probes_why: str = ""
    content: Content | None = None
    content_why: str = ""
    seconds: float | None = None


def label(entry: CollectionEntry) -> str:
    """How people call an archive: by its collection, in a cluster by its peer too."""
    return labelled(entry.name, entry.peer)


def labelled(collection: str, peer: int | None) -> str:
    """How people call what one peer holds of a collection; the collection itself where there are no peers."""
    return collection if peer is None else f"{collection} on peer {peer}"


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
    """manifest.json; unknown fields are ignored, so that a newer agent's manifest can be read.

    `aliases` map each alias to its collection, `cluster` is what the server says of its peers; both are in no archive.
    `notes` say what of that could not be had. `partial` is whether somebody asked for some collections only; None where
    an older agent did not say. `previous` and `signature`: see `agent.rules.seal`.
    """

    schema_version: int = SCHEMA_VERSION
    id: str
    tier: str
    partial: bool | None = None
    engine: dict[str, Any]
    agent: dict[str, Any] = field(default_factory=dict)
    host: str = ""
    started: str = ""
    ended: str = ""
    aliases: dict[str, str] = field(default_factory=dict)
    cluster: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    compression: dict[str, Any] = field(default_factory=dict)
    collections: list[CollectionEntry] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    files: list[FileEntry] = field(default_factory=list)
    previous: Previous | None = None
    signature: str = ""


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


def bare(manifest: Manifest) -> Manifest:
    """The manifest without its probes and points, which are most of it: what the ledger keeps."""
    return structs.replace(manifest, collections=list(map(_bare, manifest.collections)))


def _bare(entry: CollectionEntry) -> CollectionEntry:
    if not entry.probes and entry.content is None:
        return entry
    content = None if entry.content is None else structs.replace(entry.content, points={})
    return structs.replace(entry, probes=[], content=content)


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
