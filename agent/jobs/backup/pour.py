"""One stream into a file in every location, in one pass: hashed, compressed, hashed again, written, read back.

The caller's thread reads and hashes what comes in, a second compresses it, a third hashes what goes out, and each
location has one more that writes its file and reads it back. What lies between them is fixed in number and size.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable
from functools import partial
from typing import Protocol

from msgspec import Struct

from agent.adapters import press
from agent.adapters.press import Compressor, Squeeze
from agent.adapters.shelf import direct
from agent.adapters.shelf.write import Permissions
from agent.errors import AgentError
from agent.jobs.backup.flow import Belt, Block, Blocks, Flow
from agent.jobs.backup.places import Places

_BUFFERS = 4
_BLOCKS = 3
_PIECES_IN_A_BLOCK = 2


class Stream(Protocol):
    """Where the bytes come from."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the beginning of the buffer, and tell with how many bytes; 0 at the end."""


class Written(Struct, frozen=True):
    """What went in (`raw_*`) and what lies on the disks now; sizes in bytes."""

    raw_size: int
    raw_sha256: str
    size: int
    sha256: str


def pour(
    stream: Stream,
    places: Places,
    name: str,
    squeeze: Squeeze,
    permissions: Permissions,
    *,
    confirm: Callable[[int, str], None] = lambda _size, _sha256: None,
    piece: int = 1 << 20,
) -> Written:
    """Compress a stream into the file `name` of every location; each is there whole and matched, or not at all.

    A location that fails drops out, and the others go on. Memory is some twelve pieces, whatever the stream's length.

    Args:
        stream: is read until its end, or until something fails and it returns.
        places: the folders.
        name: the file's name, which must be new in each of them.
        squeeze: how it is compressed.
        permissions: mode and owner of the files.
        confirm: hears size and SHA-256 of the whole stream before any file counts; when it raises, none does.
        piece: bytes taken at a time, a multiple of 4,096.

    Raises:
        CannotWrite: no location is left to write to.
        BadConfig: there is no library for this compression.
        AgentError: what the stream or `confirm` raised.
    """
    flow = Flow()
    empty, full = Belt[memoryview](flow), Belt[tuple[memoryview, int]](flow)
    for buffer in direct.memory(_BUFFERS, piece):
        empty.put(buffer)
    folders = places.left()
    belts = [Belt[Block](flow) for _ in range(1 + len(folders))]
    blocks = Blocks(flow, direct.memory(_BLOCKS, piece * _PIECES_IN_A_BLOCK), direct.checksum(), belts)
    incoming, outgoing = _Digest(), _Digest()
    parts = {
        "press": partial(_press, full, empty, press.compressor(squeeze), blocks),
        "digest": partial(_hash, belts[0], outgoing),
    }
    whole: list[str] = []
    buffers = direct.memory(len(folders), piece)
    for (location, folder), belt, buffer in zip(folders.items(), belts[1:], buffers, strict=True):
        file = partial(direct.new_file, os.path.join(folder, name), permissions, buffer)
        parts[f"location {location}"] = partial(_keep, belt, file, places, location, whole)

    def main() -> None:
        _read(stream, flow, empty, full, incoming)
        confirm(incoming.size, incoming.sha256)
        full.end()

    try:
        flow.run(parts, main)
        places.left()
    except BaseException:
        for path in whole:
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise
    return Written(incoming.size, incoming.sha256, outgoing.size, outgoing.sha256)


def _read(
    stream: Stream, flow: Flow, empty: Belt[memoryview], full: Belt[tuple[memoryview, int]], digest: "_Digest"
) -> None:
    """Take the stream in whole pieces, so that the same content gives the same archive however it comes."""
    while True:
        buffer, filled = empty.get(), 0
        while filled < len(buffer):
            got = stream.readinto(buffer[filled:])
            flow.check()
            if not got:
                break
            digest.add(buffer[filled : filled + got])
            filled += got
        full.put((buffer, filled))
        if filled < len(buffer):
            return


def _press(full: Belt[tuple[memoryview, int]], empty: Belt[memoryview], compressor: Compressor, blocks: Blocks) -> None:
    for buffer, filled in full:
        ready = compressor.compress(buffer[:filled])
        empty.put(buffer)
        blocks.add(ready)
    blocks.add(compressor.flush())
    blocks.end()


def _hash(belt: Belt[Block], digest: "_Digest") -> None:
    for block in belt:
        digest.add(block.content)
        block.give_back()


def _keep(
    belt: Belt[Block],
    new_file: Callable[[], contextlib.AbstractContextManager[direct.Matched]],
    places: Places,
    location: str,
    whole: list[str],
) -> None:
    """Write one location's file, and read it back whenever nothing is to be written."""
    try:
        with new_file() as file:
            for block in belt:
                try:
                    file.append(block.content, block.crc)
                finally:
                    block.give_back()
                while belt.idle() and file.look_back():
                    pass
        whole.append(file.path)
    except AgentError as error:
        places.fail(location, type(error)(error.message, error.hint))  # its traceback would keep every buffer
        places.left()
        for block in belt:
            block.give_back()  # the other locations go on, and need its memory


class _Digest:
    """Length and SHA-256 of what went by."""

    def __init__(self) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()

    def add(self, data: memoryview) -> None:
        self._sha256.update(data)
        self.size += len(data)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()
