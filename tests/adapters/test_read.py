import contextlib
import gzip
import hashlib
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tars import UUID, collection, segment

import agent
from agent.adapters.shelf import streams
from agent.adapters.shelf.look import signature
from agent.adapters.shelf.read import Moved, read, read_small
from agent.errors import AgentError
from agent.rules.archive import Form, Promise, Reading, State, Stream, Verdict, judge

MIB = 1 << 20
PARTS = [b"alpha" * 50, b"", b"beta" * 60]
MEMBERS = [gzip.compress(one, mtime=0) for one in PARTS]

# Files that gzip itself can be asked about: what it thinks of them is the exit code of `gzip --test`.
SHAPES = {
    "one member": (MEMBERS[0], 0),
    "three members": (b"".join(MEMBERS), 0),
    "zeros up to a block": (MEMBERS[0] + bytes(777), 0),
    "members and zeros": (b"".join(MEMBERS) + b"\0", 0),
    "garbage": (MEMBERS[0] + b"rubbish", 2),
    "zeros and garbage": (MEMBERS[0] + b"\0\0x", 2),
    "zeros and a member": (MEMBERS[0] + bytes(10) + MEMBERS[2], 2),
    "zeros and half a magic number": (MEMBERS[0] + b"\0\0\x1f", 2),
    "half a magic number": (MEMBERS[0] + b"\x1f", 1),
    "a magic number": (MEMBERS[0] + b"\x1f\x8b", 1),
    "half a member": (MEMBERS[0] + MEMBERS[2][:-3], 1),
    "half of it": (MEMBERS[0][:-9], 1),
    "another checksum": (MEMBERS[0][:-8] + bytes(4) + MEMBERS[0][-4:], 1),
    "another length": (MEMBERS[0][:-1] + b"\1", 1),
}

zstd = pytest.importorskip("backports.zstd" if sys.version_info < (3, 14) else "compression.zstd")
CHECKED = {zstd.CompressionParameter.checksum_flag: 1}
FRAMES = [zstd.compress(one, options=CHECKED) for one in PARTS]
SKIPPED = [struct.pack("<II", 0x184D2A50 + n, length) + bytes(length) for n, length in ((0, 0), (7, 300), (15, 1))]

# The same for zstd. What comes after a frame and is none it calls an error, zeros too.
ZSTD_SHAPES = {
    "one frame": (FRAMES[0], 0),
    "three frames": (b"".join(FRAMES), 0),
    "an empty frame": (FRAMES[1], 0),
    "frames to be skipped": (SKIPPED[1] + FRAMES[0] + SKIPPED[0] + SKIPPED[2] + FRAMES[2] + SKIPPED[0], 0),
    "half a frame to be skipped": (FRAMES[0] + SKIPPED[1][:-1], 1),
    "zeros up to a block": (FRAMES[0] + bytes(777), 1),
    "garbage": (FRAMES[0] + b"rubbish", 1),
    "half a magic number": (FRAMES[0] + FRAMES[2][:2], 1),
    "a magic number": (FRAMES[0] + FRAMES[2][:4], 1),
    "half a frame": (FRAMES[0] + FRAMES[2][:-3], 1),
    "half of it": (FRAMES[0][:-9], 1),
    "another checksum": (FRAMES[0][:-4] + bytes(4), 1),
}

CHILD = """
import os, sys
from agent.adapters.shelf.read import read, Moved

def become_nobody():
    if os.geteuid() == 0:
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
"""


