"""What engines and servers really make: all of it is whole, and what it needs is missed."""

import json
import os
import urllib.request
from typing import Any

import pytest
from standin import nine
from standin.client import path_of
from tars import entry

from agent.adapters import snapshot_tar
from agent.rules.archive import Form
from agent.rules.outline import COLLECTION, SHARD, STORAGE, Outline, Where
from agent.rules.tarball import Walk

# The index of a payload field, and what an engine makes anew: losing it loses no point and no vector.
SPARED = ("payload_index/", "hnsw_config.json", "mutable_id_tracker.versions", "chunk_0.mmap", "quantized")


def walked(data: bytes) -> Outline:
    walk = Walk()
    walk.feed(data)
    return walk.finish()


def entries(data: bytes) -> list[tuple[str, int, int, int]]:
    """Name, start, start of the content, and end of each entry of a tar that was made by an engine."""
    found, at = [], 0
    while data[at : at + 512].strip(b"\0"):
        size, more, head = int(data[at + 124 : at + 135], 8), data[at + 156 : at + 157] == b"S", at + 512
        more = more and data[at + 482]
        while more:
            more, head = data[head + 504], head + 512
        end = head + size + -size % 512
        found.append((data[at : at + 100].rstrip(b"\0").decode(), at, head, end))
        at = end
    return found


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A snapshot with one segment that is indexed and one that grows, by the embedded engine."""
    engine = pytest.importorskip("qdrant_edge")
    from agent.adapters import edge

    folder = tmp_path_factory.mktemp("engine")
    with_graph = engine.EdgeOptimizersConfig(indexing_threshold=1)
    vectors = {
        "": engine.EdgeVectorParams(size=4, distance=engine.Distance.Dot, on_disk=True),
        "ü": engine.EdgeVectorParams(size=4, distance=engine.Distance.Cosine),
    }
    sparse = {"words": engine.EdgeSparseVectorParams()}
    os.mkdir(folder / "rich")
    shard = engine.EdgeShard.create(
        str(folder / "rich"), engine.EdgeConfig(vectors=vectors, sparse_vectors=sparse, optimizers=with_graph)
    )
    shard.update(engine.UpdateOperation.upsert_points([point(engine, number) for number in range(200)]))
    assert shard.optimize()
    shard.update(engine.UpdateOperation.upsert_points([point(engine, number) for number in range(200, 220)]))
    shard.close()
    with edge.open_collection(str(folder), "rich", snapshot_tar.plan) as source:
        return b"".join(source.plan.chunks())


def point(engine: Any, number: int) -> Any:
    words = engine.SparseVector(indices=[number % 50, 100], values=[1.0, 0.5])
    vectors = {"": [number, 1.0, 2.0, 3.0], "ü": [1.0, number, 2.0, 3.0], "words": words}
    return engine.Point(number, vectors, {"city": f"city {number % 7}"})


def test_each_file_that_an_engine_needs_is_missed_by_its_name(sample: bytes) -> None:
    assert walked(sample).form is Form.SNAPSHOT
    missed = 0
    for path, start, content, end in entries(sample):
        if not path.endswith(".tar"):
            continue
        inner = sample[content:end]
        for name, at, _, after in entries(inner):
            left = inner[:at] + inner[after:]
            found = walked(sample[:start] + entry(path, left) + sample[end:])
            file = name.removeprefix("snapshot/files/")
            if found.form is Form.SNAPSHOT:
                sparse = file.startswith("vector_index-words/")
                assert sparse or any(word in file for word in SPARED), file
            else:
                segment = path.rpartition("/")[2].removesuffix(".tar")
                told = {"payload_index/config.json": "payload_index"}.get(file, file)
                told = told if "/links" not in told else f"{told.partition('/')[0]}/links*.bin"
                assert found.where == Where(0, segment, told)
                missed += 1
    assert missed > 40


SERVER = os.environ.get("SNAPWARD_TEST_QDRANT_URL", "")


def call(method: str, path: str) -> bytes:
    wanted = {"Accept-Encoding": "identity"}
    request = urllib.request.Request(SERVER + path, None, wanted, method=method)  # noqa: S310 - the tester's own server
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=60) as answer:
        return answer.read()


def taken(path: str) -> bytes:
    """A snapshot, which does not stay on the server."""
    name = json.loads(call("POST", path))["result"]["name"]
    quoted = urllib.request.quote(name, safe="")
    try:
        return call("GET", f"{path}/{quoted}")
    finally:
        call("DELETE", f"{path}/{quoted}")


@pytest.mark.real_qdrant
@pytest.mark.skipif(not SERVER, reason="SNAPWARD_TEST_QDRANT_URL names no running Qdrant")
def test_every_snapshot_of_a_real_server_is_what_it_is() -> None:
    nine.drop(SERVER)
    nine.seed(SERVER, points=400)
    try:
        for name in nine.COLLECTIONS:
            own = [taken(path_of(name, "/shards/0/snapshots")), call("GET", path_of(name, "/shards/0/snapshot"))]
            found = [walked(taken(path_of(name, "/snapshots"))), *map(walked, own)]
            assert [(one.form, one.kind) for one in found] == [
                (Form.SNAPSHOT, COLLECTION),
                (Form.SNAPSHOT, SHARD),
                (Form.SNAPSHOT, SHARD),
            ], [one.why for one in found]
        found = [walked(taken("/snapshots"))]
        assert [(one.form, one.kind) for one in found] == [(Form.OTHER, STORAGE)]
    finally:
        nine.drop(SERVER)
