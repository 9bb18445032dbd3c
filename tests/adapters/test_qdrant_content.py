import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from parrot import Parrot, said
from standin import StandIn

from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.content import Drawn, again, draw, id_of, pages, unchanged, wanted
from agent.adapters.qdrant.server import Points, Server
from agent.adapters.qdrant.wire import Wire
from agent.errors import TryLater
from agent.rules.content import digest, key
from agent.rules.manifest import Content

REAL = "SNAPWARD_TEST_QDRANT_URL"
NAME = "e_content"
PATH = f"/collections/{NAME}"
ROOM = 1 << 20
VECTORS = {
    "vectors": {
        "flat": {"size": 4, "distance": "Dot"},
        "many": {"size": 2, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}},
    },
    "sparse_vectors": {"words": {}},
}


def point(number: int) -> dict[str, Any]:
    """Of every five points one has only a vector of words, and one none at all; every third has a UUID."""
    vectors = [
        {"flat": [number, 1, 2, 0.1], "words": {"indices": [number, 500], "values": [1.5, 0.1]}},
        {"flat": [number, 1, 2, 0.1], "many": [[number + 0.5, 1], [0.3, 2]]},
        {"many": [[number + 0.5, 1]]},
        {"words": {"indices": [number], "values": [2.0]}},
        {},
    ]
    one = number if number % 3 else f"00000000-0000-4000-8000-{number:012}"
    return {"id": one, "vector": vectors[number % 5], "payload": {"n": number, "text": "é", "deep": {"x": [None, 0.1]}}}


POINTS = [point(number) for number in range(1, 61)]
DIGESTS = {key(one["id"]): digest(one["vector"], one["payload"]) for one in POINTS}


def at(url: str, halted: Callable[[], str] = str) -> Server:
    return Server(Wire(Address(url, patience=0.0, silence=10.0), halted))