def child(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", CHILD + code, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(agent.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@contextlib.contextmanager
def holding(path: Path, code: str) -> Iterator[None]:
    """Another process that has the file open as `fd` and does something to it, until the block ends."""
    program = (
        f"import fcntl, os, sys; fd = os.open(sys.argv[1], os.O_RDWR); {code}; print('ready', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            other.communicate(b"\n", timeout=10)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can reach, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def dice(seed: int | str) -> random.Random:
    return random.Random(seed)  # noqa: S311 - the same damage each time, not a secret


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def reading(path: Path, data: bytes) -> Reading:
    return read(written(path, data), None)[0]


def promised(data: bytes) -> Promise:
    return Promise("SHA256SUMS", hashlib.sha256(data).hexdigest(), len(data))


def proof(path: Path, data: bytes, *promises: Promise) -> Verdict:
    return judge(reading(path, data), promises, 1, "a.gz")


def gunzips_to(data: bytes, content: bytes) -> bool:
    """Whether damage did no harm: a time in the header, or one way instead of another to say the same."""
    try:
        return gzip.decompress(data) == content
    except (OSError, EOFError, zlib.error):
        return False


def open_files() -> set[str]:
    return {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/dev/fd/{fd}")}


# Damage.


def test_every_flipped_bit_is_found_that_changes_what_gunzip_gives(tmp_path: Path) -> None:
    content = dice(1).randbytes(60) + b"compressible " * 20
    whole = gzip.compress(content, mtime=0)
    for position in range(len(whole) * 8):
        data = bytearray(whole)
        data[position // 8] ^= 1 << position % 8
        alone = proof(tmp_path / "a.gz", bytes(data))
        assert alone.bad or (alone.state is State.NO_CHECKSUM and gunzips_to(data, content)), (position, alone)
        compared = proof(tmp_path / "a.gz", bytes(data), promised(whole))
        assert compared.state in {State.CORRUPT, State.TRUNCATED}, (position, compared)


@pytest.mark.parametrize("content", ["random", "text", "zeros"])
def test_a_flipped_byte_anywhere_in_a_large_archive_is_found(tmp_path: Path, content: str) -> None:
    thrown = dice(content)
    size = 3 * MIB
    plain = {
        "random": thrown.randbytes(size),
        "text": b"".join(b"%d bottles of beer\n" % thrown.randrange(10**9) for _ in range(size // 26)),
        "zeros": bytes(size),
    }[content]
    whole = gzip.compress(plain, compresslevel=1, mtime=0)
    assert proof(tmp_path / "a.gz", whole, promised(whole)).state is State.GOOD
    for _ in range(15):
        data = bytearray(whole)
        data[thrown.randrange(len(data))] ^= thrown.randrange(1, 256)
        assert proof(tmp_path / "a.gz", bytes(data)).bad or gunzips_to(data, plain)
        assert proof(tmp_path / "a.gz", bytes(data), promised(whole)).state in {State.CORRUPT, State.TRUNCATED}


def test_an_archive_cut_anywhere_is_found(tmp_path: Path) -> None:
    whole = gzip.compress(dice(2).randbytes(200) + bytes(5000), mtime=0)
    for length in range(len(whole)):
        assert proof(tmp_path / "a.gz", whole[:length], promised(whole)).state is State.TRUNCATED
        assert proof(tmp_path / "a.gz", whole[:length]).state is (
            State.CORRUPT if length == 1 else State.TRUNCATED  # one byte is not known to be gzip
        )


@pytest.mark.parametrize("shape", SHAPES)
def test_gzip_itself_thinks_the_same_of_what_it_can_be_given(tmp_path: Path, shape: str) -> None:
    data, expected = SHAPES[shape]
    path = tmp_path / "a.gz"
    found = reading(path, data)
    asked = subprocess.run(["gzip", "--test", str(path)], capture_output=True, check=False)
    assert asked.returncode == expected
    assert (found.stream is Stream.COMPLETE) == (expected == 0)
    assert found.size == len(data)
    assert found.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 13, 64])
def test_it_makes_no_difference_in_which_pieces_a_stream_comes(shape: str, length: int) -> None:
    data, _ = SHAPES[shape]
    assert in_pieces("a.gz", data, len(data)) == in_pieces("a.gz", data, length)


def in_pieces(name: str, data: bytes, length: int) -> tuple[Stream, str, bytes]:
    """What a stream was that came in pieces of this length; the content only of one that is complete."""
    found: list[bytes] = []
    inside = streams.reader(name, data[: streams.HEAD], lambda piece: found.append(bytes(piece)))
    for start in range(0, len(data), length):
        inside.feed(memoryview(data)[start : start + length])
    state, why = inside.finish()
    return state, why.partition(" after ")[0], b"".join(found) if state is Stream.COMPLETE else b""


@pytest.mark.parametrize("shape", ZSTD_SHAPES)
def test_zstd_itself_thinks_the_same_of_what_it_can_be_given(tmp_path: Path, shape: str) -> None:
    data, expected = ZSTD_SHAPES[shape]
    path = tmp_path / "a.zst"
    found = reading(path, data)
    if shutil.which("zstd"):
        asked = subprocess.run(["zstd", "--test", "--quiet", str(path)], capture_output=True, check=False)
        assert asked.returncode == expected
    assert (found.stream is Stream.COMPLETE) == (expected == 0)
    assert (found.size, found.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    verdict = judge(found, (promised(data),), 1, "a.zst")
    assert (verdict.state is State.GOOD) if expected == 0 else verdict.bad


@pytest.mark.parametrize("shape", ZSTD_SHAPES)
@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 13, 64])
def test_it_makes_no_difference_in_which_pieces_zstd_comes(shape: str, length: int) -> None:
    data, _ = ZSTD_SHAPES[shape]
    assert in_pieces("a.zst", data, len(data)) == in_pieces("a.zst", data, length)


def test_a_stream_of_many_members_is_read_to_its_end(tmp_path: Path) -> None:
    thrown = dice(3)
    members = [gzip.compress(thrown.randbytes(thrown.randrange(4000)), mtime=0) for _ in range(2000)]
    assert reading(tmp_path / "a.gz", b"".join(members)).stream is Stream.COMPLETE
    members[1500] = members[1500][:-1]
    assert reading(tmp_path / "a.gz", b"".join(members)).stream is Stream.DAMAGED


@pytest.mark.parametrize("rest", [MEMBERS[0], bytes(512), b"rubbish"], ids=["a member", "zeros", "garbage"])
def test_what_follows_a_member_that_swells_is_read_once(tmp_path: Path, rest: bytes) -> None:
    whole = gzip.compress(bytes(5 * MIB), mtime=0)
    found = reading(tmp_path / "a.gz", whole + rest)
    assert (found.stream is Stream.COMPLETE) == (rest != b"rubbish")
    assert found.stream_why == ("" if rest != b"rubbish" else "its end is followed by 7 bytes that cannot be gzip")


def test_what_is_named_gzip_and_is_none_is_corrupt(tmp_path: Path) -> None:
    assert proof(tmp_path / "a.gz", b"SQLite format 3\0" * 100).state is State.CORRUPT


def unzstd(data: bytes) -> bytes | None:
    try:
        return zstd.decompress(data)
    except zstd.ZstdError:
        return None


def test_every_flipped_bit_of_zstd_is_found_that_changes_what_it_gives(tmp_path: Path) -> None:
    content = dice(1).randbytes(60) + b"compressible " * 20
    whole = zstd.compress(content, options=CHECKED)
    for position in range(len(whole) * 8):
        data = bytearray(whole)
        data[position // 8] ^= 1 << position % 8
        found = reading(tmp_path / "a.zst", bytes(data))
        alone = judge(found, (), 1, "a.zst")
        unread = found.stream is Stream.NOT_READ and found.stream_why
        assert alone.bad or unread or unzstd(data) == content, (position, alone)
        compared = judge(found, (promised(whole),), 1, "a.zst")
        assert compared.state in {State.CORRUPT, State.TRUNCATED}, (position, compared)


def test_zstd_cut_anywhere_is_found(tmp_path: Path) -> None:
    whole = zstd.compress(dice(2).randbytes(200) + bytes(5000), options=CHECKED)
    for length in range(len(whole)):
        found = reading(tmp_path / "a.zst", whole[:length])
        assert judge(found, (promised(whole),), 1, "a.zst").state is State.TRUNCATED
        assert judge(found, (), 1, "a.zst").state is (State.CORRUPT if length == 1 else State.TRUNCATED)


def test_what_is_named_zstd_and_is_none_is_corrupt(tmp_path: Path) -> None:
    for content in (b"SQLite format 3\0" * 100, MEMBERS[0], b"\x28\xb5\x2f\xfe" * 9, b"\x60\x2a\x4d\x18" * 9):
        found = reading(tmp_path / "a.snapshot.zst", content)
        assert judge(found, (promised(content),), 1, "a.snapshot.zst").state is State.CORRUPT
    found = reading(tmp_path / "a.gz", FRAMES[0])
    assert judge(found, (promised(FRAMES[0]),), 1, "a.gz").why == "is named as gzip, but does not begin as gzip does"
    assert reading(tmp_path / "a.snapshot", FRAMES[0]).stream is Stream.PLAIN


def test_what_is_wrong_with_zstd_is_said(tmp_path: Path) -> None:
    first, third = FRAMES[0], FRAMES[2]
    said = {
        first[:-4] + bytes(4): "restored data doesn't match checksum after 0 B of content",
        first + third[:-1]: "no end after 490 B of content",
        first + b"rubbish": "its end is followed by 7 bytes that cannot be zstd",
        first + b"rubbish" * MIB: "its end is followed by 7,340,032 bytes that cannot be zstd",
    }
    assert {data: reading(tmp_path / "a.zst", data).stream_why for data in said} == said


def test_zstd_that_asks_for_too_much_is_not_called_damaged(tmp_path: Path) -> None:
    press = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 30})
    wide = press.compress(b"x" * 1000) + press.compress(b"y" * 1000) + press.flush()
    words = zstd.train_dict([b"%d bottles of beer" % n for n in range(1000)], 1000)
    said = {
        wide: "it needs more memory than the 128 MiB that zstd takes unasked",
        zstd.compress(b"7 bottles of beer", zstd_dict=words): "it was compressed with a dictionary",
    }
    for data, why in said.items():
        found = reading(tmp_path / "a.zst", data)
        assert (found.stream, found.stream_why) == (Stream.NOT_READ, why)
        assert judge(found, (promised(data),), 1, "a.zst").state is State.GOOD
        assert judge(found, (), 1, "a.zst").state is State.NO_CHECKSUM


def test_without_a_library_zstd_is_good_by_its_sum_and_it_is_said_that_it_was_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    found = reading(tmp_path / "a.zst", FRAMES[0])
    assert (found.stream, found.stream_why) == (Stream.NOT_READ, "no zstd library is installed")
    verdict = judge(found, (promised(FRAMES[0]),), 1, "a.zst")
    assert (verdict.state, verdict.level) == (State.GOOD, "intact")
    assert verdict.why.endswith("; its zstd stream was not read: no zstd library is installed")
    garbage = b"SQLite format 3\0" * 100
    assert judge(reading(tmp_path / "a.zst", garbage), (promised(garbage),), 1, "a.zst").state is State.CORRUPT


def test_an_empty_file_is_truncated_and_a_small_one_undersized(tmp_path: Path) -> None:
    assert proof(tmp_path / "a.gz", b"").state is State.TRUNCATED
    small = gzip.compress(b"")
    promise = Promise("SHA256SUMS", hashlib.sha256(small).hexdigest())
    verdict = judge(reading(tmp_path / "a.gz", small), (promise,), 1024, "a.gz")
    assert (verdict.state, verdict.why) == (State.UNDERSIZED, "has 20 bytes; the minimum is 1 KiB")


def test_a_file_that_is_no_gzip_is_hashed_alone(tmp_path: Path) -> None:
    data = dice(4).randbytes(3 * MIB + 17)
    found = reading(tmp_path / "a.snapshot", data)
    assert (found.stream, found.size, found.sha256) == (Stream.PLAIN, len(data), hashlib.sha256(data).hexdigest())


def test_without_its_stream_an_archive_is_only_hashed(tmp_path: Path) -> None:
    data = gzip.compress(b"x" * 100)[:-1]
    found, _ = read(written(tmp_path / "a.gz", data), None, stream=False)
    assert (found.stream, found.sha256) == (Stream.NOT_READ, hashlib.sha256(data).hexdigest())


def test_progress_adds_up_to_the_size(tmp_path: Path) -> None:
    seen: list[int] = []
    path = written(tmp_path / "a", bytes(5 * MIB + 1))
    read(path, None, progress=seen.append)
    assert sum(seen) == 5 * MIB + 1
    assert max(seen) <= MIB


# What is in it.

CONTENT = dice("content").randbytes(MIB + 17) + bytes(3 * MIB) + b"compressible " * 100_000
PACKED = {
    "a.snapshot": CONTENT,
    "a.snapshot.gz": gzip.compress(CONTENT, compresslevel=1, mtime=0),
    "members.gz": b"".join(
        gzip.compress(CONTENT[at : at + 3 * MIB], 1, mtime=0) for at in range(0, len(CONTENT), 3 * MIB)
    ),
    "padded.gz": gzip.compress(CONTENT, compresslevel=1, mtime=0) + bytes(9000),
    "a.snapshot.zst": zstd.compress(CONTENT),
    "frames.zst": zstd.compress(CONTENT[:MIB]) + SKIPPED[1] + zstd.compress(CONTENT[MIB:]),
}


@pytest.mark.parametrize("name", PACKED)
def test_all_that_an_archive_holds_is_handed_on_in_order(tmp_path: Path, name: str) -> None:
    pieces: list[bytes] = []
    path = written(tmp_path / name, PACKED[name])
    found, _ = read(path, None, stream=False, content=lambda piece: pieces.append(bytes(piece)))
    assert b"".join(pieces) == CONTENT
    assert max(map(len, pieces)) <= MIB
    assert found.stream is (Stream.PLAIN if name == "a.snapshot" else Stream.COMPLETE)
    assert found.sha256 == hashlib.sha256(PACKED[name]).hexdigest()


@pytest.mark.parametrize("name", ["a.snapshot", "a.snapshot.gz", "a.snapshot.zst"])
@pytest.mark.parametrize(
    "error",
    [AgentError("full"), OSError(28, "full"), FileNotFoundError(), zlib.error("x"), zstd.ZstdError("x"), Moved()],
)
def test_what_is_raised_by_whom_it_is_handed_on_to_is_raised(tmp_path: Path, name: str, error: Exception) -> None:
    path = written(tmp_path / name, PACKED[name])
    before = open_files()

    def refuse(_: memoryview) -> None:
        raise error

    with pytest.raises(type(error)) as told:
        read(path, None, content=refuse)
    assert told.value is error
    assert open_files() == before


@pytest.mark.parametrize("name", ["a.gz", "a.zst"])
def test_of_a_stream_without_its_end_what_is_there_is_handed_on_and_nothing_is_said_of_it(
    tmp_path: Path, name: str
) -> None:
    got = [0]
    data = (PACKED["a.snapshot.gz"] if name == "a.gz" else PACKED["a.snapshot.zst"])[:-20]
    found, _ = read(written(tmp_path / name, data), None, content=lambda piece: got.append(len(piece)))
    assert (found.stream, found.form, found.form_why) == (Stream.ENDED_EARLY, Form.NOT_READ, "")
    assert MIB < sum(got) <= len(CONTENT)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress], ids=["none", "gzip", "zstd"])
