"""The same questions to a real Qdrant and to the stand-in, so that the stand-in cannot drift."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standin import StandIn, nine
from standin.client import Client, Reply, path_of, path_of_snapshot

REAL = os.environ.get("SNAPWARD_TEST_QDRANT_URL", "")
KEY = os.environ.get("SNAPWARD_TEST_QDRANT_KEY")

pytestmark = [
    pytest.mark.real_qdrant,
    pytest.mark.skipif(not REAL, reason="SNAPWARD_TEST_QDRANT_URL names no Qdrant to compare with"),
]

C, OTHER = "a_standin ü%", "a_standin_other"
VECTORS = {
    "d": {"size": 4, "distance": "Cosine", "datatype": "float16", "hnsw_config": {"m": 8}},
    "m": {"size": 2, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}, "on_disk": True},
}
CONFIG = {
    "vectors": VECTORS,
    "sparse_vectors": {"s": {"modifier": "idf", "index": {"on_disk": True}}},
    "quantization_config": {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}},
    "shard_number": 2,
    "metadata": {"owner": "tests"},
}
# Two rows of whole numbers would be a sparse vector to the real server: its JSON has no tags.
POINT = {"d": [1, 2, 3, 4], "m": [[1.5, 2], [3, 4]], "s": {"indices": [1, 7], "values": [0.5, 0.1]}}
FAR = {"d": [-1, 2, 3, 4], "m": [[-1.5, 2]], "s": {"indices": [7], "values": [0.01]}}
UUID = "5c56c793-69f3-4fbf-87e6-c4bf54c28c26"
POINTS = [
    {"id": 1, "vector": POINT, "payload": {"city": "Lima", "year": 1990, "place": {"lon": 1.5, "lat": 2.5}}},
    {"id": UUID, "vector": FAR, "payload": {"city": "Kyoto", "deep": {"list": [1, None, True]}}},
    {"id": 3, "vector": {"d": [4, 3, 2, 1]}},
]
ALIAS = {"create_alias": {"collection_name": C, "alias_name": "a_standin_alias"}}

Question = tuple[str, str, Any]


def questions() -> Iterator[Question]:
    """Method, path and body, in this order."""
    yield "GET", "/", None
    yield "GET", "/healthz", None
    yield "GET", "/livez", None
    yield "GET", "/readyz", None
    yield "PUT", path_of(C), CONFIG
    yield "PUT", path_of(C), CONFIG
    yield "PUT", path_of(OTHER), {"vectors": {"size": 2, "distance": "Euclid"}}
    yield "PUT", path_of("a_standin_bad"), {"vectors": {"size": 0, "distance": "Dot"}}
    for bad in ("a_standin/x", "a_standin:x", "a_standin?", "a_standin\0", "a" * 256):
        yield "PUT", path_of(bad), CONFIG
        yield "GET", path_of(bad), None
    for field, schema in nine.INDEXES.items():
        yield "PUT", path_of(C, "/index?wait=true"), {"field_name": field, "field_schema": schema}
    yield "PUT", path_of(C, "/points?wait=true"), {"points": POINTS}
    yield "PUT", path_of(OTHER, "/points"), {"batch": {"ids": [1, 2], "vectors": [[1, 2], [3, 4]]}}
    yield "PUT", path_of(OTHER, "/points?wait=true"), {"points": [{"id": 1, "vector": [1, 2, 3]}]}
    yield "PUT", path_of(OTHER, "/points?wait=true"), {"points": [{"id": "x", "vector": [1, 2]}]}
    yield "POST", path_of(OTHER, "/points/delete?wait=true"), {"points": [2]}
    yield "GET", path_of(C), None
    yield "GET", path_of(OTHER), None
    yield "GET", path_of("a_standin_none"), None
    yield "GET", path_of(C, "/exists"), None
    yield "GET", path_of("a_standin_none", "/exists"), None
    yield "GET", "/collections", None
    yield "GET", "/collections/", None
    yield from _searches()
    yield "POST", "/collections/aliases", {"actions": [ALIAS]}
    yield "POST", "/collections/aliases", {"actions": [{"unknown": 1}]}
    yield "POST", "/collections/aliases", {}
    first = {"create_alias": {"collection_name": C, "alias_name": "a_standin_first"}}
    nowhere = {"create_alias": {"collection_name": "a_standin_none", "alias_name": "a_standin_second"}}
    yield "POST", "/collections/aliases", {"actions": [first, nowhere]}
    yield "GET", path_of(C, "/aliases"), None
    unset = [{"delete_alias": {"alias_name": one}} for one in ("a_standin_first", "a_standin_never")]
    yield "POST", "/collections/aliases", {"actions": unset}
    yield "POST", "/collections/aliases", {"actions": []}
    yield "GET", path_of(C, "/aliases"), None
    yield "PUT", path_of("a_standin_alias"), CONFIG
    yield "DELETE", path_of("a_standin_alias"), None
    yield "PATCH", path_of(C), {"params": {"read_fan_out_factor": 1, "read_fan_out_delay_ms": 20}}
    yield "PATCH", path_of("a_standin_none"), {"params": {}}
    yield "GET", path_of(C), None
    yield "GET", path_of("a_standin_alias"), None
    yield "GET", path_of(C, "/shards"), None
    yield "GET", "/cluster", None
    yield "GET", path_of(C, "/cluster"), None
    yield "GET", path_of("a_standin_none", "/cluster"), None
    yield "PUT", path_of(C, "/shards"), {"shard_key": "x"}
    yield "POST", path_of(C, "/shards/delete"), {"shard_key": "x"}
    yield "POST", path_of(C, "/cluster"), {"move_shard": {"shard_id": 0, "from_peer_id": 1, "to_peer_id": 2}}
    yield "POST", path_of(C, "/cluster"), {"unknown": {}}
    yield "GET", "/nowhere", None
    yield "POST", "/collections", {}
    yield "GET", "/snapshots", None


def _searches() -> Iterator[Question]:
    lima = {"must": [{"key": "city", "match": {"value": "Lima"}}]}
    yield "POST", path_of(C, "/points/count"), {"exact": True}
    yield "POST", path_of(C, "/points/count"), {"exact": True, "filter": lima}
    yield "POST", path_of("a_standin_none", "/points/count"), {}
    query = path_of(C, "/points/query")
    yield "POST", query, {"query": [1, 0, 0, 0], "using": "d", "limit": 2, "with_payload": True, "with_vector": True}
    yield "POST", query, {"query": {"nearest": [1, 0, 0, 0]}, "using": "d", "params": {"exact": True}}
    yield "POST", query, {"query": {"indices": [7], "values": [1]}, "using": "s", "with_vector": ["s"]}
    yield "POST", query, {"query": [[0.5, 0], [0, 1]], "using": "m", "with_vector": True}
    yield "POST", query, {"query": {"sample": "random"}, "filter": {"must": [{"has_id": [1]}]}, "with_vector": True}
    yield "POST", query, {"query": [1, 0, 0, 0], "using": "d", "filter": {"must": [{"has_id": [3]}]}}
    yield "POST", query, {"query": [1, 0], "using": "d"}
    yield "POST", query, {"query": [1, 0], "using": "nope"}
    yield "POST", path_of(C, "/points/scroll"), {"limit": 2}
    yield "POST", path_of(C, "/points/scroll"), {"limit": 2, "offset": 3, "with_vector": True}
    yield "POST", path_of(C, "/points/scroll"), {"with_payload": False, "with_vector": ["d"], "filter": lima}
    yield "POST", path_of(C, "/points"), {"ids": [3, UUID, 99]}
    yield "POST", path_of(C, "/points"), {"ids": [1], "with_payload": True, "with_vector": True}


class Apart(Client):
    """Asks each question on a connection of its own: the real server ends some of them, among them after each 422."""

    def ask(self, *question: Any, **more: Any) -> Reply:
        self.close()
        return super().ask(*question, **more)


def snapshot_questions(client: Client) -> list[tuple[str, Reply]]:
    """What is asked about snapshots, and the answers."""
    listing = path_of(C, "/snapshots")
    made = client.ask("POST", listing)
    whole = path_of_snapshot(C, made.result["name"])
    plain = {"accept-encoding": "identity"}
    first = client.ask("GET", whole, headers=plain)
    replies = [("create", made), ("list", client.ask("GET", listing)), ("download", first)]
    for name, headers in {
        "resume": {**plain, "range": "bytes=100-", "if-match": first.headers["etag"]},
        "resume another": {**plain, "range": "bytes=100-", "if-match": '"other"'},
        "last bytes": {"range": "bytes=-5"},
        "beyond": {"range": "bytes=99999999999-"},
        "no range": {"range": "lines=1-2"},
        "two ranges": {"range": "bytes=0-4,8-9"},
        "unchanged": {"if-none-match": first.headers["etag"]},
        "gzip": {"accept-encoding": "gzip"},
        "part with gzip": {"accept-encoding": "gzip", "range": "bytes=1-2"},
    }.items():
        replies.append((name, client.ask("GET", whole, headers=headers)))
    for method, path in (
        ("GET", path_of("a_standin_alias", "/snapshots")),
        ("POST", path_of(C, "/snapshots?wait=maybe")),
        ("GET", path_of("a_standin_none", "/snapshots")),
        ("POST", path_of("a_standin_none", "/snapshots")),
        ("GET", path_of_snapshot(C, "none.snapshot")),
        ("GET", path_of_snapshot("a_standin_none", "none.snapshot")),
        ("DELETE", path_of_snapshot(C, "none.snapshot")),
        ("DELETE", whole),
        ("DELETE", whole),
        ("POST", path_of(OTHER, "/snapshots?wait=false")),
        ("DELETE", path_of(OTHER)),
        ("DELETE", path_of(C)),
        ("DELETE", path_of(C)),
    ):
        replies.append((f"{method} {path}", client.ask(method, path)))
    return replies


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Client, Client]]:
    """The real server and the stand-in."""
    with StandIn(tmp_path) as server, Apart(REAL, KEY) as real, Apart(server.url) as standin:
        _clear(real)
        yield real, standin
        _clear(real)


def _clear(client: Client) -> None:
    """Leave nothing: snapshots outlive their collection, and are seen again once there is one of that name."""
    for name in (C, OTHER, "a_standin_alias"):
        client.ask("PUT", path_of(name), {})
        for one in client.ask("GET", path_of(name, "/snapshots")).result:
            assert client.ask("DELETE", path_of_snapshot(name, one["name"])).result
        assert client.ask("DELETE", path_of(name)).result


def test_both_answer_in_the_same_shapes(both: tuple[Client, Client]) -> None:
    real, standin = both
    asked = [(f"{method} {path} {body}", method, path, body) for method, path, body in questions()]
    answers = [(name, real.ask(*rest), standin.ask(*rest)) for name, *rest in asked]
    theirs, ours = snapshot_questions(real), snapshot_questions(standin)
    answers += [(name, want, got) for (name, want), (_, got) in zip(theirs, ours, strict=True)]
    different = [f"{n}\nreal: {want}\nstand-in: {got}" for n, want, got in answers if _told(want) != _told(got)]
    assert not different, "\n\n".join(different)


def test_both_count_the_same_families_of_metrics(both: tuple[Client, Client]) -> None:
    real, standin = both
    for client in both:
        assert client.ask("PUT", path_of(C), CONFIG).result
        assert client.ask("POST", path_of(C, "/snapshots")).result
    lines = {line for line in real.ask("GET", "/metrics").body.decode().splitlines() if line.startswith("#")}
    ours = {line for line in standin.ask("GET", "/metrics").body.decode().splitlines() if line.startswith("#")}
    assert ours <= lines
    keys = real.ask("GET", "/telemetry").result.keys()
    assert standin.ask("GET", "/telemetry").result.keys() == keys


def test_both_restore_alike(both: tuple[Client, Client]) -> None:
    answers = zip(*(_restores(client) for client in both), strict=True)
    different = [f"{n}\nreal: {want}\nstand-in: {got}" for (n, want), (_, got) in answers if _told(want) != _told(got)]
    assert not different, "\n\n".join(different)


def _restores(client: Client) -> list[tuple[str, Reply]]:
    """What is asked about restoring, and the answers."""
    assert client.ask("PUT", path_of(OTHER), {"vectors": {"size": 2, "distance": "Dot"}}).result
    points = {"points": [{"id": 1, "vector": [1, 2], "payload": {"k": "v"}}]}
    assert client.ask("PUT", path_of(OTHER, "/points?wait=true"), points).result
    made = client.ask("POST", path_of(OTHER, "/snapshots")).result
    archive = client.ask("GET", path_of_snapshot(OTHER, made["name"])).body
    upload, recover = path_of(C, "/snapshots/upload"), path_of(C, "/snapshots/recover")
    replies = [
        ("malformed checksum", client.upload(f"{upload}?checksum=zz", archive)),
        ("wrong checksum", client.upload(f"{upload}?checksum={'0' * 64}", archive)),
        ("priority", client.upload(f"{upload}?priority=none", archive)),
        ("another field", client.upload(upload, archive, field="other")),
        ("no form", client.ask("POST", upload, raw=b"x", headers={"content-type": "text/plain"})),
        ("no archive", client.upload(upload, b"hello")),
        ("half an archive", client.upload(upload, archive[: len(archive) // 2])),
        ("nothing there", client.ask("GET", path_of(C, "/exists"))),
        ("upload", client.upload(f"{upload}?priority=snapshot&checksum={made['checksum']}", archive)),
        ("list", client.ask("GET", path_of(C, "/snapshots"))),
        ("again", client.upload(upload, archive)),
        ("points", client.ask("POST", path_of(C, "/points/scroll"), {"with_vector": True})),
        ("not waiting", client.upload(f"{upload}?wait=false&checksum={'0' * 64}", archive)),
        ("bad name", client.upload(path_of("a:b", "/snapshots/upload"), archive)),
    ]
    locations = ("nowhere", "ftp://host/path", "file:///nowhere/at/all", "http://127.0.0.1:1/none")
    replies += [(one, client.ask("PUT", recover, {"location": one})) for one in locations]
    assert client.ask("POST", "/collections/aliases", {"actions": [ALIAS]}).result
    alias = path_of("a_standin_alias", "/snapshots/upload")
    replies += [
        ("over an alias", client.upload(alias, archive, "alias.snapshot")),
        ("no collection of that name", client.ask("GET", "/collections")),
        ("lies elsewhere", client.ask("GET", path_of(C, "/snapshots"))),
    ]
    assert client.ask("DELETE", path_of(C)).result
    assert client.ask("PUT", path_of(C), {"vectors": {"size": 3, "distance": "Dot"}}).result
    replies.append(("another size", client.upload(upload, archive)))
    return replies


def test_archives_of_each_restore_in_the_other(both: tuple[Client, Client]) -> None:
    real, standin = both
    everything = {"limit": 100, "with_vector": True}
    for name in nine.seed(standin.url, points=5):
        first = standin.ask("POST", path_of(name, "/points/scroll"), everything).result
        for there, here, source in ((real, standin, name), (standin, real, C)):
            made = here.ask("POST", path_of(source, "/snapshots")).result
            archive = here.ask("GET", path_of_snapshot(source, made["name"])).body
            path = path_of(C, f"/snapshots/upload?priority=snapshot&checksum={made['checksum']}")
            assert there.upload(path, archive).result is True
            assert there.ask("POST", path_of(C, "/points/scroll"), everything).result == first
        for client in both:
            assert client.ask("DELETE", path_of(C)).result


def _told(reply: Reply) -> tuple[int, set[str], Any]:
    return reply.status, set(reply.headers), _shape(reply)


def _shape(reply: Reply) -> Any:
    if reply.headers.get("content-type") != "application/json":
        return "bytes" if reply.body[:4].strip(b"\0") and len(reply.body) > 99 else len(reply.body)
    said = reply.json
    if "error" not in said.get("status", ""):
        return _of(said)
    text: str = said["status"]["error"]
    if reply.status == 500 or "not compatible" in text:
        return "an error with names of files or of types in Rust"
    text = text.partition(" at line ")[0].partition("[{")[0]  # where in the JSON, and details in any order
    return re.sub(r"[0-9a-f]{64}|\d+", "0", text)


def _of(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _of(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_of(one) for one in value[:1]]
    return type(value).__name__
