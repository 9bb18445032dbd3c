"""What an archive holds, inflated ahead by a thread: all of it, or an error before its end."""

import gzip
import hashlib
import os
import random
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from agent.adapters import press
from agent.adapters.press import Squeeze
from agent.adapters.shelf import read
from agent.adapters.shelf.inflate import Inflated
from agent.adapters.shelf.look import signature
from agent.errors import Damaged

MIB = 1 << 20


def content(size: int) -> bytes:
    dice = random.Random(size)  # noqa: S311 - the same each time, and no secret
    return b"".join(dice.randbytes(dice.randint(0, 9000)) + bytes(dice.randint(0, 9000)) for _ in range(size // 9000))


DATA = content(5 * MIB)


def packed(form: str, library: str = "auto") -> bytes:
    stream = press.compressor(Squeeze(form, 6, library))
    return stream.compress(memoryview(DATA)) + stream.flush()


PACKED = {
    "x.snapshot.gz": packed("gzip"),
    "zlib.snapshot.gz": packed("gzip", "zlib"),
    "members.snapshot.gz": b"".join(gzip.compress(DATA[at : at + MIB], 1) for at in range(0, len(DATA), MIB)),
    "padded.snapshot.gz": packed("gzip") + bytes(10_240),
    "x.snapshot.zst": packed("zstd"),
    "x.snapshot": DATA,
}


def made(folder: Path, name: str, data: bytes | None = None) -> Path:
    path = folder / name
    path.write_bytes(PACKED[name] if data is None else data)
    return path


def inflated(path: Path, data: bytes = DATA, piece: int = 300_000) -> bytes:
    found, buffer = bytearray(), memoryview(bytearray(piece))
    with Inflated(str(path), signature(str(path)), len(data), hashlib.sha256(data).hexdigest()) as source:
        while got := source.readinto(buffer):
            found += buffer[:got]
        assert source.readinto(buffer) == 0, "its end stays its end"
    return bytes(found)


@pytest.mark.parametrize("name", PACKED)
def test_all_of_it_comes_whatever_it_was_packed_with(tmp_path: Path, name: str) -> None:
    assert inflated(made(tmp_path, name)) == DATA


@pytest.mark.parametrize("piece", [1 << 16, 1 << 20, 7 << 20])
def test_it_comes_in_pieces_of_any_size(tmp_path: Path, piece: int) -> None:
    assert inflated(made(tmp_path, "x.snapshot.gz"), piece=piece) == DATA


def test_nothing_is_something_too(tmp_path: Path) -> None:
    assert inflated(made(tmp_path, "x.snapshot.gz", gzip.compress(b"")), b"") == b""


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("cut", [1, 9, 100_000])
def test_an_archive_that_ends_early_has_no_end(tmp_path: Path, name: str, cut: int) -> None:
    path = made(tmp_path, name, PACKED[name].rstrip(b"\0")[:-cut])
    with pytest.raises(Damaged, match=r"promised|to its end"):
        inflated(path)


@pytest.mark.parametrize("name", [one for one in PACKED if one != "padded.snapshot.gz"])
@pytest.mark.parametrize("place", [20, 3_000, -3_000])
def test_a_flipped_byte_is_found(tmp_path: Path, name: str, place: int) -> None:
    data = bytearray(PACKED[name])
    data[place] ^= 0x10
    with pytest.raises(Damaged, match=r"promised|to its end"):
        inflated(made(tmp_path, name, bytes(data)))


def test_other_content_that_is_sound_is_found_too(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="SHA-256"):
        inflated(made(tmp_path, "x.snapshot.gz", gzip.compress(DATA[::-1], 1)))
    with pytest.raises(Damaged, match=r"has 5 bytes, unpacked, of the"):
        inflated(made(tmp_path, "x.snapshot.gz", gzip.compress(b"short")))


def test_a_file_that_is_not_the_one_that_was_proved_is_refused_before_a_byte(tmp_path: Path) -> None:
    path = made(tmp_path, "x.snapshot.gz")
    before = signature(str(path))
    path.write_bytes(PACKED["zlib.snapshot.gz"])
    buffer = memoryview(bytearray(10))
    with (
        Inflated(str(path), before, len(DATA), hashlib.sha256(DATA).hexdigest()) as source,
        pytest.raises(Damaged, match="not the file any more that was proved"),
    ):
        source.readinto(buffer)


def test_a_file_that_is_gone_or_a_link_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="No such file"):
        inflated(tmp_path / "x.snapshot.gz")
    (tmp_path / "link.gz").symlink_to(made(tmp_path, "x.snapshot.gz"))
    with pytest.raises(Damaged, match="symbolic links"):
        inflated(tmp_path / "link.gz")


@pytest.mark.skipif(not shutil.which("fincore"), reason="fincore of util-linux tells what the page cache holds")
def test_what_is_proved_first_stays_at_hand_until_it_was_inflated(tmp_path: Path) -> None:
    path = tmp_path / "x.snapshot"
    data = os.urandom(20 * MIB)
    with path.open("wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    kind = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True).stdout
    if kind.strip() in {"tmpfs", "overlayfs"}:
        pytest.skip("the temporary folder has no cache of its own")
    read.read(str(path), None, stream=False, keep=True)
    assert cached(path) == len(data)
    assert inflated(path, data) == data
    assert cached(path) < MIB


def cached(path: Path) -> int:
    told = subprocess.run(["fincore", "-b", "-n", "-o", "RES", path], capture_output=True, text=True, check=True)
    return int(told.stdout or 0)


def test_who_reads_no_further_leaves_no_thread_behind(tmp_path: Path) -> None:
    path = made(tmp_path, "big.snapshot.gz", gzip.compress(os.urandom(1000) * 40_000, 1))
    before = threading.active_count()
    with Inflated(str(path), None, 40_000_000, "") as source:
        assert source.readinto(memoryview(bytearray(10))) == 10
    assert threading.active_count() == before
