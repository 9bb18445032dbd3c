"""Restores into a Qdrant cluster: every shard goes to the peer of its archive, and all of them together are all."""

import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from program import Program
from standin import Cluster, StandIn

REAL = "SNAPWARD_TEST_QDRANT_CLUSTER"
WIDE, TWICE, KEYS, PLAIN = "r_wide", "r_twice", "r_keys", "r_plain"
VECTORS = {"size": 4, "distance": "Cosine"}
POINTS = {WIDE: 100, TWICE: 100, KEYS: 40}


def ask(url: str, method: str, path: str, body: Any = None) -> Any:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request(method, path, None if body is None else json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status in {200, 404}, f"{method} {path}: {answer.status} {text!r}"
    return json.loads(text).get("result")


def points(number: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"id": start + one, "vector": [one + 1, 2, 3, 4], "payload": {"n": one}} for one in range(number)]


def seed(url: str) -> None:
    """Six shards once each, three twice each, and shards with keys of their own, of which one was removed again."""
    drop(url)
    ask(url, "PUT", f"/collections/{WIDE}?timeout=20", {"vectors": VECTORS, "shard_number": 6})
    ask(
        url, "PUT", f"/collections/{TWICE}?timeout=20", {"vectors": VECTORS, "shard_number": 3, "replication_factor": 2}
    )
    for name in (WIDE, TWICE):
        ask(url, "PUT", f"/collections/{name}/points?wait=true", {"points": points(100)})
    custom = {"vectors": VECTORS, "sharding_method": "custom", "shard_number": 1}
    ask(url, "PUT", f"/collections/{KEYS}?timeout=20", custom)
    for number, key in enumerate(("gone", "eu", 7)):
        ask(url, "PUT", f"/collections/{KEYS}/shards?timeout=20", {"shard_key": key})
        body = {"points": points(20, 100 * number), "shard_key": key}
        ask(url, "PUT", f"/collections/{KEYS}/points?wait=true", body)
    ask(url, "POST", f"/collections/{KEYS}/shards/delete?timeout=20", {"shard_key": "gone"})


def drop(url: str) -> None:
    for name in (*POINTS, PLAIN):
        ask(url, "DELETE", f"/collections/{name}?timeout=20")


def count(url: str, name: str) -> int:
    return int(ask(url, "POST", f"/collections/{name}/points/count", {"exact": True})["count"])


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.real_qdrant)])
def peers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """The addresses of three peers that hold the collections."""
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
    others, include = json.dumps(urls[1:]), json.dumps([*POINTS, PLAIN])
    program.write(
        engine=f'{{kind: qdrant, url: "{urls[0]}", peers: {others}, collections: {{include: {include}}},'
        " patience: 1s, silence: 5s}"
    )


def backed_up(program: Program, urls: list[str]) -> None:
    configure(program, urls)
    program.run("backup", expect=None)  # none of PLAIN is there
    program.run("verify", expect=None)


def restore(program: Program, *words: str, expect: int = 0) -> Any:
    return program.json("restore", "latest", "--yes", *words, expect=expect)


WORDS = [word for name in POINTS for word in ("--collection", name)]


def test_every_shard_comes_back_at_its_peer(program: Program, peers: list[str]) -> None:
    backed_up(program, peers)
    before = {name: ask(peers[0], "GET", f"/collections/{name}")["config"] for name in POINTS}
    drop(peers[0])
    answer = restore(program, *WORDS)
    found = {one["name"]: (one["state"], one["points"], one["notes"]) for one in answer["collections"]}
    assert found == {name: ("good", number, []) for name, number in POINTS.items()}
    for url in peers:
        assert {name: count(url, name) for name in POINTS} == POINTS
        for name in POINTS:
            told = ask(url, "GET", f"/collections/{name}/cluster")
            assert {one["state"] for one in [*told["local_shards"], *told["remote_shards"]]} == {"Active"}
            assert ask(url, "GET", f"/collections/{name}/snapshots") == []
    told = ask(peers[0], "GET", f"/collections/{TWICE}/cluster")
    assert len(told["local_shards"]) + len(told["remote_shards"]) == 6, "each shard is there twice"
    told = ask(peers[0], "GET", f"/collections/{KEYS}/cluster")
    keys = {one["shard_key"]: one["shard_id"] for one in [*told["local_shards"], *told["remote_shards"]]}
    assert keys == {"eu": 2, 7: 3}
    assert {name: ask(peers[0], "GET", f"/collections/{name}")["config"] for name in POINTS} == before


def test_in_place_all_of_it_is_made_anew(program: Program, peers: list[str]) -> None:
    backed_up(program, peers)
    ask(peers[0], "PUT", f"/collections/{WIDE}/points?wait=true", {"points": points(7, 1000)})
    answer = restore(program, "--collection", WIDE, "--replace", "--skip-proof")
    assert (answer["state"], count(peers[1], WIDE)) == ("good", 100)
    assert answer["pre_restore"]


def test_what_a_single_server_made_goes_to_one_peer(program: Program, peers: list[str], tmp_path: Path) -> None:
    if os.environ.get(REAL) and not peers[0].startswith("http://127.0.0.1"):
        pytest.skip("a stand-in's archive is for servers on this machine")
    with StandIn(tmp_path / "single") as single:
        ask(single.url, "PUT", f"/collections/{PLAIN}", {"vectors": VECTORS})
        ask(single.url, "PUT", f"/collections/{PLAIN}/points?wait=true", {"points": points(30)})
        configure(program, [single.url])
        program.run("backup", "--collection", PLAIN)
    configure(program, peers)
    answer = restore(program, "--collection", PLAIN)
    assert any("all of its shards are at one peer" in one["what"] for one in answer["risks"])
    assert (answer["state"], count(peers[2], PLAIN)) == ("good", 30)


def test_fewer_peers_take_all_of_it(program: Program, tmp_path: Path) -> None:
    with Cluster(tmp_path / "three", 3) as cluster:
        urls = [one.url for one in cluster.peers]
        seed(urls[0])
        backed_up(program, urls)
    with Cluster(tmp_path / "two", 2) as smaller:
        urls = [one.url for one in smaller.peers]
        configure(program, urls)
        answer = restore(program, *WORDS)
        assert any("made by peers that are not here" in one["what"] for one in answer["risks"])
        assert (answer["state"], {name: count(urls[1], name) for name in POINTS}) == ("good", POINTS)


def test_a_single_server_takes_none_of_it(program: Program, tmp_path: Path) -> None:
    with Cluster(tmp_path / "three", 3) as cluster:
        urls = [one.url for one in cluster.peers]
        seed(urls[0])
        backed_up(program, urls)
    with StandIn(tmp_path / "single") as single:
        configure(program, [single.url])
        answer = restore(program, "--collection", WIDE, expect=2)
        assert "its shards are in 3 archives of several peers" in answer["collections"][0]["why"]
        assert any("name its peers" in one["hint"] for one in answer["risks"])
