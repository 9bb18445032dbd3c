"""Where the entries of an archive lie, so that it can be cut at a place that is told."""

from collections.abc import Iterator
from io import BufferedReader

_BLOCK = 512


def first(file: BufferedReader) -> int:
    """Where the first entry ends: the engine loads what is before it, and finds nothing wrong and no points."""
    return next(entries(file))[1]


def boundary(file: BufferedReader) -> int:
    """Where the last but one of the entries starts: what is before it is a tar to every reader of tars."""
    return [*entries(file)][-2][0]


def middle(file: BufferedReader) -> int:
    """A place within the longest entry."""
    start, end = max(entries(file), key=lambda one: one[1] - one[0])
    return (start + end) // 2


def entries(file: BufferedReader) -> Iterator[tuple[int, int]]:
    """Yield where each entry of a GNU tar starts and ends."""
    at = 0
    while True:
        block = _block(file, at)
        if not block.strip(b"\0"):
            return
        data = at + _BLOCK
        more = block[156:157] == b"S" and block[482]
        while more:  # the map of a sparse file goes on in further blocks
            more = _block(file, data)[504]
            data += _BLOCK
        end = data + -(-_number(block[124:136]) // _BLOCK) * _BLOCK
        yield at, end
        at = end


def _block(file: BufferedReader, at: int) -> bytes:
    file.seek(at)
    return file.read(_BLOCK)


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.strip(b"\0 ") or b"0", 8)
