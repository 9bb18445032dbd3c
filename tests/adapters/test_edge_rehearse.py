import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from program import until
from small_disk import small_disk
from standin import StandIn, nine
from standin.client import Client, path_of, path_of_snapshot

from agent.adapters import edge, snapshot_tar
from agent.adapters.edge.rehearse import Limits, Questions, rehearse
from agent.adapters.unpack import Unpacker
from agent.rules import content, rehearsal
from agent.rules.manifest import Content, Probe
from agent.rules.rehearsal import Expected

qdrant_edge = pytest.importorskip("qdrant_edge")

POINTS, DIMENSIONS = 400, 16
REAL = "SNAPWARD_TEST_QDRANT_URL"
LIMITS = Limits(memory=512 << 20, seconds=30.0)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Expected]:
    """The archive of a small collection, and what was recorded of it."""
    folder = tmp_path_factory.mktemp("collections")
    edge.build_sample(str(folder), "sample", POINTS, DIMENSIONS, seed=7)
    return archived(folder, "sample")


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An archive with three shards of 50 points."""
    folder = tmp_path_factory.mktemp("shards")
    given = {"replica_state.json": b"{}", "shard_config.json": b"{}"}
    shards = {}
    for number in (0, 2, 5):
        edge.build_sample(str(folder), str(number), 50, DIMENSIONS, seed=number)
        qdrant_edge.EdgeShard.load(str(folder / str(number))).close()
        shards[number] = str(folder / str(number))
    root = dict.fromkeys(snapshot_tar.ROOT_FILES, b"{}")
    return b"".join(snapshot_tar.plan(shards, root, dict.fromkeys(shards, given)).chunks())


def archived(folder: Path, name: str) -> tuple[bytes, Expected]:
    with edge.open_collection(str(folder), name, snapshot_tar.plan) as source:
        expected = Expected(
            low=source.points,
            high=source.points,
            probes=source.record.probes,
            content=source.record.content,
            writes=0,
            source="manifest.json",
        )
        return b"".join(source.plan.chunks()), expected


def unpacked(data: bytes, folder: Path) -> tuple[int, ...]:
    with Unpacker(str(folder)) as unpacker:
        unpacker.feed(data)
    assert not unpacker.broken
    return unpacker.shards


def asked(expected: Expected, **how: Any) -> Questions:
    points = tuple(expected.content.points) if expected.content else ()
    return Questions(probes=expected.probes, points=points, **how)


def one(folder: Path, pattern: str) -> Path:
    """The largest file that matches."""
    return max(folder.glob(pattern), key=lambda path: path.stat().st_size)


# --- what is asked


def test_what_was_recorded_of_a_collection_is_found_in_its_archive(sample, tmp_path):
    data, expected = sample
    shards = unpacked(data, tmp_path)
    seen = rehearse(str(tmp_path), shards, asked(expected), LIMITS)
    (part,) = seen.parts
    assert (seen.ended, part.error, part.points, part.shard) == ("", "", POINTS, 0)
    assert part.digests == expected.content.points
    assert len(part.digests) == POINTS
    assert seen.engine == "qdrant-edge-py 0.9.0"
    assert 0 < seen.peak < 512 << 20
    assert rehearsal.judge(seen, expected, made_by=seen.engine).level == "faithful"


@pytest.mark.parametrize(("how", "read"), [({"whole": True}, POINTS), ({"sample": 50}, 50), ({"sample": 0}, 0)])
def test_as_many_points_are_read_as_were_asked_for(sample, tmp_path, how, read):
    seen = rehearse(str(tmp_path), unpacked(sample[0], tmp_path), Questions(**how), LIMITS)
    assert (seen.parts[0].read, seen.parts[0].vectors) == (read, {"": read} if read else {})


def test_points_that_are_not_there_have_no_digest(sample, tmp_path):
    points = ("7", "100000", "0b5a3c1e-4b7d-4f60-9f53-5d1f7c9a2e11", "no id at all")
    seen = rehearse(str(tmp_path), unpacked(sample[0], tmp_path), Questions(points=points, sample=0), LIMITS)
    assert list(seen.parts[0].digests) == ["7"]
    assert not seen.parts[0].error


def test_probes_that_are_not_of_ours_are_left_out_and_refused_ones_told(sample, tmp_path):
    probe = sample[1].probes[0]
    foreign = msgspec.structs.replace(probe, query={**probe.query, "prefetch": []})
    filtered = msgspec.structs.replace(probe, query={**probe.query, "filter": {"must": [{"key": "city"}]}})
    refused = msgspec.structs.replace(probe, query={**probe.query, "using": "image"})
    questions = Questions(probes=(probe, foreign, filtered, refused))
    (part,) = rehearse(str(tmp_path), unpacked(sample[0], tmp_path), questions, LIMITS).parts
    assert [answers is not None for answers in part.answers] == [True, False, False, False]
    assert len(part.unanswered) == 1
    assert "image" in part.unanswered[0]
    assert not part.error


def test_vectors_without_sense_are_counted_by_name(tmp_path):
    engine = qdrant_edge
    vectors = {"": engine.EdgeVectorParams(size=4, distance=engine.Distance.Dot)}
    vectors["image"] = engine.EdgeVectorParams(size=2, distance=engine.Distance.Euclid)
    folder = tmp_path / "0"
    folder.mkdir()
    shard = engine.EdgeShard.create(str(folder), engine.EdgeConfig(vectors=vectors))
    made = [([float(number), 0, 0, 1], {"image": [1.0, 1.0]}) for number in range(10)]
    made += [([0.0] * 4, {}), ([float("nan"), 0, 0, 0], {}), ([float("inf"), 0, 0, 0], {})]
    points = [engine.Point(number, {"": first, **other}, {}) for number, (first, other) in enumerate(made)]
    shard.update(engine.UpdateOperation.upsert_points(points))
    shard.close()
    query = {"query": [1.0, 0.0, 0.0, 1.0], "limit": 20, "params": {"exact": True}}
    probe = Probe(vector="", kind="dense", point=1, query=query, answers=[])
    (part,) = rehearse(str(tmp_path), [0], Questions(whole=True, points=("10",), probes=(probe,)), LIMITS).parts
    assert (part.answers, part.unanswered, part.error) == ((None,), (), "")
    assert part.vectors == {"": 13, "image": 10}
    assert (part.zeroed, part.odd, part.alike) == ({"": 1}, {"": 2}, {"image": 10})
    assert part.recorded.zeroed == {"": 1}
    assert part.recorded.points == 1


def test_without_a_record_the_engine_draws_one_for_the_next_time(several, tmp_path):
    first = rehearse(str(tmp_path / "1"), unpacked(several, tmp_path / "1"), Questions(draw=True), LIMITS)
    made = rehearsal.baseline(first, "sha256", 0.0)
    assert made.points == 150
    assert len(made.probes) == 6
    assert len(made.content.points) == 50  # the same ids are in each of these shards
    expected = rehearsal.as_expected(made)
    again = rehearse(str(tmp_path / "2"), unpacked(several, tmp_path / "2"), asked(expected), LIMITS)
    assert all(one["id"] in range(50) for probe in made.probes for one in probe.answers)
    assert rehearsal.judge(again, expected).asked == 6
    assert rehearsal.judge(again, expected).matched == 6


# --- servers


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.real_qdrant)])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "stand-in":
        with StandIn(tmp_path / "server") as standin:
            nine.seed(standin.url)
            yield standin.url
        return
    url = os.environ.get(REAL)
    if not url:
        pytest.skip(f"{REAL} names no Qdrant server")
    nine.drop(url)
    nine.seed(url)
    yield url
    nine.drop(url)


def recorded(client: Client, name: str) -> Expected:
    """All points of a collection, and exact queries about some of them, with and without a filter."""
    every = {"limit": 1000, "with_vector": True}
    points = client.ask("POST", path_of(name, "/points/scroll"), every).result["points"]
    probes = []
    for point in points[:3]:
        for vector, held in content.named(point["vector"]).items():
            for some in ({}, {"filter": {"must": [{"has_id": [other["id"] for other in points[:20]]}]}}):
                query = {"query": held, "limit": 10, "params": {"exact": True}, **some}
                query |= {"using": vector} if vector else {}
                hits = client.ask("POST", path_of(name, "/points/query"), query).result["points"]
                answers = [{"id": hit["id"], "score": hit["score"]} for hit in hits]
                probes.append(Probe(vector=vector, kind="", point=point["id"], query=query, answers=answers))
    digests = {content.key(point["id"]): content.digest(point["vector"], point["payload"]) for point in points}
    record = Content(of=len(points), drawn=len(points), points=digests)
    return Expected(low=len(points), high=len(points), probes=tuple(probes), content=record, source="manifest.json")


def test_what_a_server_tells_of_its_points_is_what_the_engine_finds_in_its_snapshots(server, tmp_path):
    with Client(server) as client:
        for number, name in enumerate(nine.COLLECTIONS):
            expected = recorded(client, name)
            made = client.ask("POST", path_of(name, "/snapshots")).result["name"]
            data = client.ask("GET", path_of_snapshot(name, made), headers={"accept-encoding": "identity"}).body
            shards = unpacked(data, tmp_path / str(number))
            seen = rehearse(str(tmp_path / str(number)), shards, asked(expected, whole=True), LIMITS)
            found = rehearsal.judge(seen, expected, made_by="1.18.3")
            assert (found.state, found.level) == ("passed", "faithful"), f"{name}: {found.why}"
            assert (found.matched, found.same) == (len(expected.probes), len(expected.content.points))


# --- how it ends


def fifo(folder: Path) -> Path:
    """Have the engine wait for ever when it opens the shard in the folder."""
    path = one(folder, "segments/*/payload_index/config.json")
    path.unlink()
    os.mkfifo(path)
    return path


def children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
        return [int(number) for number in file.read().split()]


def test_an_engine_that_hangs_is_ended_when_its_time_is_over(sample, tmp_path):
    unpacked(sample[0], tmp_path)
    fifo(tmp_path / "0")
    before = children()
    seen = rehearse(str(tmp_path), [0], asked(sample[1]), Limits(memory=512 << 20, seconds=1.5))
    assert (seen.ended, seen.where) == ("time", "shard 0, opening it")
    assert seen.why == "the engine did not come to an end within 1.5 s"
    assert children() == before
    assert rehearsal.judge(seen, sample[1]).state == "inconclusive"


def test_whoever_stops_it_ends_the_engine(sample, tmp_path):
    unpacked(sample[0], tmp_path)
    fifo(tmp_path / "0")
    calls = iter([False] * 5)
    before = children()
    seen = rehearse(str(tmp_path), [0], asked(sample[1]), LIMITS, lambda: next(calls, True))
    assert seen.ended == "stopped"
    assert children() == before


@pytest.mark.parametrize(
    ("by", "ended", "why"),
    [
        (signal.SIGSEGV, "abort", "the engine was ended by SIGSEGV"),
        (signal.SIGKILL, "memory", "the engine needed more than 512 MiB"),
        (signal.SIGXCPU, "time", "the engine took the processor for longer than"),
    ],
)
def test_a_signal_that_ends_the_engine_is_told(several, tmp_path, by, ended, why):
    shards = unpacked(several, tmp_path)
    fifo(tmp_path / "2")

    def send() -> bool:
        for waiting in filter(Path.is_fifo, tmp_path.glob("**/config.json")):  # parts are opened alone, too
            for writer in reached(waiting):
                for child in children():
                    os.kill(child, by)
                os.close(writer)
        return False

    seen = rehearse(str(tmp_path), shards, Questions(), LIMITS, send)
    assert (seen.ended, seen.where) == (ended, "shard 2, opening it")
    assert seen.why.startswith(why)
    assert {part.shard: part.points for part in seen.parts} == {0: 50, 2: None} | ({} if ended == "time" else {5: 50})


def test_the_engine_ends_with_its_parent(sample, tmp_path):
    unpacked(sample[0], tmp_path)
    waiting = fifo(tmp_path / "0")
    code = (
        "import sys; from agent.adapters.edge.rehearse import *\n"
        "rehearse(sys.argv[1], [0], Questions(), Limits(memory=1 << 30, seconds=60.0))"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path]) as parent:
        writer = until(lambda: reached(waiting))
        with open(f"/proc/{parent.pid}/task/{parent.pid}/children", "rb") as file:
            (child,) = map(int, file.read().split())
        parent.kill()
    os.close(writer[0])
    until(lambda: not running(child))


def reached(waiting: Path) -> list[int]:
    try:
        return [os.open(waiting, os.O_WRONLY | os.O_NONBLOCK)]
    except OSError:
        return []


def running(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return b") Z" not in file.read()
    except OSError:
        return False


def test_more_memory_than_it_may_take_is_not_the_archives_fault(sample, tmp_path):
    data, expected = sample
    unpacked(data, tmp_path)
    seen = rehearse(str(tmp_path), [0], asked(expected), Limits(memory=1 << 20, seconds=10.0))
    assert seen.ended in {"memory", "unable"}
    assert rehearsal.judge(seen, expected, raw_size=len(data)).state == "inconclusive"


def test_a_missing_engine_says_nothing_about_the_archive(sample, tmp_path, monkeypatch):
    unpacked(sample[0], tmp_path / "copy")
    (tmp_path / "qdrant_edge.py").write_text("raise ImportError\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    seen = rehearse(str(tmp_path / "copy"), [0], asked(sample[1]), LIMITS)
    assert (seen.ended, seen.why, seen.parts) == ("unable", "the embedded Qdrant engine is not installed", ())
    assert rehearsal.judge(seen, sample[1]).state == "inconclusive"


def test_a_fault_of_ours_says_nothing_about_the_archive(sample, tmp_path, monkeypatch):
    unpacked(sample[0], tmp_path / "copy")
    (tmp_path / "qdrant_edge.py").write_text("class EdgeShard: pass\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    seen = rehearse(str(tmp_path / "copy"), [0], asked(sample[1]), LIMITS)
    assert seen.ended == "unable" or "has no attribute" in seen.parts[0].error


def test_a_full_scratch_disk_says_nothing_about_the_archive(sample, tmp_path):
    data, expected = sample
    (tmp_path / "small").mkdir()
    with small_disk(tmp_path / "small", "8m"):
        unpacked(data, tmp_path / "small" / "copy")
        with pytest.raises(OSError, match="No space"):
            (tmp_path / "small" / "filler").write_bytes(bytes(16 << 20))
        seen = rehearse(str(tmp_path / "small" / "copy"), [0], asked(expected), LIMITS)
    assert seen.ended == "unable", seen
    assert rehearsal.judge(seen, expected).state == "inconclusive"


def test_a_probe_may_be_longer_than_a_pipe_is(sample, tmp_path):
    points = tuple(str(number) for number in range(100_000))
    seen = rehearse(str(tmp_path), unpacked(sample[0], tmp_path), Questions(points=points, sample=0), LIMITS)
    assert len(seen.parts[0].digests) == POINTS
