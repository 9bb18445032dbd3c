import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.ledger import blank, catalogue
from agent.adapters.ledger.catalogue import Archive, Folder, Key
from agent.rules import manifest
from agent.rules.archive import Promise, Reading, Signature, State, Stream, Verdict
from agent.rules.checksums import promises_of
from agent.rules.words import printable

NOW = 1_800_000_000.0
SHA, OTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4
KEY = Key("primary", "daily/x", "c.gz")
SUMS = Key("primary", "daily/x", "SHA256SUMS")
SEEN, CHANGED = Signature(1, 2000, 3, 4), Signature(1, 2001, 5, 6)
READING = Reading(2000, SHA, Stream.COMPLETE, "", "", 1.5)
GOOD = Verdict(State.GOOD, "intact", "size and SHA-256 equal SHA256SUMS")
CORRUPT = Verdict(State.CORRUPT, "arrived", "SHA-256 is …")


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(blank()) as opened:
        yield opened


def record(db: sqlite3.Connection, key: Key = KEY, verdict: Verdict = GOOD, now: float = NOW) -> None:
    catalogue.record(db, key, SEEN, READING, verdict, now)


def promise(db: sqlite3.Connection, key: Key, **sums: str) -> list[Key]:
    """Let the checksum file `key` promise a sum for each name; underscores stand for dots."""
    promised = {name.replace("_", "."): Promise(key.name, sha) for name, sha in sums.items()}
    return catalogue.record_sums(db, key, SEEN, promised, "")


def history(db: sqlite3.Connection) -> list[tuple[str, float, State]]:
    return [(key.name, at, state) for key, at, state, _, _ in catalogue.verdicts(db, 0.0, NOW * 2)]


# Archives


def test_an_archive_is_kept_with_all_that_was_found(db: sqlite3.Connection) -> None:
    assert catalogue.archive(db, KEY) is None
    record(db)
    kept = catalogue.archive(db, KEY)
    assert kept == Archive(KEY, SEEN, State.GOOD, "intact", GOOD.why, READING, NOW, NOW, None)
    assert list(catalogue.archives(db)) == [kept]
    assert list(catalogue.verdicts(db, NOW, NOW + 1)) == [(KEY, NOW, State.GOOD, "intact", GOOD.why)]


def test_an_archive_that_is_read_again_keeps_the_time_it_arrived(db: sqlite3.Connection) -> None:
    record(db)
    catalogue.record(db, KEY, CHANGED, Reading(error="EIO"), CORRUPT, NOW + 60)
    assert catalogue.archive(db, KEY) == Archive(
        KEY, CHANGED, State.CORRUPT, "arrived", CORRUPT.why, Reading(error="EIO"), NOW, NOW + 60, None
    )
    assert history(db) == [("c.gz", NOW, State.GOOD), ("c.gz", NOW + 60, State.CORRUPT)]


def test_a_new_promise_changes_the_verdict_and_not_what_was_read(db: sqlite3.Connection) -> None:
    record(db)
    record(db, KEY._replace(name="d.gz"))
    catalogue.rejudge(db, KEY, CORRUPT, NOW + 60)
    assert catalogue.archive(db, KEY) == Archive(
        KEY, SEEN, State.CORRUPT, "arrived", CORRUPT.why, READING, NOW, NOW, None
    )
    assert [one.state for one in catalogue.archives(db)] == [State.CORRUPT, State.GOOD]
    assert history(db)[-1] == ("c.gz", NOW + 60, State.CORRUPT)


def test_the_history_of_every_judgement_tells_how_long_it_took_and_how_much_was_read(db: sqlite3.Connection) -> None:
    record(db)
    catalogue.rejudge(db, KEY, CORRUPT, NOW)
    catalogue.vanish(db, KEY, "gone", NOW)
    assert db.execute("SELECT seconds, size FROM verdict ORDER BY id").fetchall() == [(1.5, 2000), (0.0, 0), (0.0, 0)]


def test_an_archive_that_vanished_stays_known_and_no_longer_counts_as_there(db: sqlite3.Connection) -> None:
    record(db)
    catalogue.vanish(db, KEY, "it was here, and is gone", NOW + 60)
    assert catalogue.archive(db, KEY) == Archive(
        KEY, SEEN, State.VANISHED, "arrived", "it was here, and is gone", READING, NOW, NOW, NOW + 60
    )
    *_, last = catalogue.verdicts(db, 0.0, NOW * 2)
    assert last == (KEY, NOW + 60, State.VANISHED, "arrived", "it was here, and is gone")
    assert catalogue.signature(db, KEY) is None
    assert catalogue.known(db, "primary", "daily/x") == set()
    assert catalogue.folders(db, "primary") == set()
    assert catalogue.present(db, "primary") == 0


