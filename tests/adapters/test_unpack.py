import io
import os
import random
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from small_disk import small_disk

from agent.adapters import edge, snapshot_tar
from agent.adapters.unpack import Unpacker
from agent.errors import CannotWrite

KIB, MIB = 1 << 10, 1 << 20
UUID = "0b5a3c1e-4b7d-4f60-9f53-5d1f7c9a2e11"
OTHER = "f2c4d8aa-1f0e-4a57-8c1b-6a9d3e5b7c22"
ROOT = {name: name.encode() for name in snapshot_tar.ROOT_FILES}
GIVEN = {"replica_state.json": b'{"is_local":true}', "shard_config.json": b'{"type":"ReplicaSet"}'}


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A shard with two segments, with holes and zeros in their files."""
    shard = tmp_path / "shard"
    dice = random.Random(7)  # noqa: S311 - has to be the same on every run, not secret
    for uuid in (OTHER, UUID):
        segment = shard / "segments" / uuid
        put(segment / "version.info", b"0.6.0")
        put(segment / "segment.json", b"{}")
        put(segment / "vector_storage" / "matrix.dat", dice.randbytes(300 * KIB + 17))
        put(segment / "payload_index" / ("x" * 120) / "zeros.dat", bytes(200 * KIB) + b"end")
        sparse(segment / "payload_storage" / "page_0.dat", 4 * MIB, {0: b"page", MIB: dice.randbytes(5000)})
    sparse(shard / "wal" / "open-1", 4 * MIB, {0: b"wal\0"})
    put(shard / "wal" / "first-index", b'{"ack_index":2}')
    put(shard / "newest_clocks.json", b"[]")
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


def archived(*shards: Path) -> bytes:
    numbered = dict(enumerate(map(str, shards)))
    return b"".join(snapshot_tar.plan(numbered, ROOT, dict.fromkeys(numbered, GIVEN)).chunks())


def unpacked(data: bytes, folder: Path, piece: int = MIB) -> Unpacker:
    with Unpacker(str(folder)) as unpacker:
        for at in range(0, len(data), piece):
            unpacker.feed(data[at : at + piece])
    return unpacker


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def tar(*arguments: str | Path, folder: Path) -> bytes:
    made = subprocess.run(["tar", "-C", folder, "-cf", "-", *arguments], check=True, capture_output=True)
    return made.stdout


def hostile(*entries: tuple[str, bytes, bytes]) -> bytes:
    """A tar of entries: name, type, content or what it links to."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind, data in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = data.decode() if kind in {tarfile.SYMTYPE, tarfile.LNKTYPE} else ""
            info.size = len(data) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


@pytest.mark.parametrize("piece", [1 << 13, 100_003, MIB, 1 << 30])
def test_every_byte_comes_back_whatever_the_pieces(shard, tmp_path, piece):
    found = unpacked(archived(shard, shard), tmp_path / "out", piece)
    assert (found.broken, found.notes, found.shards) == ("", [], (0, 1))
    for number in "01":
        inside = tree(tmp_path / "out" / number)
        assert {name: inside.pop(name) for name in GIVEN} == GIVEN
        assert inside == tree(shard)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in ROOT} == ROOT
    assert found.size == sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())


def test_holes_stay_holes_and_zeros_become_some(shard, tmp_path):
    found = unpacked(archived(shard), tmp_path / "out")
    assert found.size > 12 * MIB
    assert found.stored < MIB
    assert on_disk(tmp_path / "out") < on_disk(shard) - 300 * KIB


@pytest.mark.parametrize("zeros", [64 * KIB, 64 * KIB + 1, 300 * KIB])
@pytest.mark.parametrize("before", [1, 100, 4096, 40_000])
@pytest.mark.parametrize("piece", [5000, MIB])
def test_a_run_of_zeros_is_not_written_wherever_it_lies(tmp_path, zeros, before, piece):
    data = b"x" * before + bytes(zeros) + b"y" * 10
    put(tmp_path / "shard" / "segments" / UUID / "a.dat", data)
    found = unpacked(tar("segments", folder=tmp_path / "shard"), tmp_path / "out", piece)
    assert (tmp_path / "out" / "0" / "segments" / UUID / "a.dat").read_bytes() == data
    assert found.stored <= len(data) - 32 * KIB


def test_the_snapshot_of_a_shard_goes_to_the_folder_0(shard, tmp_path):
    collection = tmp_path / "collection"
    unpacked(archived(shard), collection)
    wanted = tree(collection / "0")
    for uuid in (UUID, OTHER):
        nested = tmp_path / "nested"
        shutil.copytree(collection / "0" / "segments" / uuid, nested / "snapshot" / "files")
        (collection / "0" / "segments" / f"{uuid}.tar").write_bytes(tar("snapshot", folder=nested))
        shutil.rmtree(nested)
        shutil.rmtree(collection / "0" / "segments" / uuid)
    data = tar(*sorted(os.listdir(collection / "0")), folder=collection / "0")
    found = unpacked(data, tmp_path / "out")
    assert (found.broken, found.shards) == ("", (0,))
    assert tree(tmp_path / "out" / "0") == wanted


