"""Take a GNU tar apart while it streams by: its entries, and where in each file the bytes belong.

What servers write is meant (lib/common/common/src/tar_ext.rs of Qdrant): files, files with holes in the old GNU way,
folders, long names.
"""

import re
from array import array
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from agent.rules.words import printable, size

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_LONGEST_NAME = 4096
_MOST_EXTENTS = 1 << 20
_LARGEST = 1 << 63
_OCTAL = re.compile(rb" *([0-7]*) *")


class Entry(Struct, frozen=True):
    """One entry: its name as it stands there, its type (`0` is a file, `5` a folder), and its size, holes included."""

    name: str
    kind: str
    size: int


class Sink(Protocol):
    """Takes the content of one file."""

    def data(self, at: int, piece: memoryview) -> None:
        """Take bytes that belong at the offset `at`, which only grows; what is left out are holes."""

    def end(self) -> None:
        """There is no more of it; not called where the tar ends within it."""


class Entries:
    """A reader of one tar, which is fed with its bytes in pieces of any size.

    Attributes:
        broken: why it cannot go on; what is fed then is ignored.
        ended: whether its end marker was there; what is fed then is ignored, too.
        inside: name of the entry whose content comes next; empty between entries.
    """

    def __init__(self, take: Callable[[Entry], Sink | None]) -> None:
        self.broken = ""
        self.ended = False
        self.inside = ""
        self._take = take
        self._fed = 0
        self._held = bytearray()
        self._then: Callable[[bytes], None] = self._header
        self._long: str | None = None
        self._zero = False
        self._sink: Sink | None = None
        # Of the content: the spans still to come, the rest of the first of them, and what stands behind them all.
        self._spans, self._next = array("Q"), 0
        self._at = self._rest = self._padding = 0

    @property
    def clean(self) -> bool:
        """Whether it could end here: it is not within an entry."""
        return not (self.broken or self.inside or self._held or self._long is not None)

    def feed(self, piece: memoryview | bytes) -> None:
        """Take the next bytes."""
        view = memoryview(piece)
        while view and not self.broken and not self.ended:
            if self._rest or self._padding:
                done = self._content(view)
            else:
                done = min(len(view), _BLOCK - len(self._held))
                self._held += view[:done]
            self._fed += done
            view = view[done:]
            if len(self._held) == _BLOCK:
                block = bytes(self._held)
                self._held.clear()
                self._then(block)

    def hole(self, length: int) -> None:
        """Take so many zeros."""
        while length > 0 and not self.broken and not self.ended:
            if self._rest or self._padding:
                done = min(length, self._rest or self._padding)
                self._fed += done
                self._pass(done)
            else:
                done = min(length, _BLOCK - len(self._held))
                self.feed(bytes(done))
            length -= done

    def _content(self, view: memoryview) -> int:
        done = min(len(view), self._rest or self._padding)
        if self._rest and self._sink:
            self._sink.data(self._at, view[:done])
        self._pass(done)
        return done

    def _pass(self, length: int) -> None:
        """Leave so many bytes of one span, or of the padding, behind."""
        if not self._rest:
            self._padding -= length
            return
        self._at += length
        self._rest -= length
        self._go_on()

    def _go_on(self) -> None:
        """Go to the next span that holds anything; behind the last one is the end of the content."""
        while not self._rest and self._next < len(self._spans):
            self._at, self._rest = self._spans[self._next], self._spans[self._next + 1]
            self._next += 2
        if self._rest:
            return
        sink, self._sink, self.inside = self._sink, None, ""
        if sink:
            sink.end()

    def _damaged(self, what: str) -> None:
        self.broken = f"is damaged after {size(self._fed)}: {what}"

    def _header(self, block: bytes) -> None:
        if block == _ZEROS:
            self.ended, self._zero = self._zero, True
            return
        stored = number(block[124:136])
        if self._zero or number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * ord(" "):
            self._damaged("there is no header of a tar")
        elif stored is None or stored >= _LARGEST:
            self._damaged("an entry has no size")
        else:
            self._entry(block, block[156:157].replace(b"\0", b"0").decode("latin-1"), stored)

    def _entry(self, block: bytes, kind: str, stored: int) -> None:
        if kind == "L":
            self._begin("a long name", _Name(self._named), array("Q", (0, stored)), stored)
            return
        name = _name(block) if self._long is None else self._long
        if kind == "S":
            self._map(name, _Map(stored, number(block[483:495])), block[386:482], block[482])
        else:
            self._found(Entry(name, kind, stored), array("Q", (0, stored)), stored)

    def _named(self, name: str) -> None:
        self._long = name

    def _map(self, name: str, known: "_Map", pairs: bytes, more: int) -> None:
        """Take a part of the map of a file with holes: it has no checksum of its own, but has to add up."""
        if not known.add(pairs) or not (more or known.whole):
            self._damaged("the map of a file with holes does not add up")
        elif more:
            self._then = lambda block: self._map(name, known, block[:504], block[504])
        else:
            self._then = self._header
            self._found(Entry(name, "0", known.end), known.spans, known.stored)

    def _found(self, entry: Entry, spans: "array[int]", stored: int) -> None:
        self._long = self._long if entry.kind in "Kxg" else None
        self._begin(printable(entry.name)[:200] or "an entry without a name", self._take(entry), spans, stored)

    def _begin(self, name: str, sink: Sink | None, spans: "array[int]", stored: int) -> None:
        self.inside, self._sink = name, sink
        self._spans, self._next = spans, 0
        self._padding = -stored % _BLOCK
        self._go_on()


class _Name:
    """Takes a long name."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._held = b""

    def data(self, at: int, piece: memoryview) -> None:
        self._held += piece[: max(0, _LONGEST_NAME - at)]

    def end(self) -> None:
        self._tell(_text(self._held))


class _Map:
    """The map of a file with holes: where its content belongs, as pairs of start and length."""

    def __init__(self, stored: int, length: int | None) -> None:
        self.stored = stored
        self.spans = array("Q")
        self.end = 0
        self._left, self._length = stored, length

    @property
    def whole(self) -> bool:
        """Whether it covers all that is stored, and ends where the file does."""
        return not self._left and self.end == self._length

    def add(self, pairs: bytes) -> bool:
        """Take the next pairs, 12 bytes each number; false if they cannot be."""
        for at in range(0, len(pairs), 24):
            if pairs[at] and pairs[at + 12]:
                start, length = number(pairs[at : at + 12]), number(pairs[at + 12 : at + 24])
                if start is None or length is None or start < self.end or length > self._left:
                    return False
                self.end, self._left = start + length, self._left - length
                self.spans.extend((start, length))
        return self.end < _LARGEST and len(self.spans) <= 2 * _MOST_EXTENTS


def number(field: bytes) -> int | None:
    """A number in a header: octal, or binary where it is too large for that; None if it is neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    digits = _OCTAL.fullmatch(field.partition(b"\0")[0])
    return int(digits[1] or b"0", 8) if digits else None


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _name(block: bytes) -> str:
    folder = _text(block[345:500]) if block[257:265] == b"ustar\x0000" else ""
    return f"{folder}/{_text(block[:100])}" if folder else _text(block[:100])
