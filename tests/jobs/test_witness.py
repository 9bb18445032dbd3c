import hashlib
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from msgspec import Struct, structs
from standin import Cluster, StandIn
from standin.client import Client, path_of

from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.copy import seen
from agent.adapters.qdrant.operations import Operations, writes
from agent.adapters.qdrant.server import Server
from agent.adapters.qdrant.wire import Wire
from agent.errors import Unreachable
from agent.jobs.backup import witness
from agent.jobs.backup.engine import About, Piece
from agent.jobs.backup.remote import Remote
from agent.jobs.backup.witness import After, Before, Look
from agent.rules.manifest import CollectionEntry
from agent.rules.rehearsal import expected, judge

REAL = "SNAPWARD_TEST_QDRANT_URL"
NAME, COPY = "e_witness", "e_witness_copy"
PARAMS = {"vectors": {"size": 4, "distance": "Euclid"}}
POINTS = 200
ROOM = 1 << 20


def point(number: int, seed: int = 0) -> dict[str, Any]:
    dice = random.Random(f"{number} {seed}")  # noqa: S311 - has to be the same on every run, not secret
    return {"id": number, "vector": [dice.uniform(-1, 1) for _ in range(4)], "payload": {"n": number, "seed": seed}}


def at(url: str, halted: Callable[[], str] = str, key: str = "") -> Server:
    return Server(Wire(Address(url, key, patience=1.0, silence=10.0), halted))


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path / "server") as running:
        fill(running.url)
        yield running


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.real_qdrant)])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server with 200 points."""
    if request.param == "stand-in":
        yield request.getfixturevalue("standin").url
        return
    url = os.environ.get(REAL)
    if not url:
        pytest.skip(f"{REAL} names no Qdrant server")
    clear(url)
    fill(url)
    yield url
    clear(url)


def fill(url: str, params: Any = PARAMS, key: str | None = None) -> None:
    with Client(url, key) as client:
        assert client.ask("PUT", path_of(NAME), params).result
    put(url, *map(point, range(POINTS)), key=key)


def clear(url: str) -> None:
    with Client(url) as client:
        for name in (NAME, COPY):
            client.ask("DELETE", path_of(name))


def put(url: str, *points: dict[str, Any], key: str | None = None) -> None:
    with Client(url, key) as client:
        assert client.ask("PUT", path_of(NAME, "/points?wait=true"), {"points": points}).result


def delete(url: str, *numbers: int) -> None:
    with Client(url) as client:
        assert client.ask("POST", path_of(NAME, "/points/delete?wait=true"), {"points": numbers}).result


class Watch(Struct, frozen=True):
    """One collection, looked at twice."""

    server: Server
    operations: Operations
    alone: bool = True

    def before(self) -> Before:
        return witness.before(self.server, NAME, PARAMS, self.operations, ROOM, alone=self.alone)

    def after(self, was: Before, made: float = 0.0) -> After:
        return witness.after(self.server, NAME, was, self.operations, made)


def watch(url: str, halted: Callable[[], str] = str, key: str = "") -> Watch:
    server = at(url, halted, key)
    return Watch(server, Operations([server.wire.address]))


def changed(was: Before, now: After) -> set[str]:
    """The points that were drawn and are not relied on."""
    assert was.drawn is not None
    assert now.content is not None
    assert now.content.points.items() <= was.drawn.digests.items()
    left = was.drawn.digests.keys() - now.content.points.keys()
    assert len(left) == now.content.changed
    return set(left)


def told(was: Before, operations: int) -> int | None:
    """The number of operations, if this server tells of them (since 1.17)."""
    return operations if was.numbers else None


# Both looks.


def test_where_nobody_writes_all_is_kept_and_nothing_is_asked_twice(url: str) -> None:
    watched = watch(url)
    was = watched.before()
    now = watched.after(was, time.monotonic() + 1000)  # who waited for that would not come back
    assert (now.points, now.writes, now.probes_why, now.content_why) == (POINTS, told(was, 0), "", "")
    assert now.probes == was.asked.probes
    assert changed(was, now) == set()
    assert now.content is not None
    assert (now.content.of, now.content.drawn) == (POINTS, POINTS)


def test_what_nobody_touched_is_kept(url: str) -> None:
    watched = watch(url)
    was = watched.before()
    put(url, point(7, seed=1), point(8), *map(point, range(500, 510)))
    delete(url, 9, 10)
    now = watched.after(was)
    assert (now.points, now.writes) == (POINTS + 8, told(was, 2))
    assert changed(was, now) == {"7", "8", "9", "10"}
    there = {str(one["id"]) for probe in now.probes for one in probe.answers}
    assert not there & changed(was, now)
    assert len(now.probes) == 2 or "afterwards" in now.probes_why


def test_an_empty_collection_has_nothing_to_look_at(standin: StandIn) -> None:
    delete(standin.url, *range(POINTS))
    watched = watch(standin.url)
    was = watched.before()
    before = len(standin.requests)
    now = watched.after(was)
    assert (now.points, now.writes, now.probes, now.probes_why, now.content_why) == (0, 0, (), "", "")
    assert changed(was, now) == set()
    assert {one.operation for one in standin.requests[before:]} == {"info", "count", "telemetry"}


def test_an_update_that_the_server_is_still_at_is_waited_for(standin: StandIn) -> None:
    """It is in the log of the snapshot, so a restored copy has it, though the first look sees nothing of it."""
    late, looked = threading.Event(), threading.Event()

    def halted() -> str:
        if looked.is_set() and not late.is_set() and standin.requests[-1].operation == "telemetry":
            late.set()
            put(standin.url, point(7, seed=1))
        return ""

    watched = watch(standin.url, halted)
    was = watched.before()
    put(standin.url, point(8, seed=1))  # somebody is at work
    looked.set()
    now = watched.after(was, time.monotonic() - 0.5)
    assert late.is_set()
    assert changed(was, now) == {"7", "8"}


def test_updates_that_stay_queued_make_all_that_was_seen_worthless(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = watch(standin.url)
    was = watched.before()
    standin.faults.add("queue", after=3, times=2)
    assert changed(was, watched.after(was)) == set()
    monkeypatch.setattr(witness, "_QUEUED", 0.1)
    standin.faults.add("queue", after=3)
    now = watched.after(was)
    assert (now.points, now.probes, now.content) == (POINTS, (), None)
    assert now.probes_why == now.content_why == "the server had not carried out all that it had been told to write"


def test_without_a_word_about_operations_the_points_themselves_tell(tmp_path: Path) -> None:
    keys = {"api_key": "secret", "collection_keys": {"some": [NAME]}}
    with StandIn(tmp_path / "server", **keys) as standin:
        fill(standin.url, key="secret")
        watched = watch(standin.url, key="some")
        was = watched.before()
        assert was.numbers == {}
        calm = watched.after(was)
        put(standin.url, point(7, seed=1), key="secret")
        stirred = watched.after(was, time.monotonic() - 0.9)
    assert (calm.writes, calm.probes, changed(was, calm)) == (None, was.asked.probes, set())
    assert (stirred.writes, changed(was, stirred)) == (None, {"7"})


@pytest.mark.parametrize("operation", ["count", "query", "retrieve"])
def test_what_cannot_be_found_out_is_not_recorded_and_breaks_nothing(standin: StandIn, operation: str) -> None:
    watched = watch(standin.url)
    was = watched.before()
    put(standin.url, point(7, seed=1))
    standin.faults.add("refuse", on=operation, status=400, text="the shard is broken")
    now = watched.after(was)
    assert now.points == (None if operation == "count" else POINTS)
    if operation == "query":  # without versions what points hold is compared
        assert (now.probes, changed(was, now)) == ((), {"7"})
        assert "the shard is broken" in now.probes_why
    first = watched.before()
    assert "the shard is broken" in (first.why + first.asked.why + (first.drawn.why if first.drawn else ""))
    standin.faults.clear()
    assert watched.after(first).points == POINTS


# Whether anything was written.


@pytest.mark.parametrize(
    ("before", "after", "between"),
    [
        ({(0, 0): 5}, {(0, 0): 5}, 0),
        ({(0, 0): 5, (1, 1): 9}, {(0, 0): 7, (1, 1): 10}, 3),
        ({}, {}, None),
        ({}, {(0, 0): 5}, None),
        ({(0, 0): 5}, {}, None),
        ({(0, 0): 5}, {(0, 0): 5, (0, 1): 0}, None),
        ({(0, 0): 5, (0, 1): 5}, {(0, 0): 1, (0, 1): 9}, None),
    ],
)
def test_how_many_operations_lie_between(before: Any, after: Any, between: int | None) -> None:
    assert writes(before, after) == between


def test_who_asks_at_the_same_time_shares_an_answer_that_is_new_enough_for_all(standin: StandIn) -> None:
    told = Operations([Address(standin.url, patience=0.0, silence=0.5)])
    first = told.before(NAME, str)
    assert first
    assert told.before(NAME, str) is first, "one of a moment that has passed will do"
    put(standin.url, point(7, seed=1))
    standin.faults.add("hang", on="telemetry", times=1)
    numbers: list[Any] = []
    threads = [threading.Thread(target=lambda: numbers.append(told.now(NAME, str))) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    asked = [one for one in standin.requests if one.operation == "telemetry"]
    assert len(asked) == 3, "the first one, the one that hung, and one for all others"
    assert sorted(writes(first, one) or 0 for one in numbers) == [0, *[1] * 7]


def test_the_archives_of_a_collection_share_one_look(standin: StandIn) -> None:
    look, number = Look(3), itertools.count()

    def found() -> Before:
        if next(number) == 0:
            raise Unreachable("the server went away")
        return watch(standin.url).before()

    with pytest.raises(Unreachable):
        look.once(found)
    second = look.once(found)
    assert look.once(found) is second
    assert next(number) == 2


# Backups while others write.


class Notes:
    """A journal of what is asked for, of which nothing stays."""

    def asked(self, url: str, collection: str, moment: float, beside: frozenset[str]) -> int:
        return 1

    def made(self, note: int, name: str) -> None:
        pass

    def gone(self, note: int) -> None:
        pass


def back_up(engine: Remote, pieces: list[Piece]) -> list[tuple[CollectionEntry, bytes]]:
    """Each piece as it is read, and what a manifest says of it."""
    found = []
    for piece in pieces:
        with engine.open(piece, str) as source:
            with source.stream() as stream:
                data, buffer = bytearray(), memoryview(bytearray(1 << 20))
                while got := stream.readinto(buffer):
                    data += buffer[:got]
            source.confirm(len(data), hashlib.sha256(data).hexdigest())
            found.append((entry(piece, source.about()), bytes(data)))
    return found


def entry(piece: Piece, about: About) -> CollectionEntry:
    told = {**structs.asdict(about), "shards": list(about.shards), "shard_keys": [], "probes": list(about.probes)}
    return CollectionEntry(name=piece.collection, peer=piece.peer, file="x", size=1, sha256="", **told)


class Writers:
    """Two others, who change, add and remove points of the upper half as long as the block runs."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(2)]
        self.written = 0

    def __enter__(self) -> Self:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for one in self._threads:
            one.join()

    def _write(self, number: int) -> None:
        dice = random.Random(number)  # noqa: S311 - no secret
        with Client(self._url) as client:
            for turn in itertools.count():
                if self._over.is_set():
                    return
                some = [dice.randrange(POINTS // 2, 2 * POINTS) for _ in range(20)]
                wait = "true" if turn % 3 else "false"
                client.ask("PUT", path_of(NAME, f"/points?wait={wait}"), {"points": [point(one, turn) for one in some]})
                client.ask("POST", path_of(NAME, f"/points/delete?wait={wait}"), {"points": some[:9]})
                self.written += 1


def test_a_backup_while_others_write_records_nothing_that_a_restored_copy_has_not(url: str) -> None:
    engine = Remote([Address(url, patience=5.0, silence=10.0)], Notes(), 60.0)
    pieces, _ = engine.pieces([NAME])
    changes = 0
    for _ in range(3):
        engine.pieces([NAME])
        with Writers(url) as writers:
            ((told, archive),) = back_up(engine, pieces)
        assert writers.written
        assert told.writes != 0
        assert told.content is not None
        changes += told.content.changed
        with Client(url) as client:
            client.ask("DELETE", path_of(COPY))
            assert client.upload(path_of(COPY, "/snapshots/upload?wait=true&priority=snapshot"), archive).result
        found = seen(at(url), COPY, expected((told,)), seconds=20)
        digests = found.parts[0].digests
        wrong = {one: (held, digests.get(one)) for one, held in told.content.points.items() if digests.get(one) != held}
        assert wrong == {}
        assert len({str(one) for one in range(POINTS // 2)} & told.content.points.keys()) > POINTS // 4
        judged = judge(found, expected((told,)), made_by="1.18.3")
        assert judged.state == "passed", judged.why
    assert changes, "somebody has been seen to write"


def test_the_archives_of_a_cluster_say_of_all_of_it_what_was_the_same_meanwhile(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", 3) as cluster:
        urls = [one.url for one in cluster.peers]
        fill(urls[0], {**PARAMS, "shard_number": 6})
        engine = Remote([Address(one, patience=1.0) for one in urls], Notes(), 60.0)
        pieces, failed = engine.pieces([NAME])
        assert (len(pieces), failed) == (3, [])
        quiet = back_up(engine, pieces)
        assert [one.writes for one, _ in quiet] == [0, 0, 0]
        assert len({str(one.content) for one, _ in quiet}) == 1
        engine.pieces([NAME])
        first = back_up(engine, pieces[:1])
        put(urls[1], point(7, seed=1))
        told = [one for one, _ in first + back_up(engine, pieces[1:])]
    assert [bool(one.writes) for one in told] == [False, True, True]
    both = expected(tuple(told))
    assert both.content is not None
    assert both.content.points.keys() == {str(one) for one in range(POINTS)} - {"7"}


@pytest.mark.parametrize("how", ["is not named", "is down"])
def test_what_could_be_written_to_a_peer_unseen_is_no_quiet(tmp_path: Path, how: str) -> None:
    with Cluster(tmp_path / "cluster", 2) as cluster:
        urls = [one.url for one in cluster.peers]
        fill(urls[0], {**PARAMS, "shard_number": 4, "replication_factor": 2})
        if how == "is down":
            cluster.peers[1].stop()
        named = urls if how == "is down" else urls[:1]
        engine = Remote([Address(one, patience=0.2) for one in named], Notes(), 60.0)
        pieces, _ = engine.pieces([NAME])
        ((told, _),) = back_up(engine, pieces[:1])
    assert told.writes is None
    assert told.content is not None
    assert len(told.content.points) == POINTS
