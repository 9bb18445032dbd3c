import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from parrot import open_sockets
from standin import Cluster, StandIn

from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.look import view
from agent.adapters.qdrant.server import Server
from agent.adapters.qdrant.snapshot import Ticket
from agent.adapters.qdrant.wire import Wire
from agent.rules.server import View

PLAIN = {"vectors": {"size": 4, "distance": "Dot"}}


@pytest.fixture(autouse=True)
def no_socket_is_left() -> Iterator[None]:
    before = open_sockets()
    yield
    assert open_sockets() <= before


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path / "server") as running:
        for name in ("one", "two"):
            at(running.url).wire.ask("PUT", f"/collections/{name}", bool, PLAIN)
        yield running


def at(url: str, key: str = "", silence: float = 5.0) -> Server:
    return Server(Wire(Address(url, key, patience=0.0, silence=silence)))


def look(standin: StandIn, *tickets: Ticket, **how: Any) -> View:
    return view([at(standin.url)], tickets, **how)


def by_name(seen: View) -> dict[str, Any]:
    return {one.name: one for one in seen.collections}


def test_a_server_that_is_well_looks_like_it(standin: StandIn) -> None:
    seen = look(standin)
    assert (seen.url, seen.version, seen.problem, seen.denied) == (standin.url, "1.18.3", "", "")
    assert (seen.missing_rights, seen.peers, seen.full_snapshots) == ((), (), ())
    assert [(one.name, one.status, one.optimizer, one.problem) for one in seen.collections] == [
        ("one", "green", "ok", ""),
        ("two", "green", "ok", ""),
    ]


def test_a_server_that_does_not_answer_is_a_problem(standin: StandIn) -> None:
    standin.stop()
    assert "cannot be reached" in look(standin).problem


@pytest.mark.parametrize("operation", ["collections", "cluster", "full_snapshots"])
def test_a_server_that_fails_at_first_is_a_problem(standin: StandIn, operation: str) -> None:
    standin.faults.add("refuse", on=operation, status=500, text="broken")
    seen = look(standin)
    assert "broken" in seen.problem
    assert seen.version == "1.18.3"


def test_what_is_wrong_with_one_collection_is_seen_and_the_others_as_well(standin: StandIn) -> None:
    standin.faults.add("status", collection="one", state="red", text="disk full")
    standin.faults.add("refuse", on="list", collection="two", status=500, text="broken")
    seen = by_name(look(standin))
    assert (seen["one"].status, seen["one"].optimizer, seen["one"].problem) == ("red", "disk full", "")
    assert "broken" in seen["two"].problem


def test_a_collection_that_goes_while_it_is_looked_at_is_not_seen(standin: StandIn) -> None:
    standin.faults.add("refuse", on="info", collection="one", status=404, text="Not found")
    assert list(by_name(look(standin))) == ["two"]


def test_a_dead_shard_is_seen_also_where_there_is_no_cluster(standin: StandIn) -> None:
    standin.faults.add("dead_replica", on="collection_cluster", collection="one")
    standin.faults.add("refuse", on="info", collection="one", status=500, text="no active replica")
    one = by_name(look(standin))["one"]
    assert one.lost_shards == (0,)
    assert one.dead_replicas[0].startswith("shard 0 on peer ")
    assert one.dead_replicas[0].endswith(": Dead")
    assert (one.status, one.problem) == ("", "")


def test_what_there_is_no_time_for_is_said(standin: StandIn) -> None:
    standin.faults.add("hang", on="info")
    began = time.monotonic()
    seen = by_name(view([at(standin.url, silence=0.3)], (), within=0.2))
    assert "stays silent" in seen["one"].problem
    assert "no time for it within 200 ms" in seen["two"].problem
    assert time.monotonic() - began < 3


def test_snapshots_that_we_asked_for_are_ours_also_where_their_name_is_not_known(standin: StandIn) -> None:
    server = at(standin.url)
    ours = server.create("one", time.monotonic() + 30)
    theirs = server.create("two", time.monotonic() + 30)
    asked = ours.stamp or 0.0
    named = Ticket(1, standin.url, "one", asked - 9000, frozenset(), ours.name)
    unnamed = Ticket(2, standin.url, "one", asked, frozenset())
    beside = Ticket(3, standin.url, "two", asked, frozenset({theirs.name}))
    elsewhere = Ticket(4, "http://other", "two", asked, frozenset(), theirs.name)
    for ticket in (named, unnamed):
        seen = by_name(look(standin, ticket, beside, elsewhere))
        assert [(one.name, one.size, one.created, one.ours) for one in seen["one"].snapshots] == [
            (ours.name, ours.size, ours.stamp, True)
        ]
        assert [one.ours for one in seen["two"].snapshots] == [False]


@pytest.mark.parametrize(("key", "names"), [("full", ["one", "two"]), ("some", ["one"])])
def test_a_key_shows_what_it_may_see(tmp_path: Path, key: str, names: list[str]) -> None:
    with StandIn(tmp_path / "server", api_key="full", collection_keys={"some": ["one"]}) as standin:
        for name in ("one", "two"):
            at(standin.url, "full").wire.ask("PUT", f"/collections/{name}", bool, PLAIN)
        seen = view([at(standin.url, key)], ())
        assert list(by_name(seen)) == names
        assert bool(seen.missing_rights) == (key == "some")
        assert "401" in view([at(standin.url, "wrong")], ()).denied


def test_the_peers_of_a_cluster_are_seen_those_that_are_away_and_those_nobody_asks(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", 3) as cluster:
        first, second, third = cluster.peers
        wide = {**PLAIN, "shard_number": 3}
        at(first.url).wire.ask("PUT", "/collections/wide", bool, wide)
        placed = cluster.store.get("wide").placement
        holder = next(peer for peer in cluster.peers if peer.peer_id in placed[1])
        cluster.set_state("wide", 1, holder, "Dead")
        second.stop()
        seen = view([at(first.url), at(second.url)], ())
    assert [(one.url, bool(one.problem)) for one in seen.peers if one.url] == [(first.url, False), (second.url, True)]
    assert third.peer_id in {one.id for one in seen.peers if one.url is None}
    assert by_name(seen)["wide"].lost_shards == (1,)
    assert by_name(seen)["wide"].dead_replicas == (f"shard 1 on peer {holder.peer_id}: Dead",)
