import msgspec
import pytest

from agent.rules import rehearsal
from agent.rules.manifest import CollectionEntry, Content, Probe
from agent.rules.rehearsal import Expected, Judgement, Marks, Part, Seen

EDGE = "qdrant-edge-py 0.9.0"
RECORDED = "manifest.json"
DIGESTS = {str(number): f"{number:08x}{number:08x}" for number in range(1000)}
ALL = Content(of=1000, drawn=1000, points=DIGESTS)
SOME = Content(of=100_000, drawn=1000, points=DIGESTS)
ANSWERS = ((7, 1.0), (8, 0.5), (9, 0.25))
PROBE = Probe(
    vector="",
    kind="dense",
    point=7,
    query={"query": [1.0], "limit": 3},
    answers=[{"id": point, "score": score} for point, score in ANSWERS],
)
WHOLE = Expected(low=1000, high=1000, probes=(PROBE,), content=ALL, source=RECORDED)
GOOD = Part(shard=0, points=1000, answers=(ANSWERS,), digests=DIGESTS, read=1000, vectors={"": 1000})
GIB = 1 << 30


def seen(*parts: Part, **how) -> Seen:
    return Seen(engine=EDGE, parts=parts, **how)


def judged(part: Part = GOOD, expected: Expected = WHOLE, made_by: str = "1.18.3", **changes) -> Judgement:
    return rehearsal.judge(seen(msgspec.structs.replace(part, **changes)), expected, made_by=made_by)


def but(**changes) -> Expected:
    return msgspec.structs.replace(WHOLE, **changes)


def test_what_is_as_recorded_is_faithful():
    found = judged()
    assert (found.state, found.level) == ("passed", "faithful")
    assert found.why == (
        "opened with 1,000 points, as recorded; 1 probe answered as recorded; 1,000 points hold what they held"
    )
    assert (found.points, found.asked, found.matched, found.compared, found.same) == (1000, 1, 1, 1000, 1000)


def test_shards_are_judged_together():
    halves = [dict(list(DIGESTS.items())[:400]), dict(list(DIGESTS.items())[400:])]
    parts = (
        Part(shard=0, points=400, answers=(ANSWERS[1:],), digests=halves[0]),
        Part(shard=5, points=600, answers=((ANSWERS[0], (3, 0.1)),), digests=halves[1]),
    )
    assert rehearsal.judge(seen(*parts), WHOLE).level == "faithful"
    lost = rehearsal.judge(seen(parts[0]), WHOLE)
    assert (lost.state, lost.level) == ("failed", "well-formed")
    assert "400 points instead of 1,000" in lost.why


@pytest.mark.parametrize(
    ("expected", "level", "why"),
    [
        (Expected(), "restorable", "opened with 1,000 points; nothing was recorded to compare with"),
        (
            Expected(low=1000, high=1000, source=RECORDED),
            "restorable",
            "opened with 1,000 points, as recorded; not recorded: probes and content",
        ),
        (but(probes=()), "faithful", "not recorded: probes"),
        (but(content=None), "faithful", "not recorded: content"),
        (but(low=None, high=None), "restorable", "not recorded: number"),
        (but(source="its first drill on 2026-11-23"), "faithful", "as in its first drill on 2026-11-23; 1 probe"),
    ],
)
def test_what_was_not_recorded_is_not_proved(expected, level, why):
    found = judged(expected=expected)
    assert (found.state, found.level) == ("passed", level)
    assert why in found.why


def test_an_empty_collection_is_faithful_when_it_is_empty():
    expected = Expected(low=0, high=0, content=Content(of=0, drawn=0), source=RECORDED)
    empty = Part(shard=0, points=0)
    found = judged(empty, expected)
    assert (found.state, found.level, found.why) == ("passed", "faithful", "opened with 0 points, as recorded")
    assert judged(empty).state == "failed"


# --- how it ended


def test_an_archive_of_another_form_is_intact_at_the_most():
    found = rehearsal.judge(seen(GOOD), WHOLE, malformed="shard 1 of the collection is not in it")
    assert (found.state, found.level, found.why) == ("failed", "intact", "shard 1 of the collection is not in it")


