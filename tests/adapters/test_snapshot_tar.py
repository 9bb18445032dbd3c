import io
import os
import shutil
import subprocess
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from agent.adapters import snapshot_tar
from agent.errors import TryLater, Unreachable

MIB = 1 << 20
UUID = "0b5a3c1e-4b7d-4f60-9f53-5d1f7c9a2e11"
OTHER = "f2c4d8aa-1f0e-4a57-8c1b-6a9d3e5b7c22"
ROOT = {name: name.encode() for name in snapshot_tar.ROOT_FILES}
GIVEN = {"replica_state.json": b'{"is_local":true}', "shard_config.json": b'{"type":"ReplicaSet"}'}


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A shard folder as the engine leaves it, with all that does not belong into an archive."""
    shard = tmp_path / "shard"
    for uuid in (OTHER, UUID):
        segment = shard / "segments" / uuid
        put(segment / "version.info", b"0.6.0")
        put(segment / "vector_storage" / "matrix.dat", os.urandom(3 * MIB + 17))
        sparse(segment / "payload_storage" / "page_0.dat", 32 * MIB, {0: b"page", 9 * MIB: os.urandom(5000)})
    put(shard / "segments" / "manifest.json", b"{}")
    put(shard / "segments" / "without-version" / "segment.json", b"{}")
    put(shard / "segments" / f"{UUID}.deleted" / "version.info", b"0.6.0")
    put(shard / "segments" / ".hidden" / "version.info", b"0.6.0")
    sparse(shard / "wal" / "open-1", 32 * MIB, {0: b"wal\0"})
    put(shard / "wal" / "first-index", b'{"ack_index":2}')
    put(shard / "wal" / ".wal", b"")
    for name in ("applied_seq.json", "newest_clocks.json", "oldest_clocks.json"):
        put(shard / name, name.encode())
    put(shard / "edge_config.json", b"{}")
    return shard


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def sparse(path: Path, size: int, data: dict[int, bytes]) -> Path:
    put(path, b"")
    with path.open("r+b") as file:
        file.truncate(size)
        for start, piece in data.items():
            os.pwrite(file.fileno(), piece, start)
    return path


def planned(*shards: Path) -> snapshot_tar.SnapshotPlan:
    numbered = dict(enumerate(map(str, shards)))
    return snapshot_tar.plan(numbered, ROOT, dict.fromkeys(numbered, GIVEN))


def written(plan: snapshot_tar.SnapshotPlan, path: Path) -> Path:
    with path.open("wb") as file:
        file.writelines(plan.chunks())
    return path


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack with GNU tar, and each segment where it lies."""
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)
    for nested in folder.glob("*/segments/*.tar"):
        (segment := nested.with_suffix("")).mkdir()
        subprocess.run(["tar", "-xf", nested, "-C", segment, "--strip-components=2"], check=True)
        nested.unlink()
    return folder


def with_segment_file(shard: Path, name: str = "file.dat") -> Path:
    """Leave one segment of one file in the shard."""
    shutil.rmtree(shard / "segments")
    put(shard / "segments" / UUID / "version.info", b"0.6.0")
    return shard / "segments" / UUID / name


def nested(archive: Path, uuid: str = UUID) -> tarfile.TarFile:
    with tarfile.open(archive) as outer:
        stored = outer.extractfile(f"0/segments/{uuid}.tar")
        assert stored
        return tarfile.open(fileobj=io.BytesIO(stored.read()))


def test_entries_come_in_the_order_of_the_server(shard, tmp_path):
    archive = written(planned(shard, shard), tmp_path / "a.snapshot")
    one_shard = [
        f"segments/{UUID}.tar",
        f"segments/{OTHER}.tar",
        "newest_clocks.json",
        "oldest_clocks.json",
        "wal/first-index",
        "wal/open-1",
        "applied_seq.json",
        "replica_state.json",
        "shard_config.json",
    ]
    root = ["version.info", "config.json", "shard_key_mapping.json", "payload_index.json"]
    with tarfile.open(archive) as tar:
        assert tar.getnames() == [f"0/{name}" for name in one_shard] + [f"1/{name}" for name in one_shard] + root
    with nested(archive) as tar:
        assert tar.getnames() == [
            "snapshot/files/payload_storage/page_0.dat",
            "snapshot/files/vector_storage/matrix.dat",
            "snapshot/files/version.info",
        ]


