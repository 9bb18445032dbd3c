import json
import tracemalloc
from typing import Any

import pytest

from agent.rules.segment import Segment

PATH = "0/segments/0b5a3c1e-4b7d-4f60-9f53-5d1f7c9a2e11.tar"
BLOBS = ["bitmask.dat", "config.json", "gaps.dat", "page_0.dat", "page_1.dat", "tracker.dat"]
FLAGS = ["deleted/flags_a.dat", "deleted/status.dat"]
CHUNKS = ["chunk_0.mmap", "chunk_1.mmap", "config.json", "status.dat"]
FROZEN = ["id_tracker.deleted", "id_tracker.mappings", "id_tracker.versions"]
GROWING = ["mutable_id_tracker.mappings", "mutable_id_tracker.versions"]
PLAIN: dict[str, Any] = {"type": "plain", "options": {}}
HNSW: dict[str, Any] = {"type": "hnsw", "options": {"m": 16}}


def below(folder: str, *names: str) -> list[str]:
    return [f"{folder}/{name}" for name in names]


PAYLOAD = [*below("payload_storage", *BLOBS), "payload_index/config.json", "payload_index/city-map/data.bin"]


def chunked(name: str = "") -> list[str]:
    return below(f"vector_storage{name}", *FLAGS, *below("vectors", *CHUNKS))


def multiple(name: str = "") -> list[str]:
    return [*chunked(name), *below(f"vector_storage{name}/offsets", *CHUNKS)]


def mapped(name: str = "") -> list[str]:
    return below(f"vector_storage{name}", "deleted.dat", "matrix.dat", "quantized.data", "quantized.meta.json")


def sparse(name: str) -> list[str]:
    return below(f"vector_storage-{name}", *FLAGS, *below("store", *BLOBS))


def graph(name: str = "", links: str = "links_compressed.bin") -> list[str]:
    return below(f"vector_index{name}", "graph.bin", "hnsw_config.json", links)


def dense(storage: str = "InRamChunkedMmap", index: Any = PLAIN, **more: Any) -> dict[str, Any]:
    return {"size": 4, "distance": "Dot", "storage_type": storage, "index": index, "quantization_config": None, **more}


def words(index: str = "MutableRam", storage: str = "mmap") -> dict[str, Any]:
    return {"index": {"full_scan_threshold": None, "index_type": index}, "storage_type": storage}


def state(payload: str = "mmap", vectors: Any = None, **sparse_vectors: Any) -> bytes:
    config = {"vector_data": vectors or {}, "payload_storage_type": {"type": payload}}
    if sparse_vectors:
        config["sparse_vector_data"] = sparse_vectors
    return json.dumps({"initial_version": None, "version": 3, "config": config}).encode()


def lacks(files: list[str], described: bytes, version: bytes = b"0.6.0") -> tuple[str, str]:
    segment = Segment(PATH)
    for name in files:
        segment.see(name)
    for name, data in (("segment.json", described), ("version.info", version)):
        segment.see(name)
        segment.keep(name, data)
    return segment.lacks()


MULTI = {"multivector_config": {"comparator": "max_sim"}}
WHOLE = {
    "empty": ([*PAYLOAD, *below("vector_storage", *FLAGS, "vectors/config.json", "vectors/status.dat")], {"": dense()}),
    "growing": ([*PAYLOAD, *chunked(), *GROWING], {"": dense("ChunkedMmap")}),
    "indexed": ([*PAYLOAD, *mapped(), *graph(), *FROZEN], {"": dense("Mmap", HNSW)}),
    "in memory": ([*PAYLOAD, *chunked(), *graph(links="links.bin"), *FROZEN], {"": dense(index=HNSW)}),
    "mapped": ([*PAYLOAD, *mapped(), *graph(links="links_comp_vec.bin"), *FROZEN], {"": dense("InRamMmap", HNSW)}),
    "multiple": ([*PAYLOAD, *multiple("-a"), *GROWING], {"a": dense(**MULTI)}),
    "multiple on disk": ([*PAYLOAD, *multiple("-a"), *graph("-a"), *FROZEN], {"a": dense("Mmap", HNSW, **MULTI)}),
    "named": (
        [*PAYLOAD, *chunked("-a b"), *mapped("-ü"), *graph("-ü"), *FROZEN],
        {"a b": dense(datatype="uint8"), "ü": dense("Mmap", HNSW, datatype="float16")},
    ),
}
# What may be missing for all that can be told, or is there only sometimes.
OPTIONAL = ("quantized", "hnsw_config", "city-map", "chunk_1", "page_1", "mutable_id_tracker.versions")


