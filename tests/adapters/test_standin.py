"""The stand-in Qdrant server, asked as clients ask a real one."""

import gzip
import hashlib
import http.client
import io
import os
import ssl
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from program import until
from standin import StandIn, nine
from standin.client import Client, Reply, path_of, path_of_snapshot

ROOT = ["version.info", "config.json", "shard_key_mapping.json", "payload_index.json"]
POINTS = [{"id": n, "vector": [n, 1, 0, 0], "payload": {"city": "ab"[n % 2]}} for n in range(6)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path) as server:
        yield server


@pytest.fixture
def client(server: StandIn) -> Iterator[Client]:
    """A connection to a server with one collection of six points."""
    with Client(server.url) as client:
        fill(client)
        yield client


def fill(client: Client, name: str = "c", **more: Any) -> None:
    assert client.ask("PUT", path_of(name), {"vectors": {"size": 4, "distance": "Dot"}, **more}).result
    assert client.ask("PUT", path_of(name, "/points?wait=true"), {"points": POINTS}).result


def snapshot(client: Client, name: str = "c") -> dict[str, Any]:
    said: dict[str, Any] = client.ask("POST", path_of(name, "/snapshots")).result
    return said


def download(client: Client, said: dict[str, Any], name: str = "c", **headers: str) -> Reply:
    named = {key.replace("_", "-"): value for key, value in {"accept_encoding": "identity", **headers}.items()}
    return client.ask("GET", path_of_snapshot(name, said["name"]), headers=named)


def test_the_official_client_gets_along_with_it(server: StandIn) -> None:
    from qdrant_client import QdrantClient, models

    official = QdrantClient(url=server.url, check_compatibility=False)
    try:
        official.create_collection(
            "docs",
            vectors_config={
                "dense": models.VectorParams(size=2, distance=models.Distance.COSINE),
                "many": models.VectorParams(
                    size=2,
                    distance=models.Distance.DOT,
                    multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
                ),
            },
            sparse_vectors_config={"terms": models.SparseVectorParams()},
            shard_number=2,
        )
        vectors: dict[str, Any] = {
            "dense": [1.0, 0.0],
            "many": [[1, 0], [0, 1]],
            "terms": models.SparseVector(indices=[3], values=[2]),
        }
        other: dict[str, Any] = {
            "dense": [0.0, 1.0],
            "many": [[0, 9]],
            "terms": models.SparseVector(indices=[4], values=[1]),
        }
        points = [models.PointStruct(id=1, vector=vectors, payload={"city": "Lima"})]
        points += [models.PointStruct(id=n, vector=other, payload={"city": "Kyoto"}) for n in range(2, 9)]
        official.upsert("docs", points, wait=True)
        official.create_payload_index("docs", "city", models.PayloadSchemaType.KEYWORD, wait=True)
        official.update_collection_aliases(
            [models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name="docs", alias_name="current"))]
        )
        assert [alias.alias_name for alias in official.get_aliases().aliases] == ["current"]
        assert official.get_collection("current").payload_schema["city"].points == 8
        assert official.count("docs", exact=True).count == 8
        lima = models.Filter(must=[models.FieldCondition(key="city", match=models.MatchValue(value="Lima"))])
        assert official.count("docs", count_filter=lima).count == 1
        assert official.query_points("docs", [1.0, 0.1], using="dense", limit=1).points[0].id == 1
        sparse = models.SparseVector(indices=[3], values=[1.0])
        assert [hit.score for hit in official.query_points("docs", sparse, using="terms").points] == [2.0]
        assert official.query_points("docs", [[0.0, 1.0]], using="many", limit=1).points[0].score == 9
        seen, offset = official.scroll("docs", limit=5, with_vectors=True)
        rest, end = official.scroll("docs", limit=5, offset=offset)
        assert [one.id for one in seen + rest] == [*range(1, 9)]
        assert end is None
        made = official.create_snapshot("docs")
        assert made is not None
        assert [one.checksum for one in official.list_snapshots("docs")] == [made.checksum]
        assert official.delete_snapshot("docs", made.name)
        assert official.create_snapshot("docs", wait=False) is None
        until(lambda: official.list_snapshots("docs"))
        assert official.delete_collection("docs")
        assert official.get_collections().collections == []
    finally:
        official.close()


