import io
import json
import os
import tarfile
import time
import tracemalloc
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tars import AWAY, END, OTHER, SERVED, STATE, UUID, entry, root, segment, shard, streamed, tar

from agent.adapters import snapshot_tar
from agent.rules.archive import Form
from agent.rules.outline import COLLECTION, Outline, Shard, Where
from agent.rules.tarball import Walk

MIB = 1 << 20
MATRIX, VERSION = (f"{name} of 0/segments/{UUID}.tar" for name in ("vector_storage/matrix.dat", "version.info"))
LONG = "snapshot/files/payload_index/" + "x" * 200 + "/page_0.dat"


def holes(name: str, spans: list[tuple[int, int]], length: int, stored: int | None = None) -> bytes:
    """A file with holes, whose map goes on behind the header as far as needed."""
    pairs = [b"%011o\0%011o\0" % span for span in spans]
    chunks = [b"".join(pairs[at : at + 21]) for at in range(4, len(pairs), 21)]
    stored = sum(size for _, size in spans) if stored is None else stored
    info = tarfile.TarInfo(name)
    info.size, info.type = stored, b"S"
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512])
    head[386 : 386 + 24 * len(pairs[:4])] = b"".join(pairs[:4])
    head[482] = bool(chunks)
    head[483:495] = b"%011o\0" % length
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    more = b"".join(one.ljust(504, b"\0") + bytes([one is not chunks[-1]]) + bytes(7) for one in chunks)
    return bytes(head) + more + bytes(stored + -stored % 512)


FILES = shard(0, segment())
WHOLE = tar([*FILES, *root()]) + END


def walked(data: bytes, step: int = MIB) -> Outline:
    walk = Walk()
    for at in range(0, len(data), step):
        walk.feed(memoryview(data)[at : at + step])
    return walk.finish()


def replaced(name: str, data: bytes | None) -> bytes:
    """The whole snapshot with one of its files other, or gone."""
    entries = [(one, was if one != name else data) for one, was in (*FILES, *root())]
    return tar((one, was) for one, was in entries if was is not None) + END


def boundaries(data: bytes) -> set[int]:
    """Where the headers of an archive are, with those of its segments."""
    found = set()
    with tarfile.open(fileobj=io.BytesIO(data)) as outer:
        for one in outer:
            found.add(one.offset)
            if one.name.endswith(".tar"):
                inside = data[one.offset_data : one.offset_data + one.size]
                with tarfile.open(fileobj=io.BytesIO(inside)) as inner:
                    found |= {one.offset_data + file.offset for file in inner}
    return found


def test_a_servers_snapshot_is_whole_and_described() -> None:
    two = shard(0, segment(), segment(end=END))
    archive = tar([*two, *shard(1, state=AWAY), *root(shard_number=2)]) + END
    found = walked(archive)
    assert (found.complete, found.form, found.kind) == (True, Form.SNAPSHOT, COLLECTION)
    assert found.why == found.words == "a whole snapshot: 1 shard with 2 segments"
    assert found.shards == (
        Shard(0, local=True, segments=2, wal=True, peer=7, replicas=((7, "Active"),)),
        Shard(1, local=False, segments=0, wal=False, peer=7, replicas=((8, "Active"), (9, "Dead"))),
    )
    assert (found.local, found.segments, found.entries, found.size) == ((0,), 2, 18, len(archive))
    assert (found.version, found.shard_key_mapping, found.payload_index) == ("0.4.2", b"[]", b'{"schema":{}}')
    assert found.config == b'{"params": {"shard_number": 2}}'
    assert found.notes == ()


def test_what_the_embedded_engine_makes_is_whole_and_no_beginning_of_it_is(tmp_path) -> None:
    pytest.importorskip("qdrant_edge")
    from agent.adapters import edge

    edge.build_sample(str(tmp_path), "cities", 300, 8)
    with edge.open_collection(str(tmp_path), "cities", snapshot_tar.plan) as source:
        archive = b"".join(source.plan.chunks())
    found = walked(archive)
    assert (found.complete, found.local, found.notes) == (True, (0,), ())
    assert found.segments >= 1
    assert b'"city"' in (found.payload_index or b"")
    never_whole_before(archive, sorted({*boundaries(archive), *range(1, len(archive), 7919)}))


