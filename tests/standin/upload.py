"""Bodies that are too large for memory: the archive of an upload goes to disk as it comes."""

import mmap
import re
from collections.abc import Iterator, Mapping
from io import BufferedIOBase
from pathlib import Path

from standin.answers import Dropped
from standin.faults import Fault

_PIECE = 1 << 20


def body(stream: BufferedIOBase, headers: Mapping[str, str]) -> Iterator[bytes]:
    """Yield the body of a request, with a length or in chunks."""
    if "chunked" not in headers.get("transfer-encoding", ""):
        yield from _exactly(stream, int(headers.get("content-length", 0)))
        return
    while size := int(stream.readline().partition(b";")[0], 16):
        yield from _exactly(stream, size)
        stream.readline()
    while stream.readline().strip():
        pass


def _exactly(stream: BufferedIOBase, size: int) -> Iterator[bytes]:
    while size:
        piece = stream.read(min(size, _PIECE))
        if not piece:
            raise Dropped
        size -= len(piece)
        yield piece


def receive(pieces: Iterator[bytes], spool: Path, spoilt: Mapping[str, Fault]) -> None:
    """Write a body to disk.

    Raises:
        Dropped: the connection ended, or is to end in the middle.
    """
    arrived = 0
    with spool.open("wb") as file:
        for piece in pieces:
            file.write(piece)
            arrived += len(piece)
            if "drop" in spoilt and arrived > spoilt["drop"].after:
                raise Dropped


def extract(spool: Path, kind: str, target: Path) -> str | None:
    """Move the form's field `snapshot` to `target` and return its file's name, or None if there is no such field."""
    boundary = re.search(r'boundary="?([^";]+)"?', kind)
    if boundary is None or not spool.stat().st_size:
        return None
    mark = b"--" + boundary[1].encode()
    with spool.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as form:
        at = form.find(mark)
        while at >= 0:
            start = form.find(b"\r\n\r\n", at) + 4
            end = form.find(b"\r\n" + mark, start)
            about = form[at:start].decode()
            if end >= 0 and re.search(r'name="?snapshot"?[;\r]', about):
                form.seek(start)
                with target.open("wb") as out:
                    for piece in _exactly(form, end - start):  # type: ignore[arg-type]  # it reads as files do
                        out.write(piece)
                name = re.search(r'filename="([^"]*)"', about)
                return Path(name[1]).name if name else target.name
            at = form.find(mark, start) if end < 0 else end + 2
            if form[at + len(mark) : at + len(mark) + 2] == b"--":
                return None
    return None
