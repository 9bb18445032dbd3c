import io
import json
import tarfile
import time
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tars import (
    AWAY,
    END,
    OTHER,
    SERVED,
    UUID,
    alone,
    collection,
    headers,
    root,
    segment,
    shard,
    streamed,
    tar,
)

from agent.rules.archive import Form
from agent.rules.outline import COLLECTION, SHARD, STORAGE, Outline, Where
from agent.rules.tarball import Walk

NONE = "no Qdrant snapshot was found in it"
TWO = collection(segment(), segment(end=END))
OWN = alone((f"segments/{UUID}.tar", segment()), (f"segments/{OTHER}.tar", segment()))
STREAM = alone(*streamed(*SERVED, shard=""), *streamed(*SERVED, segment=OTHER, shard=""))
WHOLE = {"collection": TWO, "shard": OWN, "stream": STREAM}
STORED = tar([("a-1.snapshot", TWO), ("config.json", b'{"collections_mapping":{"a":"a-1.snapshot"}}')]) + END


def walked(data: bytes) -> Outline:
    walk = Walk()
    walk.feed(data)
    return walk.finish()


def folder(*files: str) -> bytes:
    """What tar makes of a folder."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as out:
        for name in sorted({"./0", "./0/segments", *(one.rpartition("/")[0] for one in files)}):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            out.addfile(info)
        for name in files:
            out.addfile(tarfile.TarInfo(name))
    return made.getvalue()


def test_a_whole_snapshot_of_a_shard_is_one_and_not_one_of_a_collection() -> None:
    for data, notes in ((OWN, ()), (STREAM, ("has segments as folders, as a streamed snapshot has them",))):
        found = walked(data)
        assert (found.form, found.kind, found.complete) == (Form.SNAPSHOT, SHARD, False)
        assert found.words == "a whole snapshot of a shard: 2 segments"
        assert found.why == "is the snapshot of a shard, not of a collection"
        assert (found.segments, found.local, found.shards[0].wal, found.notes) == (2, (0,), True, notes)


@pytest.mark.parametrize(
    ("archive", "form", "kind", "words"),
    [
        (TWO, Form.SNAPSHOT, COLLECTION, "a whole snapshot: 1 shard with 2 segments"),
        (
            tar([*shard(0, segment()), *shard(1, state=AWAY), *root(shard_number=2)]) + END,
            Form.SNAPSHOT,
            COLLECTION,
            "a whole snapshot: 1 shard with 1 segment",
        ),
        (
            tar([*shard(1, state=AWAY), *root()[:2]]) + END,
            Form.BROKEN,
            COLLECTION,
            "its last entry is config.json; a whole snapshot ends with payload_index.json",
        ),
        (
            alone(),
            Form.BROKEN,
            SHARD,
            "the shard has no segment",
        ),
        (
            tar([(f"segments/{UUID}.tar", segment()), ("shard_config.json", b"{}")]) + END,
            Form.BROKEN,
            SHARD,
            "replica_state.json is not in it",
        ),
        (
            OWN[:-1024],
            Form.BROKEN,
            SHARD,
            "has no end marker: it was cut at an entry's boundary, after 12 KiB, behind shard_config.json",
        ),
        (STORED, Form.OTHER, STORAGE, "a snapshot of a whole server, which was not looked into"),
        (
            STORED[:-1024],
            Form.OTHER,
            "",
            f"{NONE}: has no end marker: it was cut at an entry's boundary, after 20.5 KiB, behind config.json",
        ),
        (
            alone(*streamed(*SERVED, ("segment_manifest.json", b"{}"), shard="")),
            Form.OTHER,
            "",
            f"{NONE}: is a partial snapshot, which has only what was changed",
        ),
        (
            folder(f"./0/segments/{UUID}/segment.json", "./0/shard_config.json", "./payload_index.json"),
            Form.OTHER,
            "",
            f"{NONE}: has folders as a copy of a server's files has them, and not a snapshot",
        ),
        (
            folder("./wal/000001", "./1/replica_state.json", "./data/a")[:2000],
            Form.OTHER,
            "",
            f"{NONE}: ends early after 1.95 KiB, behind 1/",
        ),
        (
            tar([("wal/000001", b"x"), ("segments/a.tar", b"x" * 512), ("data", b"x")]) + END,
            Form.OTHER,
            "",
            f"{NONE}: is damaged after 1.5 KiB behind segments/a.tar: there is no header of a tar",
        ),
        (
            tar([("0/notes.txt", b"x"), ("readme", b"x")]) + END,
            Form.OTHER,
            "",
            f"{NONE}: its last entry is readme; a whole snapshot ends with payload_index.json",
        ),
        (b"", Form.OTHER, "", f"{NONE}: is empty: 0 bytes"),
        (
            b"PGP MESSAGE " * 99,
            Form.OTHER,
            "",
            f"{NONE}: does not begin as a GNU tar does, but with {'PGP MESSAGE ' * 5}".rstrip(),
        ),
    ],
)  # fmt: skip
def test_what_it_is_and_whether_it_is_whole_is_told_apart(archive: bytes, form: Form, kind: str, words: str) -> None:
    found = walked(archive)
    assert (found.form, found.kind, found.words) == (form, kind, words)
    assert found.complete == (form is Form.SNAPSHOT and kind == COLLECTION)


@pytest.mark.parametrize(
    ("archive", "where"),
    [
        (TWO, Where()),
        (collection(segment(without="version.info")), Where(0, UUID, "version.info")),
        (collection(segment(), segment(without="segment.json")), Where(0, OTHER, "segment.json")),
        (alone((f"segments/{OTHER}.tar", segment(without="version.info"))), Where(None, OTHER, "version.info")),
        (alone(*streamed(("segment.json", b"{}"), shard="")), Where(None, UUID, "version.info")),
        (TWO[:2000], Where(0, UUID, "vector_storage/matrix.dat")),
        (STREAM[:2000], Where(None, UUID, "vector_storage/matrix.dat")),
        (TWO.replace(b'{"is_local"', b'["is_local"'), Where(0, file="replica_state.json")),
        (TWO.replace(b'{"params"', b'["params"'), Where(file="config.json")),
        (tar([*shard(0, segment()), *root(shard_number=3)]) + END, Where(1)),
        (tar([*shard(0), *root()]) + END, Where(0)),
        (tar([*shard(0, segment()), *root()[:3]]) + END, Where(file="payload_index.json")),
        (tar([*shard(0, segment())[:-2], *root()]) + END, Where(0, file="replica_state.json")),
    ],
)
def test_what_is_wrong_is_located(archive: bytes, where: Where) -> None:
    assert walked(archive).where == where


@pytest.mark.parametrize("kind", WHOLE)
def test_no_beginning_is_whole_and_each_is_broken_from_its_first_entry_on(kind: str) -> None:
    data = WHOLE[kind]
    begun = time.process_time()
    walk = Walk()
    for cut in range(1, len(data)):
        found = walk.finish()
        assert found.form is not Form.SNAPSHOT, cut
        assert found.form is (Form.BROKEN if cut > 512 else Form.OTHER), cut
        walk.feed(data[cut - 1 : cut])
    walk.feed(data[-1:])
    assert walk.finish().form is Form.SNAPSHOT
    assert time.process_time() - begun < 10


@pytest.mark.parametrize("kind", WHOLE)
def test_whichever_entries_are_lost_what_is_called_whole_has_all_that_restores_it(kind: str) -> None:
    data = WHOLE[kind]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        starts = [(one.offset, one.name) for one in archive] + [(len(data) - 1024, "")]
    needed = {name for _, name in starts if name.endswith((".json", ".info")) and "/segments/" not in f"/{name}"}
    for first, last in combinations(range(len(starts)), 2):
        names = {name for _, name in starts[:first] + starts[last:]}
        begun = {one for one in (UUID, OTHER) if any(one in name for name in names)}
        whole = {one for one in begun if kind != "stream" or _marks(one) <= names}
        restores = needed - {"0/applied_seq.json", "shard_key_mapping.json"} <= names and begun and begun == whole
        found = walked(data[: starts[first][0]] + data[starts[last][0] :])
        assert (found.form is Form.SNAPSHOT) == bool(restores), names
        if restores:
            assert found.segments == len(begun)


def _marks(one: str) -> set[str]:
    return {f"segments/{one}/files/{mark}" for mark in ("segment.json", "version.info")}


def test_every_flipped_bit_of_a_header_is_broken_or_nothing_and_never_whole() -> None:
    for data in WHOLE.values():
        for header in headers(data):
            for at in {*range(header, header + 512)} - {*range(header + 148, header + 156)}:
                damaged = bytearray(data)
                damaged[at] ^= 1 << at % 8
                assert walked(bytes(damaged)).form is (Form.BROKEN if header else Form.OTHER), (header, at)


@given(
    st.sampled_from(sorted(WHOLE)),
    st.dictionaries(st.integers(0, len(OWN) - 1), st.integers(0, 255), max_size=6),
    st.lists(st.integers(0, len(TWO)), max_size=4),
)
def test_what_is_called_whole_has_every_segment_whatever_was_done_to_it(
    kind: str, changes: dict[int, int], cuts: list[int]
) -> None:
    damaged = bytearray(WHOLE[kind])
    for at, byte in changes.items():
        damaged[at % len(damaged)] = byte
    pieces = [damaged[start:end] for start, end in pairwise(sorted({0, *cuts, len(damaged)}))]
    kept = b"".join(pieces[::2])
    found = walked(kept)
    if found.form is Form.SNAPSHOT:
        assert found.segments == sum(kept.count(f"segments/{one}".encode()) > 0 for one in (UUID, OTHER))
        assert kept.endswith(END)


def test_a_description_that_is_too_long_for_json_is_told() -> None:
    data = json.dumps({"params": {"x": "y" * (2 << 20)}}).encode()
    found = walked(tar([*shard(0, segment()), ("version.info", b"0.4.2"), ("config.json", data)]))
    assert (found.form, found.words) == (Form.BROKEN, "config.json has 2 MiB, too much for what it is")
    assert found.where == Where(file="config.json")
