from itertools import combinations, product

import pytest

from agent.rules.archive import (
    ARRIVED,
    BAD,
    INTACT,
    WELL_FORMED,
    Form,
    Promise,
    Reading,
    State,
    Stream,
    Verdict,
    backup_state,
    finding,
    is_snapshot,
    judge,
    subject,
    uncompared,
)
from agent.rules.finding import Finding, Level, ok

SHA, OTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4
SUMS = Promise("SHA256SUMS", SHA)
MANIFEST = Promise("manifest.json", SHA, 2000)
WHOLE = Reading(2000, SHA, Stream.COMPLETE)


def read(
    size: int = 2000, sha: str = SHA, stream: Stream = Stream.COMPLETE, why: str = "no end after 9 B", error: str = ""
) -> Reading:
    return Reading(size, sha, stream, why, error)


@pytest.mark.parametrize(
    ("reading", "promises", "state", "why"),
    [
        (read(), (SUMS,), State.GOOD, "size and SHA-256 equal SHA256SUMS; gzip read to its end"),
        (
            read(),
            (MANIFEST, SUMS),
            State.GOOD,
            "size and SHA-256 equal manifest.json and SHA256SUMS; gzip read to its end",
        ),
        (
            read(),
            (),
            State.NO_CHECKSUM,
            "nothing promises its SHA-256, so it could not be compared; gzip read to its end",
        ),
        (
            read(),
            (Promise("x", None, 2000),),
            State.NO_CHECKSUM,
            "nothing promises its SHA-256, so it could not be compared; gzip read to its end",
        ),
        (read(error="cannot be read: EIO"), (SUMS,), State.UNREADABLE, "cannot be read: EIO"),
        (read(size=0), (SUMS,), State.TRUNCATED, "is empty: 0 bytes"),
        (
            read(size=1999),
            (MANIFEST,),
            State.TRUNCATED,
            "1 byte of the 2,000 that manifest.json promises are missing",
        ),
        (
            read(size=2001),
            (MANIFEST,),
            State.CORRUPT,
            "is 1 byte longer than the 2,000 manifest.json promises",
        ),
        (
            read(stream=Stream.ENDED_EARLY),
            (SUMS,),
            State.TRUNCATED,
            "the compressed stream ends early: no end after 9 B",
        ),
        (
            read(stream=Stream.DAMAGED, why="incorrect data check"),
            (SUMS,),
            State.CORRUPT,
            "the compressed stream is damaged: incorrect data check",
        ),
        (
            read(sha=OTHER),
            (SUMS,),
            State.CORRUPT,
            "SHA-256 is fedcba9876543210…, but SHA256SUMS promises 0123456789abcdef…",
        ),
        (
            read(stream=Stream.PLAIN),
            (SUMS,),
            State.CORRUPT,
            "is named as gzip, but does not begin as gzip does",
        ),
        (read(size=1023), (SUMS,), State.UNDERSIZED, "has 1,023 bytes; the minimum is 1 KiB"),
        (read(size=1024), (SUMS,), State.GOOD, "size and SHA-256 equal SHA256SUMS; gzip read to its end"),
        (
            read(stream=Stream.NOT_READ, why=""),
            (SUMS,),
            State.NO_CHECKSUM,
            "its compressed stream was not read, so nothing is proved",
        ),
    ],
)  # fmt: skip
def test_every_verdict_says_what_was_found_and_by_how_much(
    reading: Reading, promises: tuple[Promise, ...], state: State, why: str
) -> None:
    verdict = judge(reading, promises, 1024, "c.snapshot.gz")
    assert (verdict.state, verdict.why) == (state, why)


@pytest.mark.parametrize(
    ("reading", "promises", "state"),
    [
        (read(size=0, error="EIO"), (MANIFEST,), State.UNREADABLE),
        (read(size=0, stream=Stream.DAMAGED), (MANIFEST,), State.TRUNCATED),
        (read(size=1999, sha=OTHER, stream=Stream.DAMAGED), (MANIFEST,), State.TRUNCATED),
        (read(size=2001, stream=Stream.ENDED_EARLY), (MANIFEST,), State.CORRUPT),
        (read(sha=OTHER, stream=Stream.ENDED_EARLY), (MANIFEST,), State.TRUNCATED),
        (read(size=9, sha=OTHER), (SUMS,), State.CORRUPT),
        (read(size=9), (), State.UNDERSIZED),
    ],
)
def test_the_most_telling_of_several_reasons_is_the_one_that_is_given(
    reading: Reading, promises: tuple[Promise, ...], state: State
) -> None:
    assert judge(reading, promises, 1024, "c.snapshot.gz").state is state