def test_nine_collections_are_archived_as_a_server_does(server: StandIn) -> None:
    made = nine.seed(server.url, points=5)
    with Client(server.url) as client:
        assert {one["name"] for one in client.ask("GET", "/collections").result["collections"]} == made.keys()
        listed = client.ask("GET", "/aliases").result["aliases"]
        assert {one["alias_name"]: one["collection_name"] for one in listed} == nine.ALIASES
        for name, points in made.items():
            assert client.ask("POST", path_of(name, "/points/count"), {}).result["count"] == points
            said = snapshot(client, name)
            assert said["name"].startswith(f"{name}-{server.peer_id}-")
            reply = download(client, said, name)
            assert hashlib.sha256(reply.body).hexdigest() == said["checksum"]
            assert len(reply.body) == said["size"] == int(reply.headers["content-length"])
            with tarfile.open(fileobj=io.BytesIO(reply.body)) as archive:
                names = archive.getnames()
                assert names[-4:] == ROOT
                config = archive.extractfile("config.json")
                assert config is not None
                shards = 2 if name == nine.AWKWARD else 1
                assert f'"shard_number":{shards}'.encode() in config.read()
                for shard in range(shards):
                    own = [one.removeprefix(f"{shard}/") for one in names if one.startswith(f"{shard}/")]
                    assert own[0].startswith("segments/")
                    assert own[0].endswith(".tar")
                    assert own[-2:] == ["replica_state.json", "shard_config.json"]
                    assert any(one.startswith("wal/open-") for one in own)
                    segment = archive.extractfile(f"{shard}/{own[0]}")
                    assert segment is not None
                    with tarfile.open(fileobj=io.BytesIO(segment.read())) as inner:
                        assert "snapshot/files/segment.json" in inner.getnames()
    nine.drop(server.url)
    with Client(server.url) as client:
        assert client.ask("GET", "/collections").result["collections"] == []


def test_a_download_goes_on_where_it_stopped(client: Client) -> None:
    said = snapshot(client)
    whole = download(client, said)
    rest = download(client, said, range="bytes=1000-", if_match=whole.headers["etag"])
    assert (rest.status, rest.body) == (206, whole.body[1000:])
    assert rest.headers["content-range"] == f"bytes 1000-{said['size'] - 1}/{said['size']}"
    assert download(client, said, range="bytes=5-9").body == whole.body[5:10]
    assert download(client, said, range="bytes=-7").body == whole.body[-7:]
    assert download(client, said, range="bytes=1000-", if_match='"other"').status == 412
    assert download(client, said, if_none_match=whole.headers["etag"]).status == 304
    beyond = download(client, said, range=f"bytes={said['size']}-")
    assert (beyond.status, beyond.headers["content-range"], beyond.body) == (416, f"bytes */{said['size']}", b"")


def test_a_client_that_offers_gzip_gets_no_length(client: Client) -> None:
    said = snapshot(client)
    reply = download(client, said, accept_encoding="gzip, deflate")
    assert (reply.headers["content-encoding"], reply.headers["transfer-encoding"]) == ("gzip", "chunked")
    assert "content-length" not in reply.headers
    assert gzip.decompress(reply.body) == download(client, said).body


def test_a_snapshot_goes_on_without_the_client_that_asked_for_it(server: StandIn, client: Client) -> None:
    server.faults.add("linger")
    with Client(server.url) as impatient:
        impatient.connection.request("POST", path_of("c", "/snapshots"))
        until(lambda: client.ask("GET", path_of("c")).result["status"] == "yellow")
    assert 'snapshot_creation_running{id="c"} 1' in client.ask("GET", "/metrics").body.decode()
    assert client.ask("GET", path_of("c", "/snapshots")).result == []
    server.faults.release(waiting=1)
    until(lambda: client.ask("GET", path_of("c", "/snapshots")).result)
    until(lambda: client.ask("GET", path_of("c")).result["status"] == "green")
    assert 'snapshot_created_total{id="c"} 1' in client.ask("GET", "/metrics").body.decode()


def test_two_snapshots_within_one_second_are_one_file(client: Client) -> None:
    names = [snapshot(client)["name"] for _ in range(4)]
    listed = client.ask("GET", path_of("c", "/snapshots")).result
    assert {one["name"] for one in listed} == set(names)
    assert len(listed) < 4


