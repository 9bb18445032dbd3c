"""Which drill comes next, what fits, who is overdue, and what an outcome means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rules import drilling
from agent.rules.archive import FAITHFUL, INTACT, State, Verdict
from agent.rules.drilling import FAILED, INCONCLUSIVE, PASSED, Measured, Proof
from agent.rules.finding import Level
from agent.rules.subjects import Piece, Subject

GOOD = Verdict(State.GOOD, INTACT, "as promised")
DAY = 86_400.0


def subject(name: str, taken: float = 100.0, sha256: str = "a" * 64) -> Subject:
    spots = (("primary", "daily/1"),)
    piece = Piece(file=f"{name}.snapshot.gz", spots=spots, sha256=sha256)
    return Subject(
        collection=name, backup="1", tier="daily", taken=taken, spots=frozenset(spots), pieces=(piece,), described=True
    )


def proof(state: str, level: str = FAITHFUL) -> Proof:
    return Proof(state, level, "5,000 points as recorded", 200.0)


def test_a_drill_that_passed_lifts_what_holds_the_same():
    lifted = drilling.laid(GOOD, proof(PASSED))
    assert (lifted.state, lifted.level) == (State.GOOD, FAITHFUL)
    assert "5,000 points" in lifted.why
    assert drilling.laid(GOOD, None) == GOOD


def test_a_drill_that_failed_makes_it_bad():
    fallen = drilling.laid(GOOD, proof(FAILED, INTACT))
    assert fallen.bad
    assert fallen.level == INTACT


@pytest.mark.parametrize("state", [State.CORRUPT, State.VANISHED, State.UNREADABLE])
def test_what_is_bad_as_a_file_stays_so_whatever_was_drilled(state: State):
    bad = Verdict(state, "arrived", "gone")
    assert drilling.laid(bad, proof(PASSED)) == bad


def test_a_drill_without_a_promise_says_how_far_and_not_that_all_is_good():
    lifted = drilling.laid(Verdict(State.NO_CHECKSUM, "arrived", "nothing promises"), proof(PASSED))
    assert (lifted.state, lifted.level) == (State.NO_CHECKSUM, FAITHFUL)


def test_a_drill_never_lowers_what_is_proved():
    well = Verdict(State.GOOD, "faithful", "as it was")
    assert drilling.laid(well, proof(PASSED, "restorable")) == well


def test_first_come_those_that_were_not_drilled_for_longest():
    given = [subject("b"), subject("a"), subject("never"), subject("c")]
    ordered = drilling.rotation(given, {"a": 300.0, "b": 200.0, "c": 100.0})
    assert [one.collection for one in ordered] == ["never", "c", "b", "a"]


def test_after_a_backup_only_what_no_drill_has_spoken_of_is_wanted():
    given = [subject("a", sha256="a" * 64), subject("b", sha256="b" * 64)]
    assert [one.collection for one in drilling.unproved(given, {"a" * 64: proof(PASSED)})] == ["b"]


def test_what_was_measured_says_what_fits():
    before = Measured(60.0, 1 << 30)
    assert drilling.fits(1 << 30, before, 80.0)
    assert not drilling.fits(2 << 30, before, 80.0)
    assert drilling.fits(1 << 20, None, 10.0)
    assert not drilling.fits(1 << 40, None, 3600.0)


@given(st.integers(0, 1 << 60), st.integers(0, 1 << 60), st.floats(0, 1e6), st.integers(0, 1 << 60))
def test_more_never_takes_less(raw: int, more: int, seconds: float, before: int):
    measured = Measured(seconds, before)
    assert drilling.estimate(raw + more, measured) >= drilling.estimate(raw, measured) >= 0
    assert drilling.estimate(raw + more, None) >= drilling.estimate(raw, None) > 0


def test_a_collection_is_overdue_when_its_last_drill_or_its_first_backup_is_too_old():
    now, every = 100 * DAY, 31 * DAY
    found = drilling.standings(
        ["fresh", "late", "never", "new"],
        {"never": 60 * DAY, "new": 99 * DAY, "fresh": 0.0, "late": 0.0},
        {"fresh": (90 * DAY, PASSED), "late": (60 * DAY, FAILED)},
        every,
        now,
    )
    assert [one.overdue > 0 for one in found] == [False, True, True, False]
    assert [one.failed for one in found] == [False, True, False, False]
    told = [drilling.overdue(one, every, now) for one in found]
    assert [one.level for one in told] == [Level.OK, Level.WARNING, Level.WARNING, Level.OK]
    assert told[1].why == "no drill of it has come to an end for 40 days; drills.every is 31 days"
    assert told[2].why.startswith("was never drilled in 40 days")


@pytest.mark.parametrize(("state", "levels"), [(PASSED, [Level.OK]), (FAILED, [Level.CRITICAL]), (INCONCLUSIVE, [])])
def test_an_outcome_is_a_finding_unless_nothing_can_be_told(state: str, levels: list[Level]):
    found = drilling.failure(subject("a"), state, "4,992 points")
    assert [one.level for one in found] == levels
    assert all((one.rule, one.subject) == ("drill_failed", "a") and "4,992 points" in one.why for one in found)


def test_what_is_not_backed_up_any_more_needs_no_drill():
    active = [("drill_failed", "a"), ("drill_overdue", "a"), ("drill_failed", "kept"), ("drill_overdue", "kept")]
    active += [("drill_failed", "b"), ("storage_space", "a")]
    over = drilling.ended(active, ["b"], ["kept"])
    assert [(one.rule, one.subject) for one in over] == [
        ("drill_failed", "a"),
        ("drill_overdue", "a"),
        ("drill_overdue", "kept"),
    ]


@pytest.mark.parametrize(
    ("states", "sum_", "words"),
    [
        ([PASSED, PASSED], PASSED, "would restore: 2 of 2 collections"),
        ([PASSED, INCONCLUSIVE], INCONCLUSIVE, "would restore: 1 of 2 collections; 1 could not be told"),
        ([INCONCLUSIVE, FAILED], FAILED, "would restore: 0 of 2 collections; 1 could not be told"),
        ([], INCONCLUSIVE, "would restore: 0 of 0 collections"),
    ],
)
def test_several_drills_have_one_sum(states: list[str], sum_: str, words: str):
    assert drilling.summed(states) == sum_
    assert drilling.headline(states) == words
