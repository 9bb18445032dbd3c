"""Tell while a snapshot streams by whether it is whole, without unpacking it and without keeping it.

That of a collection is a GNU tar with each segment in a tar of its own, which servers leave without an end marker; see
lib/common/common/src/tar_ext.rs and lib/segment/src/segment/snapshot.rs of Qdrant. What is damaged is what the reader
of a server (the Rust crate `tar`) would refuse or would lose; what is merely unknown is noted.
"""

import re
from collections.abc import Callable

from agent.rules.entries import number
from agent.rules.gathered import ALONE, KNOWN, Gathered, path
from agent.rules.outline import ROOT_FILES, SHARD_FILES, Outline, where
from agent.rules.segment import LARGEST_KEPT, MARKS, Segment
from agent.rules.words import printable, size

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_LONGEST_NAME = 4096
_LARGEST = 1 << 63
_WORDS = re.compile(rb"\s*[ -~]{6,60}")
_SHARD = re.compile(r"([0-9]{1,9})/(.+)", re.DOTALL)
_ALONE = re.compile(rf"segments/.+|wal/.+|{'|'.join(map(re.escape, (*SHARD_FILES, *KNOWN)))}", re.DOTALL)
_TAR = re.compile(r"segments/[^/]+\.tar")
_STREAMED = re.compile(r"(segments/[^/]+)/files/(.+)", re.DOTALL)


class Walk:
    """A walk through one archive, which is fed with its bytes in pieces of any size.

    It costs next to nothing and keeps next to nothing: content is skipped by arithmetic, names are forgotten.

    Attributes:
        broken: why it cannot be whole, as soon as that is certain; a download can be ended then.
        size: bytes fed so far.
    """

    def __init__(self) -> None:
        self.broken = ""
        self.size = 0
        self._found = Gathered()
        # The bytes that count next: `_want` of them from offset `_goal` on, of which `_held` are there, go to `_then`.
        self._goal, self._want, self._held = 0, _BLOCK, bytearray()
        self._then: Callable[[bytes], None] = self._header
        self._next = 0
        self._zeros = 0
        # The entry that was begun last, the file of a segment in it, and the tar of that segment with its end.
        self._name = self._inner = ""
        self._long: str | None = None
        self._segment: Segment | None = None
        self._end = 0

    def feed(self, piece: memoryview | bytes) -> None:
        """Take the next bytes of the archive; nothing is raised, whatever they are."""
        start, self.size = self.size, self.size + len(piece)
        if self._goal >= self.size:
            return
        view = memoryview(piece)
        while not self.broken and (at := self._goal + len(self._held) - start) < len(view):
            self._held += view[at : at + self._want - len(self._held)]
            if len(self._held) == self._want:
                data, self._held = bytes(self._held), bytearray()
                self._then(data)

    def finish(self) -> Outline:
        """Say what the archive holds and whether it is whole; call it when there are no more bytes."""
        return self._found.outline(self.size, self.broken or self._cut(), where(self._name, self._inner))

    def _cut(self) -> str:
        """What the end lacks, in words; empty if it is as it should be."""
        held = bytes(self._held)
        if not self.size:
            return "is empty: 0 bytes"
        if not self._goal and b"\0" not in held:
            return _no_tar(held)
        if self._zeros > 1 and not self._segment:
            return "" if _ZEROS.startswith(held) else f"has data behind its end, after {size(self._goal)}"
        if self.size < self._next:
            return f"ends early after {size(self.size)}{' in ' if self._name else ''}{self._spot}"
        if self._segment or held or self._long is not None:
            return f"ends early after {size(self.size)}{', behind ' if self._name else ''}{self._spot}"
        if self._zeros:
            return f"has half an end marker: {_BLOCK} bytes are missing"
        return f"has no end marker: it was cut at an entry's boundary, after {size(self.size)}, behind {self._name}"

    @property
    def _spot(self) -> str:
        return f"{self._inner} of {self._name}" if self._inner else self._name

    def _damaged(self, what: str) -> None:
        self.broken = f"is damaged after {size(self._goal)}{' behind ' if self._name else ''}{self._spot}: {what}"

    def _read(self, want: int, then: Callable[[bytes], None]) -> None:
        """Have the `want` bytes behind this block given to `then`."""
        self._goal += _BLOCK
        self._want, self._then = want, then
        if not want:
            then(b"")

    def _go_on(self) -> None:
        """Skip what is left of this entry; the next header counts next."""
        segment = self._segment
        if segment and self._next > self._end:
            self._damaged("an entry of its tar reaches beyond the end of it")
            return
        self._goal, self._want, self._then = self._next, _BLOCK, self._header
        if segment and self._next == self._end:
            self._segment, self._inner, self._zeros = None, "", 0
            self._found.judge(segment)

    def _header(self, block: bytes) -> None:
        if block == _ZEROS or self._zeros:
            self._zero(block)
            return
        first = not self._found.entries
        stored, told = number(block[124:136]), number(block[148:156])
        if first and (block[257:262] != b"ustar" or told != _sum(block)):
            self.broken = _no_tar(block)
        elif told != _sum(block):
            self._damaged("there is no header of a tar")
        elif stored is None or stored >= _LARGEST:
            self._damaged("an entry has no size")
        else:
            self._found.entries += 1
            self._next = self._goal + _BLOCK + stored + -stored % _BLOCK
            self._entry(block, block[156:157], stored)

    def _zero(self, block: bytes) -> None:
        """Take a block of an end marker, or of what lies behind it."""
        if block != _ZEROS:
            self._damaged("there is data behind an end marker")
        elif self._long is not None:
            self._damaged("a long name belongs to no entry")
        else:
            self._zeros += 1
            self._next = self._goal + _BLOCK
            self._go_on()

    def _entry(self, block: bytes, kind: bytes, stored: int) -> None:
        if kind == b"L":
            if self._long is not None:
                self._damaged("two long names belong to one entry")
            else:
                self._read(min(stored, _LONGEST_NAME), self._long_name)
            return
        if kind in b"Kxg":
            self._found.note(f"has headers of kind {kind.decode()}, which servers do not write")
            self._go_on()
            return
        name = (_name(block) if self._long is None else self._long).removeprefix("./")
        self._long = None
        if self._segment:
            name = name.removeprefix("snapshot/").removeprefix("files/")
            self._inner = printable(name)[:200]
        else:
            self._name = self._found.last = printable(name)[:200]
        if kind == b"S":
            self._map(name, _Map(stored, number(block[483:495])), block[386:482], block[482])
        elif kind in b"0\0":
            self._file(name, stored)
        else:
            if kind != b"5":
                self._found.note(f"has entries of kind {printable(kind.decode('latin-1'))}, which servers refuse")
            elif not self._segment:
                self._found.folder(name)
            self._go_on()

    def _long_name(self, data: bytes) -> None:
        self._long = _text(data)
        self._go_on()

    def _map(self, name: str, known: "_Map", spans: bytes, more: int) -> None:
        """Take a part of the map of a file with holes: it has no checksum of its own, but has to add up."""
        if not known.add(spans) or not (more or known.whole):
            self._damaged("the map of a file with holes does not add up")
        elif more:
            self._next += _BLOCK
            self._read(_BLOCK, lambda block: self._map(name, known, block[:504], block[504]))
        else:
            self._file(name, None)

    def _file(self, name: str, stored: int | None) -> None:
        """Take a file of the archive or of a segment; `stored` is None for one with holes, which is not read."""
        if self._segment:
            self._part(self._segment, name, stored)
            return
        shard, rest = _place(name)
        if shard is not None:
            self._of_shard(shard, name, rest, stored)
            return
        self._found.leave()
        if stored is not None and name in ROOT_FILES:
            self._keep(name, stored)
        else:
            self._found.other(None, printable(name)[:200])
            self._go_on()

    def _of_shard(self, shard: int, name: str, rest: str, stored: int | None) -> None:
        """Take a file of a shard, which is called `rest` in it."""
        holding = self._found.shard(shard, rest)
        streamed = _STREAMED.fullmatch(rest)
        if not streamed:
            self._found.leave()
        if holding is None:
            self.broken = "has more shards than a collection can have"
        elif streamed:
            segment, new = self._found.enter(printable(path(shard, streamed[1]))[:200], streamed[2])
            holding.segments += new
            self._part(segment, streamed[2], stored)
        elif _TAR.fullmatch(rest):
            holding.segments += 1
            self._enter(stored)
        elif stored is not None and rest in SHARD_FILES:
            self._keep(name, stored)
        else:
            self._found.other(shard, printable(rest)[:200])
            self._go_on()

    def _enter(self, stored: int | None) -> None:
        if stored is None:
            self._found.unseen(self._name)
            self._go_on()
        elif not stored or stored % _BLOCK:
            self._damaged(f"{stored:,} bytes are no tar of a segment")
        else:
            self._segment, self._end = Segment(self._name), self._next
            self._goal += _BLOCK

    def _part(self, segment: Segment, name: str, stored: int | None) -> None:
        segment.see(name)
        if name in MARKS and stored is not None and stored <= LARGEST_KEPT:
            self._read(stored, lambda data: self._give(segment.keep, name, data))
        else:
            self._go_on()

    def _keep(self, name: str, stored: int) -> None:
        if name in self._found.kept:
            self._damaged(f"{name} is there twice")
        elif stored > LARGEST_KEPT or not self._found.room(stored):
            self.broken = f"{name} has {size(stored)}, too much for what it is"
        else:
            self._read(stored, lambda data: self._give(self._found.kept.__setitem__, name, data))

    def _give(self, take: Callable[[str, bytes], None], name: str, data: bytes) -> None:
        take(name, data)
        self._go_on()