def test_a_streamed_snapshot_has_its_segments_as_folders(shard, tmp_path):
    streamed = tmp_path / "streamed"
    for uuid in (UUID, OTHER):
        shutil.copytree(shard / "segments" / uuid, streamed / "segments" / uuid / "files")
    shutil.copytree(shard / "wal", streamed / "wal")
    put(streamed / "replica_state.json", GIVEN["replica_state.json"])
    data = tar("--sparse", "--format=gnu", "segments", "wal", "replica_state.json", folder=streamed)
    found = unpacked(data, tmp_path / "out")
    assert (found.broken, found.notes, found.shards) == ("", [], (0,))
    inside = tree(tmp_path / "out" / "0")
    assert inside.pop("replica_state.json") == GIVEN["replica_state.json"]
    assert inside == {name: data for name, data in tree(shard).items() if "clocks" not in name}


def test_what_gnu_tar_packs_sparsely_is_unpacked_tars_of_segments_too(shard, tmp_path):
    loose = tmp_path / "loose"
    (loose / "0" / "segments").mkdir(parents=True)
    for uuid in (UUID, OTHER):
        (loose / "0" / "segments" / f"{uuid}.tar").write_bytes(tar(".", folder=shard / "segments" / uuid))
        # Dense within, and sparse outside: the holes are in the tar of the segment itself.
        subprocess.run(["fallocate", "--dig-holes", loose / "0" / "segments" / f"{uuid}.tar"], check=True)
    shutil.copytree(shard / "wal", loose / "0" / "wal")
    data = tar("--sparse", "--format=gnu", "0", folder=loose)
    assert len(data) < 8 * MIB
    found = unpacked(data, tmp_path / "out", 100_003)
    assert (found.broken, found.notes, found.shards) == ("", [], (0,))
    assert tree(tmp_path / "out" / "0") == {name: data for name, data in tree(shard).items() if "clocks" not in name}


def test_tars_of_segments_need_no_end_marker(shard, tmp_path):
    nested = tar("version.info", "segment.json", folder=shard / "segments" / UUID)[: 4 * 512]
    put(tmp_path / "loose" / "0" / "segments" / f"{UUID}.tar", nested)
    found = unpacked(tar("0", folder=tmp_path / "loose"), tmp_path / "out")
    assert not found.broken
    assert set(tree(tmp_path / "out")) == {f"0/segments/{UUID}/version.info", f"0/segments/{UUID}/segment.json"}


def test_a_shard_without_data_has_no_number(shard, tmp_path):
    (tmp_path / "elsewhere" / "segments").mkdir(parents=True)
    (tmp_path / "elsewhere" / "wal").mkdir()
    found = unpacked(archived(shard, tmp_path / "elsewhere"), tmp_path / "out")
    assert found.shards == (0,)
    assert (tmp_path / "out" / "1" / "replica_state.json").exists()


def test_the_engine_opens_what_was_unpacked(tmp_path):
    engine = pytest.importorskip("qdrant_edge")
    edge.build_sample(str(tmp_path), "sample", 300, 8)
    with edge.open_collection(str(tmp_path), "sample", snapshot_tar.plan) as source:
        data = b"".join(source.plan.chunks())
    found = unpacked(data, tmp_path / "out", 4096)
    loaded = engine.EdgeShard.load(str(tmp_path / "out" / "0"))
    assert found.shards == (0,)
    assert loaded.count(engine.CountRequest(exact=True)) == 300
    loaded.close()


def test_hostile_entries_are_left_out_and_told(tmp_path):
    file, link, hard, device = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE
    inside = hostile(
        ("snapshot/files/../../../../evil", file, b"x"),
        ("/abs", file, b"x"),
        ("snapshot/files/link", link, b"/etc/passwd"),
        ("snapshot/files/fine", file, b"x"),
    )
    data = hostile(
        ("../evil", file, b"x"),
        ("/tmp/evil", file, b"x"),
        ("0/../../evil", file, b"x"),
        ("0//etc/evil", file, b"x"),
        ("0/segments/../../../evil.json", file, b"x"),
        ("0/segments/...tar", file, inside),
        ("0/segments/link", link, b"/"),
        ("0/segments/hard", hard, b"/etc/passwd"),
        ("0/segments/device", device, b""),
        ("0/segments/link/x", file, b"x"),
        (f"0/segments/{UUID}.tar", file, inside),
        ("what is this", file, b"x"),
    )
    folder = tmp_path / "home" / "out"
    found = unpacked(data, folder)
    assert not found.broken
    assert set(tree(tmp_path)) == {f"home/out/0/segments/{UUID}/fine", "home/out/0/segments/link/x"}
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]
    text = "\n".join(found.notes)
    for part in (
        "../evil",
        "/tmp/evil",
        "0//etc/evil leads elsewhere",
        "hard is neither",
        "device is neither",
        "what is",
    ):
        assert part in text