def test_a_snapshot_is_found_in_the_pass_that_hashes(tmp_path: Path, pack) -> None:
    suffix = {bytes: "", gzip.compress: ".gz", zstd.compress: ".zst"}[pack]
    lost = f"0/segments/{UUID}.tar has no version.info, and a server would lose the segment"
    said = {
        collection(): (Form.SNAPSHOT, "a whole snapshot: 1 shard with 1 segment"),
        collection(segment(without="version.info")): (Form.BROKEN, lost),
        collection()[:-1024]: (
            Form.BROKEN,
            "has no end marker: it was cut at an entry's boundary, after 12.5 KiB, behind payload_index.json",
        ),
        b"SQLite format 3\0" * 99: (
            Form.OTHER,
            "no Qdrant snapshot was found in it: does not begin as a GNU tar does, but with SQLite format 3",
        ),
    }
    for data, expected in said.items():
        found = reading(tmp_path / f"a.snapshot{suffix}", pack(data))
        assert (found.form, found.form_why) == expected
        hashed, _ = read(str(tmp_path / f"a.snapshot{suffix}"), None, stream=False)
        assert (hashed.form, hashed.form_why) == (Form.NOT_READ, "")


# Limits.


def test_a_gzip_bomb_is_read_in_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=9) as bomb:
        for _ in range(400):
            bomb.write(bytes(MIB))
    assert path.stat().st_size < MIB
    told = child(
        "def peak():\n"
        "    return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "before = peak(); found, _ = read(sys.argv[1], None); print(found.stream, peak() - before)",
        str(path),
    )
    stream, grown = told.stdout.split()
    assert stream == "complete"
    assert int(grown) < 12 * 1024  # KiB