@pytest.mark.parametrize(
    ("made_by", "error", "state"),
    [
        ("1.18.3", "No links file found", "failed"),
        ("1.18.3", "unknown variant `x`", "failed"),
        ("", "No links file found", "failed"),
        ("", "unknown variant `x`", "inconclusive"),
        ("1.21.0", "No links file found", "inconclusive"),
        ("1.12.0", "No links file found", "inconclusive"),
    ],
)
def test_a_shard_that_does_not_open_is_bad_unless_its_format_may_be_unknown(made_by, error, state):
    part = Part(shard=3, error=error, where="segments/a/vector_index")
    found = rehearsal.judge(seen(GOOD, part), WHOLE, made_by=made_by)
    assert (found.state, found.level) == (state, "well-formed")
    assert f"shard 3 cannot be opened: {error} (in segments/a/vector_index)" in found.why
    assert found.points is None
    assert ("; but " in found.why) == (state == "inconclusive")


def test_many_shards_that_do_not_open_are_not_all_named():
    found = rehearsal.judge(seen(*(Part(shard=number, error="x") for number in range(9))), WHOLE)
    assert found.why == "; ".join(f"shard {number} cannot be opened: x" for number in range(3)) + "; and 6 more shards"


@pytest.mark.parametrize("ended", ["panic", "abort"])
def test_an_engine_that_stumbles_over_an_archive_speaks_against_it(ended):
    part = Part(shard=0, points=5, error="capacity overflow", ended=ended)
    found = rehearsal.judge(seen(part, ended=ended, why="capacity overflow", where="shard 0"), WHOLE)
    assert (found.state, found.level) == ("failed", "well-formed")
    assert found.why == "shard 0 was opened with 5 points, then failed: capacity overflow"
    alone = rehearsal.judge(seen(ended=ended, why="it was ended by SIGSEGV", where="shard 0, opening it"), WHOLE)
    assert (alone.state, alone.why) == ("failed", "it was ended by SIGSEGV, at shard 0, opening it")


@pytest.mark.parametrize(
    ("ended", "help_"),
    [("time", "drills.deadline"), ("memory", "drills.memory"), ("stopped", ""), ("unable", "")],
)
def test_what_the_machine_lacks_says_nothing_about_the_archive(ended, help_):
    part = Part(shard=0, error="the words" if ended in {"memory", "unable"} else "", ended=ended)
    found = rehearsal.judge(seen(part, ended=ended, why="the words", where="shard 0, opening it"), WHOLE, raw_size=1000)
    assert (found.state, found.level) == ("inconclusive", "well-formed")
    assert found.why.startswith("the words, at shard 0, opening it")
    assert help_ in found.why
    assert found.compared == found.asked == 0


