import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from parrot import Parrot, open_sockets, said
from standin import Cluster, StandIn

from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.server import Identity, Server, Snapshot, stamp
from agent.adapters.qdrant.trouble import Absent, Away, Busy, Garbled, Lost
from agent.adapters.qdrant.wire import Wire
from agent.errors import AgentError, NoRights, Refused, TryLater, Unreachable

REAL = "SNAPWARD_TEST_QDRANT_URL"
NAME = "e_server ünï/%2F?#"
AT = "/collections/e_server%20%C3%BCn%C3%AF%2F%252F%3F%23"
PLAIN = "e_plain"
POINTS = 20


@pytest.fixture(autouse=True)
def no_socket_is_left() -> Iterator[None]:
    before = open_sockets()
    yield
    assert open_sockets() <= before


def at(
    url: str, *, key: str = "", patience: float = 2.0, silence: float = 10.0, halted: Callable[[], str] = str
) -> Server:
    return Server(Wire(Address(url, key, patience=patience, silence=silence), halted))


def seed(server: Server, name: str) -> None:
    path = server.download_path(name, "").removesuffix("/snapshots/")
    server.wire.ask("PUT", path, bool, {"vectors": {"size": 4, "distance": "Dot"}, "shard_number": 2})
    points = [{"id": number, "vector": [number, 1, 2, 3]} for number in range(1, POINTS + 1)]
    server.wire.ask("PUT", f"{path}/points?wait=true", dict[str, Any], {"points": points})


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.real_qdrant)])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server with one collection of 20 points in two shards, and an alias."""
    if request.param == "stand-in":
        with StandIn(tmp_path / "server") as standin:
            yield from seeded(at(standin.url), PLAIN)
        return
    url = os.environ.get(REAL)
    if not url:
        pytest.skip(f"{REAL} names no Qdrant server")
    yield from seeded(at(url, silence=30), PLAIN)


def seeded(server: Server, name: str) -> Iterator[Server]:
    server.wire.answer("DELETE", f"/collections/{name}")
    seed(server, name)
    alias = {"create_alias": {"alias_name": f"{name}_alias", "collection_name": name}}
    server.wire.ask("POST", "/collections/aliases", bool, {"actions": [alias]})
    yield server
    for one in server.snapshots(name)[0]:
        server.delete(name, one.name)
    server.wire.answer("DELETE", f"/collections/{name}")


# What a server tells.


def test_a_server_says_what_it_is_and_what_it_holds(server: Server) -> None:
    assert server.identity().version.count(".") == 2
    assert len(server.identity().commit) == 40
    assert PLAIN in server.collections()
    assert server.collections() == sorted(server.collections())
    assert server.aliases()[f"{PLAIN}_alias"] == PLAIN
    info = server.info(PLAIN)
    assert info["status"] in {"green", "yellow", "grey"}
    assert info["config"]["params"]["vectors"] == {"size": 4, "distance": "Dot"}
    assert server.count(PLAIN, 10) == POINTS
    assert server.cluster()["status"] == "disabled"
    placed = server.shards(PLAIN)
    assert [(one["shard_id"], one["state"]) for one in placed["local_shards"]] == [(0, "Active"), (1, "Active")]
    assert (placed["shard_count"], placed["remote_shards"]) == (2, [])
    assert server.sees_all()
    assert server.may_write(PLAIN)
    assert server.making(PLAIN) is False
    assert server.making("e_nobody knows") in {False, None}


def test_a_query_is_answered_with_the_nearest(server: Server) -> None:
    body = {"query": [1.0, 0.0, 0.0, 0.0], "limit": 3, "params": {"exact": True}}
    assert [(one["id"], one["score"]) for one in server.query(PLAIN, body, 10)] == [(20, 20.0), (19, 19.0), (18, 18.0)]


def test_sizes_are_told_or_nothing(server: Server) -> None:
    assert server.sizes().get(PLAIN, 1) > 0


def test_a_snapshot_is_made_listed_and_deleted(server: Server) -> None:
    assert server.snapshots(PLAIN)[0] == []
    made = server.create(PLAIN, time.monotonic() + 60)
    listed, clock = server.snapshots(PLAIN)
    assert listed == [made]
    assert made.size > 10_000
    assert clock is not None
    assert made.stamp is not None
    assert -2 < clock - made.stamp < 60  # a server tells the time of a moment ago
    server.delete(PLAIN, made.name)
    server.delete(PLAIN, made.name)  # is deleted already
    assert server.snapshots(PLAIN)[0] == []
    assert made not in server.snapshots(None)[0]


def test_what_is_not_there_is_told_as_such(server: Server) -> None:
    for ask in (server.info, server.shards, server.snapshots):
        with pytest.raises(Absent, match="404: Not found"):
            ask("e_nobody knows")
    with pytest.raises(Absent):
        server.count("e_nobody knows", 1)
    with pytest.raises(Absent):
        server.create("e_nobody knows", time.monotonic() + 10)
    assert server.may_write("e_nobody knows")  # nothing forbids it


def test_any_name_finds_its_way() -> None:
    with Parrot(said(200, b'{"result": {"name": "x", "size": 1}}')) as parrot:
        server = at(parrot.url)
        server.create(NAME, time.monotonic() + 10)
        server.delete(NAME, "a b/../c#?.snapshot")
        asked = [one.split(b"\r\n")[0].decode() for one in parrot.heard]
    assert asked == [
        f"POST {AT}/snapshots?wait=true HTTP/1.1",
        f"DELETE {AT}/snapshots/a%20b%2F..%2Fc%23%3F.snapshot?wait=true HTTP/1.1",
    ]
    assert server.download_path(NAME, "a b.snapshot") == f"{AT}/snapshots/a%20b.snapshot"


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("x-5151480347910154-2026-11-23-05-56-29.snapshot", 1795413389.0),
        ("2026-01-01-00-00-00-1-2026-11-23-05-56-29.snapshot", 1795413389.0),
        ("x-1-1970-01-01-00-00-00.snapshot", 0.0),
        ("x-1-2026-02-30-00-00-00.snapshot", None),
        ("x-1-2026-11-23-05-56-29.snapshot.checksum", None),
        ("x-1-2026-11-23-05-56.snapshot", None),
        ("uploaded.snapshot", None),
        ("", None),
    ],
)
def test_a_snapshots_name_says_when_it_was_made(name: str, moment: float | None) -> None:
    assert stamp(name) == moment


# What a key may do.


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[StandIn]:
    keys = {"some": [PLAIN]}
    with StandIn(tmp_path / "server", api_key="full", read_only_key="read", collection_keys=keys) as standin:
        for name in (PLAIN, "e_other"):
            at(standin.url, key="full").wire.ask(
                "PUT", f"/collections/{name}", bool, {"vectors": {"size": 4, "distance": "Dot"}}
            )
        yield standin


@pytest.mark.parametrize(
    ("key", "sees_all", "may_write", "names"),
    [
        ("full", True, True, ["e_other", PLAIN]),
        ("read", True, False, ["e_other", PLAIN]),
        ("some", False, True, [PLAIN]),
    ],
)
def test_what_a_key_may_do_is_found_out_without_doing_anything(
    guarded: StandIn, key: str, names: list[str], *, sees_all: bool, may_write: bool
) -> None:
    server = at(guarded.url, key=key)
    assert (server.sees_all(), server.may_write(PLAIN), server.collections()) == (sees_all, may_write, names)
    assert server.cluster()["status"] == "disabled"
    assert not any(one.operation == "create" for one in guarded.requests)


@pytest.mark.parametrize("key", ["", "wrong"])
def test_a_refused_key_is_told_in_the_servers_words(guarded: StandIn, key: str) -> None:
    server = at(guarded.url, key=key)
    assert server.identity().version
    with pytest.raises(NoRights, match=r"401: (Must provide an API key|Invalid API key)") as caught:
        server.collections()
    assert "engine.api_key" in caught.value.hint
    assert not server.sees_all()
    assert not server.may_write(PLAIN)


def test_a_key_for_some_collections_of_a_cluster_has_to_know_the_cluster(tmp_path: Path) -> None:
    keys = {"some": ["e_wide"]}
    with Cluster(tmp_path / "cluster", 2, api_key="full", collection_keys=keys) as cluster:
        url = cluster.peers[0].url
        wide = {"vectors": {"size": 4, "distance": "Dot"}, "shard_number": 4}
        at(url, key="full").wire.ask("PUT", "/collections/e_wide", bool, wide)
        assert at(url, key="full").cluster()["status"] == "enabled"
        with pytest.raises(NoRights, match="/cluster"):
            at(url, key="some").cluster()


# Whether it is at work.


def test_a_server_tells_that_it_makes_a_snapshot(tmp_path: Path) -> None:
    with StandIn(tmp_path / "server") as standin:
        server = at(standin.url)
        seed(server, PLAIN)
        standin.faults.add("linger")
        thread = threading.Thread(target=server.create, args=(PLAIN, time.monotonic() + 30))
        thread.start()
        while not server.making(PLAIN):
            assert thread.is_alive()
        standin.faults.release(waiting=1)
        thread.join()
        assert server.making(PLAIN) is False


GAUGE = '# TYPE snapshot_creation_running gauge\nsnapshot_creation_running{id="other"} 1\n'
TELEMETRY = b'{"result": {"collections": {"number_of_collections": 1, "snapshots": %s}}}'


@pytest.mark.parametrize(
    ("metrics", "telemetry", "making"),
    [
        (said(200, f'{GAUGE}snapshot_creation_running{{id="x"}} 1\n'.encode()), b"", True),
        (said(200, f'{GAUGE}snapshot_creation_running{{id="x"}} 2\n'.encode()), b"", True),
        (said(200, f'{GAUGE}snapshot_creation_running{{id="x"}} 0\n'.encode()), b"", False),
        (said(200, f'{GAUGE}my_prefix_snapshot_creation_running{{id="x"}} 1\n'.encode()), b"", True),
        (said(200, GAUGE.encode()), said(200, TELEMETRY % b"[]"), False),
        (said(403, b"no"), said(200, TELEMETRY % b'[{"id": "x", "running_snapshots": 1}]'), True),
        (said(403, b"no"), said(200, TELEMETRY % b'[{"id": "x", "running_snapshots": 0}]'), False),
        (said(403, b"no"), said(200, TELEMETRY % b'[{"id": "y", "running_snapshots": 1}]'), False),
        (said(404), said(200, b'{"result": {"collections": {"number_of_collections": 1}}}'), None),
        (said(404), said(404), None),
        (said(200, b"\xff\xfe\0"), said(403), None),
    ],
)
def test_whether_a_snapshot_is_being_made_is_read_from_metrics_or_telemetry(
    metrics: bytes, telemetry: bytes, *, making: bool | None
) -> None:
    with Parrot(metrics, telemetry) as parrot:
        assert at(parrot.url).making("x") is making


@pytest.mark.parametrize("name", ['a"b', "a\\b", 'a\\"b', "a.b", "a|b"])
def test_a_collection_of_any_name_is_found_in_the_metrics(name: str) -> None:
    label = name.replace("\\", "\\\\").replace('"', '\\"')
    with Parrot(said(200, f'{GAUGE}snapshot_creation_running{{id="{label}"}} 1\n'.encode())) as parrot:
        assert at(parrot.url).making(name) is True


# Making.


@pytest.mark.parametrize(
    ("answer", "kind", "why"),
    [
        (b"", Lost, "without an answer"),
        (said(504, b"<html>Gateway Time-out</html>"), Lost, "504: Gateway Time-out"),
        (said(502, b"<html>Bad Gateway</html>"), Lost, "502"),
        (said(500, b"<html>oops</html>"), Lost, "500"),
        (said(408, b'{"status": {"error": "Timeout"}}'), Lost, "408"),
        (said(200, b"<html>Log in</html>"), Lost, "not Qdrant's"),
        (said(200, b'{"result": null}'), Lost, "not Qdrant's"),
        (said(202, b'{"status": "accepted"}'), Lost, "not Qdrant's"),
        (said(200, b"{}", "Content-Encoding: gzip"), Lost, "compressed"),
        (said(500, b'{"status": {"error": "Service internal error: try again"}}'), Busy, "500"),
        (said(503, b'{"status": {"error": "Shard unavailable"}}'), Busy, "503"),
        (said(429, b"slow down"), Busy, "429"),
        (said(400, b"no"), Refused, "400"),
    ],
)
def test_an_answer_to_create_says_whether_it_may_have_been_made(
    answer: bytes, kind: type[AgentError], why: str
) -> None:
    with Parrot(answer) as parrot, pytest.raises(kind, match=why) as caught:
        at(parrot.url).create("x", time.monotonic() + 10)
    assert type(caught.value) is kind
    assert len(parrot.heard) == 1


def test_a_server_that_is_away_has_made_nothing() -> None:
    with pytest.raises(Away):
        at("http://127.0.0.1:9").create("x", time.monotonic() + 10)


def test_a_page_that_says_404_has_deleted_nothing() -> None:
    with Parrot(said(404, b"<html>no such page</html>")) as parrot, pytest.raises(Absent, match="no such page"):
        at(parrot.url).delete("x", "y.snapshot")


# Answers of another shape.


ASKS: dict[str, Callable[[Server], object]] = {
    "identity": lambda one: one.identity(),
    "collections": lambda one: one.collections(),
    "aliases": lambda one: one.aliases(),
    "info": lambda one: one.info("x"),
    "count": lambda one: one.count("x", 1),
    "query": lambda one: one.query("x", {}, 1),
    "cluster": lambda one: one.cluster(),
    "shards": lambda one: one.shards("x"),
    "snapshots": lambda one: one.snapshots("x"),
}
SHAPES = [
    "null",
    "[]",
    "{}",
    "5",
    '"text"',
    '{"collections": [{"nom": 1}]}',
    '{"aliases": [1]}',
    '{"status": "green"}',
    '{"status": "green", "config": {"params": []}}',
    '{"count": "many"}',
    '{"count": -1}',
    '{"points": {}}',
    '{"points": [1]}',
    '{"status": "enabled", "peers": {"one": {}}}',
    '{"peer_id": 1, "shard_count": 1, "local_shards": [{"shard_id": 0}], "remote_shards": []}',
    '[{"name": "x", "size": -1}]',
    '[{"name": "x", "size": 1e300}]',
    '[{"size": 1}]',
]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_answer_of_another_shape_is_not_believed(shape: str) -> None:
    with Parrot(said(200, f'{{"result": {shape}}}'.encode())) as parrot:
        for name, ask in ASKS.items():
            if (name, shape) == ("snapshots", "[]") or (name == "cluster" and shape.startswith('{"status": "green"')):
                continue
            with pytest.raises(Garbled, match=r"not Qdrant's|not as Qdrant"):
                ask(at(parrot.url, patience=0))
        assert at(parrot.url).sizes() == {}


def test_what_is_no_qdrant_is_told() -> None:
    for answer in (said(200, b"It works!"), said(404), said(200, b'{"version": 1}'), said(401, b"no")):
        with Parrot(answer) as parrot, pytest.raises(Unreachable, match="not as Qdrant does"):
            at(parrot.url).identity()
    with Parrot(said(200, b'{"title": "qdrant", "version": "1.12.0"}')) as parrot:
        assert at(parrot.url).identity() == Identity("1.12.0", "")


def test_snapshots_of_a_store_without_checksums_and_with_foreign_names_are_listed() -> None:
    first = b'{"name": "a/b.tar", "size": 0, "creation_time": null, "checksum": null}'
    text = b'{"result": [%s, {"name": "c", "size": 1, "checksum": "AB"}]}' % first
    with Parrot(said(200, text)) as parrot:
        assert at(parrot.url).snapshots("x") == ([Snapshot("a/b.tar", 0), Snapshot("c", 1, "ab")], None)


def test_counting_may_take_longer_than_silence_is_borne(tmp_path: Path) -> None:
    with StandIn(tmp_path / "server") as standin:
        seed(at(standin.url), PLAIN)
        standin.faults.add("hang", on="count", seconds=0.5)
        began = time.monotonic()
        with pytest.raises(Lost, match="without an answer"):  # and not: silent
            at(standin.url, silence=0.2, patience=0).count(PLAIN, 10)
        assert time.monotonic() - began < 5


def test_who_is_asked_to_stop_is_told_no_sizes(tmp_path: Path) -> None:
    with StandIn(tmp_path / "server") as standin:
        standin.faults.add("hang", on="telemetry")
        with pytest.raises(TryLater, match="asked to stop"):
            at(standin.url, halted=lambda: "it was asked to stop").sizes()
