import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from parrot import Lossy, open_sockets, said
from standin import StandIn

from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.server import Server, Snapshot, stamp
from agent.adapters.qdrant.snapshot import Ticket, left, make, ours
from agent.adapters.qdrant.trouble import Absent, Away, Busy
from agent.adapters.qdrant.wire import Wire
from agent.errors import AgentError, CannotWrite, NoRights, TryLater

REAL = "SNAPWARD_TEST_QDRANT_URL"
NAME = "e_snapshot"
CONTENT = b"a snapshot" * 1000


@pytest.fixture(autouse=True)
def no_socket_is_left() -> Iterator[None]:
    before = open_sockets()
    yield
    assert open_sockets() <= before


class Notes:
    """What a journal is told; `first` is done as soon as a request is noted, and before it is made."""

    def __init__(self, first: Callable[[], None] = lambda: None) -> None:
        self.open: dict[int, str | None] = {}
        self.ever = 0
        self._first = first

    def asked(self, url: str, collection: str, moment: float, beside: frozenset[str]) -> int:
        assert url.startswith("http://")
        assert collection == NAME
        assert abs(moment - time.time()) < 3
        assert all(name.startswith(NAME) for name in beside)
        self.ever += 1
        self.open[self.ever] = None
        self._first()
        return self.ever

    def made(self, note: int, name: str) -> None:
        assert self.open[note] is None
        self.open[note] = name

    def gone(self, note: int) -> None:
        del self.open[note]


def server(
    url: str, *, patience: float = 3.0, silence: float = 5.0, halted: Callable[[], str] = str, key: str = ""
) -> Server:
    return Server(Wire(Address(url, key, patience=patience, silence=silence), halted))


def ask(url: str, notes: Notes, *, within: float = 20.0, **how: Any) -> tuple[Snapshot, Ticket]:
    return make(server(url, **how), NAME, notes, time.monotonic() + within)


def after(seconds: float) -> Callable[[], str]:
    until = time.monotonic() + seconds
    return lambda: "it was asked to stop" if time.monotonic() > until else ""


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[StandIn]:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    with StandIn(tmp_path / "server", premade={NAME: path}) as running:
        yield running


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.real_qdrant)])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server with one collection of which there are no snapshots."""
    if request.param == "stand-in":
        yield request.getfixturevalue("standin").url
        return
    real = os.environ.get(REAL)
    if not real:
        pytest.skip(f"{REAL} names no Qdrant server")
    wire = server(real, silence=30).wire
    wire.answer("DELETE", f"/collections/{NAME}")
    wire.ask("PUT", f"/collections/{NAME}", bool, {"vectors": {"size": 4, "distance": "Dot"}})
    yield real
    for one in there(real):
        server(real).delete(NAME, one)
    wire.answer("DELETE", f"/collections/{NAME}")


def there(url: str) -> list[str]:
    return sorted(one.name for one in server(url).snapshots(NAME)[0])


def posts(standin: StandIn) -> int:
    return sum(one.operation == "create" for one in standin.requests)


def foreign(standin: StandIn, at: float | None = None) -> str:
    """Put somebody else's snapshot on the server."""
    moment = time.strftime("%Y-%m-%d-%H-%M-%S", time.gmtime(at))
    name = f"{NAME}-111-{moment}.snapshot"
    folder = standin.snapshots.folder / NAME
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"theirs")
    return name


# Made.


def test_a_snapshot_is_noted_before_it_is_asked_for_and_named_when_it_is_there(url: str) -> None:
    notes = Notes(first=lambda: found.extend(there(url)))
    found: list[str] = []
    made, ticket = ask(url, notes)
    assert found == []
    assert there(url) == [made.name]
    assert notes.open == {1: made.name} == {ticket.id: made.name}
    assert (ticket.url, ticket.collection, ticket.beside) == (url, NAME, frozenset())
    assert made.stamp is not None
    assert -1 <= made.stamp - ticket.asked <= 10
    assert made.checksum is not None
    assert len(made.checksum) == 64


def test_a_second_snapshot_in_the_same_second_does_not_take_the_first_ones_place(url: str) -> None:
    notes = Notes()
    first, _ = ask(url, notes)
    second, ticket = ask(url, notes)
    assert ticket.beside == {first.name}
    assert there(url) == sorted([first.name, second.name])


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("instead", [b"", said(504, b"<html>Gateway Time-out</html>"), said(200, b"<html>"), said(408)])
def test_a_snapshot_of_which_the_answer_is_lost_is_found_and_not_made_again(
    url: str, instead: bytes, *, late: bool
) -> None:
    notes = Notes()
    with Lossy(url, "POST", instead, late=late) as lossy:
        made, ticket = ask(lossy.url, notes)
    assert there(url) == [made.name]
    assert notes.open == {ticket.id: made.name}
    assert notes.ever == 1