def test_an_archive_that_comes_back_is_there_again(db: sqlite3.Connection) -> None:
    record(db)
    catalogue.vanish(db, KEY, "gone", NOW + 60)
    record(db, now=NOW + 120)
    back = catalogue.archive(db, KEY)
    assert back is not None
    assert (back.state, back.arrived, back.checked, back.vanished) == (State.GOOD, NOW, NOW + 120, None)
    assert catalogue.present(db, "primary") == 1


def test_an_archive_that_was_promised_and_never_came_is_known_as_gone(db: sqlite3.Connection) -> None:
    catalogue.vanish(db, KEY, "SHA256SUMS promises it, but it is not there", NOW)
    assert catalogue.archive(db, KEY) == Archive(
        KEY,
        Signature(0, 0, 0, 0),
        State.VANISHED,
        "arrived",
        "SHA256SUMS promises it, but it is not there",
        None,
        NOW,
        None,
        NOW,
    )


def test_what_is_forgotten_leaves_its_history(db: sqlite3.Connection) -> None:
    record(db)
    record(db, KEY._replace(name="d.gz"))
    catalogue.vanish(db, KEY, "gone", NOW)
    catalogue.forget(db, KEY)
    assert [one.key.name for one in catalogue.archives(db)] == ["d.gz"]
    assert len(history(db)) == 3


def test_archives_are_listed_by_location_and_folder_in_their_order(db: sqlite3.Connection) -> None:
    keys = [Key("b", "x", "1"), Key("a", "y", "1"), Key("a", "x", "2"), Key("a", "x", "1"), Key("a", "", "1")]
    for key in keys:
        record(db, key)
    assert [one.key for one in catalogue.archives(db)] == sorted(keys)
    assert [one.key for one in catalogue.archives(db, "a", "x")] == [keys[3], keys[2]]
    assert [one.key for one in catalogue.archives(db, "a", "")] == [keys[4]]
    assert [one.key for one in catalogue.archives(db, "b")] == [keys[0]]
    assert [one.key for one in catalogue.archives(db, None, "x")] == [keys[3], keys[2], keys[0]]


def test_what_is_known_of_a_folder_are_its_archives_and_checksum_files(db: sqlite3.Connection) -> None:
    record(db)
    record(db, Key("primary", "daily/y", "y.gz"))
    record(db, Key("secondary", "daily/x", "z.gz"))
    record(db, Key("secondary", "daily/z", "z.gz"))
    promise(db, SUMS, c_gz=SHA)
    promise(db, Key("primary", "daily/w", "SHA256SUMS"))
    assert catalogue.known(db, "primary", "daily/x") == {("c.gz", *SEEN), ("SHA256SUMS", *SEEN)}
    assert catalogue.folders(db, "primary") == {"daily/x", "daily/y", "daily/w"}
    assert catalogue.signature(db, KEY) == SEEN
    assert catalogue.signature(db, SUMS) == SEEN
    assert catalogue.signature(db, KEY._replace(name="nothing")) is None


def test_losses_are_counted_since_a_moment_and_only_while_they_last(db: sqlite3.Connection) -> None:
    for number, at in enumerate([NOW - 1, NOW, NOW + 1]):
        key = KEY._replace(name=str(number))
        record(db, key)
        catalogue.vanish(db, key, "gone", at)
    catalogue.vanish(db, Key("secondary", "", "c.gz"), "gone", NOW)
    assert catalogue.vanished_since(db, "primary", NOW) == 2
    record(db, KEY._replace(name="2"))
    assert catalogue.vanished_since(db, "primary", NOW) == 1
    assert catalogue.present(db, "primary") == 1
    assert catalogue.present(db, "secondary") == 0


def test_archives_without_a_promise_are_counted_in_each_folder(db: sqlite3.Connection) -> None:
    alone = Verdict(State.NO_CHECKSUM, "arrived", "nothing promises its SHA-256")
    for folder, name in (("a", "1"), ("a", "2"), ("b", "1"), ("c", "1")):
        record(db, Key("primary", folder, name), alone)
    record(db, Key("primary", "a", "good"))
    record(db, Key("secondary", "a", "1"), alone)
    catalogue.vanish(db, Key("primary", "b", "1"), "gone", NOW)
    db.execute("UPDATE archive SET state = 'no checksum' WHERE vanished IS NOT NULL")
    assert catalogue.uncompared(db, "primary", ["a", "b", "d"]) == {"a": 2, "b": 0, "d": 0}


def test_judgements_are_told_of_a_time_span_without_its_end(db: sqlite3.Connection) -> None:
    for at in (1.0, 2.0, 3.0):
        record(db, now=at)
    assert [at for _, at, *_ in catalogue.verdicts(db, 1.0, 3.0)] == [1.0, 2.0]


# Promises