def test_a_flipped_byte_is_named_before_the_damage_it_does_to_the_stream() -> None:
    verdict = judge(read(sha=OTHER, stream=Stream.DAMAGED), (SUMS,), 0, "c.gz")
    assert "SHA-256 is" in verdict.why


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("c.gz", State.CORRUPT),
        ("c.tgz", State.CORRUPT),
        ("c.snapshot", State.GOOD),
        ("c.gz.bak", State.GOOD),
        ("", State.GOOD),
    ],
)
def test_only_a_name_that_says_gzip_demands_gzip(name: str, state: State) -> None:
    assert judge(read(stream=Stream.PLAIN), (SUMS,), 0, name).state is state


_PROMISES = [
    Promise("a", SHA, 100),
    Promise("b", SHA),
    Promise("c", None, 100),
    Promise("d", OTHER),
    Promise("e", None, 99),
    Promise("f", SHA, 101),
    Promise("g"),
]


def test_nothing_is_good_without_an_equal_sum_from_every_source_the_promised_size_and_a_whole_stream() -> None:
    sources = [(), *combinations(_PROMISES, 1), *combinations(_PROMISES, 2), *combinations(_PROMISES, 3)]
    found = set()
    for size, sha, stream, error, minimum, name, promises in product(
        (0, 99, 100, 101), (SHA, OTHER), Stream, ("", "EIO"), (0, 100), ("c.gz", "c"), sources
    ):
        verdict = judge(Reading(size, sha, stream, "", error), promises, minimum, name)
        whole = stream is Stream.COMPLETE or (stream is Stream.PLAIN and name == "c")
        sums = [one.sha256 for one in promises if one.sha256 is not None]
        sizes = [one.size for one in promises if one.size is not None]
        held = not error and size and whole and {*sums} <= {sha} and {*sizes} <= {size}
        held = held and (size >= minimum or size in sizes)
        assert (verdict.state is State.GOOD) is bool(held and sums), verdict
        assert verdict.level == ("intact" if verdict.state is State.GOOD else "arrived")
        if held and not sums:
            assert verdict.state is State.NO_CHECKSUM
        if verdict.state is State.NO_CHECKSUM:
            assert held or stream is Stream.NOT_READ
        assert verdict.why
        found.add(verdict.state)
    assert found == set(State) - {State.VANISHED, State.MALFORMED, State.UNRESTORABLE}


HOLDS = "a whole snapshot: 2 shards with 7 segments"
LACKS = "0/segments/0b5a.tar has no version.info, and a server would lose the segment"
NONE = "no Qdrant snapshot was found in it: does not begin as a GNU tar does, but with SQLite"
EQUAL = "size and SHA-256 equal manifest.json"


def formed(form: Form, why: str, stream: Stream = Stream.COMPLETE, size: int = 2000, sha: str = SHA) -> Reading:
    return Reading(size, sha, stream, "", "", 0.0, form, why)