def test_files_with_many_holes_are_walked(tmp_path) -> None:
    wal = tmp_path / "wal" / "open-1"
    version = tmp_path / "segments" / UUID / "version.info"
    for path in (wal, version):
        path.parent.mkdir(parents=True)
    version.write_bytes(b"0.6.0")
    version.with_name("segment.json").write_bytes(b"{}")
    with wal.open("wb") as file:
        for at in range(60):
            os.pwrite(file.fileno(), b"x" * 5000, at * 100_000)
        file.truncate(32 * MIB)
    files = {0: dict(shard(0)[2:])}
    given = {0: {name.removeprefix("0/"): data for name, data in files[0].items()}}
    archive = b"".join(snapshot_tar.plan({0: str(tmp_path)}, dict(root()), given).chunks())
    assert b"S" in {archive[at + 156 : at + 157] for at in boundaries(archive)}
    assert walked(archive).complete
    never_whole_before(archive, range(1, len(archive), 512))


def never_whole_before(archive: bytes, cuts: Iterable[int]) -> None:
    walk, at = Walk(), 0
    for cut in cuts:
        walk.feed(archive[at:cut])
        found = walk.finish()
        assert not found.complete, cut
        assert found.why
        at = cut
    walk.feed(archive[at:])
    assert walk.finish().complete


def test_an_archive_cut_at_any_byte_is_not_whole() -> None:
    never_whole_before(WHOLE, range(len(WHOLE)))


@given(st.lists(st.integers(0, len(WHOLE)), max_size=30))
def test_the_pieces_make_no_difference(cuts: list[int]) -> None:
    walk = Walk()
    for start, end in pairwise(sorted({0, *cuts, len(WHOLE)})):
        walk.feed(WHOLE[start:end])
    assert walk.finish() == walked(WHOLE)


@given(st.dictionaries(st.integers(0, len(WHOLE) - 1), st.integers(0, 255), max_size=8), st.integers(1, 2000))
def test_damage_is_judged_and_never_raises_whatever_the_pieces(changes: dict[int, int], step: int) -> None:
    damaged = bytearray(WHOLE)
    for at, byte in changes.items():
        damaged[at] = byte
    found = walked(bytes(damaged))
    assert found == walked(bytes(damaged), step)
    assert found.why


@given(st.binary(max_size=3000), st.integers(0, len(WHOLE)), st.integers(1, 700))
def test_garbage_is_judged_and_never_raises(garbage: bytes, kept: int, step: int) -> None:
    found = walked(WHOLE[:kept] + garbage)
    assert found == walked(WHOLE[:kept] + garbage, step)
    assert not found.complete or (WHOLE[:kept] + garbage).rstrip(b"\0") == WHOLE.rstrip(b"\0")


