import gzip
import subprocess
import sys
import zlib
from importlib import metadata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.press import Squeeze, compressor, library, suffix
from agent.errors import BadConfig

TEXT = b"".join(b"%d bottles of beer on the wall, " % (n * n) for n in range(30_000))
ISAL, ZSTD = "isal.isal_zlib", "backports.zstd" if sys.version_info < (3, 14) else "compression.zstd"


def pressed(data: bytes, squeeze: Squeeze, piece: int = 100_000) -> bytes:
    stream = compressor(squeeze)
    view = memoryview(data)
    pieces = [stream.compress(view[at : at + piece]) for at in range(0, len(data), piece)]
    return b"".join([*pieces, stream.flush()])


def unpacked(data: bytes, *argv: str) -> bytes:
    return subprocess.run(argv, input=data, capture_output=True, check=True).stdout


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize("level", range(1, 10))
@pytest.mark.parametrize("chosen", ["auto", "zlib"])
def test_gunzip_reads_every_level(level: int, chosen: str) -> None:
    packed = pressed(TEXT, Squeeze("gzip", level, chosen))
    assert unpacked(packed, "gunzip", "--stdout") == TEXT
    assert len(packed) < len(TEXT) / 3


@pytest.mark.parametrize("squeeze", [Squeeze(), Squeeze(library="zlib"), Squeeze(level=1), Squeeze(level=9)])
def test_gzip_is_one_member_without_a_name_and_without_a_time(squeeze: Squeeze) -> None:
    packed = pressed(TEXT, squeeze)
    assert packed[:3] == b"\x1f\x8b\x08"
    assert packed[3] == 0, "no name, comment or other field"
    assert packed[4:8] == bytes(4), "no time"
    member = zlib.decompressobj(31)
    assert member.decompress(packed) == TEXT
    assert (member.eof, member.unused_data) == (True, b"")
    assert packed[-4:] == len(TEXT).to_bytes(4, "little")


@pytest.mark.parametrize("level", [1, 3, 19])
def test_zstd_reads_every_level_and_finds_a_checksum_in_it(level: int) -> None:
    module = pytest.importorskip(ZSTD)
    packed = pressed(TEXT, Squeeze("zstd", level))
    assert module.decompress(packed) == TEXT
    assert module.get_frame_info(packed).decompressed_size is None, "its length is not known when it begins"
    damaged = packed[:-4] + bytes(4)
    with pytest.raises(module.ZstdError, match="checksum"):
        module.decompress(damaged)


def test_none_is_what_came_in() -> None:
    assert pressed(TEXT, Squeeze("none")) == TEXT


@given(
    data=st.binary(max_size=2000),
    piece=st.integers(1, 700),
    squeeze=st.sampled_from(
        [Squeeze(), Squeeze(level=2), Squeeze(library="zlib"), Squeeze("none"), Squeeze("zstd", 3)]
    ),
)
def test_what_goes_in_comes_out_in_whatever_pieces(data: bytes, piece: int, squeeze: Squeeze) -> None:
    module = pytest.importorskip(ZSTD)
    back = {"gzip": gzip.decompress, "zstd": module.decompress, "none": bytes}[squeeze.format]
    packed = pressed(data, squeeze, piece)
    assert back(packed) == data
    assert pressed(data, squeeze, piece) == packed


def test_the_library_is_named_as_it_is_used() -> None:
    pytest.importorskip(ISAL)
    pytest.importorskip(ZSTD)
    isal, theirs = f"isal {metadata.version('isal')}", f"zlib {zlib.ZLIB_RUNTIME_VERSION}"
    named = {level: library(Squeeze(level=level)) for level in range(1, 10)}
    assert {named[level] for level in (1, 2, 3)} == {f"{isal} level 1"}
    assert {named[level] for level in (4, 5, 6)} == {f"{isal} level 2"}
    assert [named[level] for level in (7, 8, 9)] == [f"{theirs} level {level}" for level in (7, 8, 9)]
    assert library(Squeeze(level=1, library="zlib")) == f"{theirs} level 1"
    assert library(Squeeze("zstd", 3)).startswith("zstd 1.")
    assert library(Squeeze("zstd", 3)).endswith(" level 3")
    assert library(Squeeze("none")) == "none"


def test_the_level_asked_of_zlib_is_the_one_that_is_used() -> None:
    for level in (1, 6, 9):
        assert pressed(TEXT, Squeeze(level=level, library="zlib"))[10:-8] == gzip.compress(TEXT, level, mtime=0)[10:-8]
    assert pressed(TEXT, Squeeze(level=9))[10:-8] == gzip.compress(TEXT, 9, mtime=0)[10:-8]


def test_without_isal_zlib_does_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, ISAL)
    for level in (1, 6):
        assert library(Squeeze(level=level)) == f"zlib {zlib.ZLIB_RUNTIME_VERSION} level {level}"
        assert pressed(TEXT, Squeeze(level=level)) == pressed(TEXT, Squeeze(level=level, library="zlib"))


def test_zstd_that_is_not_installed_is_a_mistake_in_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "compression.zstd", "backports.zstd")
    for action in (library, compressor):
        with pytest.raises(BadConfig, match="no zstd library is installed") as caught:
            action(Squeeze("zstd", 3))
        assert "pip install 'snapward[zstd]'" in caught.value.hint


def test_a_format_that_does_not_exist_is_a_mistake_in_the_configuration() -> None:
    for action in (library, compressor, lambda squeeze: suffix(squeeze.format)):
        with pytest.raises(BadConfig, match="no compression format 'lzma'"):
            action(Squeeze("lzma"))


def test_every_format_has_its_suffix() -> None:
    assert [suffix(one) for one in ("gzip", "zstd", "none")] == [".gz", ".zst", ""]


def test_isal_gives_what_gzip_gives_on_vectors() -> None:
    """Floats of embeddings, which hardly shrink: within one in a hundred of zlib's level 6."""
    pytest.importorskip(ISAL)
    import random
    import struct

    dice = random.Random(1)  # noqa: S311 - no secret
    vectors = struct.pack("<200000f", *(dice.gauss(0, 0.036) for _ in range(200_000)))
    theirs = len(pressed(vectors, Squeeze(library="zlib"), 1 << 20))
    assert len(pressed(vectors, Squeeze(), 1 << 20)) < theirs * 1.01


def test_nothing_is_imported_before_it_is_wanted() -> None:
    code = "import sys, agent.adapters.press; print([m for m in sys.modules if 'isal' in m or 'zstd' in m])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