def test_it_comes_back_with_its_collections_and_snapshots(tmp_path: Path) -> None:
    with StandIn(tmp_path) as first, Client(first.url) as client:
        fill(client)
        client.ask("PUT", path_of("c", "/index?wait=true"), {"field_name": "city", "field_schema": "keyword"})
        said = snapshot(client)
        alias = {"create_alias": {"collection_name": "c", "alias_name": "a"}}
        assert client.ask("POST", "/collections/aliases", {"actions": [alias]}).result
    with StandIn(tmp_path) as second, Client(second.url) as client:
        assert client.ask("POST", path_of("a", "/points/count"), {}).result["count"] == 6
        assert client.ask("GET", path_of("c")).result["payload_schema"]["city"]["points"] == 6
        listed = client.ask("GET", path_of("c", "/snapshots")).result
        assert [(one["name"], one["checksum"]) for one in listed] == [(said["name"], said["checksum"])]


def test_a_ready_made_archive_is_linked_not_copied(tmp_path: Path) -> None:
    ready = tmp_path / "ready.snapshot"
    ready.write_bytes(os.urandom(3000))
    with StandIn(tmp_path / "server", premade={"big": ready}) as server, Client(server.url) as client:
        said = snapshot(client, "big")
        assert (server.snapshots_dir / "big" / said["name"]).samefile(ready)
        assert said["checksum"] == hashlib.sha256(ready.read_bytes()).hexdigest()
        assert download(client, said, "big").body == ready.read_bytes()
        assert client.ask("DELETE", path_of_snapshot("big", said["name"])).result
    assert ready.exists()


def test_keys_are_told_apart(tmp_path: Path) -> None:
    with StandIn(tmp_path, api_key="full", read_only_key="reader", collection_keys={"limited": ["c"]}) as server:
        with Client(server.url, "full") as client:
            fill(client)
            fill(client, "other")
        with Client(server.url) as nobody:
            assert nobody.ask("GET", "/").status == nobody.ask("GET", "/readyz").status == 200
            reply = nobody.ask("GET", "/collections")
            assert (reply.status, reply.body) == (401, b"Must provide an API key or an Authorization bearer token")
            assert nobody.ask("GET", "/metrics", headers={"authorization": "Bearer full"}).status == 200
        with Client(server.url, "wrong") as stranger:
            assert stranger.ask("GET", "/collections").body == b"Invalid API key or JWT"
        with Client(server.url, "reader") as reader:
            assert reader.ask("POST", path_of("c", "/points/count"), {}).status == 200
            refused = reader.ask("POST", path_of("c", "/snapshots"))
            text = "Forbidden: Global manage access is required"
            assert (refused.status, refused.json["status"]["error"]) == (403, text)
        with Client(server.url, "limited") as limited:
            assert limited.ask("GET", "/collections").result["collections"] == [{"name": "c"}]
            assert limited.ask("GET", "/metrics").json["status"]["error"] == "Forbidden: Global access is required"
            text = "Forbidden: Access to collection other is required"
            assert limited.ask("POST", path_of("other", "/snapshots")).json["status"]["error"] == text
            said = snapshot(limited)
            assert download(limited, said).status == 200
            assert limited.ask("DELETE", path_of_snapshot("c", said["name"])).result


def test_it_speaks_tls(tmp_path: Path, authority: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    with StandIn(tmp_path, tls=context) as server, Client(server.url, context=trusting) as client:
        assert server.url.startswith("https://")
        fill(client)
        said = snapshot(client)
        assert hashlib.sha256(download(client, said).body).hexdigest() == said["checksum"]


def test_a_process_of_its_own_ends_with_its_standard_input(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "standin", str(tmp_path), "--api-key", "k", "--version", "1.19.0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin
        assert process.stdout
        url = process.stdout.readline().decode().strip()
        with Client(url, "k") as client:
            assert client.ask("GET", "/").json["version"] == "1.19.0"
            left = client.ask("POST", "/__standin/faults", {"kind": "refuse", "on": "collections", "times": 1}).json
            assert [(one["kind"], one["times"]) for one in left] == [("refuse", 1)]
            assert client.ask("GET", "/collections").status == 500
            assert client.ask("GET", "/collections").status == 200
            assert [one["status"] for one in client.ask("GET", "/__standin/requests").json] == [200, 500, 200]
        process.stdin.close()
        assert process.wait(10) == 0


def test_a_trouble_of_its_own_is_not_kept_quiet(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup, match="the stand-in itself failed"):
        _break(tmp_path)


def _break(folder: Path) -> None:
    with StandIn(folder) as server, Client(server.url) as client:
        server.version = object()  # type: ignore[assignment]
        with pytest.raises(http.client.RemoteDisconnected):
            client.ask("GET", "/")


def test_nothing_of_it_is_left_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    with StandIn(tmp_path) as server, Client(server.url) as client:
        client.ask("GET", "/")
    assert threading.active_count() == before