def test_every_flipped_bit_of_a_header_is_noticed() -> None:
    for header in boundaries(WHOLE):
        for at in {*range(header, header + 512)} - {*range(header + 148, header + 156)}:
            damaged = bytearray(WHOLE)
            damaged[at] ^= 1 << at % 8
            assert not walked(bytes(damaged)).complete, (header, at)


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        (b"", "is empty: 0 bytes"),
        (b'{"status":{"error":"gone"}}', 'does not begin as a GNU tar does, but with {"status":{"error":"gone"}}'),
        (b"<html>" * 200, "does not begin as a GNU tar does, but with " + "<html>" * 10),
        (b"\x1f\x8b" + bytes(600), "is compressed with gzip, where a tar was expected"),
        (b"PK\x03\x04", "does not begin as a GNU tar does"),
        (b"SQLite format 3\0" * 99, "does not begin as a GNU tar does, but with SQLite format 3"),
        (b"a\x80" * 600, "does not begin as a GNU tar does"),
        (END, "holds nothing"),
        (WHOLE[:300], "ends early after 300 B"),
        (WHOLE[:1000], f"ends early after 0.977 KiB in 0/segments/{UUID}.tar"),
        (WHOLE[:2000], f"ends early after 1.95 KiB in {MATRIX}"),
        (WHOLE[:2560], f"ends early after 2.5 KiB, behind {MATRIX}"),
        (WHOLE[:4607], f"ends early after 4.5 KiB in 0/segments/{UUID}.tar"),
        (WHOLE[:4700], f"ends early after 4.59 KiB, behind 0/segments/{UUID}.tar"),
        (WHOLE[:5200], "ends early after 5.08 KiB in 0/wal/open-1"),
        (WHOLE[:5632], "has no end marker: it was cut at an entry's boundary, after 5.5 KiB, behind 0/wal/open-1"),
        (
            WHOLE[:-1024],
            "has no end marker: it was cut at an entry's boundary, after 12.5 KiB, behind payload_index.json",
        ),
        (WHOLE[:-512], "has half an end marker: 512 bytes are missing"),
        (WHOLE[:-100], "ends early after 13.4 KiB, behind payload_index.json"),
        (WHOLE + b"x", "has data behind its end, after 13.5 KiB"),
        (WHOLE + b"x" * 512, "is damaged after 13.5 KiB behind payload_index.json: there is data behind an end marker"),
        (
            WHOLE[:-1024] + bytes(512) + entry("x"),
            "is damaged after 13 KiB behind payload_index.json: there is data behind an end marker",
        ),
        (WHOLE[:5632] + b"x" * 512, "is damaged after 5.5 KiB behind 0/wal/open-1: there is no header of a tar"),
        (tar(FILES) + END, "its last entry is 0/shard_config.json; a whole snapshot ends with payload_index.json"),
        (replaced("config.json", None), "config.json is not in it"),
        (replaced("version.info", None), "version.info is not in it"),
        (replaced("version.info", b"new"), "version.info holds no version"),
        (replaced("config.json", b"{"), "config.json cannot be read: Input data was truncated"),
        (replaced("config.json", b"[" * 100_000), "config.json cannot be read: "),
        (replaced("shard_key_mapping.json", b"7"), "shard_key_mapping.json cannot be read: "),
        (replaced("payload_index.json", b""), "payload_index.json cannot be read: Input data was truncated"),
        (replaced("config.json", b" " * 2 * MIB), "config.json has 2 MiB, too much for what it is"),
        (replaced("0/shard_config.json", None), "0/shard_config.json is not in it"),
        (replaced("0/replica_state.json", None), "0/replica_state.json is not in it"),
        (replaced("0/replica_state.json", b"{}"), "0/replica_state.json cannot be read: "),
        (replaced(f"0/segments/{UUID}.tar", None), "shard 0 has no segment"),
        (
            replaced(f"0/segments/{UUID}.tar", segment(without="version.info")),
            f"0/segments/{UUID}.tar has no version.info, and a server would lose the segment",
        ),
        (
            replaced(f"0/segments/{UUID}.tar", segment(without="segment.json", end=END)),
            f"0/segments/{UUID}.tar has no segment.json, and no server can load it",
        ),
        (
            replaced(f"0/segments/{UUID}.tar", b""),
            f"is damaged after 0 B behind 0/segments/{UUID}.tar: 0 bytes are no tar of a segment",
        ),
        (
            replaced(f"0/segments/{UUID}.tar", segment()[:-1024]),
            f"0/segments/{UUID}.tar has no version.info, and a server would lose the segment",
        ),
        (
            replaced(f"0/segments/{UUID}.tar", segment()[:1024]),
            f"is damaged after 512 B behind {MATRIX}: an entry of its tar reaches beyond the end of it",
        ),
        (
            replaced(f"0/segments/{UUID}.tar", segment() + END + b"x" * 512),
            f"is damaged after 5.5 KiB behind {VERSION}: there is data behind an end marker",
        ),
        (tar([*FILES, *root(shard_number=3)]) + END, "shard 1 of the collection is not in it"),
        (tar([*FILES, *root(shard_number=4_000_000_000)]) + END, "shard 1 of the collection is not in it"),
        (
            tar([*FILES, *root([{"key": "a", "shard_ids": [0, 5]}], sharding_method="custom")]) + END,
            "shard 5 of the collection is not in it",
        ),
        (
            tar([*FILES, *root(sharding_method="custom")[:2], root()[3]]) + END,
            "shard_key_mapping.json is not in it",
        ),
        (
            tar([*FILES, ("version.info", b"1"), *root()]) + END,
            "is damaged after 9.5 KiB behind version.info: version.info is there twice",
        ),
        (
            entry("x", b"name\0", b"L") + WHOLE[-1024:],
            "is damaged after 1 KiB: a long name belongs to no entry",
        ),
        (entry("x", b"a", b"L") * 2, "is damaged after 1 KiB: two long names belong to one entry"),
        (entry("x", b"a", b"L"), "ends early after 1 KiB"),
        (
            tar([*shard(0)[-2:]]) + holes(f"0/segments/{UUID}.tar", [(512, 512)], 1024) + tar(root()) + END,
            f"has 0/segments/{UUID}.tar with holes, which was not looked into",
        ),
        (
            tar(FILES) + holes("0/wal/open-2", [(0, 512), (256, 512)], 768),
            "is damaged after 8.5 KiB behind 0/wal/open-2: the map of a file with holes does not add up",
        ),
        (
            tar(FILES) + holes("0/wal/open-2", [(0, 512)], 512, 1024),
            "is damaged after 8.5 KiB behind 0/wal/open-2: the map of a file with holes does not add up",
        ),
        (
            tar(FILES) + holes("0/wal/open-2", [(0, 512)], 9999),
            "is damaged after 8.5 KiB behind 0/wal/open-2: the map of a file with holes does not add up",
        ),
        (
            tar((f"{number}/wal/1", b"") for number in range(20_000)) + END,
            "has more shards than a collection can have",
        ),
    ],
)
def test_what_is_wrong_is_said_in_words(archive: bytes, why: str) -> None:
    found = walked(archive)
    assert not found.complete
    assert found.why == why or (why.endswith(": ") and found.why.startswith(why))
    assert found == walked(archive, 1000)


