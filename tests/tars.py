"""Snapshots made by hand: small, whole, and as damaged as asked."""

import json
import tarfile
from collections.abc import Iterable, Iterator
from typing import Any

UUID, OTHER = "0b5a3c1e-4b7d-4f60-9f53-5d1f7c9a2e11", "f2c4d8aa-1f0e-4a57-8c1b-6a9d3e5b7c22"
STATE = {"is_local": True, "this_peer_id": 7, "peers": {"7": "Active"}}
AWAY = {"is_local": False, "this_peer_id": 7, "peers": {"8": "Active", "9": "Dead"}}
END = bytes(1024)
Entry = tuple[str, bytes]

# The files of a segment, of which only those are looked for that its description asks for; this one asks for none.
SERVED = [("vector_storage/matrix.dat", b"v" * 1300), ("segment.json", b"{}"), ("version.info", b"0.6.0")]


def entry(name: str, data: bytes = b"", kind: bytes = b"0", form: int = tarfile.GNU_FORMAT) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = len(data), kind
    return info.tobuf(form) + data + bytes(-len(data) % 512)


def tar(entries: Iterable[Entry]) -> bytes:
    return b"".join(entry(name, data) for name, data in entries)


def segment(*, end: bytes = b"", without: str = "", more: Iterable[Entry] = ()) -> bytes:
    """A segment's tar as a server makes it: without an end marker."""
    return tar([*more, *((f"snapshot/files/{name}", data) for name, data in SERVED if name != without)]) + end


def streamed(*files: Entry, segment: str = UUID, shard: str = "0/") -> list[Entry]:
    """A segment as the stream of a shard has it: its files are entries of the archive itself."""
    return [(f"{shard}segments/{segment}/files/{name}", data) for name, data in files]


def shard(number: int, *tars: bytes, state: dict[str, Any] | None = None) -> list[Entry]:
    state = state or STATE
    names = (UUID, OTHER)
    local: list[Entry] = [(f"{number}/segments/{name}.tar", one) for name, one in zip(names, tars, strict=False)]
    local += [(f"{number}/wal/open-1", b"wal"), (f"{number}/applied_seq.json", b"{}")] if state["is_local"] else []
    return [
        *local,
        (f"{number}/replica_state.json", json.dumps(state).encode()),
        (f"{number}/shard_config.json", b'{"type":"ReplicaSet"}'),
    ]


def root(mapping: Any = (), **params: Any) -> list[Entry]:
    return [
        ("version.info", b"0.4.2"),
        ("config.json", json.dumps({"params": {"shard_number": 1, **params}}).encode()),
        ("shard_key_mapping.json", json.dumps(mapping).encode()),
        ("payload_index.json", b'{"schema":{}}'),
    ]


def collection(*segments: bytes) -> bytes:
    """A whole snapshot of a collection with one shard."""
    return tar([*shard(0, *(segments or (segment(),))), *root()]) + END


def alone(*entries: Entry) -> bytes:
    """A whole snapshot of a shard with these segments."""
    rest = [("wal/closed-1", b""), ("replica_state.json", json.dumps(STATE).encode()), ("shard_config.json", b"{}")]
    return tar(entries) + entry("wal", b"", b"5") + tar(rest) + END


def headers(data: bytes) -> Iterator[int]:
    """Where the headers of an archive are, with those of the segments' tars."""
    at = 0
    while at < len(data) and data[at : at + 512].strip(b"\0"):
        yield at
        size = int(data[at + 124 : at + 135], 8)
        inside = data[at : at + 100].partition(b"\0")[0].endswith(b".tar")
        at += 512 if inside else 512 + size + -size % 512