def test_a_snapshot_that_takes_its_time_after_its_answer_was_lost_is_waited_for(standin: StandIn) -> None:
    standin.faults.add("linger", seconds=0.5)
    standin.faults.add("lost", times=1)
    notes = Notes()
    made, _ = ask(standin.url, notes)
    assert (posts(standin), notes.ever) == (1, 1)
    assert there(standin.url) == [made.name]


def test_a_snapshot_that_died_with_its_server_is_made_again(standin: StandIn) -> None:
    standin.faults.add("linger", times=1)

    def restart() -> None:
        while not posts(standin):
            assert standin.up
        standin.restart(down_for=0.2)

    notes = Notes()
    thread = threading.Thread(target=restart)
    thread.start()
    made, ticket = ask(standin.url, notes)
    thread.join()
    assert there(standin.url) == [made.name]
    assert notes.open == {ticket.id: made.name}
    assert notes.ever == 2


def test_a_server_that_goes_away_just_before_it_is_asked_is_waited_for(standin: StandIn) -> None:
    def once() -> None:
        if notes.ever == 1:
            standin.restart(down_for=0.2)

    notes = Notes(first=once)
    made, ticket = ask(standin.url, notes)
    assert there(standin.url) == [made.name]
    assert notes.open == {ticket.id: made.name}
    assert posts(standin) == 1


# Refused.


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "headers": {"retry-after": "0"}, "times": 2},
        {"status": 500, "text": "Service internal error: the optimiser is at work", "times": 1},
        {"status": 503, "times": 1},
    ],
)
def test_a_refusal_that_passes_is_borne(standin: StandIn, fault: dict[str, Any]) -> None:
    standin.faults.add("refuse", on="create", **fault)
    notes = Notes()
    made, ticket = ask(standin.url, notes, patience=10)
    assert there(standin.url) == [made.name]
    assert notes.open[ticket.id] == made.name
    assert posts(standin) == fault["times"] + 1


@pytest.mark.parametrize(
    ("fault", "kind", "why"),
    [
        ({"status": 500, "text": "No space left on device (os error 28)"}, CannotWrite, "No space left"),
        ({"status": 507, "text": "quota"}, CannotWrite, "507"),
        ({"status": 401, "text": "Invalid API key or JWT"}, NoRights, "401: Invalid API key"),
        ({"status": 403, "text": "Forbidden: Global manage access is required"}, NoRights, "403: Forbidden"),
        ({"status": 404, "text": "Not found: Collection `x` doesn't exist!"}, Absent, "404"),
    ],
)
def test_a_refusal_that_stays_is_told_at_once_and_leaves_no_note(
    standin: StandIn, fault: dict[str, Any], kind: type[AgentError], why: str
) -> None:
    standin.faults.add("refuse", on="create", **fault)
    notes = Notes()
    with pytest.raises(kind, match=why):
        ask(standin.url, notes)
    assert (posts(standin), notes.open) == (1, {})


def test_a_refusal_that_does_not_pass_is_borne_as_long_as_patience(standin: StandIn) -> None:
    standin.faults.add("refuse", on="create", status=429, headers={"retry-after": "0"})
    notes = Notes()
    with pytest.raises(Busy, match="429"):
        ask(standin.url, notes, patience=0.3)
    assert notes.open == {}
    assert posts(standin) > 1
    standin.faults.clear()
    standin.faults.add("refuse", on="create", status=429, headers={"retry-after": "3600"})
    with pytest.raises(Busy, match="429"):
        ask(standin.url, notes, patience=60)


def test_a_server_that_stays_away_is_told(standin: StandIn) -> None:
    notes = Notes(first=standin.stop)
    with pytest.raises(Away):
        ask(standin.url, notes, patience=0.2)
    assert notes.open == {}


def test_a_collection_that_vanished_is_told(standin: StandIn) -> None:
    server(standin.url).wire.ask("DELETE", f"/collections/{NAME}", bool)
    notes = Notes()
    with pytest.raises(Absent, match="doesn't exist"):
        ask(standin.url, notes)
    assert (posts(standin), notes.ever) == (0, 0)


def test_answers_that_are_lost_again_and_again_end_after_three(standin: StandIn) -> None:
    standin.faults.add("garbage", on="create", text="<html>Please log in</html>")
    notes = Notes()
    with pytest.raises(TryLater, match=r"not Qdrant's.*Please log in.*, 3 times") as caught:
        ask(standin.url, notes)
    assert caught.value.hint
    assert (posts(standin), notes.open) == (3, {3: None})  # of the others certainly nothing came


# Somebody else's.


