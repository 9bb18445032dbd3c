"""Decompress an archive as it is read, hand on what comes out, and tell whether the stream is whole.

By zlib and not by ISA-L, which is half as fast again and takes some damaged streams for whole that gunzip refuses.
"""

import importlib
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol

from agent.rules.archive import Stream
from agent.rules.words import count, size

HEAD = 4  # bytes of an archive that tell what it is

_CHUNK = 1 << 20
# A random snapshot begins with the first two bytes once in 65,536 times; gzip knows no method but the third.
_GZIP = b"\x1f\x8b\x08"
_MEMBER = _GZIP[:2]
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"  # behind a byte of 0x50 to 0x5f
_ZSTD_NAMES = (".zst", ".tzst")
# What a sound archive can ask for and not get: why it was not read then.
_TOO_MUCH = {
    "too much memory": "it needs more memory than the 128 MiB that zstd takes unasked",
    "Dictionary": "it was compressed with a dictionary",
}


# Takes a piece of the content, which it may not keep.
Content = Callable[[memoryview], None]


class Reader(Protocol):
    """The bytes of an archive that is being read."""

    def feed(self, data: memoryview, /) -> None:
        """Take the next bytes; never raises for what they are."""

    def finish(self) -> tuple[Stream, str]:
        """Tell what the stream was, and the decompressor's word where it was not complete."""


def reader(name: str, head: bytes, content: Content) -> Reader:
    """Who can read an archive of this name that begins with these bytes, and hand on what is in it."""
    if name.endswith(_ZSTD_NAMES):
        begins = len(head) > 1 and _ZSTD.startswith(head)
        skips = head[1:] == _SKIPPABLE and head[0] >> 4 == 5
        return _zstd(content) if begins or skips else Plain(content)
    return Gzip(content) if head and head[:3] == _GZIP[: max(len(head), 2)] else Plain(content)


def _zstd(content: Content) -> Reader:
    for module in ("compression.zstd", "backports.zstd"):  # the first is Python's own from 3.14 on
        try:
            return Zstd(importlib.import_module(module), content)
        except ImportError:
            continue
    return Unread("no zstd library is installed")


class Plain:
    """An archive that is not compressed."""

    def __init__(self, content: Content) -> None:
        self._content = content

    def feed(self, data: memoryview, /) -> None:
        """Hand on the next bytes."""
        self._content(data)

    def finish(self) -> tuple[Stream, str]:
        """Tell that nothing had to be decompressed."""
        return Stream.PLAIN, ""


class Unread:
    """A stream that cannot be read here, and why."""

    def __init__(self, why: str) -> None:
        self._why = why

    def feed(self, data: memoryview, /) -> None:
        """Take no notice."""

    def finish(self) -> tuple[Stream, str]:
        """Tell that it was not read."""
        return Stream.NOT_READ, self._why


class Gzip:
    """Members, one after the other, and zeros that fill up a tape's block."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._state = Stream.ENDED_EARLY
        self._why = ""
        self._member: zlib._Decompress | None = zlib.decompressobj(31)
        self._inflated = 0
        self._head = b""
        self._padded = False
        self._foreign = 0

    def feed(self, data: memoryview | bytes, /) -> None:
        """Take the next bytes; never raises for what they are."""
        while data and self._state is not Stream.DAMAGED:
            if self._member is None:
                data = self._next_member(bytes(data))
                continue
            try:
                piece = self._member.decompress(data, _CHUNK)
            except zlib.error as error:
                self._state, self._why = Stream.DAMAGED, _zlib_words(error, self._inflated)
                return
            self._inflated += len(piece)
            self._content(memoryview(piece))
            # At the end of a member its tail is left as it was, and is not to be taken again.
            if self._member.eof:
                data, self._member = self._member.unused_data, None
            else:
                data = self._member.unconsumed_tail

    def _next_member(self, data: bytes) -> bytes:
        # What follows a member is another member, or zeros that fill up a tape's block and end it all.
        if self._foreign:
            self._foreign += len(data)
            return b""
        data, self._head = self._head + data, b""
        rest = data.lstrip(b"\0")
        self._padded |= len(rest) < len(data)
        if not rest:
            return b""
        if rest == _MEMBER[:1] and not self._padded:
            self._head = rest
            return b""
        if rest[:2] != _MEMBER or self._padded:
            self._foreign = len(rest)
            return b""
        self._member = zlib.decompressobj(31)
        return rest

    def finish(self) -> tuple[Stream, str]:
        """Tell what the stream was, and the decompressor's word where it was not complete."""
        foreign = self._foreign or len(self._head)
        if self._state is Stream.DAMAGED:
            return self._state, self._why
        if foreign:
            return Stream.DAMAGED, _followed(foreign, "gzip")
        if self._member is None:
            return Stream.COMPLETE, ""
        return Stream.ENDED_EARLY, _no_end(self._inflated)


class Zstd:
    """Frames, one after the other, those to be skipped among them."""

    def __init__(self, module: ModuleType, content: Content) -> None:
        self._module = module
        self._content = content
        self._state: Stream | None = None
        self._why = ""
        self._frame: Any = None
        self._taken = self._inflated = self._foreign = 0

    def feed(self, data: memoryview | bytes, /) -> None:
        """Take the next bytes; never raises for what they are."""
        if self._foreign:
            self._foreign += len(data)
        while self._state is None and not self._foreign and (data or self._pending):
            if self._frame is None:
                self._frame, self._taken = self._module.ZstdDecompressor(), 0
            self._taken += len(data)
            try:
                piece = self._frame.decompress(data, _CHUNK)
            except self._module.ZstdError as error:
                self._fail(str(error).rpartition(": ")[2])
                return
            self._inflated += len(piece)
            self._content(memoryview(piece))
            data = b""
            if self._frame.eof:
                data, self._frame = self._frame.unused_data, None

    @property
    def _pending(self) -> bool:
        """Whether there is more to come of what was taken already."""
        return self._frame is not None and not self._frame.needs_input

    def _fail(self, text: str) -> None:
        if text.startswith("Unknown frame"):
            self._foreign = self._taken
            return
        unable = next((why for word, why in _TOO_MUCH.items() if word in text), "")
        self._state = Stream.NOT_READ if unable else Stream.DAMAGED
        self._why = unable or f"{text[:1].lower()}{text[1:]} after {size(self._inflated)} of content"

    def finish(self) -> tuple[Stream, str]:
        """Tell what the stream was, and the decompressor's word where it was not complete."""
        if self._state is not None:
            return self._state, self._why
        if self._foreign:
            return Stream.DAMAGED, _followed(self._foreign, "zstd")
        if self._frame is None:
            return Stream.COMPLETE, ""
        return Stream.ENDED_EARLY, _no_end(self._inflated)


def _no_end(inflated: int) -> str:
    return f"no end after {size(inflated)} of content"


def _followed(foreign: int, form: str) -> str:
    return f"its end is followed by {count(foreign, 'byte')} that cannot be {form}"


def _zlib_words(error: zlib.error, inflated: int) -> str:
    text = str(error).rpartition(": ")[2]
    return f"{text} after {size(inflated)} of content"
