"""What can be rehearsed, from what is known to lie where."""

from typing import Any

import pytest
from msgspec.structs import replace

from agent.rules.archive import State
from agent.rules.facts import Archive, Folder, Stock
from agent.rules.manifest import CollectionEntry, Failure, Manifest
from agent.rules.subjects import Subject, current, first_seen, held, subjects

ORDER = ("primary", "secondary")


def entry(name: str, *, file: str = "", peer: int | None = None, shards: tuple[int, ...] = (0,)) -> CollectionEntry:
    file = file or f"{name}{'' if peer is None else f'.peer-{peer}'}.snapshot.gz"
    return CollectionEntry(
        name=name, file=file, size=1000, sha256=f"{file:a<64}", raw_size=3000, peer=peer, shards=list(shards)
    )


def folders(
    day: int,
    *entries: CollectionEntry,
    tier: str = "daily",
    locations: tuple[str, ...] = ORDER,
    failed: tuple[str, ...] = (),
    cluster: dict[str, Any] | None = None,
) -> list[Folder]:
    identity = f"202701{day:02}T020000Z"
    manifest = Manifest(
        id=identity,
        tier=tier,
        engine={"kind": "qdrant", "version": "1.18.3"},
        collections=list(entries),
        failed=[Failure(name=name, why="it was locked") for name in failed],
        cluster=cluster or {},
    )
    return [Folder(location, f"{tier}/{identity}", tier, identity, day * 100.0, manifest) for location in locations]


def archive(location: str, folder: str, name: str, state: State = State.GOOD, **more: Any) -> Archive:
    written = {"size": 1000, "level": "intact", "why": "as promised", "written": 50.0, "seconds": 1.0}
    return Archive(
        location, folder, name, state=state, arrived=60.0, checked=70.0, **({"vanished": None} | written | more)
    )


def stock(folders: list[Folder], archives: tuple[Archive, ...] = (), nameless: tuple[tuple[str, str], ...] = ()):
    there = {(one.location, one.folder) for one in [*folders, *archives]}
    return Stock(tuple(folders), archives, frozenset(there), frozenset(nameless))


def only(found: list[Subject]) -> Subject:
    (one,) = found
    return one


def test_a_backup_in_two_locations_is_one_subject_a_collection_read_from_the_first():
    found = subjects(stock([*folders(1, entry("a"), entry("b")), *folders(2, entry("a"))]), ORDER)
    assert [(one.backup[:8], one.collection) for one in found] == [
        ("20270102", "a"),
        ("20270101", "a"),
        ("20270101", "b"),
    ]
    (piece,) = found[0].pieces
    assert piece.spots == (("primary", "daily/20270102T020000Z"), ("secondary", "daily/20270102T020000Z"))
    assert (piece.size, found[0].raw_size, found[0].made_by) == (1000, 3000, "1.18.3")


def test_a_location_that_is_not_configured_does_not_count():
    found = only(subjects(stock(folders(1, entry("a"))), ("secondary",)))
    assert [spot[0] for spot in found.pieces[0].spots] == ["secondary"]


def test_a_copy_that_is_known_to_be_bad_is_not_read_and_said_to_be():
    given = folders(1, entry("a"))
    bad = archive("primary", given[0].folder, "a.snapshot.gz", State.CORRUPT, why="SHA-256 differs")
    found = only(subjects(stock(given, (bad,)), ORDER))
    assert found.pieces[0].spots == (("secondary", given[0].folder),)
    assert found.pieces[0].bad == ("primary: corrupt: SHA-256 differs",)
    assert found.whole
    both = (bad, replace(bad, location="secondary"))
    assert not only(subjects(stock(given, both), ORDER)).whole


def test_a_backup_that_is_gone_was_a_subject_once():
    given = folders(1, entry("a"))
    found = only(subjects(Stock(tuple(given)), ORDER))
    assert (found.lies, first_seen([found]), held([found])) == (False, {"a": 100.0}, frozenset())


@pytest.mark.parametrize("file", ["../../etc/passwd", "/etc/passwd", "..", ".", "", "a\0b"])
def test_a_manifest_that_names_a_file_elsewhere_is_not_followed(file: str):
    hostile = replace(entry("a"), file=file)
    found = only(subjects(stock(folders(1, hostile)), ORDER))
    assert found.pieces[0].spots == ()
    assert "no name of a file beside it" in found.lacking


def test_a_location_whose_manifest_says_something_else_of_the_archive_is_not_read():
    first, second = folders(1, entry("a"))
    other = replace(second.manifest, collections=[replace(entry("a"), sha256="f" * 64)])
    found = only(subjects(stock([first, replace(second, manifest=other)]), ORDER))
    assert [spot[0] for spot in found.pieces[0].spots] == ["primary"]


# Clusters


def cluster(**states: dict[str, str]) -> dict[str, Any]:
    return {"shards": {"a": {number.removeprefix("s"): peers for number, peers in states.items()}}}