@pytest.mark.parametrize(
    ("asked", "raw_size", "state"),
    [
        (64 * GIB, GIB, "failed"),
        (15 * GIB, GIB, "inconclusive"),
        (2 * GIB, 10 << 20, "failed"),
        (GIB // 2, 10 << 20, "inconclusive"),
        (64 * GIB, 0, "inconclusive"),
    ],
)
def test_an_allocation_that_no_engine_can_want_is_damage(asked, raw_size, state):
    why = f"the engine asked for a lot: memory allocation of {asked} bytes failed"
    part = Part(shard=0, error=why, ended="memory")
    found = rehearsal.judge(seen(part, ended="memory", why=why), WHOLE, raw_size=raw_size)
    assert found.state == state


def test_what_the_machine_lacks_for_several_shards_says_nothing_about_any():
    parts = [Part(shard=number, error=f"No space left on {number}", ended="unable") for number in range(2)]
    assert rehearsal.judge(seen(*parts, ended="unable", why=parts[0].error), WHOLE).state == "inconclusive"
    bad = Part(shard=2, error="No links file found")
    found = rehearsal.judge(seen(*parts, bad, ended="unable", why=parts[0].error), WHOLE)
    assert (found.state, found.why) == ("failed", "shard 2 cannot be opened: No links file found")


def test_what_was_wrong_before_it_ended_counts():
    part = msgspec.structs.replace(GOOD, digests={"1": "f" * 16, "2": DIGESTS["2"]})
    found = rehearsal.judge(seen(part, ended="time", why="late"), WHOLE)
    assert (found.state, found.compared, found.same) == ("failed", 2, 1)
    assert found.why == "1 of 2 recorded points changed: 1 (vectors and payload)"
    fine = msgspec.structs.replace(GOOD, digests={"2": DIGESTS["2"]}, answers=())
    assert rehearsal.judge(seen(fine, ended="time", why="late"), WHOLE).state == "inconclusive"


# --- how many


@pytest.mark.parametrize(
    ("low", "high", "content", "writes", "points", "state"),
    [
        (1000, 1000, None, None, 1000, "passed"),
        (1000, 1010, None, None, 1005, "passed"),
        (1010, 1000, None, None, 1005, "passed"),  # as min and max are taken
        # quiet: exactly
        (1000, 1000, None, None, 999, "failed"),
        (1000, 1000, None, None, 1001, "failed"),
        (1000, 1000, ALL, None, 992, "failed"),
        (1000, 1000, ALL, None, 1001, "failed"),
        (100_000, 100_000, SOME, 0, 99_999, "failed"),
        (100_000, 100_000, SOME, 0, 100_001, "failed"),
        # nobody knows whether it was quiet, and a sample does not show a few
        (100_000, 100_000, SOME, None, 99_992, "inconclusive"),
        (100_000, 100_000, SOME, None, 100_003, "inconclusive"),
        (100_000, 100_000, SOME, None, 99_000, "failed"),
        (1000, 1010, None, None, 995, "inconclusive"),
        (1000, 1010, None, None, 900, "failed"),
        # written to, as the sample shows or the server says
        (100_000, 100_000, Content(of=100_000, drawn=1000, changed=50, points=DIGESTS), None, 95_000, "passed"),
        (100_000, 100_000, Content(of=100_000, drawn=1000, changed=50, points=DIGESTS), None, 90_000, "inconclusive"),
        (100_000, 100_000, Content(of=100_000, drawn=1000, changed=50, points=DIGESTS), None, 40_000, "failed"),
        (100_000, 100_000, SOME, 17, 99_900, "passed"),
        (100_000, 100_000, SOME, 17, 100_100, "passed"),
        (100_000, 100_000, SOME, 17, 99_000, "inconclusive"),
        (100_000, 100_000, SOME, 17, 150_000, "inconclusive"),
        (100_000, 100_000, SOME, 17, 0, "failed"),
        (1000, 1000, None, 17, 990, "passed"),
        (1000, 1000, None, 17, 900, "inconclusive"),
        (1000, 1000, None, 17, 0, "failed"),
        (None, None, None, None, 5, "passed"),
    ],
)
def test_the_number_of_points_is_what_it_was_as_far_as_that_is_known(low, high, content, writes, points, state):
    counts = (None, None) if low is None else (min(low, high), max(low, high))
    expected = but(low=counts[0], high=counts[1], content=content, writes=writes)
    found = judged(expected=expected, points=points)
    assert (found.state, found.level == "well-formed") == (state, state != "passed")
    if state != "passed":
        assert f"{points:,} points instead of" in found.why


# --- what


def test_points_that_are_not_as_they_were_are_named_with_what_is_not():
    digests = {point: digest for point, digest in DIGESTS.items() if point != "13"}
    digests |= {"5": "0" * 8 + DIGESTS["5"][8:], "6": DIGESTS["6"][:8] + "f" * 8}
    found = judged(digests=digests)
    assert (found.state, found.level) == ("failed", "restorable")
    assert found.why == "3 of 1,000 recorded points changed: 5 (vectors), 6 (payload), 13 (missing)"
    assert found.evidence["wrong"] == {"13": "missing", "5": "vectors", "6": "payload"}
    assert (found.compared, found.same) == (1000, 997)


@pytest.mark.parametrize(
    ("changed", "part", "writes", "state"),
    [
        (12, "payload", 40, "inconclusive"),
        (12, "payload", 0, "failed"),
        (12, "payload", None, "failed"),
        (12, "vectors", 40, "failed"),
        (21, "payload", 40, "failed"),
    ],
)
def test_a_few_payloads_may_be_others_where_writes_may_have_failed(changed, part, writes, state):
    other = dict(DIGESTS)
    for number in map(str, range(changed)):
        vectors, payload = DIGESTS[number][:8], DIGESTS[number][8:]
        other[number] = vectors + "f" * 8 if part == "payload" else "f" * 8 + payload
    found = judged(expected=but(writes=writes), digests=other)
    assert found.state == state
    assert ("may come of writes that failed" in found.why) is (state == "inconclusive")


def test_not_more_points_are_named_than_can_be_read():
    found = judged(digests={})
    assert "1,000 of 1,000 recorded points changed: 0 (missing), 1 (missing), 2 (missing), …" in found.why
    assert len(found.evidence["wrong"]) == 20
    assert len(msgspec.json.encode(found.evidence)) < 2000


def test_probes_that_are_answered_otherwise_are_told():
    found = judged(answers=(((7, 1.0), (8, 0.5), (4, 0.3)),), expected=but(writes=0))
    assert (found.state, found.level, found.asked, found.matched) == ("failed", "restorable", 1, 0)
    assert found.why == "1 of 1 probe answered otherwise, about point 7: 4 at 0.3 instead of 9 at 0.25"
    assert found.evidence["probes"][0]["differs"] == "4 at 0.3 instead of 9 at 0.25"


def test_probes_may_find_points_that_came_and_went_while_it_was_written_to():
    answers = ((7, 1.0), (4, 0.7), (8, 0.5))
    assert judged(answers=(answers,), expected=but(writes=0)).state == "failed"
    assert judged(answers=(answers,), expected=but(writes=3)).state == "passed"
    assert judged(answers=(((7, 1.0), (4, 0.7), (9, 0.25)),), expected=but(writes=3)).state == "failed"


def test_a_probe_that_is_refused_speaks_against_the_copy():
    refused = "the probe about point 7: Not existing vector name error: image"
    found = judged(answers=(None,), unanswered=(refused,))
    assert (found.state, found.asked) == ("failed", 0)
    assert found.why == f"the engine cannot answer {refused}"


def test_a_probe_that_cannot_be_asked_here_proves_nothing():
    found = judged(expected=but(content=None), answers=(None,))
    assert (found.state, found.level, found.asked) == ("passed", "restorable", 0)


def test_a_score_that_was_no_number_is_not_compared():
    odd = msgspec.structs.replace(PROBE, answers=[{"id": 7, "score": None}])
    assert judged(expected=but(probes=(odd,))).asked == 0


def test_points_that_cannot_be_read_are_told():
    digests = {point: digest for point, digest in DIGESTS.items() if point not in {"17", "18"}}
    found = judged(
        digests=digests, read=998, unreadable=2, unread=("the payload of point 17: bad LZ4", "a vector of point 18: x")
    )
    assert (found.state, found.level) == ("failed", "restorable")
    assert found.why.startswith(
        "2 of 1,000 points cannot be read: the payload of point 17: bad LZ4; 2 of 1,000 recorded"
    )
    assert found.evidence["wrong"] == {"17": "unreadable", "18": "unreadable"}
    bare = judged(expected=Expected(), unreadable=2, unread=("the payload of point 17: bad LZ4",))
    assert bare.state == "failed"


def test_a_file_that_is_missing_is_named_with_what_follows():
    where = "segments/a/vector_storage/matrix.dat is missing"
    assert f"; in shard 0 {where}" in judged(points=0, digests={}, where=where).why
    bare = judged(expected=Expected(), where=where)
    assert (bare.state, bare.level, bare.why) == ("failed", "well-formed", f"in shard 0 {where}")
    assert judged(where=where).state == "passed"  # all of it is as recorded, whatever it is called in that version


def test_wrong_data_of_a_format_that_may_be_unknown_is_inconclusive():
    found = judged(digests={}, made_by="1.22.0")
    assert (found.state, found.level) == ("inconclusive", "restorable")
    assert "; but it was made by 1.22.0" in found.why


def test_an_id_that_several_shards_have_is_as_it_was_if_it_is_so_in_one():
    other = Part(shard=1, points=0, answers=((),), digests={"5": "f" * 16})
    assert rehearsal.judge(seen(GOOD, other), WHOLE).state == "passed"
    assert rehearsal.judge(seen(other, GOOD), WHOLE).state == "passed"


# --- marks


def marked(kind: str, number: int, among: int = 0, **how) -> Judgement:
    expected = how.pop("expected", WHOLE)
    known = Marks(points=500, vectors={"": 500}, **({kind: {"": among}} if among else {}))
    return judged(expected=expected, read=1000, recorded=known, **{kind: {"": number}}, **how)


@pytest.mark.parametrize(
    ("kind", "number", "among", "state"),
    [
        ("zeroed", 300, 0, "failed"),
        ("zeroed", 3, 0, "passed"),
        ("zeroed", 500, 250, "passed"),
        ("zeroed", 500, 500, "passed"),
        ("odd", 1, 0, "failed"),
        ("odd", 20, 10, "passed"),
        ("odd", 400, 10, "failed"),
        ("alike", 300, 0, "failed"),
        ("alike", 900, 450, "passed"),
        ("alike", 12, 0, "passed"),
    ],
)
def test_vectors_that_were_overwritten_are_more_than_were_recorded(kind, number, among, state):
    assert marked(kind, number, among).state == state


@pytest.mark.parametrize(
    ("kind", "number", "state", "note"),
    [
        ("zeroed", 500, "failed", "nothing but zeros in 500 of 1,000 vectors"),
        ("zeroed", 499, "passed", "nothing but zeros in 499 of 1,000 vectors"),
        ("odd", 1, "failed", "a value that is no number, or infinite, in 1 of 1,000 vectors"),
        ("alike", 1000, "passed", "one and the same vector in 1,000 of 1,000 vectors"),
        ("alike", 9, "passed", ""),
    ],
)
def test_without_a_record_only_the_worst_is_damage(kind, number, state, note):
    found = judged(expected=Expected(), **{kind: {"": number}})
    assert found.state == state
    assert note in found.why
    assert ("vectors" in found.why) == bool(note)


def test_where_recorded_points_are_not_told_apart_marks_are_a_note():
    found = judged(zeroed={"image": 600}, vectors={"image": 1000})
    assert found.state == "passed"
    assert found.why.endswith("; nothing but zeros in 600 of 1,000 vectors 'image'")


# --- what was recorded


def entry(**changes) -> CollectionEntry:
    fields = {"name": "c", "file": "f", "size": 1, "sha256": "", "points_before": 10, "points_after": 12}
    return CollectionEntry(**(fields | changes))


def test_what_was_recorded_is_what_the_manifest_says():
    found = rehearsal.expected((entry(probes=[PROBE], content=ALL, writes=3),))
    assert found == Expected(low=10, high=12, probes=(PROBE,), content=ALL, writes=3, source=RECORDED)
    assert rehearsal.expected((entry(points_before=None, points_after=None),)) == Expected()


def test_what_the_configuration_says_of_scores_and_numbers_is_heeded():
    params = {"sparse_vectors": {"words": {"modifier": "idf"}, "others": {}, "none": None}}
    found = rehearsal.expected((entry(config={"params": params, "optimizer_config": {"prevent_unoptimized": True}}),))
    assert (found.idf, found.hides) == (("words",), True)
    astray = ((7, 9.0), (9, 3.0), (4, 1.0))
    words = msgspec.structs.replace(PROBE, vector="words")
    assert judged(expected=but(probes=(words,)), answers=(astray,)).state == "failed"
    assert judged(expected=but(probes=(words,), idf=("words",)), answers=(astray,)).state == "passed"
    assert judged(expected=but(hides=True), points=1001).state == "inconclusive"
    assert judged(expected=but(hides=True), points=999).state == "failed"


def test_in_a_cluster_that_counts_which_was_so_whenever_an_archive_was_made():
    later = Content(of=1000, drawn=1000, changed=1, points={**DIGESTS, "1": "f" * 16})
    other = msgspec.structs.replace(PROBE, point=8)
    found = rehearsal.expected(
        (
            entry(probes=[PROBE, other], content=ALL, writes=0),
            entry(points_before=12, points_after=20, probes=[other], content=later, writes=4),
        )
    )
    assert (found.low, found.high, found.writes, found.probes) == (10, 20, 4, (other,))
    assert found.content.changed == 1
    assert found.content.points == {point: digest for point, digest in DIGESTS.items() if point != "1"}
    assert rehearsal.expected((entry(content=ALL), entry())).content is None
    assert rehearsal.expected((entry(writes=0), entry())).writes is None


# --- baseline


def test_a_first_drill_is_what_later_ones_are_compared_with():
    asked = msgspec.structs.replace(PROBE, answers=[])
    first = Seen(engine=EDGE, parts=(GOOD, Part(shard=1, points=5, answers=(((3, 0.9),),))), probes=(asked,))
    made = rehearsal.baseline(first, "abc", 1_795_392_000.0)
    again = rehearsal.decode_baseline(rehearsal.encode_baseline(made))
    assert again == made
    assert (again.points, again.sha256, again.engine) == (1005, "abc", EDGE)
    expected = rehearsal.as_expected(again)
    assert (expected.low, expected.high, expected.source) == (1005, 1005, "its first drill on 2026-11-23")
    assert [one["id"] for one in expected.probes[0].answers] == [7, 3, 8]
    assert rehearsal.judge(first, expected).level == "faithful"
    fewer = msgspec.structs.replace(first, parts=(GOOD, Part(shard=1, points=4, answers=(((3, 0.9),),))))
    assert rehearsal.judge(fewer, expected).state == "failed"


@pytest.mark.parametrize(
    "first",
    [
        seen(),
        seen(GOOD, ended="time"),
        seen(GOOD, Part(shard=1, error="x")),
        seen(GOOD, Part(shard=1)),
    ],
)
def test_a_drill_that_did_not_see_everything_is_no_baseline(first):
    assert rehearsal.baseline(first, "abc", 0.0) is None


def test_an_empty_archive_has_a_baseline_too():
    made = rehearsal.baseline(seen(Part(shard=0, points=0)), "abc", 0.0)
    assert rehearsal.judge(seen(Part(shard=0, points=0)), rehearsal.as_expected(made)).level == "faithful"


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[" * 5000, b'{"schema_version": 2}'])
def test_what_is_no_baseline_is_told(data):
    with pytest.raises(ValueError, match="cannot be read"):
        rehearsal.decode_baseline(data)


def test_a_newer_baseline_is_not_understood():
    made = msgspec.structs.replace(rehearsal.baseline(seen(GOOD), "abc", 0.0), schema_version=2)
    with pytest.raises(ValueError, match="form 2"):
        rehearsal.decode_baseline(rehearsal.encode_baseline(made))


def test_the_evidence_is_json_and_says_what_was_seen():
    part = msgspec.structs.replace(GOOD, zeroed={"": 2}, unread=("a",) * 50, unreadable=50, where="segments/a")
    found = rehearsal.judge(seen(part, ended="abort", why="SIGABRT", where="shard 0"), WHOLE)
    told = msgspec.json.decode(msgspec.json.encode(found.evidence))
    assert told["ended"] == "abort"
    shard = {"shard": 0, "points": 1000, "read": 1000, "where": "segments/a", "unreadable": 50, "unread": ["a"] * 20}
    assert told["shards"] == [shard | {"vectors": {"": 1000}, "zeroed": {"": 2}}]