class _Map:
    """The map of a file with holes, added up."""

    def __init__(self, stored: int, length: int | None) -> None:
        self._left, self._end, self._length = stored, 0, length

    @property
    def whole(self) -> bool:
        """Whether it covers all that is stored, and ends where the file does."""
        return not self._left and self._end == self._length

    def add(self, spans: bytes) -> bool:
        """Take the next pairs of start and length, 12 bytes each; false if they cannot be."""
        for at in range(0, len(spans), 24):
            if spans[at] and spans[at + 12]:
                start, length = number(spans[at : at + 12]), number(spans[at + 12 : at + 24])
                if start is None or length is None or start < self._end or length > self._left:
                    return False
                self._end, self._left = start + length, self._left - length
        return True


def _place(name: str) -> tuple[int | None, str]:
    """The shard that a file belongs to, and its name within that; None if it is the archive's own."""
    if found := _SHARD.fullmatch(name):
        return int(found[1]), found[2]
    return (ALONE if _ALONE.fullmatch(name) else None), name


def _sum(block: bytes) -> int:
    return sum(block) - sum(block[148:156]) + 8 * ord(" ")


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _name(block: bytes) -> str:
    folder = _text(block[345:500]) if block[257:265] == b"ustar\x0000" else ""
    return f"{folder}/{_text(block[:100])}" if folder else _text(block[:100])


def _no_tar(data: bytes) -> str:
    """What the beginning of something that is no tar looks like."""
    if data.startswith(b"\x1f\x8b"):
        return "is compressed with gzip, where a tar was expected"
    words = _WORDS.match(data)
    return f"does not begin as a GNU tar does{f', but with {words[0].decode().strip()}' if words else ''}"
