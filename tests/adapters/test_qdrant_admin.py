"""What a restore asks of a server beside the upload, asked of the stand-in and of a real one."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from parrot import Lossy, Parrot, open_sockets, said
from standin import StandIn, nine
from standin.client import path_of

from agent.adapters.qdrant import admin
from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.server import Server
from agent.adapters.qdrant.trouble import Absent, Lost
from agent.adapters.qdrant.wire import Wire
from agent.errors import NoRights, Refused, TryLater
from agent.rules.collection_config import differs

REAL = "SNAPWARD_TEST_QDRANT_URL"
C, OTHER = "e_admin ü%", "e_admin_other"
ALIASES = ("e_admin_alias", "e_admin_second")
PLAIN = {"params": {"vectors": {"size": 4, "distance": "Dot"}}}
RICH = {
    "params": {
        "vectors": {
            "a": {"size": 4, "distance": "Dot", "on_disk": True, "quantization_config": {"binary": {}}},
            "b": {"size": 3, "distance": "Euclid", "datatype": "float16", "hnsw_config": {"m": 8}},
            "c": {"size": 2, "distance": "Cosine", "multivector_config": {"comparator": "max_sim"}},
        },
        "sparse_vectors": {"s": {}, "t": {"modifier": "idf", "index": {"on_disk": True}}},
        "shard_number": 3,
        "replication_factor": 1,
        "write_consistency_factor": 1,
        "read_fan_out_factor": 2,
        "read_fan_out_delay_ms": 30,
        "on_disk_payload": False,
    },
    "hnsw_config": {
        "m": 20,
        "ef_construct": 90,
        "full_scan_threshold": 9000,
        "max_indexing_threads": 1,
        "on_disk": True,
        "payload_m": 8,
    },
    "optimizer_config": {"default_segment_number": 2, "indexing_threshold": 5000, "max_optimization_threads": 2},
    "wal_config": {"wal_capacity_mb": 4, "wal_segments_ahead": 0, "wal_retain_closed": 1},
    "quantization_config": {"scalar": {"type": "int8", "quantile": 0.9}},
    "strict_mode_config": {"enabled": True, "max_query_limit": 100, "max_points_count": 1000},
    "metadata": {"owner": "tests", "deep": [1, {"x": None}]},
}


@pytest.fixture(autouse=True)
def no_socket_is_left() -> Iterator[None]:
    before = open_sockets()
    yield
    assert open_sockets() <= before


def server(url: str, *, key: str = "", patience: float = 0.0, halted: Callable[[], str] = str) -> Server:
    return Server(Wire(Address(url, key, patience, 5.0), halted))


def soon(seconds: float = 20.0) -> float:
    return time.monotonic() + seconds


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path / "server", api_key="full", read_only_key="reader") as one:
        yield one


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.real_qdrant)])
def to(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server without these collections, which are gone from it afterwards."""
    if request.param == "stand-in":
        yield server(request.getfixturevalue("standin").url, key="full")
        return
    if REAL not in os.environ:
        pytest.skip(f"{REAL} names no Qdrant")
    real = server(os.environ[REAL], key=os.environ.get("SNAPWARD_TEST_QDRANT_KEY", ""))
    _clear(real)
    yield real
    _clear(real)


def _clear(real: Server) -> None:
    for name in (C, OTHER):
        admin.drop(real, name)


def test_a_collection_is_made_with_every_setting_it_had(to: Server) -> None:
    admin.create(to, C, RICH)
    assert differs(RICH, admin.config(to, C)) == []
    admin.create(to, OTHER, admin.config(to, C))
    assert admin.config(to, OTHER) == admin.config(to, C)


@pytest.mark.parametrize("name", nine.COLLECTIONS)
def test_a_collection_of_each_kind_is_made_anew_as_it_was(standin: StandIn, name: str) -> None:
    nine.seed(standin.url, "full", points=0, names=[name])
    to = server(standin.url, key="full")
    was, indexes = admin.config(to, name), admin.indexes(to, name)
    admin.drop(to, name)
    admin.create(to, name, was)
    for field, schema in indexes.items():
        admin.put_index(to, name, field, schema, soon())
    assert (admin.config(to, name), admin.indexes(to, name)) == (was, indexes)


def test_what_a_server_leaves_out_on_its_own_is_set_afterwards(to: Server) -> None:
    admin.create(to, C, PLAIN)
    admin.complete(to, C, PLAIN)
    assert differs(PLAIN, admin.config(to, C)) == []
    admin.complete(to, C, RICH)
    assert admin.config(to, C)["params"]["read_fan_out_factor"] == 2


