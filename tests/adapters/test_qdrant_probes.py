import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec import json
from msgspec.structs import replace
from parrot import Parrot, said
from standin import StandIn, nine

from agent.adapters.qdrant import probes
from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.probes import Asked
from agent.adapters.qdrant.server import Server
from agent.adapters.qdrant.wire import Wire
from agent.errors import TryLater
from agent.rules.manifest import CollectionEntry, Manifest, Probe, encode

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
    return told(probes.ask(server, name, server.info(name)["config"]["params"], points, budget, room))


def told(asked: Asked) -> tuple[list[Any], str]:
    assert len(asked.versions) == len(asked.probes)
    return list(asked.probes), asked.why


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
        found, why = told(probes.ask(at(parrot.url), "x", {"vectors": {"size": {"size": 2}}}, 5, 5.0, ROOM))
    assert why == ""
    assert [(one.vector, one.query["using"], one.answers) for one in found] == [
        ("size", "size", [{"id": 7, "score": 1.0}])
    ]


def test_the_room_is_that_in_the_manifest(standin: StandIn) -> None:
    server = at(standin.url)
    asked = probes.ask(server, "named", server.info("named")["config"]["params"], 60, 30.0, ROOM)
    entry = CollectionEntry(name="named", file="x", size=1, sha256="", probes=list(asked.probes))
    said = Manifest(id="x", tier="daily", engine={}, collections=[entry])
    bare = len(encode(said)) - len(encode(replace(said, collections=[replace(entry, probes=[])])))
    assert asked.size - 12 <= bare <= asked.size + 12


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
        found, why = told(probes.ask(at(parrot.url), "x", {"vectors": {"size": 1}}, 5, 5.0, ROOM))
    assert found == []
    assert "probes could not be asked" in why or "vector" not in hits


@pytest.mark.parametrize(
    "params", [{}, {"vectors": None}, {"vectors": {"a": 5}}, {"vectors": {}, "sparse_vectors": None}]
)
def test_a_collection_without_vectors_has_no_probes(params: dict[str, Any]) -> None:
    with Parrot(said(200, b'{"result": {"points": [{"id": 1, "vector": {}}]}}')) as parrot:
        assert probes.ask(at(parrot.url), "x", params, 5, 5.0, ROOM) == Asked()


def test_who_is_asked_to_stop_is_not_told_that_there_are_no_probes(standin: StandIn) -> None:
    standin.faults.add("hang", on="query")
    until = time.monotonic() + 0.2
    server = at(standin.url, lambda: "it was asked to stop" if time.monotonic() > until else "")
    try:
        with pytest.raises(TryLater, match="asked to stop"):
            ask(server, "dense")
    finally:
        standin.faults.clear()


# Asked once more.

LINE = "e_line"


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.real_qdrant)])
def line(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with 30 points in a line."""
    if request.param == "stand-in":
        url = request.getfixturevalue("standin").url
    elif not (url := os.environ.get(REAL)):
        pytest.skip(f"{REAL} names no Qdrant server")
    server = at(url)
    server.wire.answer("DELETE", f"/collections/{LINE}")
    server.wire.ask("PUT", f"/collections/{LINE}", bool, {"vectors": {"size": 2, "distance": "Euclid"}})
    put(server, *range(30))
    yield server
    server.wire.answer("DELETE", f"/collections/{LINE}")


def put(server: Server, *numbers: int, high: float = 0.0) -> None:
    points = [{"id": one, "vector": [one, high]} for one in numbers]
    server.wire.ask("PUT", f"/collections/{LINE}/points?wait=true", dict[str, Any], {"points": points})


def around(server: Server, point: int) -> Asked:
    """A question about what is near this point; the answers are the ten nearest."""
    body = {"query": [point + 0.25, 0.0], "limit": 10, "params": {"exact": True}}
    hits = server.query(LINE, body, 5)
    answers = [{"id": one["id"], "score": one["score"]} for one in hits]
    probe = Probe(vector="", kind="dense", point=point, query=body, answers=answers)
    return Asked(probes=(probe,), versions=({str(one["id"]): one["version"] for one in hits},))


def both(one: Asked, other: Asked) -> Asked:
    return Asked(probes=one.probes + other.probes, versions=one.versions + other.versions)


def kept(server: Server, asked: Asked, *, alone: bool = True) -> tuple[list[int | str], str]:
    found, why = probes.again(server, LINE, asked, time.monotonic() + 10, alone=alone)
    return [one.point for one in found], why


def test_probes_are_kept_as_long_as_their_answers_are_the_same(line: Server) -> None:
    asked = both(around(line, 5), around(line, 25))
    assert kept(line, asked) == ([5, 25], "")
    put(line, 4, high=0.5)
    assert kept(line, asked) == ([25], "1 probe had other answers afterwards")
    line.wire.ask("POST", f"/collections/{LINE}/points/delete?wait=true", dict[str, Any], {"points": [25]})
    assert kept(line, asked) == ([], "2 probes had other answers afterwards")


def test_a_neighbour_that_was_away_for_a_moment_is_no_longer_relied_on(line: Server) -> None:
    asked = both(around(line, 5), around(line, 25))
    line.wire.ask("POST", f"/collections/{LINE}/points/delete?wait=true", dict[str, Any], {"points": [5]})
    put(line, 5)
    assert kept(line, asked)[0] == [25]
    assert kept(line, asked, alone=False)[0] == [5, 25]  # where nothing tells of it


def test_why_there_were_no_more_probes_stays_known(line: Server) -> None:
    asked = around(line, 5)
    assert kept(line, Asked(probes=asked.probes, versions=asked.versions, why="no room")) == ([5], "no room")


SCORES = [3.0, 2.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("ids", "scores", "same"),
    [
        ("abcd", SCORES, True),
        ("abdc", SCORES, True),  # one score, another order
        ("abcx", SCORES, True),  # which of those with the last score are told is chance
        ("abxy", SCORES, True),
        ("abcd", [3.0, 2.00001, 1.0, 0.999999], True),
        ("abcd", [3.0, 2.01, 1.0, 1.0], False),
        ("bacd", SCORES, False),
        ("axcd", SCORES, False),
        ("abc", SCORES[:3], False),
        ("abcde", [4.0, *SCORES], False),
        ("", [], False),
    ],
)
def test_answers_that_differ_by_rounding_or_ties_are_the_same(ids: str, scores: list[float], *, same: bool) -> None:
    def hits(names: str, values: list[float]) -> list[dict[str, Any]]:
        return [{"id": name, "score": value} for name, value in zip(names, values, strict=True)]

    probe = Probe(vector="", kind="dense", point=1, query={"query": [1.0], "limit": 4}, answers=hits("abcd", SCORES))
    with Parrot(said(200, json.encode({"result": {"points": hits(ids, scores)}}))) as parrot:
        found, _ = probes.again(
            at(parrot.url), LINE, Asked(probes=(probe,), versions=({},)), time.monotonic() + 5, alone=False
        )
    assert found == ((probe,) if same else ())


def test_what_cannot_be_asked_again_is_not_relied_on(line: Server) -> None:
    asked = around(line, 5)
    found, why = probes.again(line, LINE, asked, time.monotonic() - 1)
    assert (found, why) == ((), "1 probe could not be asked again in the time that all may take")
    found, why = probes.again(at("http://127.0.0.1:9"), LINE, asked, time.monotonic() + 5)
    assert found == ()
    assert "probes could not be asked again" in why