@pytest.mark.parametrize(
    ("name", "reading", "promises", "state", "level", "why"),
    [
        (
            "a.snapshot",
            formed(Form.SNAPSHOT, HOLDS, Stream.PLAIN),
            (MANIFEST,),
            State.GOOD,
            WELL_FORMED,
            f"{EQUAL}; {HOLDS}",
        ),
        (
            "a.snapshot.gz",
            formed(Form.SNAPSHOT, HOLDS),
            (SUMS,),
            State.GOOD,
            WELL_FORMED,
            f"size and SHA-256 equal SHA256SUMS; gzip read to its end; {HOLDS}",
        ),
        (
            "a.tar.gz",
            formed(Form.SNAPSHOT, HOLDS),
            (),
            State.NO_CHECKSUM,
            ARRIVED,
            f"nothing promises its SHA-256, so it could not be compared; gzip read to its end; {HOLDS}",
        ),
        ("a.snapshot.gz", formed(Form.BROKEN, LACKS), (MANIFEST,), State.MALFORMED, ARRIVED, LACKS),
        ("a.tar.gz", formed(Form.BROKEN, LACKS), (), State.MALFORMED, ARRIVED, LACKS),
        ("a.snapshot", formed(Form.BROKEN, LACKS, Stream.PLAIN, size=9), (), State.MALFORMED, ARRIVED, LACKS),
        (
            "a.snapshot.gz",
            formed(Form.BROKEN, LACKS, sha=OTHER),
            (SUMS,),
            State.CORRUPT,
            ARRIVED,
            "SHA-256 is fedcba9876543210…, but SHA256SUMS promises 0123456789abcdef…",
        ),
        (
            "a.snapshot.gz",
            formed(Form.OTHER, NONE),
            (MANIFEST, SUMS),
            State.MALFORMED,
            ARRIVED,
            f"manifest.json promises a snapshot, but {NONE}",
        ),
        (
            "a.snapshot.gz",
            formed(Form.OTHER, NONE),
            (SUMS,),
            State.GOOD,
            INTACT,
            f"size and SHA-256 equal SHA256SUMS; gzip read to its end; {NONE}",
        ),
        (
            "a.snapshot.zst",
            formed(Form.OTHER, NONE),
            (),
            State.NO_CHECKSUM,
            ARRIVED,
            f"nothing promises its SHA-256, so it could not be compared; zstd read to its end; {NONE}",
        ),
        (
            "server-config.tar.gz",
            formed(Form.OTHER, NONE),
            (MANIFEST,),
            State.GOOD,
            INTACT,
            f"{EQUAL}; gzip read to its end",
        ),
        ("a.snapshot.gz", formed(Form.NOT_READ, ""), (MANIFEST,), State.GOOD, INTACT, f"{EQUAL}; gzip read to its end"),
    ],
)
def test_an_archive_is_judged_by_what_is_in_it(
    name: str, reading: Reading, promises: tuple[Promise, ...], state: State, level: str, why: str
) -> None:
    assert judge(reading, promises, 1024, name) == Verdict(state, level, why)


def test_a_name_says_whether_it_is_called_a_snapshot() -> None:
    names = ["a.snapshot", "a.snapshot.gz", "a.snapshot.zst", "a.tar.gz", "a.snapshot.bak", "snapshot", "a"]
    assert [name for name in names if is_snapshot(name)] == names[:3]


@pytest.mark.parametrize("stream", Stream)
@pytest.mark.parametrize("form", Form)
def test_only_content_that_was_looked_through_to_its_end_need_not_be_inflated_again(stream: Stream, form: Form) -> None:
    proved = Reading(1, SHA, stream, form=form).proved
    assert proved == (stream is Stream.COMPLETE and form is not Form.NOT_READ)


NO_LIBRARY = "no zstd library is installed"