def test_a_collection_is_there_or_not_and_an_alias_is_none(to: Server) -> None:
    assert not admin.exists(to, C)
    admin.create(to, C, PLAIN)
    admin.change_aliases(to, [admin.point_alias(ALIASES[0], C)])
    assert admin.exists(to, C)
    assert not admin.exists(to, ALIASES[0])
    admin.drop(to, C)
    admin.drop(to, C)
    assert not admin.exists(to, C)
    assert ALIASES[0] not in to.aliases()


def test_what_cannot_be_made_is_refused_with_the_servers_words(to: Server) -> None:
    admin.create(to, C, PLAIN)
    with pytest.raises(Refused, match=r"409: Wrong input: Collection .* already exists"):
        admin.create(to, C, PLAIN)
    admin.change_aliases(to, [admin.point_alias(ALIASES[0], C)])
    with pytest.raises(Refused, match="Alias with the same name already exists"):
        admin.create(to, ALIASES[0], PLAIN)
    with pytest.raises(Refused, match="400: Format error in JSON body"):
        admin.create(to, OTHER, {"params": {"vectors": {"size": 4, "distance": "Far"}}})


def test_payload_indexes_come_back_as_they_were(to: Server) -> None:
    admin.create(to, C, PLAIN)
    for field, schema in nine.INDEXES.items():
        admin.put_index(to, C, field, schema, soon())
    told = admin.indexes(to, C)
    assert told == {**nine.INDEXES, "year": {**nine.INDEXES["year"], "is_principal": None}}
    admin.create(to, OTHER, PLAIN)
    for field, schema in told.items():
        admin.put_index(to, OTHER, field, schema, soon())
    assert admin.indexes(to, OTHER) == told


def test_aliases_are_turned_in_one_request(to: Server) -> None:
    for name in (C, OTHER):
        admin.create(to, name, PLAIN)
    first, second = ALIASES
    admin.change_aliases(to, [])
    admin.change_aliases(to, [admin.point_alias(first, C), admin.point_alias(second, C)])
    admin.change_aliases(to, [admin.point_alias(first, OTHER), admin.remove_alias(second), admin.remove_alias("none")])
    known = to.aliases()
    assert known[first] == OTHER
    assert second not in known


def test_of_changes_of_aliases_those_before_one_that_fails_are_made(to: Server) -> None:
    admin.create(to, C, PLAIN)
    with pytest.raises(Absent, match="e_admin_nowhere"):
        admin.change_aliases(to, [admin.point_alias(ALIASES[0], C), admin.point_alias(ALIASES[1], "e_admin_nowhere")])
    known = to.aliases()
    assert known[ALIASES[0]] == C
    assert ALIASES[1] not in known


def test_a_collection_at_rest_is_ready_at_once(to: Server) -> None:
    admin.create(to, C, PLAIN)
    assert admin.wait_ready(to, C, soon()) == []
    assert admin.wait_ready(to, C, soon(), peers=[to]) == []
    assert admin.restoring(to, C) is False
    with pytest.raises(Absent):
        admin.wait_ready(to, "e_admin_nowhere", soon())


def test_a_key_that_may_only_read_changes_nothing(standin: StandIn) -> None:
    full, reader = (server(standin.url, key=key) for key in ("full", "reader"))
    admin.create(full, C, PLAIN)
    attempts: list[Callable[[], Any]] = [
        lambda: admin.create(reader, OTHER, PLAIN),
        lambda: admin.drop(reader, C),
        lambda: admin.put_index(reader, C, "city", "keyword", soon()),
        lambda: admin.change_aliases(reader, [admin.point_alias("a", C)]),
        lambda: admin.complete(reader, C, RICH),
    ]
    for attempt in attempts:
        with pytest.raises(NoRights):
            attempt()
    assert full.collections() == [C]


# When an answer is lost.


def test_a_collection_whose_making_was_not_answered_is_looked_for(standin: StandIn) -> None:
    with Lossy(standin.url, "PUT", late=True) as proxy:
        admin.create(server(proxy.url, key="full"), C, PLAIN)
    with Lossy(standin.url, "PUT", said(504, b"<html>"), late=True) as proxy:
        admin.create(server(proxy.url, key="full"), OTHER, PLAIN)
    assert server(standin.url, key="full").collections() == [C, OTHER]