@pytest.mark.parametrize("kind", WHOLE)
def test_every_file_that_a_segment_needs_is_missed_by_its_name_and_no_other(kind: str) -> None:
    files, vectors = WHOLE[kind]
    described = state(vectors=vectors)
    assert lacks(files, described) == ("", "")
    for lost in files:
        missing, why = lacks([name for name in files if name != lost], described)
        if any(word in lost for word in OPTIONAL):
            assert (missing, why) == ("", ""), lost
        else:
            expected = "payload_index" if lost == "payload_index/config.json" else lost
            expected = expected if "/links" not in lost else f"{lost.partition('/')[0]}/links*.bin"
            assert (missing, why) == (expected, f"{PATH} has no {expected}")


@pytest.mark.parametrize("kind", WHOLE)
def test_a_part_that_is_gone_as_a_whole_is_missed(kind: str) -> None:
    files, vectors = WHOLE[kind]
    for part in {name.partition("/")[0] for name in files if "/" in name}:
        missing, _ = lacks([name for name in files if not name.startswith(f"{part}/")], state(vectors=vectors))
        assert missing == ("" if kind == "named" and part == "vector_storage-a b" else part)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_part_of_a_later_version_is_not_judged(kind: str) -> None:
    files, vectors = WHOLE[kind]
    for part in {name.partition("/")[0] for name in files if "/" in name and "payload_index" not in name}:
        newer = [name for name in files if not name.startswith(f"{part}/")]
        assert lacks([*newer, f"{part}/pages.dat"], state(vectors=vectors)) == ("", "")
    newer = [name for name in files if "id_tracker" not in name]
    assert lacks([*newer, "id_tracker.i2e", "id_tracker.deleted"], state(vectors=vectors))[0] in {"", "vector_storage"}


def test_a_number_that_is_left_out_is_missed() -> None:
    files, vectors = WHOLE["growing"]
    for more in ("payload_storage/page_{}.dat", "vector_storage/vectors/chunk_{}.mmap"):
        there = [*files, *(more.format(number) for number in (2, 3, 5, 6))]
        assert lacks(there, state(vectors=vectors))[0] == more.format(4)
        assert lacks([*there, more.format(4)], state(vectors=vectors)) == ("", "")


def test_sparse_vectors_have_their_storage() -> None:
    growing = [*PAYLOAD, *sparse("s"), *GROWING]
    assert lacks(growing, state(s=words())) == ("", "")
    lost = [name for name in growing if name != "vector_storage-s/store/tracker.dat"]
    assert lacks(lost, state(s=words()))[0] == "vector_storage-s/store/tracker.dat"
    assert lacks([*PAYLOAD, *GROWING], state(s=words()))[0] == "vector_storage-s"
    assert lacks([*PAYLOAD, *FROZEN, *lost], state(s=words("ImmutableRam")))[0] == "vector_storage-s/store/tracker.dat"