def test_notes_do_not_grow_with_what_is_fed(tmp_path):
    found = unpacked(hostile(*((f"../{number}", tarfile.REGTYPE, b"") for number in range(500))), tmp_path)
    assert 1 <= len(found.notes) <= 20


@pytest.mark.parametrize(
    "entries",
    [
        [("0/wal/a", tarfile.REGTYPE, b"x"), ("0/wal/a/b", tarfile.REGTYPE, b"x")],
        [("0/wal/a/b", tarfile.REGTYPE, b"x"), ("0/wal/a", tarfile.REGTYPE, b"x")],
        [("0/wal/" + "n" * 300, tarfile.REGTYPE, b"x")],
    ],
)
def test_names_that_no_file_can_have_break_it(tmp_path, entries):
    found = unpacked(hostile(*entries, ("0/wal/later", tarfile.REGTYPE, b"x")), tmp_path)
    assert "cannot be a file" in found.broken
    assert not (tmp_path / "0" / "wal" / "later").exists()


def test_a_file_that_is_there_twice_is_the_later_one(tmp_path):
    entries = [("0/wal/a", tarfile.REGTYPE, b"longer"), ("0/wal/a", tarfile.REGTYPE, b"new")]
    assert not unpacked(hostile(*entries), tmp_path).broken
    assert tree(tmp_path) == {"0/wal/a": b"new"}


def test_a_file_of_an_impossible_size_breaks_it(tmp_path):
    info = tarfile.TarInfo("0/wal/a")
    info.size = 1 << 62
    found = unpacked(info.tobuf(tarfile.GNU_FORMAT) + b"x" * 512, tmp_path)
    assert "0/wal/a cannot be a file: File too large" in found.broken


def test_every_cut_is_told(tmp_path):
    put(tmp_path / "shard" / "segments" / UUID / "version.info", b"0.6.0")
    put(tmp_path / "shard" / "wal" / "first-index", b"{}")
    data = archived(tmp_path / "shard")
    assert len(data) < 16 * KIB
    for size in {at + near for at in range(0, len(data), 512) for near in (-1, 0, 1, 100)} - {-1}:
        found = unpacked(data[:size], tmp_path / "out")
        assert "ends early" in found.broken
    found = unpacked(data, tmp_path / "out")
    assert not found.broken


def test_a_cut_names_the_file_it_is_in(shard, tmp_path):
    data = archived(shard)
    assert f"ends early in 0/segments/{OTHER}.tar" in unpacked(data[:MIB], tmp_path / "out").broken


@pytest.mark.parametrize("at", [0, 600, 100_000])
def test_damage_ends_it_and_closes_its_file(shard, tmp_path, at):
    data = bytearray(archived(shard))
    header = data.index(b"snapshot/files/segment.json")
    data[header + 1] ^= 1
    if not at:
        data[1] ^= 1
    files = len(os.listdir("/proc/self/fd"))
    found = unpacked(bytes(data), tmp_path / "out")
    assert "no header of a tar" in found.broken
    assert len(os.listdir("/proc/self/fd")) == files


def test_nothing_is_raised_whatever_is_fed(tmp_path):
    dice = random.Random(5)  # noqa: S311 - has to be the same on every run, not secret
    put(tmp_path / "shard" / "segments" / UUID / "version.info", b"0.6.0")
    sparse(tmp_path / "shard" / "wal" / "open-1", MIB, {number * 8192: b"x" * 100 for number in range(20)})
    data = archived(tmp_path / "shard")
    for number in range(150):
        spoilt = bytearray(data)
        for _ in range(dice.randint(1, 40)):
            spoilt[dice.randrange(len(spoilt))] = dice.randrange(256)
        unpacked(bytes(spoilt), tmp_path / "out" / str(number), 5000)
    assert unpacked(dice.randbytes(100_000), tmp_path / "random").broken


def test_a_full_disk_cannot_be_written_to(shard, tmp_path):
    (tmp_path / "small").mkdir()
    files = len(os.listdir("/proc/self/fd"))
    with small_disk(tmp_path / "small", "256k"):
        with pytest.raises(CannotWrite, match=r"matrix.dat cannot be written: No space left") as told:
            unpacked(archived(shard), tmp_path / "small" / "out")
        assert "about the size of the archive" in told.value.hint
    assert len(os.listdir("/proc/self/fd")) == files


def test_a_folder_that_cannot_be_made_cannot_be_written_to(shard):
    with pytest.raises(CannotWrite, match="/proc/nowhere"):
        unpacked(archived(shard), Path("/proc/nowhere"))
