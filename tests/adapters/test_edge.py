import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.parse
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest

from agent.adapters import edge, snapshot_tar
from agent.adapters.edge.config import server_config
from agent.adapters.edge.engine import translated
from agent.errors import AgentError, BadUsage, CannotWrite, Refused, TryLater, Unreachable
from agent.rules.content import digest

qdrant_edge = pytest.importorskip("qdrant_edge")

NAME = "städte ☃"
POINTS, DIMENSIONS = 1500, 32
PROBED = (0, 17, 199)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one collection, which these tests only read."""
    folder = tmp_path_factory.mktemp("collections")
    edge.build_sample(str(folder), NAME, POINTS, DIMENSIONS, seed=7)
    return folder


def archive_of(folder: Path, name: str, archive: Path) -> edge.Source:
    with edge.open_collection(str(folder), name, snapshot_tar.plan) as source, archive.open("wb") as file:
        file.writelines(source.plan.chunks())
    return source


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack the only shard of an archive for the engine."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    for nested in folder.glob("0/segments/*.tar"):
        with tarfile.open(nested) as tar:
            tar.extractall(nested.with_suffix(""), filter="data")
        (nested.with_suffix("") / "snapshot" / "files").rename(nested.with_suffix(".files"))
        nested.unlink()
        (nested.with_suffix("") / "snapshot").rmdir()
        nested.with_suffix("").rmdir()
        nested.with_suffix(".files").rename(nested.with_suffix(""))
    return folder / "0"


def count(shard: Any, city: str | None = None) -> int:
    wanted = city and qdrant_edge.Filter(must=[qdrant_edge.FieldCondition("city", match=qdrant_edge.MatchValue(city))])
    return shard.count(qdrant_edge.CountRequest(exact=True, filter=wanted))


def nearest(shard: Any, vector: list[float], using: str | None = None) -> list[tuple[int, float]]:
    query = qdrant_edge.Query.Nearest(vector, using=using)
    return [(hit.id, hit.score) for hit in shard.query(qdrant_edge.QueryRequest(query=query, limit=5))]


def answers(folder: Path, name: str) -> dict[str, Any]:
    """What the engine says about a collection: counts, neighbours, and every point with its payload and vector."""
    shard = qdrant_edge.EdgeShard.load(str(folder / name))
    every = qdrant_edge.ScrollRequest(limit=10_000, with_payload=True, with_vector=True)
    points = {record.id: (record.payload, record.vector) for record in shard.scroll(every)[0]}
    vectors = [points[number][1] for number in PROBED]
    found = {
        "count": count(shard),
        "in Kyoto": count(shard, "Kyoto"),
        "nearest": [nearest(shard, vector) for vector in vectors],
        "points": points,
        "indexed": set(shard.info().payload_schema),
    }
    shard.close()
    return found


def run(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", f"import os, sys\nfrom qdrant_edge import *\n{code}", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def crash_with_unflushed_points(folder: Path, name: str, points: int) -> None:
    """Leave `points` points to the write-ahead log alone, as a killed application does."""
    code = f"""
