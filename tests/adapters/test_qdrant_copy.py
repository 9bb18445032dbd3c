import http.client
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from parrot import Parrot, said
from standin import StandIn, nine
from standin.client import Client, path_of, path_of_snapshot

from agent.adapters.qdrant import content, probes
from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.copy import seen
from agent.adapters.qdrant.server import Server
from agent.adapters.qdrant.wire import Wire
from agent.errors import TryLater
from agent.rules.manifest import Content
from agent.rules.rehearsal import judge
from agent.rules.rehearsed import Expected, Marks, Part, Seen

REAL = "SNAPWARD_TEST_QDRANT_URL"
COPY = "e_copy"
POINTS = 60
RICH = "e_rich"
# What JSON, 32-bit numbers and payloads may do to a point on its way.
PAYLOADS: list[Any] = [
    None,
    {"f": 0.1, "tiny": 1e-320, "huge": 1e308, "third": 1 / 3, "whole": 1.0, "minus": -0.0},
    {"most": 2**63 - 1, "least": -(2**63), "unsigned": 2**64 - 1},
    {"text": "日本 \x00 😀 é e\u0301", "deep": {"a": [1, {"b": None}], "": []}, "null": None, "nulls": [None]},
    {"place": {"lon": 13.4, "lat": 52.5}, "at": "2026-01-01T00:00:00.123456789+02:00", "long": "x" * 5000},
    {"z": 1, "a": {"z": True, "a": False}},
]
PARAMS: dict[str, Any] = {
    "vectors": {
        "product": {
            "size": 8,
            "distance": "Cosine",
            "on_disk": True,
            "quantization_config": {"product": {"compression": "x4"}},
        },
        "half": {
            "size": 3,
            "distance": "Dot",
            "datatype": "float16",
            "multivector_config": {"comparator": "max_sim"},
        },
        "bytes": {"size": 4, "distance": "Euclid", "datatype": "uint8"},
    },
    "sparse_vectors": {"words": {"index": {"datatype": "float16"}}},
    "shard_number": 2,
}


def rich(number: int) -> dict[str, Any]:
    odd = 1 / (number + 3)
    vectors: dict[str, Any] = {
        "product": [odd * one * 1e3 for one in range(1, 9)],
        "half": [[odd, -odd, 1e-5]] * (number % 3 + 1),
        "bytes": [number % 256, 255, 0, 1],
        "words": {"indices": [4_000_000_000 - number, 5], "values": [odd * 1e-20, 0.1]},
    }
    lacks = ["product", "half", "bytes", "words", ""][number % 5]
    one = number if number % 2 else f"00000000-0000-4000-8000-{number:012x}"
    vectors.pop(lacks, None)
    return {"id": one, "vector": vectors if number % 11 else {}, "payload": PAYLOADS[number % len(PAYLOADS)]}


def at(url: str, halted: Callable[[], str] = str, **more: Any) -> Server:
    return Server(Wire(Address(url, patience=0.0, silence=10.0, **more), halted))


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with StandIn(tmp_path_factory.mktemp("server")) as running:
        nine.seed(running.url)
        yield running


