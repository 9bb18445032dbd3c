"""What can be rehearsed: each collection of each backup, with the archives that it takes and where these lie."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct

from agent.rules.archive import BAD
from agent.rules.cluster import is_active
from agent.rules.facts import Archive, Folder, Stock
from agent.rules.manifest import CollectionEntry, Manifest
from agent.rules.scorecard import UNPLANNED, stem
from agent.rules.words import printable

# A location, and a folder in it.
Spot = tuple[str, str]


class Piece(Struct, frozen=True, kw_only=True):
    """One archive of a subject.

    Attributes:
        file: its name, in printable form; the same in every location.
        spots: where copies lie that are not known to be bad, the one to be read first first.
        bad: what is wrong with the other copies, in words.
        sha256: of the file, as it was promised or read; empty if neither.
        size: of the file, bytes; 0 if that is not known.
        raw_size: of the snapshot in it, bytes; None if that is not known.
        shards: those that are opened; empty for all that are in it.
    """

    file: str
    spots: tuple[Spot, ...]
    bad: tuple[str, ...] = ()
    sha256: str = ""
    size: int = 0
    raw_size: int | None = None
    shards: tuple[int, ...] = ()


class Subject(Struct, frozen=True, kw_only=True):
    """One collection of one backup.

    Attributes:
        collection: its name; of an archive without a manifest its file's, without dates and endings.
        backup: id of the backup; of an archive without a manifest its file's name.
        tier: of the backup.
        taken: when it was made, epoch seconds.
        spots: every folder that holds this backup.
        pieces: the archives to be opened together. In a cluster each shard is taken once, from an active replica.
        described: whether a manifest speaks of it.
        made_by: version of the server or engine that it is from; empty if nobody says.
        lacking: why it cannot be whole, in words; empty where nothing is known to be missing.
    """

    collection: str
    backup: str
    tier: str
    taken: float
    spots: frozenset[Spot]
    pieces: tuple[Piece, ...]
    described: bool = False
    made_by: str = ""
    lacking: str = ""

    @property
    def size(self) -> int:
        """Bytes of its archives."""
        return sum(one.size for one in self.pieces)

    @property
    def raw_size(self) -> int:
        """Bytes of its archives unpacked, at least as far as they are known; else those of the files."""
        return sum(one.size if one.raw_size is None else one.raw_size for one in self.pieces)

    @property
    def lies(self) -> bool:
        """Whether there is something of it that is not known to be bad."""
        return any(one.spots for one in self.pieces)

    @property
    def whole(self) -> bool:
        """Whether each of its archives has a copy that is not known to be bad."""
        return bool(self.pieces) and all(one.spots for one in self.pieces) and not self.lacking


def subjects(stock: Stock, order: Sequence[str]) -> list[Subject]:
    """Everything that can be rehearsed, or could once, the newest first.

    Args:
        stock: what is known.
        order: the locations, the one to be read from first first; what lies elsewhere does not count.
    """
    rows = {(one.location, one.folder, one.name): one for one in stock.archives if one.location in order}
    groups: dict[tuple[str, str], dict[str, Folder]] = {}
    for folder in stock.folders:
        if folder.location in order:
            groups.setdefault((folder.tier, folder.backup), {})[folder.location] = folder
    found = [one for group in groups.values() for one in _described(group, rows, order, stock.there)]
    named = {(one.location, one.folder) for group in groups.values() for one in group.values()} | stock.nameless
    found += _loose([one for key, one in rows.items() if key[:2] not in named], order)
    return sorted(found, key=lambda one: (-one.taken, one.backup, one.collection))


def current(found: Sequence[Subject], stock: Stock) -> dict[str, Subject | None]:
    """The collections that are backed up today, each with its newest backup that may be rehearsed; None: there is none.

    A collection is one of today's if one of the two newest planned backups speaks of it, as in the report; one that no
    manifest ever spoke of is, as long as an archive of it is there.
    """
    every = {(one.tier, one.backup): one for one in stock.folders}
    backups = sorted(every.values(), key=lambda one: -(one.started or 0.0))
    newest = ([one for one in backups if one.tier not in UNPLANNED] or backups)[:2]
    spoken = {entry.name for one in newest for entry in one.manifest.collections}
    spoken |= {failure.name for one in newest for failure in one.manifest.failed}
    described = {one.collection for one in found if one.described}
    loose = {one.collection for one in found if one.lies} - described
    best: dict[str, Subject | None] = dict.fromkeys(sorted(spoken & described | loose))
    for one in found:
        if one.whole and best.get(one.collection, one) is None:
            best[one.collection] = one
    return best


def held(found: Iterable[Subject]) -> frozenset[str]:
    """Every collection of which there is an archive that is not known to be bad."""
    return frozenset(one.collection for one in found if one.lies)


def first_seen(found: Iterable[Subject]) -> dict[str, float]:
    """When each collection was first backed up, as far back as anybody knows; epoch seconds."""
    seen: dict[str, float] = {}
    for one in found:
        seen[one.collection] = min(one.taken, seen.get(one.collection, one.taken))
    return seen


def _described(
    group: Mapping[str, Folder],
    rows: Mapping[tuple[str, str, str], Archive],
    order: Sequence[str],
    there: Collection[Spot],
) -> Iterable[Subject]:
    copies = [group[name] for name in order if name in group]
    first = copies[0]
    listed = [
        (one, {entry.file: entry for entry in one.manifest.collections})
        for one in copies
        if (one.location, one.folder) in there
    ]
    by_name: dict[str, list[CollectionEntry]] = {}
    for entry in first.manifest.collections:
        by_name.setdefault(entry.name, []).append(entry)
    for name, entries in by_name.items():
        shares, lacking = _shares(entries, first.manifest)
        yield Subject(
            collection=name,
            backup=first.backup,
            tier=first.tier,
            taken=first.started or 0.0,
            spots=frozenset((one.location, one.folder) for one in copies),
            pieces=tuple(_piece(entry, shards, listed, rows) for entry, shards in shares),
            described=True,
            made_by=str(first.manifest.engine.get("version", "")),
            lacking=lacking or next(filter(None, map(_misnamed, entries)), ""),
        )


def _piece(
    entry: CollectionEntry,
    shards: tuple[int, ...],
    listed: Iterable[tuple[Folder, Mapping[str, CollectionEntry]]],
    rows: Mapping[tuple[str, str, str], Archive],
) -> Piece:
    spots: list[Spot] = []
    bad = []
    file = printable(entry.file)
    for one, entries in listed:
        known = rows.get((one.location, one.folder, file))
        if known is not None and (known.vanished is not None or known.state in BAD):
            bad.append(_told(known))
        elif entries.get(entry.file) == entry and not _misnamed(entry):
            spots.append((one.location, one.folder))
    return Piece(
        file=file,
        spots=tuple(spots),
        bad=tuple(bad),
        sha256=entry.sha256.lower(),
        size=entry.size,
        raw_size=entry.raw_size,
        shards=shards,
    )


def _told(one: Archive) -> str:
    return f"{one.location}: {one.state}: {one.why}"


def _misnamed(entry: CollectionEntry) -> str:
    """Why an entry's file cannot be one beside its manifest; empty if it can. A manifest may come from anybody."""
    if "/" in entry.file or "\0" in entry.file or entry.file in {"", ".", ".."}:
        return f"its manifest calls the archive {printable(entry.file)[:80]!r}, which is no name of a file beside it"
    return ""