def soon() -> float:
    return time.monotonic() + 20


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with StandIn(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.real_qdrant)])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with 60 points."""
    if request.param == "stand-in":
        url = request.getfixturevalue("standin").url
    elif not (url := os.environ.get(REAL)):
        pytest.skip(f"{REAL} names no Qdrant server")
    server = at(url)
    server.wire.answer("DELETE", PATH)
    server.wire.ask("PUT", PATH, bool, VECTORS)
    write(server, "PUT", "", points=POINTS)
    yield server
    server.wire.answer("DELETE", PATH)


def write(server: Server, method: str, path: str, **body: Any) -> None:
    server.wire.ask(method, f"{PATH}/points{path}?wait=true", dict[str, Any], body)


def drawn(server: Server, *, points: int = 60, room: int = ROOM, alone: bool = True) -> Drawn:
    return draw(server, NAME, VECTORS, points, soon(), room, alone=alone)


def kept(server: Server, was: Drawn) -> Content:
    found, why = again(server, NAME, VECTORS, was, soon())
    assert found is not None
    assert why == ""
    return found


# What is drawn.


def test_of_few_points_all_are_drawn_with_what_they_hold(server: Server) -> None:
    found = drawn(server)
    assert (found.of, found.digests, found.why) == (60, DIGESTS, "")
    dense = {key(one["id"]) for one in POINTS if {"flat", "many"} & one["vector"].keys()}
    assert {one for one, version in zip(found.digests, found.versions, strict=True) if version >= 0} == dense
    assert unchanged(found) == Content(of=60, drawn=60, changed=0, points=DIGESTS)


@pytest.mark.parametrize(
    ("points", "size", "number"),
    [
        (60, 4, 60),
        (10_000, 50, 10_000),
        (10_000, 51, 1_000),
        (10_001, 4, 1_000),
        (900, 1_200, 208),
        (5_000_000, 384, 651),
        (5_000_000, 4_096, 61),
        (10_000, 0, 10_000),
        (2_000_000, 65_536, 3),
        (2_000_000, 300_000, 1),
    ],
)
def test_how_many_are_drawn_depends_on_how_many_there_are_and_how_long_they_are(
    points: int, size: int, number: int
) -> None:
    assert wanted({"vectors": {"size": size, "distance": "Dot"}}, points) == number
    named = {"a": {"size": size}, "b": {"size": 0, "multivector_config": {}}}
    assert wanted({"vectors": named, "sparse_vectors": {"words": {}}}, points) == number


def test_a_collection_without_points_is_not_asked_for_any() -> None:
    with Parrot(said(500)) as parrot:
        found = draw(at(parrot.url), NAME, VECTORS, 0, soon(), ROOM)
    assert parrot.heard == []
    assert unchanged(found) == Content(of=0, drawn=0)


@pytest.mark.parametrize(("room", "number"), [(719, 9), (72, 1), (71, 0)])
def test_no_more_room_is_taken_than_there_is(server: Server, room: int, number: int) -> None:
    found = drawn(server, room=room)
    assert len(found.digests) == number
    assert found.why == f"there was room for {number} point{'s' * (number != 1)} of 60"
    assert (unchanged(found) is None) == (number == 0)


def test_no_more_time_is_taken_than_there_is(server: Server) -> None:
    found = draw(server, NAME, VECTORS, 60, time.monotonic() - 1, ROOM)
    assert (found.digests, found.why) == ({}, "0 points of 60 took the time or room that all may take")


@pytest.mark.parametrize("operation", ["query", "retrieve"])
def test_a_server_that_does_not_tell_costs_the_points_only(standin: StandIn, operation: str) -> None:
    server = at(standin.url)
    server.wire.answer("DELETE", PATH)
    server.wire.ask("PUT", PATH, bool, VECTORS)
    write(server, "PUT", "", points=POINTS)
    standin.faults.add("refuse", on=operation, status=500, text="no active replica")
    try:
        found = drawn(server)
    finally:
        standin.faults.clear()
    assert found.digests == {}
    assert "points could not be read" in found.why
    assert "no active replica" in found.why
    assert unchanged(found) is None


@pytest.mark.parametrize("hits", ["[{}]", '[{"id": 1}, {"id": 1, "vector": 5}]', '[{"id": 1, "vector": ["x"]}]', "7"])
def test_answers_of_another_shape_cost_the_points_only(hits: str) -> None:
    sampled = said(200, b'{"result": {"points": [{"id": 1, "score": 1.0}]}}')
    with Parrot(sampled, said(200, f'{{"result": {hits}}}'.encode())) as parrot:
        found = draw(at(parrot.url), NAME, VECTORS, 5, soon(), ROOM, alone=False)
    assert "points could not be read" in found.why or found.digests.keys() <= {"1"}


def test_who_is_asked_to_stop_is_not_told_that_there_are_no_points(standin: StandIn) -> None:
    standin.faults.add("hang", on="query")
    until = time.monotonic() + 0.2
    try:
        with pytest.raises(TryLater, match="asked to stop"):
            drawn(at(standin.url, lambda: "it was asked to stop" if time.monotonic() > until else ""))
    finally:
        standin.faults.clear()


# What of it is kept.


def test_points_that_nobody_touches_are_kept_and_the_others_are_not(server: Server) -> None:
    was = drawn(server)
    write(server, "PUT", "", points=[{**point(1), "payload": {"n": -1}}, point(101), {**point(8), "vector": {}}])
    write(server, "PUT", "", points=[{**point(5), "vector": {"flat": [9, 9, 9, 9]}}])
    write(server, "PUT", "", points=[{**point(2), "payload": {"more": True}}, {**point(4), "payload": None}])
    write(server, "POST", "/delete", points=[7, POINTS[2]["id"]])
    found = kept(server, was)
    touched = {"1", "8", "5", "2", "4", "7", POINTS[2]["id"]}
    assert found == Content(
        of=60, drawn=60, changed=7, points={one: told for one, told in DIGESTS.items() if one not in touched}
    )


def test_a_change_that_was_undone_is_a_change_where_the_server_tells_of_it(server: Server) -> None:
    was, shared = drawn(server), drawn(server, alone=False)
    write(server, "PUT", "", points=[{**point(1), "payload": {"n": 0}}])
    write(server, "PUT", "", points=[point(1)])
    write(server, "POST", "/delete", points=[2])
    write(server, "PUT", "", points=[point(2)])
    found = kept(server, was)
    assert DIGESTS.keys() - found.points.keys() == {"1", "2"}
    assert kept(server, shared).points == DIGESTS  # what one holds now is all that can be compared


def test_where_versions_cannot_be_asked_for_what_points_hold_is_compared(standin: StandIn, server: Server) -> None:
    was = drawn(server)
    write(server, "PUT", "", points=[{**point(2), "payload": {"more": True}}, {**point(4), "payload": None}])
    standin.faults.add("refuse", on="query", status=400, text="exact search is not allowed")
    try:
        found = kept(server, was)
    finally:
        standin.faults.clear()
    assert DIGESTS.keys() - found.points.keys() == {"2", "4"}


def test_all_points_may_be_gone(server: Server) -> None:
    was = drawn(server)
    write(server, "POST", "/delete", filter={"must_not": [{"has_id": [10**9]}]})
    assert kept(server, was) == Content(of=60, drawn=60, changed=60)


def test_what_there_was_no_time_for_is_not_recorded(server: Server) -> None:
    found, why = again(server, NAME, VECTORS, drawn(server, alone=False), time.monotonic() - 1)
    assert found is None
    assert why == "0 points of 60 took the time that all may take afterwards"


def test_a_server_that_went_away_leaves_nothing_to_be_recorded(server: Server) -> None:
    found, why = again(at("http://127.0.0.1:9"), NAME, VECTORS, drawn(server), soon())
    assert found is None
    assert "points could not be read again" in why


# How they are read.


def read(
    sizes: Callable[[int], int], number: int, most: float = float("inf"), until: float = float("inf")
) -> list[int]:
    """Read so many points, of which each answers with so many bytes; returns how many were asked for at a time."""
    lengths = []

    def retrieve(ids: Sequence[int | str]) -> Points:
        lengths.append(len(ids))
        return Points([{"id": one} for one in ids], sum(map(sizes, map(int, ids))))

    found = [one["id"] for _, page in pages(retrieve, range(number), until, most) for one in page]
    assert found == list(range(len(found)))
    assert len(found) == sum(lengths)
    return lengths


def test_answers_are_as_many_points_as_are_about_a_quarter_of_a_megabyte() -> None:
    assert read(lambda _: 4_600, 500) == [16, 56, 56, 56, 56, 56, 56, 56, 56, 36]
    assert read(lambda _: 100, 2_500) == [16, 1_000, 1_000, 484]
    assert read(lambda _: 0, 2_500) == [16, 1_000, 1_000, 484]
    assert read(lambda _: 10_000_000, 19) == [16, 1, 1, 1]


def test_reading_ends_when_that_was_enough_or_took_long_enough() -> None:
    assert sum(read(lambda _: 100_000, 500, most=1_000_000)) == 16
    assert read(lambda _: 1, 500, until=0.0) == []


@pytest.mark.parametrize(
    "one", [0, 7, 2**64 - 1, "5c56c793-69f3-4fbf-87e6-c4bf54c28c26", "0" * 8 + "-0000" * 3 + "-" + "0" * 12]
)
def test_an_id_is_the_same_after_it_was_a_text(one: int | str) -> None:
    assert id_of(key(one)) == one