def test_a_snapshot_of_somebody_else_is_never_taken_for_ours(standin: StandIn) -> None:
    """It appears while ours is being made, and nobody can tell them apart: another one is made."""
    standin.faults.add("linger", times=1)
    standin.faults.add("lost", times=1)
    looked: list[str] = []

    def appear() -> str:
        looks = sum(one.operation == "list" for one in standin.requests)
        if looks == 2 and not looked:
            looked.append(foreign(standin))
        if looks > 2:
            standin.faults.release()
        return ""

    notes = Notes()
    made, ticket = ask(standin.url, notes, halted=appear)
    theirs = looked[0]
    assert made.name != theirs
    assert theirs in ticket.beside
    assert len(there(standin.url)) == 3
    assert notes.open == {1: None, 2: made.name}


def test_left_is_what_appeared_at_that_moment_and_was_not_there_before() -> None:
    def at(seconds: float, peer: int = 1) -> Snapshot:
        moment = time.strftime("%Y-%m-%d-%H-%M-%S", time.gmtime(1_800_000_000 + seconds))
        name = f"x-{peer}-{moment}.snapshot"
        return Snapshot(name, 1, None, stamp(name))

    def asked(beside: Sequence[Snapshot] = (), name: str | None = None) -> Ticket:
        return Ticket(1, "", "x", 1_800_000_000.0, frozenset(one.name for one in beside), name)

    for seconds, number in [(-60, 0), (-2, 0), (-1, 1), (0, 1), (3, 1), (10, 1), (11, 0), (3600, 0)]:
        assert left(asked(), [at(seconds)]) == [at(seconds)] * number, seconds
    assert left(asked(), [at(0), at(0, 2), at(60)]) == [at(0), at(0, 2)]
    assert left(asked([at(0, 2)]), [at(0), at(0, 2)]) == [at(0)]
    assert left(asked(), [Snapshot("x.snapshot", 1)]) == []
    named = at(500)
    assert left(asked(name=named.name), [at(0), named]) == [named]
    assert left(asked(name=named.name), [at(0)]) == []
    assert left(asked([named], name=named.name), [named]) == []  # made by somebody else, and again by us


def test_of_several_requests_it_is_certain_only_where_no_more_came_than_were_asked_for() -> None:
    first, second, third = (Snapshot(f"x-{peer}.snapshot", 1, None, 100.0) for peer in range(3))
    asked = [Ticket(number, "", "x", 100.0, frozenset()) for number in range(2)]
    assert ours(asked[:1], [first]) == [first]
    assert ours(asked[:1], [first, second]) == []
    assert ours(asked, [first, second]) == [first, second]
    assert ours(asked, [first, second, third]) == []
    assert ours([Ticket(3, "", "x", 100.0, frozenset(), third.name)], [first, second, third]) == [third]
    assert ours([], [first]) == []


# Its end.


def test_a_snapshot_that_is_not_made_by_the_deadline_keeps_its_note(standin: StandIn) -> None:
    standin.faults.add("linger")
    notes = Notes()
    with pytest.raises(TryLater, match=f"has not made a snapshot of {NAME} by the deadline"):
        ask(standin.url, notes, within=0.2)
    assert notes.open == {1: None}


@pytest.mark.parametrize("fault", ["linger", "lost", "away"])
def test_who_is_asked_to_stop_stops_soon_and_keeps_the_note(standin: StandIn, fault: str) -> None:
    standin.faults.add("linger")
    if fault == "lost":
        standin.faults.add("lost")
    notes = Notes(first=standin.stop if fault == "away" else lambda: None)
    began = time.monotonic()
    with pytest.raises(TryLater, match="asked to stop"):
        ask(standin.url, notes, patience=60, within=60, halted=after(0.1))
    assert time.monotonic() - began < 3
    assert notes.open == ({} if fault == "away" else {1: None})


def test_a_note_that_cannot_be_made_keeps_the_request_from_being_made(standin: StandIn) -> None:
    def full() -> None:
        raise CannotWrite("no space left on device")

    with pytest.raises(CannotWrite):
        ask(standin.url, Notes(first=full))
    assert posts(standin) == 0


@pytest.mark.real_qdrant
def test_a_real_server_goes_on_without_us_and_tells_while_it_does() -> None:
    real = os.environ.get(REAL)
    if not real:
        pytest.skip(f"{REAL} names no Qdrant server")
    one = server(real, silence=30)
    one.wire.answer("DELETE", f"/collections/{NAME}")
    one.wire.ask("PUT", f"/collections/{NAME}", bool, {"vectors": {"size": 4, "distance": "Dot"}, "shard_number": 8})
    try:
        assert one.making(NAME) is False
        with suppress(TryLater):
            make(server(real, halted=after(0)), NAME, Notes(), time.monotonic() + 10)
        while not there(real):
            assert one.making(NAME) is not None
        while one.making(NAME):
            assert len(there(real)) <= 1
        assert len(there(real)) == 1
    finally:
        for name in there(real):
            one.delete(NAME, name)
        one.wire.answer("DELETE", f"/collections/{NAME}")