@pytest.fixture
def faulty(standin: StandIn) -> Iterator[StandIn]:
    yield standin
    standin.faults.clear()


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.real_qdrant)], scope="module")
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server with the nine collections, and a tenth of everything that is odd."""
    if request.param == "stand-in":
        url = request.getfixturevalue("standin").url
    elif not (url := os.environ.get(REAL, "")):
        pytest.skip(f"{REAL} names no Qdrant server")
    else:
        nine.drop(url)
        nine.seed(url)
    with Client(url) as client:
        client.ask("DELETE", path_of(RICH))
        assert client.ask("PUT", path_of(RICH), PARAMS).result
        points = {"points": [*map(rich, range(1, POINTS)), {"id": 2**64 - 1, "vector": {}}]}
        assert client.ask("PUT", path_of(RICH, "/points?wait=true"), points).result
    yield url
    with Client(url) as client:
        client.ask("DELETE", path_of(RICH))
    if request.param == "real":
        nine.drop(url)


def recorded(server: Server, name: str) -> Expected:
    """What a backup records of a collection to which nobody writes."""
    params, points = server.info(name)["config"]["params"], server.count(name, 10)
    asked = probes.ask(server, name, params, points, 10, 1 << 20)
    drawn = content.draw(server, name, params, points, time.monotonic() + 10, 1 << 20)
    assert (asked.why, drawn.why) == ("", "")
    return Expected(
        low=points, high=points, probes=asked.probes, content=content.unchanged(drawn), writes=0, source="a test"
    )


def restored(url: str, name: str) -> None:
    """Make a snapshot of a collection, and restore it as COPY."""
    with Client(url) as client:
        client.ask("DELETE", path_of(COPY))
        made = client.ask("POST", path_of(name, "/snapshots")).result["name"]
        archive = client.ask("GET", path_of_snapshot(name, made)).body
        assert client.upload(path_of(COPY, "/snapshots/upload?wait=true&priority=snapshot"), archive).result
        client.ask("DELETE", path_of_snapshot(name, made))
        for one in client.ask("GET", path_of(COPY, "/snapshots")).result:
            client.ask("DELETE", path_of_snapshot(COPY, one["name"]))


@pytest.fixture
def copy(url: str) -> Iterator[Server]:
    """A server that may have a collection COPY."""
    yield at(url)
    at(url).wire.answer("DELETE", path_of(COPY))


def write(server: Server, method: str, path: str, **body: Any) -> None:
    server.wire.ask(method, path_of(COPY, f"/points{path}?wait=true"), dict[str, Any], body)


def part(told: Seen) -> Part:
    (only,) = told.parts
    assert only.shard is None
    return only


def look(server: Server, expected: Expected, **how: Any) -> Part:
    told = seen(server, COPY, expected, seconds=20, **how)
    assert (told.ended, told.why, told.where) == ("", "", "")
    assert told.engine == f"Qdrant {server.identity().version} at {server.url}"
    assert 0 < told.seconds < 20
    return part(told)


# What is recorded, and what a copy shows.


@pytest.mark.parametrize("name", [*nine.COLLECTIONS, RICH])
def test_a_copy_of_any_kind_shows_what_was_recorded(copy: Server, name: str) -> None:
    expected = recorded(copy, name)
    points = 0 if name == "empty" else POINTS
    restored(copy.url, name)
    told = seen(copy, COPY, expected, seconds=20)
    found = part(told)
    assert expected.content is not None
    assert found.digests == expected.content.points
    assert (found.points, found.read, found.recorded.points, len(found.digests)) == (points,) * 4
    assert len(found.answers) == len(expected.probes)
    assert (found.error, found.unanswered, found.unread, found.zeroed, found.odd) == ("", (), (), {}, {})
    judged = judge(told, expected, made_by=copy.identity().version)
    assert (judged.state, judged.matched) == ("passed", len(expected.probes)), judged.why


def test_what_a_copy_lacks_or_has_otherwise_is_seen(copy: Server) -> None:
    expected = recorded(copy, "dense")
    assert expected.content is not None
    restored(copy.url, "dense")
    write(copy, "POST", "/delete", points=[1, 2])
    write(copy, "PUT", "", points=[{"id": 3, "vector": [0.5] * 8, "payload": {"title": "note 3", "rank": 3}}])
    write(copy, "PUT", "", points=[{"id": 9999, "vector": [0.5] * 8}])
    found = look(copy, expected)
    assert found.points == POINTS - 1
    assert expected.content.points.keys() - found.digests.keys() == {"1", "2"}
    assert [one for one, told in found.digests.items() if told != expected.content.points[one]] == ["3"]
    assert (found.read, found.vectors, found.alike) == (POINTS - 1, {"": POINTS - 1}, {"": 2})
    assert found.recorded == Marks(points=POINTS - 2, vectors={"": POINTS - 2})


@pytest.mark.parametrize(("sample", "read"), [(0, 5), (10, 15), (1000, 60)])
def test_some_points_are_read_beside_those_that_were_recorded(copy: Server, sample: int, read: int) -> None:
    everything = recorded(copy, "multi")
    assert everything.content is not None
    restored(copy.url, "multi")
    few = dict(list(everything.content.points.items())[:5])
    found = look(copy, replace(everything, content=Content(of=60, drawn=5, points=few)), sample=sample)
    assert found.digests == few
    assert read - 5 <= found.read <= read  # one that is drawn may be recorded


def test_of_a_copy_that_nothing_is_recorded_of_it_is_told_what_to_compare_with_later(copy: Server) -> None:
    restored(copy.url, "named")
    told = seen(copy, COPY, Expected(), seconds=20)
    again = seen(copy, COPY, Expected(probes=told.probes), seconds=20)
    assert {(one.vector, one.kind) for one in told.probes} == {
        ("title", "dense"),
        ("image", "dense"),
        ("words", "sparse"),
    }
    assert [{hit[0] for hit in one or ()} for one in part(told).answers] == [
        {hit[0] for hit in one or ()} for one in part(again).answers
    ]
    assert len(part(told).digests) == POINTS
    assert part(told).digests == part(again).digests or not part(again).digests


# Points that come late.


def test_updates_that_wait_are_waited_for(faulty: StandIn) -> None:
    restored(faulty.url, "dense")
    server = at(faulty.url)
    expected = recorded(server, "dense")
    faulty.faults.add("queue", on="info", collection=COPY, after=5, times=2)
    found = look(server, expected)
    assert found.points == POINTS
    assert faulty.faults.left() == []


def test_updates_that_wait_for_ever_are_told_as_a_lack_of_time(faulty: StandIn) -> None:
    restored(faulty.url, "dense")
    expected = recorded(at(faulty.url), "dense")
    faulty.faults.add("queue", on="info", collection=COPY, after=5)
    told = seen(at(faulty.url), COPY, expected, seconds=0.5)
    assert (told.ended, told.where) == ("time", "waiting for its updates")
    assert told.why == "there was no more time within 500 ms: 5 updates had yet to be carried out"
    assert part(told) == Part()


def test_a_point_that_appears_a_moment_later_is_there(faulty: StandIn) -> None:
    restored(faulty.url, "dense")
    expected = recorded(at(faulty.url), "dense")
    point = at(faulty.url).retrieve("dense", [7], 5).found[0]
    writer = at(faulty.url)
    write(writer, "POST", "/delete", points=[7])
    looked, before = threading.Event(), len(faulty.requests)

    def halted() -> str:
        read = any((one.operation, one.collection) == ("retrieve", COPY) for one in faulty.requests[before:])
        if read and not looked.is_set():
            looked.set()
            write(writer, "PUT", "", points=[{"id": 7, "vector": point["vector"], "payload": point["payload"]}])
        return ""

    found = look(at(faulty.url, halted), expected)
    assert expected.content is not None
    assert looked.is_set()
    assert (found.points, found.digests) == (POINTS, expected.content.points)


# Servers that do not answer as they should.


@pytest.mark.parametrize("operation", ["info", "count", "query", "retrieve"])
def test_what_a_server_refuses_is_told_in_its_words(faulty: StandIn, operation: str) -> None:
    restored(faulty.url, "dense")
    expected = recorded(at(faulty.url), "dense")
    faulty.faults.add("refuse", on=operation, collection=COPY, status=400, text="the shard is broken")
    told = seen(at(faulty.url), COPY, expected, seconds=20, sample=0)
    found = part(told)
    assert told.ended == ""
    if operation == "query":
        assert found.answers == (None, None)
        assert all("the shard is broken" in one for one in found.unanswered)
        assert (found.error, len(found.digests)) == ("", POINTS)
    elif operation == "retrieve":
        assert (found.read, found.unreadable, len(found.unread)) == (0, POINTS, 10)
        assert found.unread[0].startswith("point ")
        assert "the shard is broken" in found.unread[0]
        assert len(found.answers) == 2
    else:
        assert "the shard is broken" in found.error
        assert found.points is None


def test_one_point_that_cannot_be_read_costs_itself_only(faulty: StandIn) -> None:
    restored(faulty.url, "dense")
    expected = recorded(at(faulty.url), "dense")
    faulty.faults.add("refuse", on="retrieve", collection=COPY, status=400, text="bad page", times=5)
    found = look(at(faulty.url), replace(expected, low=None, high=None))
    assert (found.read, found.unreadable) == (POINTS, 0), "the second look found all of them"
    faulty.faults.add("refuse", on="retrieve", collection=COPY, status=400, text="bad page", times=5)
    told = seen(at(faulty.url), COPY, expected, seconds=0.9)
    assert (part(told).read, part(told).unreadable) == (POINTS - 1, 1)
    assert "bad page" in part(told).unread[0]


def test_a_collection_that_is_not_there_is_told(faulty: StandIn) -> None:
    told = seen(at(faulty.url), "no such one", Expected(), seconds=5)
    assert told.ended == ""
    assert "404" in part(told).error


UNABLE: dict[str, dict[str, Any]] = {
    "is silent": {"kind": "hang", "on": "info"},
    "refuses the key": {"kind": "refuse", "on": "count", "status": 403},
    "talks nonsense": {"kind": "garbage", "on": "retrieve"},
}


@pytest.mark.parametrize("how", UNABLE)
def test_a_server_that_says_nothing_about_the_copy_is_no_evidence_against_it(faulty: StandIn, how: str) -> None:
    restored(faulty.url, "dense")
    expected = recorded(at(faulty.url), "dense")
    faulty.faults.add(**{"collection": COPY, **UNABLE[how]})
    server = Server(Wire(Address(faulty.url, patience=0.0, silence=0.3)))
    told = seen(server, COPY, expected, seconds=20)
    assert told.ended == "unable"
    assert part(told).error == ""
    assert told.why
    assert judge(told, expected, made_by="1.18.3").state == "inconclusive"


def test_a_server_that_is_not_there_is_no_evidence_either() -> None:
    told = seen(at("http://127.0.0.1:9"), COPY, Expected(), seconds=5)
    assert (told.ended, told.engine, part(told)) == ("unable", "Qdrant at http://127.0.0.1:9", Part())
    assert "cannot be reached" in told.why


@pytest.mark.parametrize("hits", ['[{"nonsense": 1}]', '[{"id": 1, "score": 1.0, "vector": 5}]'])
def test_answers_of_another_shape_are_no_evidence_either(hits: str) -> None:
    answers = [
        b'{"title": "qdrant", "version": "1.18.3"}',
        b'{"result": {"update_queue": null}}',
        b'{"result": {"count": 1}}',
        b'{"result": {"points": [{"id": 1, "score": 1.0}]}}',
        f'{{"result": {hits}}}'.encode(),
    ]
    with Parrot(*(said(http.client.OK, one) for one in answers)) as parrot:
        told = seen(at(parrot.url), COPY, Expected(content=Content(of=1, drawn=0)), seconds=5)
    assert (told.ended, told.engine) == ("unable", f"Qdrant 1.18.3 at {parrot.url}")
    assert "not as Qdrant does, reading points" in told.why
    assert part(told).points == 1


def test_who_is_asked_to_stop_stops(faulty: StandIn) -> None:
    restored(faulty.url, "dense")
    faulty.faults.add("hang", on="info", collection=COPY)
    until = time.monotonic() + 0.3
    server = at(faulty.url, lambda: "it was asked to stop" if time.monotonic() > until else "")
    with pytest.raises(TryLater, match="asked to stop"):
        seen(server, COPY, Expected(), seconds=20)