def test_a_collection_that_was_not_made_is_lost(standin: StandIn) -> None:
    standin.faults.add("hang", on="create_collection", seconds=0.1, times=1)
    with pytest.raises(Lost):
        admin.create(server(standin.url, key="full"), C, PLAIN)


# What is not at rest.


@pytest.fixture
def resting(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A stand-in with a collection, and patience for an instant only."""
    monkeypatch.setattr(admin, "STUCK", 0.4)
    monkeypatch.setattr(admin, "_SOON", 0.1)
    to = server(standin.url, key="full")
    admin.create(to, C, {"params": {**PLAIN["params"], "shard_number": 2}})
    return to


def test_what_seldom_passes_by_itself_is_told_after_a_short_while(standin: StandIn, resting: Server) -> None:
    standin.faults.add("status", state="red", text="no space")
    assert admin.wait_ready(resting, C, soon()) == ["its status is red", "its optimizer says: no space"]


def test_it_may_pass_all_the_same(standin: StandIn, resting: Server) -> None:
    standin.faults.add("status", state="red", times=2)
    assert admin.wait_ready(resting, C, soon()) == []


@pytest.mark.parametrize("state", ["yellow", "grey"])
def test_optimizing_is_no_reason_to_wait(standin: StandIn, resting: Server, state: str) -> None:
    standin.faults.add("status", state=state)
    assert admin.wait_ready(resting, C, soon(0)) == []


def test_updates_that_wait_are_waited_for(standin: StandIn, resting: Server) -> None:
    standin.faults.add("queue", after=5000, times=3)
    assert admin.wait_ready(resting, C, soon()) == []
    standin.faults.add("queue", after=1)
    assert admin.wait_ready(resting, C, soon(1)) == ["1 update to be applied"]


def test_a_dead_replica_is_told(standin: StandIn, resting: Server) -> None:
    standin.faults.add("dead_replica", on="collection_cluster", state="Partial")
    peer = resting.shards(C)["peer_id"]
    assert admin.wait_ready(resting, C, soon()) == [f"shard 0 on peer {peer} is partial"]


def test_a_collection_that_cannot_be_read_is_told_with_the_servers_words(standin: StandIn, resting: Server) -> None:
    standin.store.get(C).broken.add((0, standin.peer_id))
    (told,) = admin.wait_ready(resting, C, soon())
    assert told.startswith("the server cannot tell of it: Service internal error")
    assert "Dirty shard" in told


def test_a_restore_that_goes_on_is_waited_for(standin: StandIn, resting: Server) -> None:
    name = resting.create(C, soon()).name
    standin.faults.add("linger", on="recover", seconds=1.0)
    location = (standin.snapshots_dir / C / name).as_uri()
    got = resting.wire.answer("PUT", path_of(C, "/snapshots/recover?wait=false"), {"location": location})
    assert got.status == 202
    assert admin.restoring(resting, C) is True
    began = time.monotonic()
    assert admin.wait_ready(resting, C, soon()) == []
    assert time.monotonic() - began > 0.5


def test_a_server_that_is_away_for_a_moment_is_waited_for(standin: StandIn, resting: Server) -> None:
    standin.restart(1.0)
    assert admin.wait_ready(resting, C, soon()) == []
    standin.stop()
    (told,) = admin.wait_ready(resting, C, soon(1))
    assert "cannot be reached" in told
    standin.start()


def test_who_is_asked_to_stop_does_not_wait(standin: StandIn, resting: Server) -> None:
    standin.faults.add("queue", after=1)
    until = time.monotonic() + 0.3
    stopped = server(standin.url, key="full", halted=lambda: "enough" if time.monotonic() > until else "")
    with pytest.raises(TryLater, match="enough"):
        admin.wait_ready(stopped, C, soon())


def test_a_server_that_tells_no_metrics_does_not_tell_whether_it_restores() -> None:
    with Parrot(said(403, b"no")) as parrot:
        assert admin.restoring(server(parrot.url), C) is None


def test_the_restore_of_another_collection_is_none_of_this_one(standin: StandIn, resting: Server) -> None:
    name = resting.create(C, soon()).name
    standin.faults.add("linger", on="recover")
    location = (standin.snapshots_dir / C / name).as_uri()
    resting.wire.answer("PUT", path_of(OTHER, "/snapshots/recover?wait=false"), {"location": location})
    assert (admin.restoring(resting, C), admin.restoring(resting, OTHER)) == (False, True)
    standin.faults.release(waiting=1)
