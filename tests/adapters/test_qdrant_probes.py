import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec import json
from parrot import Parrot, said
from standin import StandIn, nine

from agent.adapters.qdrant import probes
from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.server import Server
from agent.adapters.qdrant.wire import Wire
from agent.errors import TryLater

REAL = "SNAPWARD_TEST_QDRANT_URL"
ROOM = 1 << 20
PREFIX = "e_probes_"
VECTORS = {
    "dense": {("", "dense")},
    "multi": {("", "multi")},
    "sparse": {("terms", "sparse")},
    "named": {("title", "dense"), ("image", "dense"), ("words", "sparse")},
    nine.AWKWARD: {("", "dense")},
    "empty": set(),
}


def at(url: str, halted: Callable[[], str] = str) -> Server:
    return Server(Wire(Address(url, patience=0.0, silence=10.0), halted))


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with StandIn(tmp_path_factory.mktemp("server")) as running:
        nine.seed(running.url)
        yield running


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.real_qdrant)])
def odd(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with a collection whose points lack this and that."""
    if request.param == "stand-in":
        url = request.getfixturevalue("standin").url
    elif not (url := os.environ.get(REAL)):
        pytest.skip(f"{REAL} names no Qdrant server")
    server, path = at(url), "/collections/e_odd"
    dense = {"width": {"size": 2, "distance": "Dot"}, "other": {"size": 2, "distance": "Dot"}}
    server.wire.answer("DELETE", path)
    server.wire.ask("PUT", path, bool, {"vectors": dense, "sparse_vectors": {"words": {}}})
    points: list[dict[str, Any]] = [
        {"id": 1, "vector": {"width": [1.0, 2.0]}},
        {"id": 2, "vector": {"words": {"indices": [], "values": []}}},
        {"id": 3, "vector": {"words": {"indices": [7], "values": [1.0]}}},
    ]
    server.wire.ask("PUT", f"{path}/points?wait=true", dict[str, Any], {"points": points})
    yield server
    server.wire.answer("DELETE", path)


def ask(
    server: Server, name: str, *, points: int = 60, budget: float = 30.0, room: int = ROOM
) -> tuple[list[Any], str]:
    return probes.ask(server, name, server.info(name)["config"]["params"], points, budget, room)


@pytest.mark.parametrize("name", VECTORS)
def test_each_vector_is_asked_about_and_the_same_question_has_the_same_answer(standin: StandIn, name: str) -> None:
    server = at(standin.url)
    found, why = ask(server, name, points=0 if name == "empty" else 60)
    assert why == ""
    assert {(one.vector, one.kind) for one in found} == VECTORS[name]
    assert len(found) == probes.EACH * len(VECTORS[name])
    for one in found:
        assert one.query["params"] == {"exact": True}
        assert one.query.get("using", "") == one.vector
        assert one.answers
        again = server.query(name, one.query, 10)
        assert [(hit["id"], pytest.approx(hit["score"])) for hit in again] == [
            (hit["id"], hit["score"]) for hit in one.answers
        ]


def test_of_very_many_points_a_sample_is_asked(standin: StandIn) -> None:
    found, why = ask(at(standin.url), "dense", points=10_000_000)
    assert why == ""
    for one in found:
        (condition,) = one.query["filter"]["must"]
        assert len(condition["has_id"]) == len({str(point) for point in condition["has_id"]}) == 60
        assert one.point in condition["has_id"]
        assert one.point == one.answers[0]["id"]


def test_points_without_a_vector_are_no_trouble(odd: Server) -> None:
    found, why = ask(odd, "e_odd", points=3)
    assert why == ""
    assert {(one.vector, one.kind, one.point) for one in found} == {("width", "dense", 1), ("words", "sparse", 3)}


def test_a_vector_may_be_called_size() -> None:
    with Parrot(
        said(200, b'{"result": {"points": [{"id": 7, "score": 1.0, "vector": {"size": [1.0, 2.0]}}]}}')
    ) as parrot:
        found, why = probes.ask(at(parrot.url), "x", {"vectors": {"size": {"size": 2}}}, 5, 5.0, ROOM)
    assert why == ""
    assert [(one.vector, one.query["using"], one.answers) for one in found] == [
        ("size", "size", [{"id": 7, "score": 1.0}])
    ]


@pytest.mark.parametrize("room", [0, 500, 2000])
def test_no_more_room_is_taken_than_there_is(standin: StandIn, room: int) -> None:
    found, why = ask(at(standin.url), "named", points=1_000_000, room=room)
    assert sum(len(json.encode(one)) for one in found) <= room
    assert why.endswith("took the room that all may take")


def test_no_more_time_is_taken_than_there_is(standin: StandIn) -> None:
    found, why = ask(at(standin.url), "named", budget=0.0)
    assert (found, why) == ([], "0 probes took the time that all may take")


def test_a_server_that_does_not_answer_them_costs_the_probes_only(standin: StandIn) -> None:
    standin.faults.add("refuse", on="query", status=500, text="no active replica")
    try:
        found, why = ask(at(standin.url), "dense")
    finally:
        standin.faults.clear()
    assert found == []
    assert "probes could not be asked" in why
    assert "no active replica" in why


@pytest.mark.parametrize(
    "hits",
    [
        "[{}]",
        '[{"id": 1}]',
        '[{"id": 1, "vector": [1.0]}, {"vector": 5}]',
        '[{"id": 1, "vector": {"": {"values": 1}}}]',
        "[]",
    ],
)
def test_answers_of_another_shape_cost_the_probes_only(hits: str) -> None:
    with Parrot(said(200, f'{{"result": {{"points": {hits}}}}}'.encode())) as parrot:
        found, why = probes.ask(at(parrot.url), "x", {"vectors": {"size": 1}}, 5, 5.0, ROOM)
    assert found == []
    assert "probes could not be asked" in why or "vector" not in hits


@pytest.mark.parametrize(
    "params", [{}, {"vectors": None}, {"vectors": {"a": 5}}, {"vectors": {}, "sparse_vectors": None}]
)
def test_a_collection_without_vectors_has_no_probes(params: dict[str, Any]) -> None:
    with Parrot(said(200, b'{"result": {"points": [{"id": 1, "vector": {}}]}}')) as parrot:
        assert probes.ask(at(parrot.url), "x", params, 5, 5.0, ROOM) == ([], "")


def test_who_is_asked_to_stop_is_not_told_that_there_are_no_probes(standin: StandIn) -> None:
    standin.faults.add("hang", on="query")
    until = time.monotonic() + 0.2
    server = at(standin.url, lambda: "it was asked to stop" if time.monotonic() > until else "")
    try:
        with pytest.raises(TryLater, match="asked to stop"):
            ask(server, "dense")
    finally:
        standin.faults.clear()
