"""Drills of a Qdrant server's archives: in the embedded engine, and on a scratch server."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from program import Program
from standin import StandIn, nine

REAL = "SNAPWARD_TEST_QDRANT_URL"


def ask(url: str, method: str, path: str) -> Any:
    with closing(HTTPConnection(urlsplit(url).netloc, timeout=30)) as connection:
        connection.request(method, path)
        return json.loads(connection.getresponse().read())["result"]


def left(url: str) -> list[str]:
    """Collections of ours on a server."""
    names = [one["name"] for one in ask(url, "GET", "/collections")["collections"]]
    return [name for name in names if name.startswith("snapward-drill-")]


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.real_qdrant)])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a server with the nine collections."""
    if request.param == "stand-in":
        with StandIn(tmp_path / "server") as standin:
            nine.seed(standin.url)
            yield standin.url
        return
    url = os.environ.get(REAL)
    if not url:
        pytest.skip(f"{REAL} names no Qdrant server")
    nine.drop(url)
    nine.seed(url)
    yield url
    nine.drop(url)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path / "scratch") as standin:
        yield standin


def configure(program: Program, url: str, drills: str = "", names: Any = nine.COLLECTIONS) -> None:
    include = json.dumps([one.replace("[", "[[]") for one in names], ensure_ascii=False)
    program.write(
        engine=f'{{kind: qdrant, url: "{url}", patience: 300ms, collections: {{include: {include}}}}}',
        more=f"drills: {{{drills}}}\n",
    )


def test_all_nine_kinds_of_collections_are_faithful_in_the_embedded_engine(program: Program, server: str) -> None:
    configure(program, server)
    program.json("backup", "daily")
    done = program.json("drill")
    assert {one["name"] for one in done["collections"]} == set(nine.COLLECTIONS)
    assert [(one["name"], one["state"], one["why"]) for one in done["collections"] if one["state"] != "passed"] == []
    assert done["level"] == "faithful"


def test_all_nine_are_faithful_on_a_scratch_server_and_nothing_stays_there(program: Program, server: str) -> None:
    configure(program, server, drills=f'url: "{server}"')
    before = ask(server, "GET", "/collections")
    program.json("backup", "daily")
    done = program.json("drill")
    assert done["engine"].startswith("Qdrant ")
    assert [(one["name"], one["state"], one["why"]) for one in done["collections"] if one["state"] != "passed"] == []
    assert done["level"] == "faithful"
    assert sorted(one["name"] for one in ask(server, "GET", "/collections")["collections"]) == sorted(
        one["name"] for one in before["collections"]
    )
    assert not (program.state / "drill-on-server.json").exists()
    assert program.json("drill", "--engine", "edge", "--collection", "dense")["engine"].startswith("qdrant-edge")


@pytest.mark.parametrize(
    ("fault", "state", "why"),
    [
        ({"kind": "hollow"}, "failed", "0 points"),
        ({"kind": "partial", "after": 5}, "failed", "5 points"),
        ({"kind": "refuse", "on": "upload", "status": 403}, "inconclusive", "403"),
    ],
)
def test_a_scratch_server_that_restores_wrong_is_not_believed(
    program: Program, tmp_path: Path, scratch: StandIn, fault: dict[str, Any], state: str, why: str
) -> None:
    with StandIn(tmp_path / "server") as guarded:
        nine.seed(guarded.url, names=["dense"])
        configure(program, guarded.url, drills=f'url: "{scratch.url}"', names=["dense"])
        program.json("backup", "daily")
    scratch.faults.add(fault.pop("kind"), **fault)
    (done,) = program.json("drill", expect=2 if state == "failed" else 3)["collections"]
    assert (done["state"], why in done["why"]) == (state, True), done["why"]
    assert left(scratch.url) == []
    assert list((tmp_path / "scratch" / "snapshots").rglob("*.snapshot")) == []


def test_a_scratch_server_that_is_not_there_is_inconclusive(program: Program, tmp_path: Path) -> None:
    with StandIn(tmp_path / "server") as guarded:
        nine.seed(guarded.url, names=["dense"])
        configure(program, guarded.url, drills='url: "http://127.0.0.1:9"', names=["dense"])
        program.json("backup", "daily")
    done = program.json("drill", expect=3)
    assert "127.0.0.1:9" in done["collections"][0]["why"]
    checks = {one["name"]: one for one in program.json("check", expect=None)["checks"]}
    assert checks["drills"]["state"] == "warning"


def test_what_a_dead_drill_left_on_the_server_is_removed_by_the_next_and_nothing_else(
    program: Program, tmp_path: Path, scratch: StandIn
) -> None:
    with StandIn(tmp_path / "server") as guarded:
        nine.seed(guarded.url, names=["dense"])
        configure(program, guarded.url, drills=f'url: "{scratch.url}"', names=["dense"])
        program.json("backup", "daily")
    for name in ("snapward-drill-ours", "snapward-drill-another-agents"):
        with closing(HTTPConnection(urlsplit(scratch.url).netloc, timeout=30)) as connection:
            body = json.dumps({"vectors": {"size": 4, "distance": "Dot"}})
            connection.request("PUT", f"/collections/{quote(name)}", body, {"content-type": "application/json"})
            connection.getresponse().read()
    note = program.state / "drill-on-server.json"
    told = {"url": scratch.url, "collection": "snapward-drill-ours", "file": "snapward-restore-x.snapshot"}
    note.write_text(json.dumps(told))
    done = program.json("drill")
    assert done["notes"] == ["removed what a drill that died had left on the server: snapward-drill-ours"]
    assert left(scratch.url) == ["snapward-drill-another-agents"]
    assert not note.exists()
    note.write_text("{")
    program.json("drill")
    note.write_text(json.dumps(told | {"url": "http://elsewhere:6333"}))
    assert "may have left the collection" in program.json("drill")["notes"][0]
