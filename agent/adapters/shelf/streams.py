"""Decompress an archive as it is read, and tell whether it is whole; what comes out is thrown away."""

import importlib
import zlib
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


class Reader(Protocol):
    """A compressed stream that is being read."""

    def feed(self, data: memoryview, /) -> None:
        """Take the next bytes; never raises for what they are."""

    def finish(self) -> tuple[Stream, str]:
        """Tell what the stream was, and the decompressor's word where it was not complete."""


def reader(name: str, head: bytes) -> Reader | None:
    """Who can read an archive of this name that begins with these bytes; None when it is not compressed."""
    if name.endswith(_ZSTD_NAMES):
        begins = len(head) > 1 and _ZSTD.startswith(head)
        skips = head[1:] == _SKIPPABLE and head[0] >> 4 == 5
        return _zstd() if begins or skips else None
    return Gzip() if head[:3] == _GZIP[: max(len(head), 2)] else None


def _zstd() -> Reader:
    for module in ("compression.zstd", "backports.zstd"):  # the first is Python's own from 3.14 on
        try:
            return Zstd(importlib.import_module(module))
        except ImportError:
            continue
    return Unread("no zstd library is installed")


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

    def __init__(self) -> None:
        self._state = Stream.ENDED_EARLY
        self._why = ""
        self._member: zlib._Decompress | None = zlib.decompressobj(31)
        self._inflated = 0
        self._head = b""
        self._padded = False
        self._foreign = 0

    def feed(self, data: memoryview | bytes, /) -> None:
        """Take the next bytes; never raises for what they are."""
        if self._state is Stream.DAMAGED:
            return
        try:
            self._feed(data)
        except zlib.error as error:
            self._state, self._why = Stream.DAMAGED, _zlib_words(error, self._inflated)

    def _feed(self, data: memoryview | bytes) -> None:
        while data:
            if self._member is None:
                data = self._next_member(bytes(data))
                continue
            self._inflated += len(self._member.decompress(data, _CHUNK))
            while self._member.unconsumed_tail:
                self._inflated += len(self._member.decompress(self._member.unconsumed_tail, _CHUNK))
            if not self._member.eof:
                return
            data, self._member = self._member.unused_data, None

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

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._state: Stream | None = None
        self._why = ""
        self._frame: Any = None
        self._taken = self._inflated = self._foreign = 0

    def feed(self, data: memoryview | bytes, /) -> None:
        """Take the next bytes; never raises for what they are."""
        if self._foreign:
            self._foreign += len(data)
        if self._state is not None or self._foreign:
            return
        try:
            while data:
                data = self._feed(data)
        except self._module.ZstdError as error:
            self._fail(str(error).rpartition(": ")[2])

    def _feed(self, data: memoryview | bytes) -> bytes:
        """Take the next bytes of the frame, and give back what follows it."""
        if self._frame is None:
            self._frame, self._taken = self._module.ZstdDecompressor(), 0
        self._taken += len(data)
        self._inflated += len(self._frame.decompress(data, _CHUNK))
        while not (self._frame.needs_input or self._frame.eof):
            self._inflated += len(self._frame.decompress(b"", _CHUNK))
        if not self._frame.eof:
            return b""
        rest: bytes = self._frame.unused_data
        self._frame = None
        return rest

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