shard = EdgeShard.load(sys.argv[1])
made = [Point(100_000 + n, [1.0 + n] * {DIMENSIONS}, {{"city": "Kyoto", "year": n}}) for n in range({points})]
shard.update(UpdateOperation.upsert_points(made))
os._exit(0)
"""
    with run(code, folder / name) as process:
        assert process.wait() == 0


def test_collections_are_the_folders_that_hold_a_shard(sample, tmp_path):
    (sample / "no shard").mkdir(exist_ok=True)
    (sample / "a file").write_bytes(b"")
    assert edge.collections(str(sample)) == [NAME]
    with pytest.raises(Unreachable, match="cannot be listed: No such file"):
        edge.collections(str(tmp_path / "missing"))


def test_a_source_says_what_it_holds(sample):
    with edge.open_collection(str(sample), NAME, snapshot_tar.plan) as source:
        assert (source.name, source.points, source.shards) == (NAME, POINTS, (0,))
        assert source.payload_schema == {"city": "keyword"}
        assert source.config["params"]["vectors"] == {"size": DIMENSIONS, "distance": "Cosine"}
        assert source.engine_version == edge.version() == "qdrant-edge-py 0.9.0"


def test_a_source_carries_what_a_copy_can_be_compared_with(sample):
    with edge.open_collection(str(sample), NAME, snapshot_tar.plan) as source:
        record = source.record
    assert (record.probes_why, record.content_why) == ("", "")
    assert len(record.probes) == 2
    for probe in record.probes:
        assert probe.query["params"] == {"exact": True}
        assert len(probe.answers) == 10
        assert (probe.answers[0]["id"], probe.answers[0]["score"]) == (probe.point, pytest.approx(1.0))
    points = answers(sample, NAME)["points"]
    assert (record.content.of, record.content.drawn, record.content.changed) == (POINTS, POINTS, 0)
    assert record.content.points == {str(number): digest(vector, held) for number, (held, vector) in points.items()}


def test_of_many_points_some_are_drawn(sample, monkeypatch):
    monkeypatch.setattr("agent.adapters.edge.drawing._POINTS", 1000)
    monkeypatch.setattr("agent.adapters.edge.drawing._SAMPLE", 100)
    with edge.open_collection(str(sample), NAME, snapshot_tar.plan) as source:
        first = source.record.content
    with edge.open_collection(str(sample), NAME, snapshot_tar.plan) as source:
        second = source.record.content
    assert (first.of, first.drawn, len(first.points)) == (POINTS, 100, 100)
    assert first.points.keys() != second.points.keys()


def test_every_kind_of_vector_is_asked_about(tmp_path):
    optimized(tmp_path / "rich")
    with edge.open_collection(str(tmp_path), "rich", snapshot_tar.plan) as source:
        asked = [(probe.vector, probe.kind) for probe in source.record.probes]
    assert sorted(set(asked)) == [("", "dense"), ("image", "dense"), ("many", "multi"), ("words", "sparse")]
    assert len(asked) == 8


def test_points_that_cannot_be_read_are_backed_up_all_the_same(tmp_path):
    edge.build_sample(str(tmp_path), "spoilt", 200, 8)
    with edge.open_collection(str(tmp_path), "spoilt", snapshot_tar.plan):
        pass  # removes redo journals
    (page,) = tmp_path.glob("spoilt/segments/*/payload_storage/page_0.dat")
    with page.open("r+b") as file:
        file.write(bytes(1000))
    with edge.open_collection(str(tmp_path), "spoilt", snapshot_tar.plan) as source:
        record = source.record
    assert source.points == 200
    assert 0 < len(record.content.points) < 200
    assert re.match(r"\d+ of 200 points could not be read: the payload of point ", record.content_why)


def test_a_restored_archive_gives_the_same_answers(sample, tmp_path):
    source = archive_of(sample, NAME, tmp_path / "a.snapshot")
    assert (tmp_path / "a.snapshot").stat().st_size == source.plan.raw_size
    unpack(tmp_path / "a.snapshot", tmp_path / "out")
    restored = answers(tmp_path / "out", "0")
    assert restored == answers(sample, NAME)
    assert restored["count"] == POINTS
    assert 0 < restored["in Kyoto"] < POINTS


def test_the_archive_carries_what_only_a_server_writes(sample, tmp_path):
    source = archive_of(sample, NAME, tmp_path / "a.snapshot")
    with tarfile.open(tmp_path / "a.snapshot") as tar:
        text = {
            name: tar.extractfile(name).read().decode() for name in tar.getnames() if name.endswith((".json", ".info"))
        }
    assert text["version.info"] == "0.4.2"
    assert json.loads(text["config.json"]) == source.config
    assert json.loads(text["shard_key_mapping.json"]) == []
    assert json.loads(text["payload_index.json"]) == {"schema": {"city": "keyword"}}
    assert json.loads(text["0/shard_config.json"]) == {"type": "ReplicaSet"}
    assert json.loads(text["0/replica_state.json"]) == {"is_local": True, "this_peer_id": 1, "peers": {"1": "Active"}}


def test_points_that_only_the_log_holds_are_in_the_segments_of_the_archive(tmp_path):
    edge.build_sample(str(tmp_path), "crashed", 200, DIMENSIONS)
    crash_with_unflushed_points(tmp_path, "crashed", 40)
    source = archive_of(tmp_path, "crashed", tmp_path / "a.snapshot")
    assert source.points == 240
    shutil.rmtree(unpack(tmp_path / "a.snapshot", tmp_path / "out") / "wal")
    restored = answers(tmp_path / "out", "0")
    assert restored["count"] == 240
    assert restored["points"][100_039][0] == {"city": "Kyoto", "year": 39}


def test_the_archive_needs_no_journal(tmp_path):
    edge.build_sample(str(tmp_path), "crashed", 200, DIMENSIONS)
    assert list(tmp_path.glob("crashed/segments/*/**/*journal*"))  # else this test proves nothing
    crash_with_unflushed_points(tmp_path, "crashed", 40)
    archive_of(tmp_path, "crashed", tmp_path / "a.snapshot")
    unpacked = unpack(tmp_path / "a.snapshot", tmp_path / "out")
    assert not list(unpacked.glob("segments/*/**/*journal*"))


def test_a_collection_open_in_another_process_is_for_later(sample):
    code = "shard = EdgeShard.load(sys.argv[1]); print('open', flush=True); sys.stdin.read(); shard.close()"
    with run(code, sample / NAME) as owner:
        assert owner.stdout.readline() == "open\n"
        with (
            pytest.raises(TryLater, match=f"'{NAME}' is open in another process"),
            edge.open_collection(str(sample), NAME, snapshot_tar.plan),
        ):
            pass
        owner.stdin.close()
        assert owner.wait() == 0
    with edge.open_collection(str(sample), NAME, snapshot_tar.plan) as source:
        assert source.points == POINTS


def test_a_source_keeps_other_processes_out(sample):
    with (
        edge.open_collection(str(sample), NAME, snapshot_tar.plan),
        run("EdgeShard.load(sys.argv[1])", sample / NAME) as other,
    ):
        assert other.wait() != 0


def test_a_file_that_changes_under_an_open_collection_is_noticed(tmp_path):
    edge.build_sample(str(tmp_path), "touched", 50, 4)
    with edge.open_collection(str(tmp_path), "touched", snapshot_tar.plan) as source:
        log = tmp_path / "touched" / "wal" / "open-1"
        os.utime(log, (1, 1))
        with pytest.raises(TryLater, match=str(log)):
            list(source.plan.chunks())


def test_a_collection_without_a_log_is_refused(tmp_path):
    vectors = qdrant_edge.EdgeVectorParams(size=4, distance=qdrant_edge.Distance.Dot)
    (tmp_path / "lockless").mkdir()
    config = qdrant_edge.EdgeConfig(vectors=vectors, wal_enabled=False)
    qdrant_edge.EdgeShard.create(str(tmp_path / "lockless"), config).close()
    with (
        pytest.raises(Refused, match="'lockless' keeps no write-ahead log"),
        edge.open_collection(str(tmp_path), "lockless", snapshot_tar.plan),
    ):
        pass


@pytest.mark.parametrize("name", ["../other", "a/b", "", ".."])
def test_a_name_that_leads_elsewhere_is_refused(sample, name):
    with pytest.raises(BadUsage, match="is no name"), edge.open_collection(str(sample), name, snapshot_tar.plan):
        pass


def test_a_missing_collection_is_told_with_those_that_are_there(sample):
    with (
        pytest.raises(Unreachable, match="no collection 'other'") as told,
        edge.open_collection(str(sample), "other", snapshot_tar.plan),
    ):
        pass
    assert told.value.hint == f"there are: {NAME}"


def test_a_panic_of_the_engine_is_an_ordinary_error(tmp_path):
    folder = optimized(tmp_path / "panics")
    (mappings,) = folder.glob("segments/*/id_tracker.mappings")
    mappings.write_bytes(b"\xff" * 64 + mappings.read_bytes()[64:])
    with pytest.raises(BaseException, match="capacity overflow") as panic:
        qdrant_edge.EdgeShard.load(str(folder))
    assert not isinstance(panic.value, Exception)
    with (
        pytest.raises(Unreachable, match="failed on collection 'panics': capacity overflow"),
        edge.open_collection(str(tmp_path), "panics", snapshot_tar.plan),
    ):
        pass


def test_a_damaged_log_is_told_in_the_words_of_the_engine(tmp_path):
    edge.build_sample(str(tmp_path), "damaged", 50, 4)
    (tmp_path / "damaged" / "wal" / "first-index").write_bytes(bytes(15))
    with (
        pytest.raises(Unreachable, match=r"'damaged': .*failed to read first-index file"),
        edge.open_collection(str(tmp_path), "damaged", snapshot_tar.plan),
    ):
        pass


def test_an_interruption_of_the_engine_is_no_trouble_of_the_engine():
    with pytest.raises(KeyboardInterrupt), translated("any"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_what_the_caller_raises_stays_what_it_is_and_closes_the_collection(sample, interruption):
    with pytest.raises(interruption), edge.open_collection(str(sample), NAME, snapshot_tar.plan):
        raise interruption
    assert answers(sample, NAME)["count"] == POINTS


def test_a_missing_engine_says_how_to_install_it(sample, monkeypatch):
    monkeypatch.setitem(sys.modules, "qdrant_edge", None)
    opening = edge.open_collection(str(sample), NAME, snapshot_tar.plan)
    for attempt in (edge.version, opening.__enter__, lambda: edge.build_sample(str(sample), "new", 1, 1)):
        with pytest.raises(AgentError, match="not installed") as told:
            attempt()
        assert told.value.hint == "pip install 'snapward[edge]'"
    assert edge.collections(str(sample)) == [NAME]


def test_a_sample_is_the_same_each_time_and_never_overwrites(sample, tmp_path):
    edge.build_sample(str(tmp_path), "again", POINTS, DIMENSIONS, seed=7)
    edge.build_sample(str(tmp_path), "other seed", POINTS, DIMENSIONS, seed=8)
    assert answers(tmp_path, "again") == answers(sample, NAME)
    assert answers(tmp_path, "other seed")["points"] != answers(sample, NAME)["points"]
    with pytest.raises(Refused, match="exists already"):
        edge.build_sample(str(tmp_path), "again", 1, 1)
    with pytest.raises(CannotWrite, match="cannot be made: Not a directory"):
        edge.build_sample(str(tmp_path / "again" / "edge_config.json"), "inside a file", 1, 1)


def optimized(folder: Path) -> Path:
    """A collection with every kind of vector and quantization, indexed, and some payload indexes."""
    e = qdrant_edge
    hnsw = e.HnswIndexConfig(m=8, ef_construct=50, full_scan_threshold=10, memory=e.Memory.Cold)
    config = e.EdgeConfig(
        vectors={
            "": e.EdgeVectorParams(size=16, distance=e.Distance.Cosine),
            "image": e.EdgeVectorParams(
                size=8,
                distance=e.Distance.Dot,
                on_disk=True,
                datatype=e.VectorStorageDatatype.Float16,
                quantization_config=e.BinaryQuantizationConfig(memory=e.Memory.Pinned),
            ),
            "many": e.EdgeVectorParams(
                size=4,
                distance=e.Distance.Manhattan,
                memory=e.Memory.Cached,
                multivector_config=e.MultiVectorConfig(comparator=e.MultiVectorComparator.MaxSim),
                hnsw_config=hnsw,
            ),
        },
        sparse_vectors={"words": e.EdgeSparseVectorParams(modifier=e.Modifier.Idf, memory=e.Memory.Cold)},
        quantization_config=e.ScalarQuantizationConfig(type=e.ScalarType.Int8, quantile=0.99, memory=e.Memory.Cold),
        optimizers=e.EdgeOptimizersConfig(indexing_threshold=1, default_segment_number=2),
        payload_memory=e.Memory.Cached,
    )
    folder.mkdir()
    shard = e.EdgeShard.create(str(folder), config)
    for start in range(0, 600, 100):
        shard.update(e.UpdateOperation.upsert_points([rich_point(number) for number in range(start, start + 100)]))
    shard.update(e.UpdateOperation.create_field_index("city", e.KeywordIndexParams(is_tenant=True)))
    shard.update(e.UpdateOperation.create_field_index("year", e.PayloadSchemaType.Integer))
    assert shard.optimize()
    shard.update(e.UpdateOperation.upsert_points([rich_point(number) for number in range(600, 620)]))
    shard.close()
    return folder


def rich_point(number: int) -> Any:
    vectors = {
        "": [((number * 31 + axis * 17) % 101) / 50 - 1 for axis in range(16)],
        "image": [((number * 13 + axis * 29) % 97) / 48 - 1 for axis in range(8)],
        "many": [[(number % 11) + row + axis / 4 for axis in range(4)] for row in range(3)],
        "words": qdrant_edge.SparseVector(indices=[number % 50, 100], values=[1.0, 0.5]),
    }
    return qdrant_edge.Point(number, vectors, {"city": f"city {number % 7}", "year": 2000 + number % 20})


def test_the_configuration_is_said_in_the_words_of_a_server(tmp_path):
    optimized(tmp_path / "rich")
    with edge.open_collection(str(tmp_path), "rich", snapshot_tar.plan) as source:
        assert source.points == 620
        assert source.payload_schema == {"city": {"type": "keyword", "is_tenant": True}, "year": "integer"}
    hnsw = {"m": 8, "ef_construct": 50, "full_scan_threshold": 10, "max_indexing_threads": 0}
    scalar = {"type": "int8", "quantile": 0.99, "memory": "cold", "always_ram": False}
    assert source.config == {
        "params": {
            "vectors": {
                "": {"size": 16, "distance": "Cosine"},
                "image": {
                    "size": 8,
                    "distance": "Dot",
                    "on_disk": True,
                    "datatype": "float16",
                    "quantization_config": {"binary": {"memory": "pinned", "always_ram": True}},
                },
                "many": {
                    "size": 4,
                    "distance": "Manhattan",
                    "memory": "cached",
                    "on_disk": False,
                    "multivector_config": {"comparator": "max_sim"},
                    "hnsw_config": hnsw | {"memory": "cold", "on_disk": True},
                },
            },
            "sparse_vectors": {"words": {"index": {"memory": "cold", "on_disk": True}, "modifier": "idf"}},
            "shard_number": 1,
            "replication_factor": 1,
            "write_consistency_factor": 1,
            "on_disk_payload": False,
        },
        "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
        "optimizer_config": {"default_segment_number": 2, "flush_interval_sec": 5, "indexing_threshold": 1},
        "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1},
        "quantization_config": {"scalar": scalar},
    }


def test_values_that_are_not_set_are_left_to_the_server():
    bare = server_config({"sparse_vectors": {"words": {}}, "optimizers": {"default_segment_number": None}})
    assert bare == {
        "params": {
            "vectors": {},
            "sparse_vectors": {"words": {"index": {}}},
            "shard_number": 1,
            "replication_factor": 1,
            "write_consistency_factor": 1,
            "on_disk_payload": True,
        },
        "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
        "optimizer_config": {"default_segment_number": 0, "flush_interval_sec": 5},
        "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1},
    }


def ask(method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with called(method, path, data, content_type) as answer:
        return json.load(answer)["result"]


def called(method: str, path: str, data: bytes = b"", content_type: str = "") -> Any:
    headers = {"Content-Type": content_type, "api-key": os.environ.get("SNAPWARD_TEST_QDRANT_API_KEY", "")}
    url = os.environ["SNAPWARD_TEST_QDRANT_URL"].rstrip("/") + path
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - the URL is the developer's own
    return urllib.request.urlopen(request, timeout=50)  # noqa: S310 - as above


@pytest.fixture
def server_collection():
    """Path of a collection to be; it and the snapshots of it, which would outlive it, are removed afterwards."""
    if "SNAPWARD_TEST_QDRANT_URL" not in os.environ:
        pytest.skip("SNAPWARD_TEST_QDRANT_URL names no Qdrant server")
    path = "/collections/" + urllib.parse.quote(f"snapward test {uuid.uuid4()}")
    yield path
    for snapshot in ask("GET", f"{path}/snapshots"):
        ask("DELETE", f"{path}/snapshots/{urllib.parse.quote(snapshot['name'])}")
    ask("DELETE", path)


def upload(path: str, archive: Path) -> None:
    form = b'--line\r\nContent-Disposition: form-data; name="snapshot"; filename="a.snapshot"\r\n\r\n%s\r\n--line--\r\n'
    body = form % archive.read_bytes()
    to = f"{path}/snapshots/upload?wait=true&priority=snapshot"
    assert ask("POST", to, body, "multipart/form-data; boundary=line") is True


@pytest.mark.real_qdrant
def test_a_real_server_restores_the_archive_and_gives_the_same_answers(server_collection, tmp_path):
    edge.build_sample(str(tmp_path), "sample", 3000, DIMENSIONS)
    crash_with_unflushed_points(tmp_path, "sample", 40)
    archive_of(tmp_path, "sample", tmp_path / "a.snapshot")
    upload(server_collection, tmp_path / "a.snapshot")

    here = answers(tmp_path, "sample")
    kyoto = {"must": [{"key": "city", "match": {"value": "Kyoto"}}]}
    points = f"{server_collection}/points"
    assert ask("POST", f"{points}/count", {"exact": True})["count"] == here["count"] == 3040
    assert ask("POST", f"{points}/count", {"exact": True, "filter": kyoto})["count"] == here["in Kyoto"]
    every = ask("POST", f"{points}/scroll", {"limit": 10_000, "with_payload": True, "with_vector": True})["points"]
    assert {point["id"]: point["payload"] for point in every} == {
        number: payload for number, (payload, _) in here["points"].items()
    }
    for number, expected in zip(PROBED, here["nearest"], strict=True):
        vector = here["points"][number][1]
        found = ask("POST", f"{points}/query", {"query": vector, "limit": 5})["points"]
        assert [(hit["id"], pytest.approx(hit["score"])) for hit in found] == expected
    facts = ask("GET", server_collection)
    assert {field: index["data_type"] for field, index in facts["payload_schema"].items()} == {"city": "keyword"}
    assert facts["payload_schema"]["city"]["points"] == 3040

    new = {"id": 200_000, "vector": [0.5] * DIMENSIONS, "payload": {"city": "Kyoto"}}
    ask("PUT", f"{points}?wait=true", {"points": [new]})
    assert ask("POST", f"{points}/count", {"exact": True})["count"] == 3041


@pytest.mark.real_qdrant
def test_a_real_server_restores_every_kind_of_vector(server_collection, tmp_path):
    optimized(tmp_path / "rich")
    archive_of(tmp_path, "rich", tmp_path / "a.snapshot")
    upload(server_collection, tmp_path / "a.snapshot")

    points = f"{server_collection}/points"
    assert ask("POST", f"{points}/count", {"exact": True})["count"] == 620
    every = ask("POST", f"{points}/scroll", {"limit": 1000, "with_payload": True, "with_vector": True})["points"]
    assert {point["id"]: point["payload"]["city"] for point in every} == {n: f"city {n % 7}" for n in range(620)}
    assert all(set(point["vector"]) == {"", "image", "many", "words"} for point in every)
    facts = ask("GET", server_collection)
    assert facts["payload_schema"]["city"]["params"] == {"type": "keyword", "is_tenant": True}
    shard = qdrant_edge.EdgeShard.load(str(tmp_path / "rich"))
    vector = [0.1 * axis for axis in range(8)]
    exact = {"query": vector, "using": "image", "limit": 5, "params": {"exact": True}}
    found = ask("POST", f"{points}/query", exact)["points"]
    request = qdrant_edge.QueryRequest(
        query=qdrant_edge.Query.Nearest(vector, using="image"), limit=5, params=qdrant_edge.SearchParams(exact=True)
    )
    assert [hit["score"] for hit in found] == pytest.approx([hit.score for hit in shard.query(request)], rel=1e-3)
    shard.close()


@pytest.mark.real_qdrant
def test_a_snapshot_that_a_real_server_made_opens_in_the_engine(server_collection, tmp_path):
    edge.build_sample(str(tmp_path), "sample", 3000, DIMENSIONS)
    archive_of(tmp_path, "sample", tmp_path / "a.snapshot")
    upload(server_collection, tmp_path / "a.snapshot")
    made = ask("POST", f"{server_collection}/snapshots?wait=true")
    with called("GET", f"{server_collection}/snapshots/{urllib.parse.quote(made['name'])}") as stream:
        (tmp_path / "theirs.snapshot").write_bytes(stream.read())
    unpack(tmp_path / "theirs.snapshot", tmp_path / "out")
    assert answers(tmp_path / "out", "0") == answers(tmp_path, "sample")
