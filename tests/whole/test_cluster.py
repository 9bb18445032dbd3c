"""Backups of a Qdrant cluster: an archive from each peer, and no shard forgotten without a word."""

import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from program import Program
from standin import Cluster

REAL = "SNAPWARD_TEST_QDRANT_CLUSTER"
WIDE, TWICE = "k_wide", "k_twice"


def ask(url: str, method: str, path: str, body: Any = None) -> Any:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request(method, path, None if body is None else json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status in {200, 404}, f"{method} {path}: {answer.status} {text!r}"
    return json.loads(text).get("result")


def seed(url: str) -> None:
    """Six shards over all peers, once each; and three shards, twice each."""
    drop(url)
    vectors = {"size": 4, "distance": "Cosine"}
    ask(url, "PUT", f"/collections/{WIDE}?timeout=20", {"vectors": vectors, "shard_number": 6})
    ask(
        url, "PUT", f"/collections/{TWICE}?timeout=20", {"vectors": vectors, "shard_number": 3, "replication_factor": 2}
    )
    for name in (WIDE, TWICE):
        points = [{"id": number, "vector": [number + 1, 2, 3, 4], "payload": {"n": number}} for number in range(100)]
        ask(url, "PUT", f"/collections/{name}/points?wait=true", {"points": points})


def drop(url: str) -> None:
    for name in (WIDE, TWICE):
        ask(url, "DELETE", f"/collections/{name}?timeout=20")


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.real_qdrant)])
def peers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """The addresses of three peers that hold the two collections."""
    if request.param == "stand-in":
        with Cluster(tmp_path / "cluster", 3) as cluster:
            urls = [one.url for one in cluster.peers]
            seed(urls[0])
            yield urls
        return
    if not os.environ.get(REAL):
        pytest.skip(f"{REAL} names no peers of a Qdrant cluster, separated by commas")
    urls = os.environ[REAL].split(",")
    seed(urls[0])
    yield urls
    drop(urls[0])


def configure(program: Program, urls: list[str]) -> None:
    others = json.dumps(urls[1:])
    include = f'{{include: ["{WIDE}", "{TWICE}"]}}'
    program.write(
        engine=f'{{kind: qdrant, url: "{urls[0]}", peers: {others}, collections: {include}, patience: 300ms}}'
    )


def manifest(program: Program) -> Any:
    (found,) = (program.primary / "manual").iterdir()
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=found, check=True)
    return json.loads((found / "manifest.json").read_bytes())


def test_every_peer_gives_its_own_shards_and_together_they_are_all(program: Program, peers: list[str]) -> None:
    configure(program, peers)
    assert program.json("backup")["state"] == "good"
    told = manifest(program)
    wide = [one for one in told["collections"] if one["name"] == WIDE]
    assert sorted(shard for one in wide for shard in one["shards"]) == [0, 1, 2, 3, 4, 5]
    twice = [one for one in told["collections"] if one["name"] == TWICE]
    assert sorted(shard for one in twice for shard in one["shards"]) == [0, 0, 1, 1, 2, 2]
    assert {one["peer"] for one in wide} == {one["id"] for one in told["cluster"]["peers"]}
    assert all(one["file"] == f"{one['name']}.peer-{one['peer']}.snapshot.gz" for one in told["collections"])
    assert {one["points_after"] for one in told["collections"]} == {100}, "counts are the whole collection's"
    assert program.json("verify", "--all")["bad"] == 0
    assert "2 collections" in program.run("backup").stdout


def test_a_peer_that_is_not_named_leaves_a_gap_only_where_nobody_else_has_its_shards(
    program: Program, peers: list[str]
) -> None:
    configure(program, peers[:2])
    answer = program.json("backup", expect=2)
    assert answer["state"] == "incomplete"
    failed = {one["name"]: one["why"] for one in answer["failed"]}
    assert WIDE in failed
    assert failed[WIDE].startswith("[2 of 3 peers] ")
    assert "not in engine.peers" in failed[WIDE]
    covered = {shard for one in manifest(program)["collections"] if one["name"] == TWICE for shard in one["shards"]}
    assert (TWICE in failed) == (covered != {0, 1, 2})
    assert "[2 of 3 peers]" in program.open_incidents()["backup_failed", "manual"]


def test_a_peer_that_is_down_is_named(program: Program, tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", 3) as cluster:
        urls = [one.url for one in cluster.peers]
        seed(urls[0])
        configure(program, urls)
        cluster.peers[2].restart(down_for=None)
        answer = program.json("backup", expect=2)
        assert "[2 of 3 peers]" in {one["name"]: one["why"] for one in answer["failed"]}[WIDE]
        assert urls[2] in {subject for rule, subject in program.open_incidents() if rule == "peer_unreachable"}
        assert manifest(program)["cluster"]["silent"][0]["url"] == urls[2]


def test_a_replica_that_is_dead_does_not_count(program: Program, tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", 3) as cluster:
        urls = [one.url for one in cluster.peers]
        seed(urls[0])
        configure(program, urls)
        holder = next(peer for peer in cluster.peers if peer.peer_id in cluster.store.get(WIDE).placement[0])
        cluster.set_state(WIDE, 0, holder, "Dead")
        answer = program.json("backup", expect=2)
        assert [one["name"] for one in answer["failed"]] == [WIDE]
        assert f"shard 0 (peer {holder.peer_id}" in answer["failed"][0]["why"]
        assert ("replicas_dead", WIDE) in program.open_incidents()