def test_gnu_tar_unpacks_every_byte(shard, tmp_path):
    out = unpack(written(planned(shard), tmp_path / "a.snapshot"), tmp_path / "out")
    for inside in ("wal/open-1", "wal/first-index", "applied_seq.json", "newest_clocks.json"):
        assert (out / "0" / inside).read_bytes() == (shard / inside).read_bytes()
    for uuid in (UUID, OTHER):
        differences = ["diff", "-r", shard / "segments" / uuid, out / "0" / "segments" / uuid]
        assert subprocess.run(differences, capture_output=True, check=False).stdout == b""
    assert {name: (out / name).read_bytes() for name in ROOT} == ROOT
    assert {name: (out / "0" / name).read_bytes() for name in GIVEN} == GIVEN


def test_the_planned_size_is_the_size_and_holes_cost_nothing(shard, tmp_path):
    plan = planned(shard)
    archive = written(plan, tmp_path / "a.snapshot")
    assert archive.stat().st_size == plan.raw_size
    assert plan.raw_size < 8 * MIB
    assert archive.read_bytes().endswith(bytes(1024))
    out = unpack(archive, tmp_path / "out")
    assert (out / "0" / "wal" / "open-1").stat().st_size == 32 * MIB
    assert (out / "0" / "wal" / "open-1").stat().st_blocks * 512 < MIB


def test_the_dialect_is_gnu_with_old_sparse_entries(shard, tmp_path):
    put(shard / "segments" / UUID / ("p" * 101), b"long name")
    with nested(written(planned(shard), tmp_path / "a.snapshot")) as tar:
        members = {os.path.basename(member.name): member for member in tar}
        raw = tar.fileobj.getvalue()
    headers = [raw[member.offset : member.offset + 512] for member in members.values()]
    assert [header[156:157] for header in headers] == [b"S", b"L", b"0", b"0"]
    assert {header[257:265] for header in headers} == {b"ustar  \0"}
    assert {(member.mode, member.uid, member.gid) for member in members.values()} == {(0o644, 0, 0)}
    matrix = shard / "segments" / UUID / "vector_storage" / "matrix.dat"
    assert members["matrix.dat"].mtime == int(matrix.stat().st_mtime)


