import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from standin import StandIn

from agent.adapters import ledger
from agent.adapters.qdrant import snapshot
from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.server import Server, Snapshot
from agent.adapters.qdrant.snapshot import Ticket
from agent.adapters.qdrant.wire import Wire
from agent.errors import TryLater
from agent.jobs.backup.journal import Journal
from agent.jobs.backup.leftovers import clear

NAMES = ("one", "two")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    state = tmp_path / "state"
    ledger.connect(str(state), create=True).close()
    return Journal(str(state))


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[StandIn]:
    content = tmp_path / "content"
    content.write_bytes(bytes(2048))
    with StandIn(tmp_path / "server", premade=dict.fromkeys(NAMES, content)) as running:
        yield running


def address(standin: StandIn, silence: float = 5.0) -> Address:
    return Address(standin.url, patience=0.0, silence=silence)


def server(standin: StandIn) -> Server:
    return Server(Wire(address(standin)))


def made(standin: StandIn, name: str = "one") -> Snapshot:
    return server(standin).create(name, time.monotonic() + 30)


def there(standin: StandIn, name: str = "one") -> list[str]:
    return sorted(one.name for one in server(standin).snapshots(name)[0])


def foreign(standin: StandIn, name: str = "one") -> str:
    moment = time.strftime("%Y-%m-%d-%H-%M-%S", time.gmtime())
    path = standin.snapshots.folder / name / f"{name}-111-{moment}.snapshot"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"theirs")
    return path.name


def noted(
    journal: Journal, standin: StandIn, name: str = "one", beside: frozenset[str] = frozenset(), ago: float = 0.0
) -> int:
    """A request that was noted, of which nobody knows what came."""
    return journal.asked(standin.url, name, time.time() - ago, beside)


def test_where_nothing_was_asked_nothing_is_looked_at(standin: StandIn, journal: Journal) -> None:
    assert clear([address(standin)], journal) == []
    assert standin.requests == []


def test_a_journal_is_what_it_was_told_in_any_life(standin: StandIn, journal: Journal, tmp_path: Path) -> None:
    first = journal.asked("http://a", "one", 1.5, frozenset({"x"}))
    second = journal.asked("http://a", "two", 2.5, frozenset())
    journal.made(second, "y")
    later = Journal(str(tmp_path / "state"))
    assert later.open() == [
        Ticket(first, "http://a", "one", 1.5, frozenset({"x"})),
        Ticket(second, "http://a", "two", 2.5, frozenset(), "y"),
    ]
    later.gone(first)
    assert [one.id for one in journal.open()] == [second]


def test_several_threads_may_write_one_journal(journal: Journal) -> None:
    def work(number: int) -> None:
        note = journal.asked("http://a", str(number), 1.0, frozenset())
        journal.made(note, f"{number}.snapshot")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(one.name or "" for one in journal.open()) == [f"{number}.snapshot" for number in range(8)]


def test_a_journal_without_a_ledger_says_so(tmp_path: Path) -> None:
    with pytest.raises(TryLater, match="there is no ledger"):
        Journal(str(tmp_path)).asked("http://a", "one", 1.0, frozenset())


def test_a_snapshot_whose_name_is_known_is_deleted_however_old(standin: StandIn, journal: Journal) -> None:
    left = made(standin)
    journal.made(noted(journal, standin, ago=30 * 86400), left.name)
    theirs = foreign(standin)
    (words,) = clear([address(standin)], journal)
    assert left.name in words
    assert "2 KiB" in words
    assert (there(standin), journal.open()) == ([theirs], [])


def test_a_snapshot_that_is_gone_already_is_forgotten_without_a_word(standin: StandIn, journal: Journal) -> None:
    left = made(standin)
    journal.made(noted(journal, standin), left.name)
    server(standin).delete("one", left.name)
    assert (clear([address(standin)], journal), journal.open()) == ([], [])


def test_what_somebody_else_made_in_the_same_second_is_not_deleted_though_ours_had_its_name(
    standin: StandIn, journal: Journal
) -> None:
    theirs = made(standin)
    journal.made(noted(journal, standin, beside=frozenset({theirs.name})), theirs.name)
    assert (clear([address(standin)], journal), journal.open()) == ([], [])
    assert there(standin) == [theirs.name]


def test_a_backup_that_died_before_the_answer_left_what_appeared_then(standin: StandIn, journal: Journal) -> None:
    before = foreign(standin)
    noted(journal, standin, beside=frozenset({before}))
    left = made(standin)
    (words,) = clear([address(standin)], journal)
    assert left.name in words
    assert (there(standin), journal.open()) == ([before], [])


def test_a_request_that_came_to_nothing_is_forgotten(standin: StandIn, journal: Journal) -> None:
    later = made(standin)
    noted(journal, standin, ago=3600)
    assert (clear([address(standin)], journal), journal.open()) == ([], [])
    assert there(standin) == [later.name]


