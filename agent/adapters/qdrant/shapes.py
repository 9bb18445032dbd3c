"""The shapes of a server's answers, as far as they are relied on; whatever else is in them is let through."""

from typing import Annotated, Any

from msgspec import Meta, Struct, field

Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Root(Struct):
    """Of `/`."""

    version: str
    commit: str | None = None


class _Named(Struct):
    name: str


class Collections(Struct):
    """Of `/collections`."""

    collections: list[_Named]


class _Alias(Struct):
    alias_name: str
    collection_name: str


class Aliases(Struct):
    """Of `/aliases`."""

    aliases: list[_Alias]


class _Params(Struct):
    vectors: dict[str, Any] | None = None
    sparse_vectors: dict[str, Any] | None = None


class _Config(Struct):
    params: _Params


class Info(Struct):
    """Of `/collections/{name}`."""

    status: str
    config: _Config
    points_count: int | None = None


class _Queue(Struct):
    length: int = 0
    deferred_points: int | None = None
    op_num: int | None = None


class Queued(Struct):
    """Of `/collections/{name}` too, since 1.17."""

    update_queue: _Queue | None = None


class Count(Struct):
    """Of `/collections/{name}/points/count`."""

    count: Size


class Hits(Struct):
    """Of `/collections/{name}/points/query`."""

    points: list[dict[str, Any]]


class Hit(Struct, gc=False):
    """A point of which the rest does not matter; the version is 0 where nothing was searched for, -1 where not told."""

    id: int | str
    version: int = -1


class BareHits(Struct):
    """Of `/collections/{name}/points/query`."""

    points: list[Hit]


class Cluster(Struct):
    """Of `/cluster`; without one there is only the status."""

    status: str
    peer_id: int = 0
    peers: dict[int, dict[str, Any]] = {}


class _Shard(Struct):
    shard_id: int
    state: str


class _FarShard(_Shard):
    peer_id: int


class Placed(Struct):
    """Of `/collections/{name}/cluster`."""

    peer_id: int
    shard_count: int
    local_shards: list[_Shard]
    remote_shards: list[_FarShard]


class Description(Struct):
    """Of a snapshot."""

    name: str
    size: Size
    checksum: str | None = None


class _Load(Struct):
    vectors_size_bytes: int | None = None
    payloads_size_bytes: int | None = None
    update_queue: _Queue | None = None


class _Loaded(Struct):
    id: int = 0
    local: _Load | None = None


class _Kept(Struct):
    id: str
    shards: list[_Loaded] | None = None


class _Running(Struct):
    id: str
    running_snapshots: int | None = None


class _Told(Struct):
    kept: list[_Kept] = field(default_factory=list, name="collections")
    snapshots: list[_Running] | None = None


class Telemetry(Struct):
    """Of `/telemetry`."""

    collections: _Told