def _shares(
    entries: Sequence[CollectionEntry], manifest: Manifest
) -> tuple[list[tuple[CollectionEntry, tuple[int, ...]]], str]:
    """Which shards are taken from which archive, in as few archives as can be, and what no archive has."""
    peers = {entry.peer: entry for entry in entries}
    if None in peers:
        return [(entries[0], ())], ""
    replicas = _replicas(manifest, entries[0].name)
    have = {peer: {one for one in entry.shards if _whole(replicas, one, peer)} for peer, entry in peers.items()}
    wanted = set(replicas) or {shard for entry in entries for shard in entry.shards}
    shares = []
    while wanted and (best := max(have, key=lambda peer: len(have[peer] & wanted))) and have[best] & wanted:
        shares.append((peers[best], tuple(sorted(have[best] & wanted))))
        wanted -= have[best]
    lost = ", ".join(map(str, sorted(wanted)))
    return shares, f"no archive has shard {lost} from a replica that was active" if lost else ""


def _replicas(manifest: Manifest, collection: str) -> dict[int, dict[int, str]]:
    """Shard to peer to state, as the manifest tells it; empty where it does not."""
    told = manifest.cluster.get("shards")
    try:
        return msgspec.convert(told, dict[str, dict[int, dict[int, str]]], strict=False).get(collection, {})
    except msgspec.ValidationError:
        return {}


def _whole(replicas: Mapping[int, Mapping[int, str]], shard: int, peer: int | None) -> bool:
    """Whether what a peer has of a shard is all of it, as far as anybody says."""
    states = replicas.get(shard)
    return states is None or (peer is not None and is_active(states.get(peer, "")))


def _loose(rows: Iterable[Archive], order: Sequence[str]) -> Iterable[Subject]:
    groups: dict[tuple[str, str], dict[str, Archive]] = {}
    for one in rows:
        if not one.foreign:
            groups.setdefault((one.folder, one.name), {})[one.location] = one
    for (folder, name), by_location in groups.items():
        copies = [by_location[location] for location in order if location in by_location]
        good = [one for one in copies if one.vanished is None and one.state not in BAD]
        bad = [one for one in copies if one not in good]
        first = (good or copies)[0]
        piece = Piece(
            file=name,
            spots=tuple((one.location, one.folder) for one in good),
            bad=tuple(map(_told, bad)),
            sha256=first.sha256,
            size=first.size,
        )
        yield Subject(
            collection=stem(name),
            backup=name,
            tier=folder.rpartition("/")[2],
            taken=min(min(one.written, one.arrived) for one in copies),
            spots=frozenset((one.location, one.folder) for one in copies),
            pieces=(piece,),
        )
