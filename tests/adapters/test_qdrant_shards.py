"""Which peer has which shard of a collection, asked and changed on the stand-in's cluster and on a real one."""

import hashlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standin import Cluster
from standin.client import path_of

from agent.adapters.qdrant import admin, shards
from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.server import Server
from agent.adapters.qdrant.upload import clear, new_name, upload
from agent.adapters.qdrant.wire import Wire
from agent.errors import Refused, TryLater

REAL = "SNAPWARD_TEST_QDRANT_CLUSTER"
C = "e_shards"
VECTORS = {"size": 4, "distance": "Dot"}


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.real_qdrant)])
def peers(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[int, Server]]:
    """Three peers by their ids, without the collection, which is gone from them afterwards."""
    if request.param == "stand-in":
        monkeypatch.setattr(admin, "_AGREED", 0.0)  # its peers share their memory
        with Cluster(tmp_path / "cluster", 3) as cluster:
            yield {one.peer_id: Server(Wire(Address(one.url, patience=0))) for one in cluster.peers}
        return
    if not os.environ.get(REAL):
        pytest.skip(f"{REAL} names no peers of a Qdrant cluster, separated by commas")
    found = [Server(Wire(Address(one, patience=5))) for one in os.environ[REAL].split(",")]
    admin.drop(found[0], C)
    yield {one.cluster()["peer_id"]: one for one in found}
    admin.drop(found[0], C)


@pytest.fixture
def to(peers: dict[int, Server]) -> Server:
    """The first of them."""
    return next(iter(peers.values()))


def fill(to: Server, count: int, key: str | int | None = None, first: int = 0) -> None:
    points = [{"id": first + n, "vector": [n, 1, 0, 0]} for n in range(count)]
    body: dict[str, Any] = {"points": points} | ({} if key is None else {"shard_key": key})
    to.wire.ask("PUT", path_of(C, "/points?wait=true"), dict[str, Any], body)


def archive(peer: Server) -> bytes:
    """The snapshot of what a peer holds, gone from it again."""
    made = peer.create(C, soon())
    reply = peer.wire.open("GET", peer.download_path(C, made.name))
    data, piece = bytearray(), memoryview(bytearray(1 << 20))
    while got := reply.readinto(piece):
        data += piece[:got]
    reply.close()
    peer.delete(C, made.name)
    return bytes(data)


def restore(peers: dict[int, Server], archives: dict[int, bytes]) -> None:
    """Each archive at its peer; what comes of one has to be the same everywhere before the next one follows."""
    for peer, data in archives.items():
        name, checksum = new_name(), hashlib.sha256(data).hexdigest()
        assert upload(peers[peer], C, name, len(data), checksum, io.BytesIO(data), soon()) == ""
        assert clear(peers[peer], C, name)
        assert admin.wait_ready(peers[peer], C, soon(), peers=list(peers.values())) == []


def where(to: Server) -> dict[int, set[int]]:
    return {shard: set(states) for shard, states in shards.replicas(to, C).items()}


def put(to: Server, wanted: dict[int, set[int]]) -> None:
    """Move shards until each is where it is wanted."""
    for shard, targets in wanted.items():
        there = where(to)[shard]
        for target, source in zip(sorted(targets - there), sorted(there - targets), strict=True):
            shards.move_shard(to, C, shard, source, target, soon())


@pytest.mark.parametrize("copies", [1, 2])
def test_a_collection_comes_back_where_each_peer_has_the_shards_of_its_archive(
    peers: dict[int, Server], to: Server, copies: int
) -> None:
    admin.create(to, C, {"params": {"vectors": VECTORS, "shard_number": 3, "replication_factor": copies}})
    fill(to, 300)
    config, placed = admin.config(to, C), where(to)
    archives = {peer: archive(one) for peer, one in peers.items()}
    admin.drop(to, C)
    admin.create(to, C, config)
    put(to, placed)
    assert where(to) == placed
    restore(peers, archives)
    assert [one.count(C, 10) for one in peers.values()] == [300, 300, 300]
    assert {state for states in shards.replicas(to, C).values() for state in states.values()} == {"Active"}


