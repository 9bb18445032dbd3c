import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.rules.archive import Signature
from agent.rules.settle import STALLED, Settling, promisers

A, B = Signature(1, 10, 100, 100), Signature(1, 20, 200, 200)


@pytest.mark.parametrize("field", Signature._fields)
def test_any_change_of_a_file_begins_its_rest_anew(field: str) -> None:
    settling: Settling[str] = Settling(2.0)
    settling.see("f", A, 0.0)
    settling.see("f", A._replace(**{field: 7}), 1.5)
    assert settling.ready(2.0) == []
    assert settling.ready(3.5) == [("f", A._replace(**{field: 7}))]


def test_seeing_a_file_again_as_it_was_does_not_hold_it_up() -> None:
    settling: Settling[str] = Settling(2.0)
    settling.see("f", A, 0.0)
    settling.see("f", A, 1.9)
    assert settling.ready(1.9) == []
    assert settling.ready(2.0) == [("f", A)]


def test_a_file_in_somebodys_hands_begins_anew_even_unchanged() -> None:
    settling: Settling[str] = Settling(2.0)
    settling.see("f", A, 0.0)
    settling.restart("f", A, 2.0)
    assert settling.ready(3.9) == []
    assert settling.ready(4.0) == [("f", A)]


def test_a_file_stays_until_it_is_dropped_and_may_be_dropped_twice() -> None:
    settling: Settling[str] = Settling(0.0)
    settling.restart("f", A, 0.0)
    assert "f" in settling
    assert len(settling) == 1
    assert settling.ready(0.0) == settling.ready(0.0) == [("f", A)]
    settling.drop("f")
    settling.drop("f")
    assert "f" not in settling
    assert len(settling) == 0
    assert settling.next_at() is None


def test_a_file_that_grows_for_an_hour_is_stalled_however_often_it_began_anew() -> None:
    settling: Settling[str] = Settling(2.0)
    settling.see("f", A, 5.0)
    settling.restart("f", A, 1000.0)
    settling.see("f", B, 3000.0)
    settling.restart("g", A, 6.0)
    settling.see("h", A, 6.1)
    assert settling.stalled(5.0 + 3599.9) == []
    assert settling.stalled(6.0 + 3600.0) == ["f", "g"]


@given(
    settle=st.floats(0.1, 60),
    pauses=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=30),
    start=st.floats(0, 1e6),
)
def test_a_file_written_with_pauses_shorter_than_the_settle_time_is_never_ready_half(
    settle: float, pauses: list[float], start: float
) -> None:
    settling: Settling[str] = Settling(settle)
    now = start
    for size, pause in enumerate(pauses):
        settling.see("f", Signature(1, size, size, size), now)
        now += pause * settle
        assert settling.ready(now) == []
    assert [sig.size for _, sig in settling.ready(now + settle)] == [len(pauses) - 1]


@given(st.floats(0, 60), st.floats(0, 1e9))
def test_whoever_waits_as_long_as_told_finds_something_at_rest(settle: float, start: float) -> None:
    settling: Settling[str] = Settling(settle)
    settling.see("f", A, start)
    at = settling.next_at()
    assert at is not None
    assert settling.ready(at) == [("f", A)]


class Sightings(RuleBasedStateMachine):
    """Any order of sightings, against the plain history of each file."""

    def __init__(self) -> None:
        super().__init__()
        self.settling: Settling[str] = Settling(2.0)
        self.now = 0.0
        self.history: dict[str, list[tuple[float, Signature]]] = {}

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, STALLED]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=st.sampled_from("fgh"), signature=st.sampled_from([A, B]))
    def seen(self, key: str, signature: Signature) -> None:
        self.settling.see(key, signature, self.now)
        past = self.history.setdefault(key, [])
        if not past or past[-1][1] != signature:
            past.append((self.now, signature))

    @rule(key=st.sampled_from("fgh"), signature=st.sampled_from([A, B]))
    def found_open(self, key: str, signature: Signature) -> None:
        self.settling.restart(key, signature, self.now)
        self.history.setdefault(key, []).append((self.now, signature))

    @rule(key=st.sampled_from("fgh"))
    def dropped(self, key: str) -> None:
        self.settling.drop(key)
        self.history.pop(key, None)

    @invariant()
    def only_what_did_not_change_for_the_settle_time_is_ready(self) -> None:
        last = {key: past[-1] for key, past in self.history.items()}
        assert dict(self.settling.ready(self.now)) == {
            key: signature for key, (at, signature) in last.items() if self.now - at >= 2.0
        }
        assert self.settling.next_at() == min((at + 2.0 for at, _ in last.values()), default=None)
        assert self.settling.stalled(self.now) == [
            key for key, past in self.history.items() if self.now - past[0][0] >= STALLED
        ]


TestSightings = Sightings.TestCase


def test_an_archive_waits_for_every_file_that_may_promise_something_about_it() -> None:
    assert set(promisers("c.gz")) == {"c.gz.sha256", "SHA256SUMS", "manifest.json"}