def shares(found: Subject) -> dict[str, tuple[int, ...]]:
    return {piece.file: piece.shards for piece in found.pieces}


def test_each_shard_is_taken_once_from_as_few_archives_as_can_be():
    entries = [
        entry("a", peer=1, shards=(0, 1)),
        entry("a", peer=2, shards=(1, 2)),
        entry("a", peer=3, shards=(0, 2, 1)),
    ]
    active = {"1": "Active", "2": "Active", "3": "Active"}
    found = only(subjects(stock(folders(1, *entries, cluster=cluster(s0=active, s1=active, s2=active))), ORDER))
    assert shares(found) == {"a.peer-3.snapshot.gz": (0, 1, 2)}


def test_a_replica_that_was_not_active_is_passed_over():
    entries = [entry("a", peer=1, shards=(0, 1)), entry("a", peer=2, shards=(1,))]
    told = cluster(s0={"1": "Active"}, s1={"1": "Dead", "2": "Active"})
    found = only(subjects(stock(folders(1, *entries, cluster=told)), ORDER))
    assert shares(found) == {"a.peer-1.snapshot.gz": (0,), "a.peer-2.snapshot.gz": (1,)}
    assert found.whole


def test_a_shard_that_no_active_replica_gave_is_lacking():
    told = cluster(s0={"1": "Active"}, s1={"1": "Partial", "2": "Active"})
    found = only(subjects(stock(folders(1, entry("a", peer=1, shards=(0, 1)), cluster=told)), ORDER))
    assert "shard 1" in found.lacking
    assert not found.whole


def test_without_a_word_on_replicas_every_archive_is_believed():
    entries = [entry("a", peer=1, shards=(0,)), entry("a", peer=2, shards=(0, 1))]
    for told in ({}, {"shards": "nonsense"}, {"shards": {"a": {"x": {"1": "Active"}}}}):
        found = only(subjects(stock(folders(1, *entries, cluster=told)), ORDER))
        assert shares(found) == {"a.peer-2.snapshot.gz": (0, 1)}


# Archives of other programs


def test_a_loose_archive_is_a_subject_by_its_name_without_dates():
    given = tuple(archive(location, "daily", "docs-20270103T020000Z.snapshot.gz") for location in ORDER)
    found = only(subjects(stock([], given), ORDER))
    assert (found.collection, found.backup, found.tier) == ("docs", "docs-20270103T020000Z.snapshot.gz", "daily")
    assert len(found.pieces[0].spots) == 2
    assert not found.described


def test_what_is_known_to_be_no_snapshot_is_no_subject_and_nor_is_what_has_lost_its_manifest():
    config = archive("primary", "daily", "etc.tar.gz", foreign=True)
    lost = archive("primary", "daily/20270101T020000Z", "a.snapshot.gz")
    assert subjects(stock([], (config, lost), nameless=(("primary", lost.folder),)), ORDER) == []


def test_a_file_of_a_backup_that_is_no_collection_is_no_subject():
    given = folders(1, entry("a"))
    files = (archive("primary", given[0].folder, "server-config.tar.gz"),)
    assert [one.collection for one in subjects(stock(given, files), ORDER)] == ["a"]


# Today


def names(given: Stock) -> dict[str, str | None]:
    return {name: one and one.backup[:8] for name, one in current(subjects(given, ORDER), given).items()}


def test_the_collections_of_today_are_those_of_the_two_newest_planned_backups():
    given = [
        *folders(1, entry("old"), entry("a")),
        *folders(2, entry("a"), entry("b")),
        *folders(3, entry("a"), failed=("b",)),
        *folders(4, entry("tried"), tier="manual"),
    ]
    assert names(stock(given)) == {"a": "20270103", "b": "20270102"}


def test_the_newest_backup_that_may_be_rehearsed_is_taken_whichever_its_tier():
    given = [*folders(1, entry("a")), *folders(2, entry("a"), tier="manual")]
    assert names(stock(given)) == {"a": "20270102"}
    bad = tuple(archive(one.location, one.folder, "a.snapshot.gz", State.TRUNCATED) for one in given[2:])
    assert names(stock(given, bad)) == {"a": "20270101"}
    worse = (*bad, *(archive(one.location, one.folder, "a.snapshot.gz", State.VANISHED) for one in given[:2]))
    assert names(stock(given, worse)) == {"a": None}


def test_backups_made_by_hand_alone_are_those_of_today():
    assert names(stock(folders(1, entry("a"), tier="manual"))) == {"a": "20270101"}


def test_loose_archives_are_of_today_as_long_as_one_is_there():
    here = archive("primary", "daily", "docs.snapshot")
    assert list(names(stock([], (here,)))) == ["docs"]
    assert list(names(stock([], (replace(here, state=State.VANISHED, vanished=80.0),)))) == []