def test_where_two_appeared_none_is_deleted_and_both_are_named(standin: StandIn, journal: Journal) -> None:
    noted(journal, standin)
    both = sorted([made(standin).name, foreign(standin)])
    (words,) = clear([address(standin)], journal)
    assert "cannot be told" in words
    assert all(name in words for name in both)
    assert (there(standin), journal.open()) == (both, [])
    assert clear([address(standin)], journal) == []  # told once


def test_what_is_still_being_made_is_left_until_it_is_there(standin: StandIn, journal: Journal) -> None:
    noted(journal, standin)
    standin.faults.add("linger")
    thread = threading.Thread(target=made, args=(standin,))
    thread.start()
    while not server(standin).making("one"):
        assert thread.is_alive()
    theirs = foreign(standin)
    (words,) = clear([address(standin)], journal)
    assert "is making a snapshot of one" in words
    assert (there(standin), len(journal.open())) == ([theirs], 1)
    standin.faults.release(waiting=1)
    thread.join()
    assert len(there(standin)) == 2
    (words,) = clear([address(standin)], journal)
    assert "cannot be told" in words


def test_a_collection_that_is_gone_is_told_until_nobody_asks_any_more(standin: StandIn, journal: Journal) -> None:
    made(standin)
    server(standin).wire.ask("DELETE", "/collections/one", bool)
    noted(journal, standin)
    (words,) = clear([address(standin)], journal)
    assert words.startswith("collection one is gone")
    assert len(journal.open()) == 1
    journal.gone(journal.open()[0].id)
    noted(journal, standin, ago=3 * 86400)
    assert len(clear([address(standin)], journal)) == 1
    assert journal.open() == []


def test_a_server_that_is_away_is_asked_once_and_named_once(standin: StandIn, journal: Journal) -> None:
    for name in NAMES * 3:
        noted(journal, standin, name)
    standin.stop()
    (words,) = clear([address(standin)], journal)
    assert "snapshots of one, two " in words
    assert "cannot be reached" in words
    assert len(journal.open()) == 6


def test_a_server_that_hangs_is_asked_once(standin: StandIn, journal: Journal) -> None:
    for name in NAMES * 3:
        noted(journal, standin, name)
    standin.faults.add("hang")
    began = time.monotonic()
    (words,) = clear([address(standin, silence=0.3)], journal)
    assert "stays silent" in words
    assert time.monotonic() - began < 3
    assert len(journal.open()) == 6


def test_a_server_that_refuses_to_delete_is_told_and_the_others_are_seen_to(standin: StandIn, journal: Journal) -> None:
    kept, deleted = made(standin, "one"), made(standin, "two")
    journal.made(noted(journal, standin, "one"), kept.name)
    journal.made(noted(journal, standin, "two"), deleted.name)
    standin.faults.add("refuse", on="delete", collection="one", status=500, text="Permission denied (os error 13)")
    trouble, done = sorted(clear([address(standin)], journal), key=lambda words: "deleted" in words)
    assert "Permission denied" in trouble
    assert deleted.name in done
    assert [one.name for one in journal.open()] == [kept.name]


def test_a_server_that_is_not_configured_any_more_is_named_until_it_is_forgotten(
    standin: StandIn, journal: Journal
) -> None:
    journal.made(journal.asked("http://old:6333", "one", time.time(), frozenset()), "one-1.snapshot")
    (words,) = clear([address(standin)], journal)
    assert "one-1.snapshot" in words
    assert "http://old:6333" in words
    assert len(journal.open()) == 1
    journal.gone(journal.open()[0].id)
    journal.asked("http://old:6333", "two", time.time() - 3 * 86400, frozenset())
    (words,) = clear([address(standin)], journal)
    assert "a snapshot of two" in words
    assert journal.open() == []


def test_what_a_whole_request_leaves_is_cleared_by_the_next_life(standin: StandIn, journal: Journal) -> None:
    """Killed between the request and the answer, and again between the answer and the end."""

    def halted() -> str:
        return "it was killed" if any(one.operation == "create" for one in standin.requests) else ""

    standin.faults.add("linger", times=1)
    with pytest.raises(TryLater):
        snapshot.make(Server(Wire(address(standin), halted)), "one", journal, time.monotonic() + 30)
    standin.faults.release(waiting=1)
    while server(standin).making("one"):
        assert standin.up
    snapshot.make(server(standin), "two", journal, time.monotonic() + 30)
    left = there(standin, "one") + there(standin, "two")
    assert len(left) == 2
    told = clear([address(standin)], journal)
    assert [name for name in left if any(name in words for words in told)] == left
    assert (there(standin, "one"), there(standin, "two"), journal.open()) == ([], [], [])