@pytest.mark.parametrize("pieces", [0, 1, 3, 4, 5, 25, 26, 47])
@pytest.mark.parametrize("ends_with_data", [True, False])
def test_files_with_any_number_of_holes_come_back(shard, tmp_path, pieces, ends_with_data):
    data = {(2 * number + 1) * MIB // 4: b"%05d" % number * 3 for number in range(pieces)}
    size = 30 * MIB + 7
    if ends_with_data:
        data[size - 5] = b"tail."
    original = sparse(with_segment_file(shard), size, data)
    out = unpack(written(planned(shard), tmp_path / "a.snapshot"), tmp_path / "out")
    restored = out / "0" / "segments" / UUID / "file.dat"
    assert restored.read_bytes() == original.read_bytes()
    assert restored.stat().st_blocks * 512 < 2 * MIB


def test_a_file_of_many_gigabytes_of_holes_keeps_its_size(shard, tmp_path):
    sparse(with_segment_file(shard), 40_000_000_000, {0: b"first", 39_000_000_000: b"far out"})
    archive = written(planned(shard), tmp_path / "a.snapshot")
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", out], check=True)
    listing = subprocess.run(
        ["tar", "-tvf", out / "0" / "segments" / f"{UUID}.tar"], check=True, capture_output=True, text=True
    )
    assert " 40000000000 " in listing.stdout
    with nested(archive) as tar:
        member = tar.getmember("snapshot/files/file.dat")
        assert member.sparse[1][0] <= 39_000_000_000 < sum(member.sparse[1])
        content = tar.extractfile(member)
        content.seek(39_000_000_000)
        assert content.read(8) == b"far out\0"


def test_numbers_too_large_for_octal_are_binary():
    assert snapshot_tar._number(8**11 - 1, 12) == b"77777777777\0"
    large = tarfile.TarInfo("large")
    large.size = 8**11
    assert large.tobuf(tarfile.GNU_FORMAT)[124:136] == snapshot_tar._number(8**11, 12)


@pytest.mark.parametrize("name", ["x" * 85, "x" * 86, "é" * 90, "x" * 250])
def test_long_and_foreign_names_come_back(shard, tmp_path, name):
    with_segment_file(shard, name).write_bytes(b"here")
    out = unpack(written(planned(shard), tmp_path / "a.snapshot"), tmp_path / "out")
    assert (out / "0" / "segments" / UUID / name).read_bytes() == b"here"


def test_an_empty_file_comes_back(shard, tmp_path):
    with_segment_file(shard).write_bytes(b"")
    out = unpack(written(planned(shard), tmp_path / "a.snapshot"), tmp_path / "out")
    assert (out / "0" / "segments" / UUID / "file.dat").read_bytes() == b""


def test_a_file_system_that_knows_no_holes_gives_one_piece():
    with open("/proc/uptime", "rb") as file:
        assert snapshot_tar._extents(file.fileno(), 4096) == ((0, 4096),)


def test_data_that_starts_within_a_block_is_widened_to_it():
    assert snapshot_tar._in_blocks(700, 1300, 5000) == (512, 1536)
    assert snapshot_tar._in_blocks(512, 1536, 5000) == (512, 1536)
    assert snapshot_tar._in_blocks(4700, 4999, 5000) == (4608, 5000)


def test_the_same_plan_gives_the_same_bytes_twice(shard):
    plan = planned(shard)
    assert b"".join(plan.chunks()) == b"".join(plan.chunks()) == b"".join(planned(shard).chunks())


def test_chunks_are_small_and_memory_stays_bounded(shard):
    with with_segment_file(shard).open("wb") as file:
        file.writelines(os.urandom(MIB) for _ in range(48))
    plan = planned(shard)
    tracemalloc.start()
    try:
        longest = max(map(len, plan.chunks()))
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()
    assert longest == MIB


@pytest.mark.parametrize("change", ["grown", "cut", "rewritten", "replaced"])
def test_a_file_that_changed_after_the_plan_is_named(shard, change):
    plan = planned(shard)
    page = shard / "segments" / UUID / "payload_storage" / "page_0.dat"
    if change == "grown":
        os.truncate(page, 33 * MIB)
    elif change == "cut":
        os.truncate(page, MIB)
    elif change == "rewritten":
        os.utime(page, (1, 1))
    else:
        shutil.copy2(page, page.with_name("new"))
        page.with_name("new").replace(page)
    with pytest.raises(TryLater, match=f"{page} changed while"):
        list(plan.chunks())


@pytest.mark.parametrize(
    "change", [lambda path: os.truncate(path, 2 * MIB), lambda path: os.utime(path, (1, 1))], ids=["cut", "rewritten"]
)
def test_a_file_that_changes_while_it_is_read_is_named(shard, change):
    matrix = shard / "segments" / UUID / "vector_storage" / "matrix.dat"
    chunks = planned(shard).chunks()
    while len(next(chunks)) < MIB:
        pass
    change(matrix)
    with pytest.raises(TryLater, match=f"{matrix} changed while"):
        list(chunks)


def test_a_file_that_went_away_is_named(shard):
    plan = planned(shard)
    (shard / "wal" / "open-1").unlink()
    with pytest.raises(TryLater, match="wal/open-1 went away"):
        list(plan.chunks())


def test_a_folder_that_is_none_cannot_be_read(shard):
    shutil.rmtree(shard / "segments")
    (shard / "segments").write_bytes(b"")
    with pytest.raises(Unreachable, match="segments cannot be read: Not a directory"):
        planned(shard)