def test_the_size_of_an_entry_that_cannot_be_is_damage() -> None:
    info = tarfile.TarInfo("0/wal/open-2")
    info.size = 1 << 70
    found = walked(tar(FILES) + info.tobuf(tarfile.GNU_FORMAT))
    assert found.why == "is damaged after 8.5 KiB behind 0/shard_config.json: an entry has no size"


MANY_HOLES = holes("0/wal/open-2", [(at, 512) for at in range(0, 65536, 1024)], 64512 + 512)
SEGMENT = streamed(("payload_index/config.json", b"{}"), ("segment.json", b"{}"), ("version.info", b"0.6.0"))
STREAMED = "has segments as folders, as a streamed snapshot has them"


@pytest.mark.parametrize(
    ("archive", "notes"),
    [
        (WHOLE + bytes(9216), ()),
        (tar([*FILES, *shard(3, segment()), *root()]) + END, ()),
        (tar(root([], sharding_method="custom", shard_number=2)) + END, ()),
        (tar([*FILES, *root([{"key": 7, "shard_ids": [0]}], sharding_method="custom")]) + END, ()),
        (tar([*FILES, *root({"north": [0]}, sharding_method="custom")]) + END, ()),
        (tar((f"./{name}", data) for name, data in (*FILES, *root())) + END, ()),
        (tar([*root(), *FILES]) + END, ()),
        (entry("0", b"", b"5") + tar([*FILES, *root()[:3]]) + END, ()),
        (b"".join(entry(name, data, b"\0") for name, data in (*FILES, *root())) + END, ()),
        (tar([*shard(0, segment(more=[(LONG, b"page")])), *root()]) + END, ()),
        (entry("0/", b"", b"5") + WHOLE, ()),
        (tar([*shard(0, segment(end=END + bytes(8192))), *root()]) + END, ()),
        (tar(FILES) + MANY_HOLES + tar(root()) + END, ()),
        (tar([("0/new.json", b"{}"), *FILES, *root()]) + END, ("has 0/new.json, which is not known",)),
        (tar([*FILES, ("new.json", b"{}"), *root()]) + END, ("has new.json, which is not known",)),
        (entry("a", b"", b"2") + WHOLE, ("has entries of kind 2, which servers refuse",)),
        (entry("a", b"30 mtime=1\n", b"x") + WHOLE, ("has headers of kind x, which servers do not write",)),
        (tar([*shard(0)[:-2], *SEGMENT, *shard(0)[-2:], *root()]) + END, (STREAMED,)),
        (
            tar([*shard(0, segment(), state={**STATE, "peers": {"7": "Partial"}}), *root()]) + END,
            ("shard 0 was Partial on the server that made it, so points may be missing from it",),
        ),
        (b"".join(entry(name, data, form=tarfile.USTAR_FORMAT) for name, data in (*FILES, *root())) + END, ()),
    ],
)  # fmt: skip
def test_what_is_unknown_but_proves_no_damage_is_noted(archive: bytes, notes: tuple[str, ...]) -> None:
    found = walked(archive)
    assert (found.complete, found.notes) == (True, notes), found.why