def test_each_checksum_file_promises_for_itself(db: sqlite3.Connection) -> None:
    assert promise(db, SUMS, c_gz=SHA, d_gz=OTHER) == [KEY, KEY._replace(name="d.gz")]
    catalogue.record_sums(
        db, SUMS._replace(name="manifest.json"), SEEN, {"c.gz": Promise("manifest.json", SHA, 2000)}, ""
    )
    promise(db, SUMS._replace(folder="daily/y"), c_gz=OTHER)
    promise(db, SUMS._replace(location="secondary"), c_gz=OTHER)
    assert catalogue.promises(db, KEY) == (Promise("manifest.json", SHA, 2000), Promise("SHA256SUMS", SHA))
    assert catalogue.promises(db, KEY._replace(name="d.gz")) == (Promise("SHA256SUMS", OTHER),)
    assert catalogue.promises(db, KEY._replace(name="e.gz")) == ()


def test_a_checksum_file_that_changed_replaces_its_promises_and_names_all_it_concerns(db: sqlite3.Connection) -> None:
    promise(db, SUMS, c_gz=SHA, d_gz=SHA)
    promise(db, SUMS._replace(name="c.gz.sha256"), c_gz=SHA)
    assert promise(db, SUMS, d_gz=OTHER, e_gz=SHA) == [KEY._replace(name=name) for name in ("c.gz", "d.gz", "e.gz")]
    assert catalogue.promises(db, KEY) == (Promise("c.gz.sha256", SHA),)
    assert catalogue.promises(db, KEY._replace(name="d.gz")) == (Promise("SHA256SUMS", OTHER),)


def test_a_checksum_file_that_is_gone_takes_its_promises_with_it(db: sqlite3.Connection) -> None:
    promise(db, SUMS, c_gz=SHA)
    other = SUMS._replace(folder="daily/y")
    promise(db, other, c_gz=SHA)
    assert catalogue.forget_sums(db, SUMS) == [KEY]
    assert catalogue.promises(db, KEY) == ()
    assert catalogue.signature(db, SUMS) is None
    assert catalogue.signature(db, other) == SEEN
    assert catalogue.promises(db, KEY._replace(folder="daily/y")) == (Promise("SHA256SUMS", SHA),)
    assert catalogue.forget_sums(db, SUMS) == []


def test_what_is_wrong_with_a_checksum_file_is_kept(db: sqlite3.Connection) -> None:
    catalogue.record_sums(db, SUMS, SEEN, {}, "line 1 is no checksum line")
    assert db.execute("SELECT problem FROM sums").fetchall() == [("line 1 is no checksum line",)]


@given(
    st.binary(min_size=1, max_size=20).map(lambda name: name.translate(None, b"/\0").decode("utf-8", "surrogateescape"))
)
def test_a_file_of_any_name_can_be_promised_promised_anew_and_forgotten(name: str) -> None:
    source = f"{name}.sha256"
    key, sums = KEY._replace(name=printable(name)), KEY._replace(name=printable(source))
    with closing(blank()) as db:
        for sha in (SHA, OTHER):
            promised, problems = promises_of(sha.encode(), source)
            assert catalogue.record_sums(db, sums, SEEN, promised, "; ".join(problems)) == [key]
            assert catalogue.promises(db, key) == (Promise(sums.name, sha),)
        assert catalogue.forget_sums(db, sums) == [key]
        assert catalogue.promises(db, key) == ()


# Folders


def test_a_backup_folder_is_kept_with_its_manifest(db: sqlite3.Connection) -> None:
    described = manifest.Manifest(id="20261123T020000Z", tier="daily", engine={"kind": "edge"})
    entry = Folder(
        "primary", "daily/x", "daily", described.id, "edge", NOW, NOW + 9, 1, manifest.encode(described).decode(), "odd"
    )
    assert catalogue.folder(db, "primary", "daily/x") is None
    catalogue.record_folder(db, entry)
    assert catalogue.folder(db, "primary", "daily/x") == entry
    assert catalogue.manifest(entry) == described
    assert catalogue.folder(db, "secondary", "daily/x") is None


def test_a_folder_that_is_described_anew_has_only_the_new_description(db: sqlite3.Connection) -> None:
    catalogue.record_folder(db, Folder("primary", "daily/x", "daily", "x", "edge", NOW, NOW, 1, "{}"))
    bare = Folder("primary", "daily/x", "daily", "x", "unknown", problem="cannot be read")
    catalogue.record_folder(db, bare)
    assert catalogue.folder(db, "primary", "daily/x") == bare
    assert catalogue.manifest(bare) is None


def test_the_newest_backup_comes_first(db: sqlite3.Connection) -> None:
    for location, folder, backup in (("b", "1", "2025"), ("a", "2", "2026"), ("b", "2", "2026"), ("a", "1", "2025")):
        catalogue.record_folder(db, Folder(location, folder, "daily", backup, "edge"))
    assert [(one.backup, one.location) for one in catalogue.all_folders(db)] == [
        ("2026", "a"),
        ("2026", "b"),
        ("2025", "a"),
        ("2025", "b"),
    ]