@pytest.mark.parametrize(
    ("reading", "promises", "state", "why"),
    [
        (read(), (SUMS,), State.GOOD, "size and SHA-256 equal SHA256SUMS; zstd read to its end"),
        (
            read(stream=Stream.NOT_READ, why=NO_LIBRARY),
            (SUMS,),
            State.GOOD,
            "size and SHA-256 equal SHA256SUMS; its zstd stream was not read: no zstd library is installed",
        ),
        (
            read(stream=Stream.NOT_READ, why=NO_LIBRARY),
            (),
            State.NO_CHECKSUM,
            f"nothing promises its SHA-256, so it could not be compared; its zstd stream was not read: {NO_LIBRARY}",
        ),
        (
            read(sha=OTHER, stream=Stream.NOT_READ, why=NO_LIBRARY),
            (SUMS,),
            State.CORRUPT,
            "SHA-256 is fedcba9876543210…, but SHA256SUMS promises 0123456789abcdef…",
        ),
        (
            read(size=1999, stream=Stream.NOT_READ, why=NO_LIBRARY),
            (MANIFEST,),
            State.TRUNCATED,
            "1 byte of the 2,000 that manifest.json promises are missing",
        ),
        (
            read(size=1023, stream=Stream.NOT_READ, why=NO_LIBRARY),
            (SUMS,),
            State.UNDERSIZED,
            "has 1,023 bytes; the minimum is 1 KiB",
        ),
        (
            read(stream=Stream.NOT_READ, why=""),
            (SUMS,),
            State.NO_CHECKSUM,
            "its compressed stream was not read, so nothing is proved",
        ),
        (
            read(stream=Stream.PLAIN, why=""),
            (SUMS,),
            State.CORRUPT,
            "is named as zstd, but does not begin as zstd does",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["c.snapshot.zst", "c.tzst"])
def test_zstd_is_judged_as_gzip_is_and_good_by_its_sum_where_it_cannot_be_decompressed(
    name: str, reading: Reading, promises: tuple[Promise, ...], state: State, why: str
) -> None:
    verdict = judge(reading, promises, 1024, name)
    assert (verdict.state, verdict.why) == (state, why)


def test_what_is_not_compressed_is_not_said_to_be_inflated() -> None:
    why = judge(read(stream=Stream.PLAIN), (SUMS,), 0, "c.snapshot").why
    assert why == "size and SHA-256 equal SHA256SUMS"


def test_the_words_that_lie_in_every_ledger_never_change() -> None:
    states = ["good", "corrupt", "truncated", "undersized", "no checksum", "unreadable", "vanished"]
    assert [str(state) for state in State] == [*states, "malformed", "unrestorable"]
    assert [str(form) for form in Form] == ["not read", "snapshot", "broken", "other"]
    assert [str(stream) for stream in Stream] == ["plain", "complete", "ended early", "damaged", "not read"]
    assert [int(level) for level in Level] == [0, 1, 2]


def test_only_good_and_uncompared_archives_are_not_bad() -> None:
    assert {state for state in State if not Verdict(state, "", "").bad} == {State.GOOD, State.NO_CHECKSUM}


@pytest.mark.parametrize("state", sorted(BAD))
def test_a_bad_verdict_is_critical_and_says_what_to_do(state: State) -> None:
    found = finding("primary:daily/c.gz", Verdict(state, "arrived", "it broke"))
    assert (found.rule, found.subject, found.level) == ("archive_bad", "primary:daily/c.gz", Level.CRITICAL)
    assert found.why == f"{state}: it broke"
    beginning = {State.VANISHED: "Look for what removed it", State.UNREADABLE: "Give the agent's user the right"}
    assert found.hint.startswith(beginning.get(state, "Do not restore from it."))
    assert ("it was so when it was made" in found.hint) == (state is State.MALFORMED)


@pytest.mark.parametrize("state", [State.GOOD, State.NO_CHECKSUM])
def test_a_verdict_that_is_not_bad_ends_the_incident(state: State) -> None:
    assert finding("s", Verdict(state, "arrived", "fine")) == ok("archive_bad", "s", "fine")


def test_archives_without_a_checksum_are_one_warning_with_their_number() -> None:
    assert uncompared("s", 0) == ok("checksum_missing", "s", "every archive has a promised checksum")
    one = uncompared("s", 1)
    assert (one.rule, one.subject, one.level) == ("checksum_missing", "s", Level.WARNING)
    assert one.why.startswith("1 archive could be read")
    assert uncompared("s", 2).why.startswith("2 archives could")
    assert "sha256sum FILE > FILE.sha256" in one.hint


def test_a_subject_is_a_path_behind_the_name_of_its_location() -> None:
    assert subject("primary", "daily/x", "c.gz") == "primary:daily/x/c.gz"
    assert subject("primary", "", "c.gz") == "primary:c.gz"


@pytest.mark.parametrize(
    ("states", "missing", "expected"),
    [
        ([State.GOOD], 0, "good"),
        ([State.GOOD, State.GOOD], 1, "incomplete"),
        ([State.GOOD, State.NO_CHECKSUM], 0, "unknown"),
        ([State.NO_CHECKSUM], 1, "incomplete"),
        ([], 0, "unknown"),
        ([], 2, "incomplete"),
        *[([State.GOOD, state], 1, "bad") for state in sorted(BAD)],
    ],
)
def test_a_backup_is_as_good_as_its_worst_archive(states: list[State], missing: int, expected: str) -> None:
    assert backup_state(states, missing) == expected


def test_a_level_is_read_as_a_word() -> None:
    assert [level.word for level in sorted(Level)] == ["ok", "warning", "critical"]


def test_a_finding_that_ends_an_incident_needs_no_reason() -> None:
    assert ok("r", "s") == Finding("r", "s", Level.OK, "", "")


def test_a_small_file_is_good_where_the_manifest_says_that_it_is_that_small() -> None:
    promise = Promise("manifest.json", "a" * 64, 338)
    verdict = judge(Reading(338, "a" * 64, Stream.COMPLETE), (promise,), 1024, "server-config.tar.gz")
    assert verdict.state is State.GOOD
