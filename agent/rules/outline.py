"""What a walk through an archive shows of the snapshot in it."""

import re

from msgspec import Struct

from agent.rules.archive import Form
from agent.rules.words import count

ROOT_FILES = ("version.info", "config.json", "shard_key_mapping.json", "payload_index.json")
SHARD_FILES = ("replica_state.json", "shard_config.json")
COLLECTION, SHARD, STORAGE = "collection", "shard", "storage"

_PLACE = re.compile(r"(?:([0-9]{1,9})/)?(?:segments/([^/]+?)(?:\.tar)?(?:/(?:files/)?(.*))?|(.+))", re.DOTALL)


class Shard(Struct, frozen=True):
    """One shard as its own files describe it.

    Attributes:
        id: number of the shard; 0 in the snapshot of a single shard, which does not tell its number.
        local: whether its data were on the server, and so are in the archive.
        segments: how many are in the archive.
        wal: whether files of its write-ahead log are in the archive.
        peer: the server that made the snapshot; 0 where its files do not say.
        replicas: (peer, state) of each replica, such as Active, Dead or Partial.
    """

    id: int
    local: bool
    segments: int
    wal: bool
    peer: int
    replicas: tuple[tuple[int, str], ...]


class Where(Struct, frozen=True):
    """Which part of a snapshot is damaged or missing, as far as that can be told; names are in printable form.

    Attributes:
        shard: its number; None where none is concerned, or where it is the only one.
        segment: its id.
        file: its name within the segment, the shard or the archive.
    """

    shard: int | None = None
    segment: str = ""
    file: str = ""


class Outline(Struct, frozen=True):
    """What a walk through one archive showed.

    Attributes:
        form: whether the archive is a whole snapshot, a broken one, or none.
        kind: of what it is a snapshot: `COLLECTION`, `SHARD` or, not looked into, `STORAGE`; empty if it is none.
        why: what it lacks to be a whole snapshot of a collection; or, when it is one, what it holds.
        where: where that is.
        size: bytes of the archive.
        entries: how many the archive and the segments' tars have together.
        shards: every shard that the archive names, by number; of one peer of a cluster not all of them are local.
        version: format of the collection, such as 0.4.2; it is not the server's version.
        config: `config.json`, the collection's configuration.
        shard_key_mapping: `shard_key_mapping.json`.
        payload_index: `payload_index.json`.
        notes: what was not understood or is worth knowing, and proves no damage.
    """

    form: Form
    kind: str
    why: str
    where: Where = Where()
    size: int = 0
    entries: int = 0
    shards: tuple[Shard, ...] = ()
    version: str = ""
    config: bytes | None = None
    shard_key_mapping: bytes | None = None
    payload_index: bytes | None = None
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the archive is a whole snapshot of a collection."""
        return self.form is Form.SNAPSHOT and self.kind == COLLECTION

    @property
    def words(self) -> str:
        """What was found in the archive, for people; it is a whole snapshot, or else they are told why not."""
        if self.form is Form.SNAPSHOT and self.kind == SHARD:
            return f"a whole snapshot of a shard: {count(self.segments, 'segment')}"
        if self.kind == STORAGE:
            return "a snapshot of a whole server, which was not looked into"
        return f"no Qdrant snapshot was found in it: {self.why}" if self.form is Form.OTHER else self.why

    @property
    def segments(self) -> int:
        """How many segments there are in all shards."""
        return sum(shard.segments for shard in self.shards)

    @property
    def local(self) -> tuple[int, ...]:
        """Numbers of the shards whose data are in the archive."""
        return tuple(shard.id for shard in self.shards if shard.local)


def where(entry: str, inner: str = "") -> Where:
    """Which part an entry of the archive belongs to; `inner` is a file in the tar of a segment."""
    found = _PLACE.fullmatch(entry)
    if found is None:
        return Where(file=inner)
    shard = int(found[1]) if found[1] else None
    return Where(shard, found[2] or "", inner or found[3] or found[4] or "")