@pytest.mark.parametrize(
    ("files", "described"),
    [
        # Added by name to a segment that had been finished: there is nothing on the disk.
        ([*PAYLOAD, *mapped("-a"), *graph("-a"), *FROZEN], {"a": dense("Mmap", HNSW), "b": dense()}),
        ([*PAYLOAD, *FROZEN], {"b": dense()}),
        ([*PAYLOAD, *FROZEN], {}),
        # Until 1.17, a name with a slash.
        ([*PAYLOAD, *chunked("-a/b"), *GROWING], {"a/b": dense()}),
        ([*PAYLOAD, *mapped("-a/b"), *graph("-a/b"), *FROZEN], {"a/b": dense("Mmap", HNSW)}),
        # Kept by RocksDB, whose backup is none of the segment's files.
        ([*PAYLOAD, "db_backup/CURRENT"], {"": dense("Memory")}),
        # What no version known here writes.
        ([*PAYLOAD, *GROWING], {"": dense("Hologram")}),
        ([*PAYLOAD, *GROWING], {"": dense(datatype="turbo4")}),
        ([*PAYLOAD, *below("vector_storage", *FLAGS, *CHUNKS), *GROWING], {"": dense()}),
    ],
)  # fmt: skip
def test_what_need_not_be_there_is_not_missed(files: list[str], described: Any) -> None:
    assert lacks(files, state(vectors=described)) == ("", "")


@pytest.mark.parametrize(
    ("files", "described"),
    [
        ([*FROZEN, *PAYLOAD], state(s=words("Mmap"))),
        ([*GROWING, *PAYLOAD], state(s=words(storage="on_disk"))),
        (["payload_index/config.json"], state(payload="in_memory", vectors={"": dense("Memory")})),
        (["anything"], b"{}"),
        (["anything"], b'{"version":1,"config":{"vector_data":{"":{"size":1}},"index":{"type":"plain"}}}'),
    ],
)
def test_segments_of_older_servers_are_not_judged_by_what_they_never_had(files: list[str], described: bytes) -> None:
    assert lacks(files, described) == ("", "")


@pytest.mark.parametrize(
    ("marks", "file", "why"),
    [
        ({}, "version.info", f"{PATH} has no version.info, and a server would lose the segment"),
        ({"segment.json": b"{}"}, "version.info", f"{PATH} has no version.info, and a server would lose the segment"),
        ({"version.info": b"0.6.0"}, "segment.json", f"{PATH} has no segment.json, and no server can load it"),
        (
            {"version.info": b"", "segment.json": b"{}"},
            "version.info",
            f"version.info of {PATH} holds no version",
        ),
        (
            {"version.info": b"0.6.0", "segment.json": b"{"},
            "segment.json",
            f"segment.json of {PATH} cannot be read: Input data was truncated",
        ),
        ({"version.info": b"0.6.0", "segment.json": b'{"new":' + b"[" * 100_000}, "segment.json", ""),
        ({"version.info": b"0.6.0", "segment.json": b"\xff"}, "segment.json", ""),
    ],
)
def test_a_segment_needs_its_version_and_its_description(marks: dict[str, bytes], file: str, why: str) -> None:
    segment = Segment(PATH)
    for name, data in marks.items():
        segment.see(name)
        segment.keep(name, data)
    found = segment.lacks()
    assert found[0] == file
    assert found[1] == why or (not why and found[1].startswith(f"segment.json of {PATH} cannot be read: "))


def test_a_description_that_was_not_read_is_not_judged() -> None:
    segment = Segment(PATH)
    for name in ("segment.json", "version.info"):
        segment.see(name)
    assert segment.lacks() == ("", "")


def test_the_version_of_a_part_is_not_that_of_the_segment() -> None:
    segment = Segment(PATH)
    for name in ("vector_index-words/version.info", "segment.json"):
        segment.see(name)
    assert segment.lacks()[0] == "version.info"


def test_files_without_number_take_no_memory_and_raise_no_alarm() -> None:
    segment = Segment(PATH)
    tracemalloc.start()
    try:
        for number in range(100_000):
            segment.see(f"vector_storage-{number}/vectors/chunk_9999.mmap")
            segment.see(f"payload_index/{number}/data.bin")
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    for name, data in (("segment.json", state(vectors={"": dense("Mmap")})), ("version.info", b"0.6.0")):
        segment.see(name)
        segment.keep(name, data)
    assert segment.lacks() == ("", "")