def test_a_zstd_bomb_is_read_in_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zst"
    with zstd.open(path, "wb") as bomb:
        for _ in range(400):
            bomb.write(bytes(MIB))
    assert path.stat().st_size < MIB
    told = child(
        "from importlib import import_module\n"
        f"import_module({zstd.__name__!r})\n"
        "def peak():\n"
        "    return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "before = peak(); found, _ = read(sys.argv[1], None); print(found.stream, peak() - before)",
        str(path),
    )
    stream, grown = told.stdout.split()
    assert stream == "complete"
    assert int(grown) < 16 * 1024  # KiB


def cached(path: Path) -> int:
    told = subprocess.run(
        ["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(told.stdout)


@pytest.mark.skipif(not shutil.which("fincore"), reason="fincore of util-linux tells what the page cache holds")
def test_what_was_read_does_not_stay_in_the_page_cache(tmp_path: Path) -> None:
    path = tmp_path / "large.snapshot"
    with path.open("wb") as file:
        file.write(dice(5).randbytes(MIB) * 61)
        os.fsync(file.fileno())
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True, check=True).stdout
    if kind.strip() in {"tmpfs", "overlayfs"}:
        pytest.skip(f"the temporary folder is on {kind.strip()}, which has no cache of its own")
    assert cached(path) == 61 * MIB
    rounds, meanwhile = [0], []

    def look(_: int) -> None:
        rounds[0] += 1
        if rounds[0] == 50:
            meanwhile.append(cached(path))

    assert read(str(path), None, progress=look)[0].size == 61 * MIB
    assert meanwhile[0] < 30 * MIB
    assert cached(path) < MIB


def test_a_checksum_file_has_a_limit(tmp_path: Path) -> None:
    path = written(tmp_path / "SHA256SUMS", b"x" * 100)
    assert read_small(path, 100) == (b"x" * 100, signature(path))
    with pytest.raises(AgentError, match="is 100 B, more than the 99 B a checksum file may have"):
        read_small(path, 99)


# Files that are not at rest.


def test_a_file_that_another_process_writes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.snapshot"
    written(path, b"x" * 2000)
    seen = signature(str(path))
    with holding(path, "0"):
        with pytest.raises(Moved):
            read(str(path), seen)
        with pytest.raises(Moved):
            read_small(str(path))
    assert signature(str(path)) == seen
    assert read(str(path), seen)[0].size == 2000


def test_a_file_that_another_process_only_reads_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.snapshot"
    written(path, b"x" * 2000)
    with holding(path, "os.close(fd); fd = os.open(sys.argv[1], os.O_RDONLY)"):
        assert read(str(path), None)[0].size == 2000


def test_a_file_that_another_process_has_leased_is_left_until_later(tmp_path: Path) -> None:
    # As a file server does for its clients: opening without waiting fails then.
    path = tmp_path / "a.snapshot"
    written(path, b"x" * 2000)
    ignoring = "import signal; signal.signal(signal.SIGIO, signal.SIG_IGN)"
    with holding(path, f"{ignoring}; fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)"), pytest.raises(Moved):
        read(str(path), None)


def test_a_writer_that_comes_meanwhile_does_not_end_the_process(tmp_path: Path) -> None:
    path = written(tmp_path / "a.snapshot", b"x" * 2000)
    with subprocess.Popen(["sh", "-c", 'while :; do : >>"$0"; done', path]) as writer:
        try:
            told = child(
                "import signal, time\n"
                "signal.signal(signal.SIGIO, signal.SIG_DFL)\n"
                "until = time.monotonic() + 0.5\n"
                "while time.monotonic() < until:\n"
                "    try: read(sys.argv[1], None)\n"
                "    except Moved: pass",
                path,
            )
        finally:
            writer.kill()
    assert told.returncode == 0


def test_reading_does_not_keep_a_writer_out(tmp_path: Path) -> None:
    path = written(tmp_path / "a.snapshot", b"x" * 2000)

    def write(_: int) -> None:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))

    assert read(path, None, progress=write)[0].size == 2000


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def overwrite(path: Path) -> None:
    old = path.stat()
    with path.open("r+b") as file:
        file.write(b"new!")
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))