def test_shard_keys_come_back_with_the_numbers_they_had(peers: dict[int, Server], to: Server) -> None:
    ids = list(peers)
    admin.create(to, C, {"params": {"vectors": VECTORS, "shard_number": 1, "sharding_method": "custom"}})
    assert shards.shard_keys(to, C) == {}
    for key, peer in zip(("a", "b", 7), ids, strict=True):
        shards.add_shard_key(to, C, key, placement=[peer])
    fill(to, 10, "b", 100)
    fill(to, 20, 7, 200)
    shards.drop_shard_key(to, C, "a")
    shards.add_shard_key(to, C, "wide", shards=2, replicas=1, placement=ids[:2])
    fill(to, 30, "wide", 300)
    keys, config, placed = shards.shard_keys(to, C), admin.config(to, C), where(to)
    assert keys == {"b": [2], 7: [3], "wide": [4, 5]}
    archives = {peer: archive(one) for peer, one in peers.items()}
    admin.drop(to, C)

    admin.create(to, C, config)
    shards.add_shard_key(to, C, "left out")
    for key, numbers in keys.items():
        shards.add_shard_key(to, C, key, shards=len(numbers), placement=[min(placed[one]) for one in numbers])
    shards.drop_shard_key(to, C, "left out")
    assert shards.shard_keys(to, C) == keys
    put(to, placed)
    restore(peers, archives)
    assert to.count(C, 10) == 60


def test_replicas_are_copied_and_given_up(peers: dict[int, Server], to: Server) -> None:
    admin.create(to, C, {"params": {"vectors": VECTORS, "shard_number": 1}})
    fill(to, 10)
    (home,) = where(to)[0]
    other, third = (peer for peer in peers if peer != home)
    shards.replicate_shard(to, C, 0, home, other, soon())
    assert where(to) == {0: {home, other}}
    shards.drop_replica(to, C, 0, home)
    assert where(to) == {0: {other}}
    with pytest.raises(Refused, match="must have at least one active replica"):
        shards.drop_replica(to, C, 0, other)
    shards.replicate_shard(to, C, 0, other, third, soon())
    shards.move_shard(to, C, 0, other, third, soon())  # to where there is one: then there is one less
    assert where(to) == {0: {third}}
    assert to.count(C, 10) == 10


def test_what_cannot_be_done_is_refused_with_the_servers_words(peers: dict[int, Server], to: Server) -> None:
    admin.create(to, C, {"params": {"vectors": VECTORS, "shard_number": 1}})
    (home,) = where(to)[0]
    other, third = (peer for peer in peers if peer != home)
    for source, target, why in (
        (home, home, "cannot transfer shard to itself"),
        (other, third, "is not active on peer"),
        (home, 77, "Peer 77 does not exist"),
    ):
        with pytest.raises(Refused, match=why):
            shards.move_shard(to, C, 0, source, target, soon())
    with pytest.raises(Refused, match="Shard 9 of e_shards does not exist"):
        shards.move_shard(to, C, 9, home, other, soon())
    with pytest.raises(Refused, match="cannot be created with Auto sharding"):
        shards.add_shard_key(to, C, "x")
    admin.drop(to, C)
    admin.create(to, C, {"params": {"vectors": VECTORS, "sharding_method": "custom"}})
    shards.add_shard_key(to, C, "x")
    with pytest.raises(Refused, match='"x" already exists'):
        shards.add_shard_key(to, C, "x")
    with pytest.raises(Refused, match='"y" does not exist'):
        shards.drop_shard_key(to, C, "y")
    with pytest.raises(Refused, match="Peer 5 does not exist"):
        shards.add_shard_key(to, C, "y", placement=[5])


def test_a_cluster_that_moves_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "STUCK", 0.3)
    with Cluster(tmp_path / "cluster", 2) as cluster:
        first, second = cluster.peers
        to = Server(Wire(Address(first.url, patience=0)))
        admin.create(to, C, {"params": {"vectors": VECTORS, "shard_number": 1}})
        first.faults.add("hollow", on="move")
        source, target = first.peer_id, second.peer_id
        for within in (30.0, 0.1):
            with pytest.raises(TryLater, match=f"shard 0 of e_shards has not come from peer {source} to peer {target}"):
                shards.move_shard(to, C, 0, source, target, soon(within))
