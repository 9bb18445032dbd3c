from typing import Any

import pytest

from agent.rules.anomaly import Measured
from agent.rules.figures import made
from agent.rules.manifest import CollectionEntry, Failure, FileEntry, Manifest

AT = 1_795_485_600.0


def entry(name: str, **figures: Any) -> CollectionEntry:
    values = {"size": 300, "raw_size": 400, "points_before": 9, "points_after": 10, "seconds": 1.5}
    return CollectionEntry(name=name, file=f"{name}.snapshot.gz", sha256="0" * 64, **(values | figures))


def manifest(*entries: CollectionEntry, **more: Any) -> Manifest:
    return Manifest(id="b0", tier="daily", engine={"kind": "qdrant"}, collections=list(entries), **more)


def test_what_a_collection_came_to_is_what_its_manifest_says() -> None:
    config = FileEntry(file="server-config.tar.gz", size=7, sha256="0" * 64)
    seen = made("daily", "b0", AT, manifest(entry("docs"), files=[config], aliases={"live": "docs"}))
    assert seen.figures == {"docs": Measured(backup="b0", at=AT, points=10, raw_size=400, stored_size=300, seconds=1.5)}
    assert (seen.whole, seen.size, seen.failed, seen.aliases) == (True, 307, (), {"live": "docs"})


def test_the_archives_of_a_cluster_are_summed_and_its_points_are_not() -> None:
    parts = [entry("docs", peer=peer, points_after=points) for peer, points in ((1, 10), (2, 12))]
    assert made("daily", "b0", AT, manifest(*parts)).figures["docs"] == Measured(
        backup="b0", at=AT, points=12, raw_size=800, stored_size=600, seconds=3.0
    )


def test_what_one_archive_does_not_tell_is_not_known_of_the_collection() -> None:
    parts = [entry("docs", peer=1), entry("docs", peer=2, raw_size=None, seconds=None)]
    seen = made("daily", "b0", AT, manifest(*parts)).figures["docs"]
    assert (seen.raw_size, seen.seconds, seen.stored_size) == (None, None, 600)


def test_the_count_from_before_stands_in_for_the_one_from_afterwards() -> None:
    assert made("daily", "b0", AT, manifest(entry("docs", points_after=None))).figures["docs"].points == 9
    nobody = entry("docs", points_after=None, points_before=None)
    assert made("daily", "b0", AT, manifest(nobody)).figures["docs"].points is None


def test_a_collection_that_failed_in_part_has_no_figures() -> None:
    seen = made("daily", "b0", AT, manifest(entry("docs"), entry("img"), failed=[Failure(name="docs", why="timeout")]))
    assert (list(seen.figures), seen.failed) == (["img"], ("docs",))


@pytest.mark.parametrize(
    ("tier", "partial", "whole"),
    [
        ("daily", None, True),
        ("daily", False, True),
        ("daily", True, False),
        ("manual", False, True),
        ("manual", True, False),
        ("manual", None, False),
        ("pre-restore", False, False),
    ],
)
def test_only_backups_of_all_collections_say_what_is_usual(tier: str, partial: bool | None, whole: bool) -> None:  # noqa: FBT001 - a table
    assert made(tier, "b0", AT, manifest(entry("docs"), partial=partial)).whole is whole
