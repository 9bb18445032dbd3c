"""A file over HTTP as actix-files sends it: whole or in part, compressed where offered, and spoilt where told."""

import os
import re
import socket
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from email.utils import formatdate
from io import BufferedReader
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct

from standin import archive
from standin.answers import Dropped, head
from standin.faults import Fault, Faults

KINDS = ("slow", "drop", "stall", "cut", "corrupt", "bare", "etag")
_TOUCHED = {"slow", "drop", "stall", "corrupt"}
_PIECE = 1 << 16
_TICK = 0.02


class Download(Struct, frozen=True):
    """An answer with bytes `start` up to `end` of a file.

    Attributes:
        status: 200 or 206, or 304, 412 or 416 without a body.
        headers: all of them.
        spoilt: what is wrong with it, by kind.
    """

    status: int
    headers: dict[str, str]
    start: int
    end: int
    spoilt: Mapping[str, Fault]


def prepare(file: BufferedReader, asked: Mapping[str, str], spoilt: Mapping[str, Fault]) -> Download:
    """Decide what goes back."""
    size = _visible(file, spoilt.get("cut"))
    name = Path(file.name).name
    filename = f'filename="{name}"'
    if not name.isascii():
        filename += f"; filename*=UTF-8''{quote(name, safe='').replace('-', '%2D').replace('.', '%2E')}"
    headers = {"content-type": "application/octet-stream", "content-disposition": f"attachment; {filename}"}
    if "bare" in spoilt:
        return Download(200, headers | {"transfer-encoding": "chunked"}, 0, size, spoilt)
    headers |= _identity(file, spoilt)
    start, end, status = _range(asked, size)
    if "range" in asked:
        headers["content-range"] = f"bytes */{size}" if status == 416 else f"bytes {start}-{end - 1}/{size}"
        if "accept-encoding" in asked and status != 416:
            headers["content-encoding"] = "identity"
    if status != 416 and asked.get("if-match", "*") not in {"*", headers["etag"]}:
        status = 412
    elif status != 416 and asked.get("if-none-match") == headers["etag"]:
        status = 304
    if status in {412, 416}:
        headers["content-length"] = "0"
    elif status == 200 and "gzip" in asked.get("accept-encoding", ""):
        headers |= {"transfer-encoding": "chunked", "content-encoding": "gzip", "vary": "accept-encoding"}
    elif "cut" in spoilt and spoilt["cut"].chunked:
        headers["transfer-encoding"] = "chunked"
    elif status != 304:
        headers["content-length"] = str(end - start)
    return Download(status, headers, start, end, spoilt)


def send(
    download: Download, file: BufferedReader, connection: socket.socket, faults: Faults, dying: threading.Event
) -> None:
    """Send it.

    Raises:
        Dropped: the connection has to be closed now.
    """
    connection.sendall(head(download.status, download.headers))
    if download.status not in {200, 206}:
        return
    whole = not download.spoilt.keys() & _TOUCHED
    if whole and "content-length" in download.headers:
        if download.end > download.start:
            connection.sendfile(file, download.start, download.end - download.start)
        return
    pieces = _pieces(download, file, faults, dying)
    if download.headers.get("content-encoding") == "gzip":
        pieces = _compressed(pieces)
    if "transfer-encoding" in download.headers:
        pieces = _chunked(pieces)
    for piece in pieces:
        connection.sendall(piece)


def _identity(file: BufferedReader, spoilt: Mapping[str, Fault]) -> dict[str, str]:
    facts = os.fstat(file.fileno())
    seconds, nanoseconds = divmod(facts.st_mtime_ns, 1_000_000_000)
    last = os.urandom(4).hex() if "etag" in spoilt else f"{nanoseconds:x}"
    return {
        "accept-ranges": "bytes",
        "etag": f'"{facts.st_ino:x}:{facts.st_size:x}:{seconds:x}:{last}"',
        "last-modified": formatdate(seconds, usegmt=True),
    }


def _range(asked: Mapping[str, str], size: int) -> tuple[int, int, int]:
    """The first range that is asked for, and the status."""
    if "range" not in asked:
        return 0, size, 200
    match = re.fullmatch(r"bytes=(\d*)-(\d*)(,.*)?", asked["range"])
    if match is None or not (match[1] or match[2]) or (match[1] and int(match[1]) >= size):
        return 0, 0, 416
    if not match[1]:
        return max(0, size - int(match[2])), size, 206
    return int(match[1]), min(size, int(match[2]) + 1) if match[2] else size, 206


def _pieces(download: Download, file: BufferedReader, faults: Faults, dying: threading.Event) -> Iterator[bytes]:
    """Yield the body at its pace, with its damage."""
    spoilt = download.spoilt
    slow, corrupt = spoilt.get("slow"), spoilt.get("corrupt")
    last = spoilt.get("drop") or spoilt.get("stall")
    piece = max(1, min(_PIECE, int(slow.rate * _TICK))) if slow else _PIECE
    stop = min(download.end, download.start + last.after) if last else download.end
    at = download.start
    file.seek(at)
    while at < stop:
        data = file.read(min(piece, stop - at))
        if corrupt and at <= corrupt.after < at + len(data):
            spot = corrupt.after - at
            data = data[:spot] + bytes([data[spot] ^ 0x20]) + data[spot + 1 :]
        yield data
        at += len(data)
        if slow:
            faults.pause(len(data) / slow.rate, dying)
    if "stall" in spoilt:
        faults.pause(spoilt["stall"].seconds, dying)
    if last:
        raise Dropped


def _compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    squeeze = zlib.compressobj(1, wbits=31)
    for piece in pieces:
        yield squeeze.compress(piece)
    yield squeeze.flush()


def _chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        if piece:  # an empty chunk is the end
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def _visible(file: BufferedReader, cut: Fault | None) -> int:
    """How long the file seems to be."""
    if cut is None:
        return os.fstat(file.fileno()).st_size
    match cut.at:
        case "first":
            return archive.first(file)
        case "entry":
            return archive.boundary(file)
        case "middle":
            return archive.middle(file)
    return min(os.fstat(file.fileno()).st_size, cut.after)
