"""Damage in an archive that was there before its checksums were made: what is found, what is named, what nobody sees.

The tables are those of experiments with the engine: it opens most of what is damaged without a word.
"""

import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.adapters import snapshot_tar
from agent.adapters.edge.rehearse import Limits, Questions, rehearse
from agent.adapters.unpack import Unpacker
from agent.rules import rehearsal
from agent.rules.rehearsal import Expected, Judgement, Seen

engine = pytest.importorskip("qdrant_edge")

Damage = Callable[[Path], None]

POINTS, DIMENSIONS = 600, 16
VECTOR = 4 * DIMENSIONS
GIVEN = {"replica_state.json": b"{}", "shard_config.json": b"{}"}
NOISE = random.Random(3).randbytes(4096)  # noqa: S311 - has to be the same on every run, not secret
ONES = b"\xff" * 4096


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of shards: `whole`, `indexed` with a segment that was optimized, `plain` with one that was not."""
    home = tmp_path_factory.mktemp("shards")
    build(home / "whole", range(5000, 5050))
    build(home / "plain", range(POINTS))
    build(home / "indexed", range(POINTS), threshold=1)
    return home


def build(folder: Path, numbers: range, threshold: int = 1 << 30) -> None:
    dice = random.Random(numbers.start)  # noqa: S311 - has to be the same on every run, not secret
    folder.mkdir()
    config = engine.EdgeConfig(
        vectors=engine.EdgeVectorParams(size=DIMENSIONS, distance=engine.Distance.Cosine),
        optimizers=engine.EdgeOptimizersConfig(indexing_threshold=threshold, default_segment_number=1),
    )
    shard = engine.EdgeShard.create(str(folder), config)
    for field, kind in (("city", engine.PayloadSchemaType.Keyword), ("year", engine.PayloadSchemaType.Integer)):
        shard.update(engine.UpdateOperation.create_field_index(field, kind))
    for start in range(0, len(numbers), 100):
        points = [
            engine.Point(number, [dice.gauss(0, 1) for _ in range(DIMENSIONS)], payload(number))
            for number in numbers[start : start + 100]
        ]
        shard.update(engine.UpdateOperation.upsert_points(points))
    shard.optimize()
    shard.close()
    engine.EdgeShard.load(str(folder)).close()  # removes redo journals


def payload(number: int) -> dict[str, Any]:
    return {"city": f"city {number % 7}", "year": 1900 + number % 100, "text": f"some words about point {number}"}


def drilled(folder: Path, shards: dict[int, Path], questions: Questions) -> tuple[Seen, int]:
    """Pack shards into an archive, and rehearse its restore."""
    given = {number: str(path) for number, path in shards.items()}
    plan = snapshot_tar.plan(given, dict.fromkeys(snapshot_tar.ROOT_FILES, b"{}"), dict.fromkeys(given, GIVEN))
    with Unpacker(str(folder)) as unpacker:
        for chunk in plan.chunks():
            unpacker.feed(chunk)
    assert not unpacker.broken
    limits = Limits(memory=1 << 30, seconds=30.0)
    return rehearse(str(folder), unpacker.shards, questions, limits), plan.raw_size


@pytest.fixture(scope="module")
def recorded(home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Expected]:
    """What is in an archive of `whole` and another shard, by the name of that."""
    found = {}
    for name in ("plain", "indexed"):
        shards = {0: home / "whole", 1: home / name}
        seen, _ = drilled(tmp_path_factory.mktemp(name), shards, Questions(draw=True))
        found[name] = rehearsal.as_expected(rehearsal.baseline(seen, "", 0.0))
        assert len(found[name].content.points) == POINTS + 50
        assert len(found[name].probes) == 4
    return found


@pytest.fixture
def drill(home: Path, recorded: dict[str, Expected], tmp_path: Path) -> Callable[[str, Damage], Judgement]:
    """Damage a shard, archive it as shard 1 beside a whole one, and judge what a drill shows."""

    def run(name: str, damage: Damage) -> Judgement:
        copy = tmp_path / "damaged"
        shutil.copytree(home / name, copy, copy_function=sparsely)
        damage(copy)
        expected = recorded[name]
        questions = Questions(probes=expected.probes, points=tuple(expected.content.points))
        seen, size = drilled(tmp_path / "out", {0: home / "whole", 1: copy}, questions)
        return rehearsal.judge(seen, expected, made_by=seen.engine, raw_size=size)

    return run


def sparsely(source: str, target: str) -> None:
    """Copy a file, which is mostly holes."""
    with open(source, "rb") as old, open(target, "wb") as new:
        new.truncate(size := os.fstat(old.fileno()).st_size)
        at = 0
        while at < size:
            try:
                at = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(old.fileno(), at, os.SEEK_HOLE)
            os.pwrite(new.fileno(), os.pread(old.fileno(), end - at, at), at)
            at = end


def one(shard: Path, pattern: str) -> Path:
    """The file that matches, in the segment that has the points."""
    if pattern.startswith(SEGMENT):
        shard, pattern = max(shard.glob(SEGMENT), key=weight), pattern.removeprefix(f"{SEGMENT}/")
    return max(shard.glob(pattern), key=weight)


def weight(path: Path) -> int:
    return sum(file.stat().st_blocks for file in (path, *path.rglob("*")))


def over(pattern: str, at: int, data: bytes) -> Damage:
    """Write over what is in a file from `at` on."""

    def damage(shard: Path) -> None:
        with one(shard, pattern).open("r+b") as file:
            file.seek(at)
            file.write(data)

    return damage


def flip(pattern: str, at: int, bits: int) -> Damage:
    def damage(shard: Path) -> None:
        path = one(shard, pattern)
        data = bytearray(path.read_bytes())
        data[at] ^= bits
        path.write_bytes(data)

    return damage


def cut(pattern: str, size: int) -> Damage:
    return lambda shard: os.truncate(one(shard, pattern), size)


def gone(pattern: str) -> Damage:
    def damage(shard: Path) -> None:
        path = one(shard, pattern)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


SEGMENT = "segments/*"
MATRIX = f"{SEGMENT}/vector_storage/matrix.dat"
CHUNK = f"{SEGMENT}/vector_storage/vectors/chunk_0.mmap"
MAPPINGS, MUTABLE = f"{SEGMENT}/id_tracker.mappings", f"{SEGMENT}/mutable_id_tracker.mappings"
PAGE, TRACKER = f"{SEGMENT}/payload_storage/page_0.dat", f"{SEGMENT}/payload_storage/tracker.dat"
LINKS = f"{SEGMENT}/vector_index/links_compressed.bin"
DELETED, FLAGS = f"{SEGMENT}/id_tracker.deleted", f"{SEGMENT}/vector_storage/deleted/flags_a.dat"
VERSIONS, VERSION = f"{SEGMENT}/mutable_id_tracker.versions", f"{SEGMENT}/version.info"
STATE, INDEXES = f"{SEGMENT}/segment.json", f"{SEGMENT}/payload_index/config.json"
GRAPH, VALUES = f"{SEGMENT}/vector_index/graph.bin", f"{SEGMENT}/payload_index/*-city-map/point_to_values.bin"
POSTINGS = f"{SEGMENT}/payload_index/*-city-map/values_to_points.bin"

# What it is, in which shard, and what the reason is to say: damage that the engine opens.
WRONG = {
    "a bit of a vector's mantissa": (
        "indexed",
        flip(MATRIX, 4 + 5 * VECTOR, 0x04),
        r"1 of 650 .* 5 \(vectors in shard 1\)",
    ),
    "a bit of a vector's exponent": ("indexed", flip(MATRIX, 4 + 7 * VECTOR + 3, 0x40), r"7 \(vectors in shard 1\)"),
    "zeros over vectors": (
        "indexed",
        over(MATRIX, 4 + 9 * VECTOR, bytes(200 * VECTOR)),
        r"200 of 650 .*vectors in shard 1",
    ),
    "no vectors": (
        "indexed",
        gone(MATRIX),
        r"600 of 650 .*in shard 1 segments/\S+/vector_storage/matrix.dat is missing",
    ),
    "no folder of vectors": ("indexed", gone(f"{SEGMENT}/vector_storage"), r"vector_storage/matrix.dat is missing"),
    "vectors cut off": ("indexed", cut(MATRIX, 20_000), r"of 650 recorded points .* \(vectors in shard 1\)"),
    "a byte of an id": ("indexed", flip(MAPPINGS, 4000, 0xFF), r"of 650 recorded points .*missing"),
    "a byte of deletions": ("indexed", over(DELETED, 40, b"\xff"), r"642 points instead of 650.*\(missing\)"),
    "64 bytes of deletions": ("indexed", over(DELETED, 16, ONES[:64]), r"points instead of 650.*\(missing\)"),
    "no ids": ("indexed", gone(MAPPINGS), r"50 points instead of 650.*segments/\S+/id_tracker.mappings is missing"),
    "no version": ("indexed", gone(f"{SEGMENT}/version.info"), r"50 points instead of 650"),
    "zeros over payloads": ("indexed", over(PAGE, 2000, bytes(512)), r"cannot be read: the payload of point"),
    "no map of payloads": (
        "indexed",
        over(TRACKER, 1000, ONES[:64]),
        r"4 of 650 points cannot be read: the payload of",
    ),
    "payloads cut off": ("indexed", cut(PAGE, 4096), r"cannot be read: the payload of point"),
    "no payloads": ("indexed", gone(f"{SEGMENT}/payload_storage"), r"600 of 650 .*payload.*tracker.dat is missing"),
    "a bit of a new vector": (
        "plain",
        flip(CHUNK, 5 * VECTOR, 0x04),
        r"1 of 650 recorded points .* \(vectors in shard 1\)",
    ),
    "zeros over new vectors": ("plain", over(CHUNK, 0, bytes(200 * VECTOR)), r"200 of 650 .* \(vectors in shard 1\)"),
    "no number": ("plain", over(CHUNK, 77 * VECTOR, b"\0\0\xc0\x7f"), r"1 of 650 .*\(vectors in shard 1\)"),
    "one vector for many": ("plain", over(CHUNK, 0, b"\0\0\x80\x3e" * 4800), r"300 of 650 .* \(vectors in shard 1\)"),
    "no new vectors": ("plain", gone(CHUNK), r"cannot be read: a vector of point"),
    "no number of vectors": ("plain", gone(f"{SEGMENT}/vector_storage/vectors/status.dat"), r"600 of 650 .*vectors"),
    "deletions of vectors": ("plain", over(FLAGS, 10, ONES[:32]), r"256 of 650 .*vectors"),
    "new ids cut off": ("plain", cut(MUTABLE, 13 * 300), r"[34]50 points instead of 650.* \(missing\)"),
    "no new ids": ("plain", gone(MUTABLE), r"points instead of 650.*mutable_id_tracker.mappings is missing"),
    "no new versions": ("plain", gone(VERSIONS), r"points instead of 650.*mutable_id_tracker.versions is missing"),
}

# Damage that the engine does not open, and the segment or file that is named.
SOME = "segments/[0-9a-f-]+"
UNOPENED = {
    "ids of nonsense": ("indexed", over(MAPPINGS, 0, ONES[:64]), r"capacity overflow", SOME),
    "an id of nonsense": ("indexed", over(MAPPINGS, 4000, ONES[:64]), r"asked for .* at once", SOME),
    "ids cut off": ("indexed", cut(MAPPINGS, 4000), r"ID tracker", SOME),
    "links of nonsense": ("indexed", over(LINKS, 0, ONES[:64]), r"GraphLinks", SOME),
    "a graph of nonsense": ("indexed", over(GRAPH, 0, ONES[:64]), r"end of file", SOME),
    "an index of nonsense": ("indexed", over(VALUES, 0, ONES[:32]), r"capacity exceeded", SOME),
    "indexes of nonsense": ("indexed", over(INDEXES, 0, b"\0"), r"deserialize", f"{SOME}/payload_index/config.json"),
    "a state of nonsense": ("indexed", over(STATE, 0, b"\0"), r"deserialize", f"{SOME}/segment.json"),
    "a version of nonsense": ("indexed", over(VERSION, 0, b"\0"), r"parse version", f"{SOME}/version.info"),
    "payloads of nonsense": ("indexed", over(PAGE, 2000, NOISE[:1024]), r"", SOME),
    "no state": ("indexed", gone(STATE), r"No such file", f"{SOME}/segment.json"),
    "no graph": ("indexed", gone(GRAPH), r"not found", f"{SOME}/vector_index/graph.bin"),
    "no links": ("indexed", gone(LINKS), r"No links file", SOME),
    "no versions": ("indexed", gone(f"{SEGMENT}/id_tracker.versions"), r"not found", f"{SOME}/id_tracker.versions"),
    "no page of payloads": ("indexed", gone(PAGE), r"number of gridstore pages", f"{SOME}/payload_storage"),
    "no places of payloads": ("indexed", gone(TRACKER), r"Tracker file", f"{SOME}/payload_storage/tracker.dat"),
    "a new id of nonsense": ("plain", over(MUTABLE, 13 * 300, NOISE[:16]), r"", SOME),
    "a log that begins nowhere": (
        "plain",
        over("wal/first-index", 0, bytes(15)),
        r"without its write-ahead log",
        r"wal/first-index",
    ),
    "a log of nonsense": ("plain", over("wal/open-1", 0, NOISE[:64]), r"without its write-ahead log", "wal"),
}

# What changes neither points nor answers: nothing that is asked can show it.
UNSEEN = {
    "versions of points": ("indexed", over(f"{SEGMENT}/id_tracker.versions", 800, ONES[:16])),
    "versions of new points": ("plain", over(VERSIONS, 800, bytes(16))),
    "a bit of a link": ("indexed", flip(LINKS, 10_000, 0x01)),
    "postings of an index": ("indexed", over(POSTINGS, 1000, NOISE[:16])),
    "gaps between payloads": ("indexed", over(f"{SEGMENT}/payload_storage/gaps.dat", 0, ONES[:64])),
    "free blocks for payloads": ("indexed", over(f"{SEGMENT}/payload_storage/bitmask.dat", 0, ONES[:64])),
    "no deletions of vectors": ("indexed", gone(f"{SEGMENT}/vector_storage/deleted.dat")),
    "no parameters of the graph": ("indexed", gone(f"{SEGMENT}/vector_index/hnsw_config.json")),
    "no list of indexes": ("indexed", gone(INDEXES)),
    "a log behind what was flushed": ("plain", over("wal/open-*", 30 << 20, NOISE[:64])),
}


def rows(table: dict[str, tuple[Any, ...]]) -> list[Any]:
    return [pytest.param(*row, id=what) for what, row in table.items()]


@pytest.mark.parametrize("name", ["indexed", "plain"])
def test_what_is_whole_is_faithful(drill, name):
    found = drill(name, lambda _: None)
    assert (found.state, found.level) == ("passed", "faithful")
    assert (found.asked, found.matched, found.compared, found.same) == (4, 4, 650, 650)


@pytest.mark.parametrize(("name", "damage", "why"), rows(WRONG))
def test_wrong_data_that_the_engine_opens_is_found(drill, name, damage, why):
    found = drill(name, damage)
    assert found.state == "failed"
    assert found.level in {"well-formed", "restorable"}
    assert re.search(why, found.why), found.why


@pytest.mark.parametrize(("name", "damage", "why", "where"), rows(UNOPENED))
def test_what_the_engine_does_not_open_is_found_and_named(drill, name, damage, why, where):
    found = drill(name, damage)
    assert (found.state, found.level) == ("failed", "well-formed"), found.why
    assert re.search(f"^shard 1 .*{why}", found.why), found.why
    whole, damaged = found.evidence["shards"]
    assert (whole["points"], whole.get("error")) == (50, None)
    assert re.fullmatch(where, damaged["where"])


@pytest.mark.parametrize(("name", "damage"), rows(UNSEEN))
def test_what_changes_neither_points_nor_answers_nobody_can_see(drill, name, damage):
    found = drill(name, damage)
    assert (found.state, found.level) == ("passed", "faithful"), found.why


def test_without_a_record_only_what_cannot_be_is_found(home, tmp_path):
    shutil.copytree(home / "indexed", tmp_path / "damaged", copy_function=sparsely)
    gone(MATRIX)(tmp_path / "damaged")
    seen, _ = drilled(tmp_path / "out", {0: tmp_path / "damaged"}, Questions(draw=True))
    found = rehearsal.judge(seen, Expected(), made_by=seen.engine)
    assert (found.state, found.level) == ("failed", "well-formed")
    assert re.fullmatch(r"in shard 0 segments/\S+/vector_storage/matrix.dat is missing", found.why)