def cut(path: Path) -> None:
    os.truncate(path, 100)


def replace(path: Path) -> None:
    old = path.stat()
    new = path.with_suffix(".new")
    new.write_bytes(path.read_bytes())
    os.utime(new, ns=(old.st_atime_ns, old.st_mtime_ns))
    os.replace(new, path)


def remove(path: Path) -> None:
    path.unlink()


def link(path: Path) -> None:
    new = path.with_suffix(".new")
    path.rename(new)
    path.symlink_to(new)


def swap_the_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("old"))
    path.parent.mkdir()
    path.write_bytes(b"another file")


@pytest.mark.parametrize("change", [grow, overwrite, cut, replace, remove, link, swap_the_folder])
def test_a_file_that_changes_while_it_is_read_is_not_judged(tmp_path: Path, change) -> None:
    path = tmp_path / "daily" / "a.snapshot"
    path.parent.mkdir()
    written(path, dice(6).randbytes(2 * MIB))
    todo = [change]

    def meddle(_: int) -> None:
        if todo:
            todo.pop()(path)

    with pytest.raises(Moved):
        read(str(path), signature(str(path)), progress=meddle)
    assert not todo


@pytest.mark.parametrize("change", [grow, overwrite, cut, replace, remove])
def test_a_file_that_is_not_the_one_that_was_seen_is_not_judged(tmp_path: Path, change) -> None:
    path = tmp_path / "a.snapshot"
    written(path, b"x" * 2000)
    seen = signature(str(path))
    change(path)
    with pytest.raises(Moved):
        read(str(path), seen)


