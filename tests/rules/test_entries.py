import io
import tarfile

import pytest

from agent.rules.entries import Entries, Entry

BLOCK = 512


class Kept:
    """Keeps everything that a reader tells, with holes as zeros."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.files: dict[str, bytes] = {}
        self.ended: list[str] = []

    def take(self, entry: Entry) -> "Sink | None":
        self.entries.append(entry)
        return Sink(self, entry) if entry.kind == "0" else None


class Sink:
    def __init__(self, kept: Kept, entry: Entry) -> None:
        self.kept, self.entry = kept, entry
        self.held = bytearray(min(entry.size, 1 << 20))

    def data(self, at: int, piece: memoryview) -> None:
        self.held[at : at + len(piece)] = piece

    def end(self) -> None:
        self.kept.files[self.entry.name] = bytes(self.held)
        self.kept.ended.append(self.entry.name)


def archive(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        end = tar.offset
    return made.getvalue()[: end + 2 * BLOCK]


def header(name: bytes, stored: int, kind: bytes = b"0", **parts: bytes) -> bytes:
    block = bytearray(BLOCK)
    block[:100] = name.ljust(100, b"\0")
    block[124:136] = b"%011o\0" % stored
    block[156:157] = kind
    block[257:265] = b"ustar  \0"
    for at, value in parts.items():
        block[int(at[1:]) : int(at[1:]) + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def spans(*numbers: int) -> bytes:
    return b"".join(b"%011o\0" % number for number in numbers)


def read(data: bytes, piece: int = 1 << 20) -> tuple[Kept, Entries]:
    kept = Kept()
    entries = Entries(kept.take)
    for at in range(0, len(data), piece):
        entries.feed(data[at : at + piece])
    return kept, entries


FILES = {"a": b"", "b/c": b"x" * 511, "d": b"y" * 512, "e": b"z" * 513, "n" * 150: b"long", "ünï": b"\0" * 2000}


@pytest.mark.parametrize("piece", [1, 7, 511, 512, 513, 4096, 1 << 20])
def test_every_file_is_told_whatever_the_pieces(piece):
    kept, entries = read(archive(FILES), piece)
    assert kept.files == FILES
    assert kept.ended == list(FILES)
    assert entries.ended
    assert entries.clean
    assert not entries.broken


def test_every_cut_is_told():
    data = archive({"a": b"12345", "b" * 120: b"x" * 700})
    between = {0, *range(517, 1025), *range(3260, 3585), 4096}  # what pads an entry is not missed
    for size in range(len(data)):
        _, entries = read(data[:size])
        assert not entries.ended
        assert entries.clean == (size in between), size
    assert read(data)[1].ended


def test_holes_are_left_out():
    known = header(b"s", 1024, b"S", _386=spans(512, 512, 4096, 512, 5000, 0), _483=b"%011o\0" % 5000)
    kept, entries = read(known + b"A" * 512 + b"B" * 512 + bytes(1024))
    expected = bytes(512) + b"A" * 512 + bytes(3072) + b"B" * 512 + bytes(392)
    assert kept.files == {"s": expected}
    assert kept.entries == [Entry("s", "0", 5000)]
    assert entries.ended


def test_a_map_may_go_on_in_blocks_of_its_own():
    pieces = [(number * 1024, 512) for number in range(50)]
    flat = [number for pair in pieces for number in pair]
    first = header(b"s", 50 * 512, b"S", _386=spans(*flat[:8]), _482=b"\1", _483=b"%011o\0" % (49 * 1024 + 512))
    more = [flat[at : at + 42] for at in range(8, len(flat), 42)]
    blocks = b"".join(
        (spans(*part).ljust(504, b"\0") + bytes([number + 1 < len(more)])).ljust(512, b"\0")
        for number, part in enumerate(more)
    )
    content = b"".join(bytes([number + 1]) * 512 for number in range(50))
    for piece in (100, 1 << 20):
        kept, entries = read(first + blocks + content + bytes(1024), piece)
        assert entries.ended
        assert len(kept.files["s"]) == 49 * 1024 + 512
        assert all(kept.files["s"][at : at + 512] == bytes([at // 1024 + 1]) * 512 for at, _ in pieces)


@pytest.mark.parametrize(
    ("pairs", "length"),
    [
        ((0, 1024), 1024),  # more than is stored
        ((0, 256), 256),  # less
        ((512, 256, 0, 256), 768),  # backwards
        ((0, 512), 600),  # does not end where the file does
        ((7 << 30, 512), 512),
    ],
)
def test_a_map_that_does_not_add_up_is_damage(pairs, length):
    known = header(b"s", 512, b"S", _386=spans(*pairs), _483=b"%011o\0" % length)
    _, entries = read(known + b"A" * 512 + bytes(1024))
    assert "map of a file with holes does not add up" in entries.broken


def test_a_map_without_an_end_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr("agent.rules.entries._MOST_EXTENTS", 1000)
    first = header(b"s", 512, b"S", _386=spans(0, 0, 0, 0, 0, 0, 0, 0), _482=b"\1", _483=b"%011o\0" % 512)
    block = spans(*[0, 0] * 21).ljust(504, b"\0") + b"\1" + bytes(7)
    entries = Entries(lambda _: None)
    entries.feed(first)
    for _ in range(50):
        entries.feed(block)
    assert entries.broken


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xff" * 512, "there is no header of a tar"),
        (archive({"a": b"x"})[:512].replace(b"a", b"b", 1), "there is no header of a tar"),
        (header(b"a", 0, _124=b"8" * 12), "an entry has no size"),
        (header(b"a", 0, _124=b"\x80" + b"\xff" * 11), "an entry has no size"),
        (bytes(512) + archive({"a": b"x"}), "there is no header of a tar"),
    ],
)
def test_what_is_no_tar_is_damage(data, why):
    kept, entries = read(data)
    assert why in entries.broken
    assert not kept.entries


def test_nothing_is_told_of_what_lies_behind_the_end():
    kept, entries = read(archive({"a": b"x"}) + archive({"b": b"y"}))
    assert kept.files == {"a": b"x"}
    assert not entries.broken


def test_folders_links_and_others_are_told_with_their_type():
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind in (
            ("d", tarfile.DIRTYPE),
            ("l", tarfile.SYMTYPE),
            ("h", tarfile.LNKTYPE),
            ("f", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "elsewhere"
            tar.addfile(info)
        tar.addfile(tarfile.TarInfo("p" * 120))
    kept, _ = read(made.getvalue())
    assert [entry.kind for entry in kept.entries] == ["5", "2", "1", "6", "x", "0"]


def test_a_tar_with_holes_in_it_is_read_as_if_they_were_zeros():
    data = archive({"a": bytes(100_000), "b": b"x" * 600 + bytes(70_000) + b"y" * 600, "c": b"z"})
    kept = Kept()
    entries = Entries(kept.take)
    at = 0
    while at < len(data):
        zeros = len(data) - at - len(data[at:].lstrip(b"\0"))
        if zeros > 1000:
            entries.hole(zeros)
            at += zeros
        else:
            entries.feed(data[at : at + 700])
            at += 700
    assert entries.ended
    assert {name: kept.files[name] for name in "abc"} == {
        "a": bytes(100_000),
        "b": b"x" * 600 + bytes(70_000) + b"y" * 600,
        "c": b"z",
    }


def test_a_hole_as_large_as_can_be_takes_no_time():
    kept = Kept()
    entries = Entries(kept.take)
    entries.feed(header(b"a", (1 << 62), _124=b"\x80" + (1 << 62).to_bytes(11)))
    entries.hole(1 << 62)
    entries.hole(1 << 62)
    assert entries.ended
    assert kept.ended == ["a"]