def test_a_streamed_segment_without_its_version_is_damage() -> None:
    for segments in (
        streamed(("segment.json", b"{}")),
        [*streamed(("segment.json", b"{}")), *streamed(*SERVED, segment=OTHER)],
        [*streamed(*SERVED, segment=OTHER), *streamed(("segment.json", b"{}"))],
    ):
        found = walked(tar([*segments, *shard(0)[-2:], *root()]) + END)
        assert found.why == f"0/segments/{UUID} has no version.info, and a server would lose the segment"
        assert found.where == Where(0, UUID, "version.info")


def test_damage_is_known_before_the_download_has_ended() -> None:
    walk = Walk()
    walk.feed(WHOLE[:5632])
    assert walk.broken == ""
    walk.feed(b"x" * 512)
    assert walk.broken.startswith("is damaged after 5.5 KiB")
    walk.feed(bytes(MIB))
    assert (walk.size, walk.finish().why) == (5632 + 512 + MIB, walk.broken)


@contextmanager
def at_most(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def test_a_name_without_end_takes_no_memory() -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.size, info.type = 100 << 30, b"L"
    piece = memoryview(b"n" * MIB)
    walk = Walk()
    with at_most(MIB // 4):
        walk.feed(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(200):
            walk.feed(piece)
        assert walk.finish().why == "ends early after 200 MiB"


def test_entries_without_number_take_no_memory() -> None:
    piece = tar((f"0/new/{number}", b"") for number in range(2000))
    walk = Walk()
    with at_most(MIB // 4):
        for _ in range(10):
            walk.feed(piece)
        assert len(walk.finish().notes) == 20


def test_content_is_skipped_and_not_read() -> None:
    info = tarfile.TarInfo("0/wal/open-1")
    info.size = 20_000 * MIB
    piece = memoryview(bytes(MIB))
    walk = Walk()
    walk.feed(info.tobuf(tarfile.GNU_FORMAT))
    begun = time.process_time()
    for _ in range(20_000):
        walk.feed(piece)
    assert time.process_time() - begun < 1.0  # 20 GB a second
    assert walk.finish().why.startswith("has no end marker")


SERVER = os.environ.get("SNAPWARD_TEST_QDRANT_URL", "")


def call(method: str, path: str, body: Any = None) -> bytes:
    sent = None if body is None else json.dumps(body).encode()
    wanted = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    request = urllib.request.Request(SERVER + path, sent, wanted, method=method)  # noqa: S310 - the tester's own server
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=60) as answer:
        return answer.read()


@pytest.mark.real_qdrant
@pytest.mark.skipif(not SERVER, reason="SNAPWARD_TEST_QDRANT_URL names no running Qdrant")
@pytest.mark.parametrize("points", [0, 600])
def test_a_real_servers_snapshot_is_whole_and_no_beginning_of_it_is(points: int) -> None:
    path = f"/collections/c_tarball_{os.getpid()}_{points}"
    call("PUT", path, {"vectors": {"size": 4, "distance": "Dot"}, "shard_number": 2})
    try:
        if points:
            batch = [{"id": one, "vector": [1, 2, 3, one], "payload": {"n": one}} for one in range(points)]
            call("PUT", f"{path}/points?wait=true", {"points": batch})
        made = json.loads(call("POST", f"{path}/snapshots"))["result"]
        archive = call("GET", f"{path}/snapshots/{made['name']}")
        call("DELETE", f"{path}/snapshots/{made['name']}")
    finally:
        call("DELETE", path)
    found = walked(archive)
    assert (found.complete, found.local, found.notes) == (True, (0, 1), ()), found.why
    assert all(one.wal and one.replicas == ((one.peer, "Active"),) for one in found.shards)
    never_whole_before(archive, sorted({*boundaries(archive), *range(1, len(archive), 997)}))