def test_a_file_that_grows_for_ever_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    written(path, b"x" * 2000)
    rounds = []

    def grow_again(_: int) -> None:
        rounds.append(1)
        assert len(rounds) < 10
        grow(path)

    with pytest.raises(Moved):
        read(str(path), None, progress=grow_again)


# What is no file, or cannot be read.


def test_what_is_no_file_is_unreadable_and_never_blocks(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gz")
    (tmp_path / "folder.gz").mkdir()
    (tmp_path / "target").write_bytes(b"x" * 2000)
    (tmp_path / "link.gz").symlink_to(tmp_path / "target")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.gz"))
        said = {one: read(str(tmp_path / f"{one}.gz"), None)[0] for one in ("pipe", "folder", "link", "socket")}
    assert {one: found.error for one, found in said.items()} == {
        "pipe": "is a pipe, socket or device, not a file",
        "folder": "is a folder, not a file",
        "link": "is a symbolic link; links are not followed",
        "socket": "cannot be read: No such device or address",
    }
    assert all(judge(found, (), 1).state is State.UNREADABLE for found in said.values())


def test_a_file_that_may_not_be_read_is_unreadable(public: Path) -> None:
    path = public / "a.gz"
    path.write_bytes(gzip.compress(b"x"))
    path.chmod(0)
    told = child("become_nobody(); print(read(sys.argv[1], None)[0].error)", str(path))
    assert told.stdout == "cannot be read: Permission denied\n"


def test_a_file_of_another_owner_is_read_although_it_cannot_be_leased(public: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file to somebody else")
    path = public / "a.gz"
    path.write_bytes(gzip.compress(b"x"))
    told = child("become_nobody(); print(read(sys.argv[1], None)[0].stream)", str(path))
    assert told.stdout == "complete\n"


def test_a_disk_that_fails_makes_an_archive_unreadable() -> None:
    # Nothing is mapped at address 0, so that this file's first byte gives EIO as a bad sector does.
    found, _ = read("/proc/self/mem", None)
    assert found.error == "cannot be read: Input/output error"
    assert judge(found, (), 1).state is State.UNREADABLE


def test_a_file_that_is_gone_has_moved(tmp_path: Path) -> None:
    with pytest.raises(Moved):
        read(str(tmp_path / "a.gz"), None)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Moved):
        read(str(tmp_path / "file" / "a.gz"), None)


@pytest.mark.parametrize("name", [b"caf\xe9.gz", b"two\nlines.gz", b"n" * 252 + b".gz"])
def test_a_file_of_any_name_is_read(tmp_path: Path, name: bytes) -> None:
    path = os.path.join(tmp_path, os.fsdecode(name))
    with open(path, "wb") as file:
        file.write(gzip.compress(b"x"))
    assert read(path, signature(path))[0].stream is Stream.COMPLETE


def test_no_descriptor_is_left_whatever_comes_of_a_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    written(path, gzip.compress(bytes(MIB))[:-1])
    (tmp_path / "link").symlink_to(path)
    before = open_files()
    for name in ("a.gz", "link", "", "missing"):
        with contextlib.suppress(Moved):
            read(str(tmp_path / name), None)
        with contextlib.suppress(Moved, OSError, AgentError):
            read_small(str(tmp_path / name), 10)
    with pytest.raises(Moved):
        read(str(path), None, progress=lambda _: grow(path))
    assert open_files() == before


def test_a_snapshot_that_happens_to_begin_as_gzip_does_is_no_gzip(tmp_path: Path) -> None:
    """Two bytes are not enough: of random data one file in 65,536 begins with them."""
    path = tmp_path / "a.snapshot"
    path.write_bytes(b"\x1f\x8b\x07" + b"x" * 2000)
    reading, _ = read(str(path), None)
    assert reading.stream is Stream.PLAIN
