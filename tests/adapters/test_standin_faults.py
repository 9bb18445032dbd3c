"""Each fault of the stand-in does what it says, as often as it was told."""

import hashlib
import http.client
import io
import json
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from program import until
from standin import StandIn
from standin.client import Client, Reply, path_of, path_of_snapshot

PLAIN = {"accept-encoding": "identity"}
POINTS = [{"id": n, "vector": [n, 1, 0, 0]} for n in range(6)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path) as server:
        yield server


@pytest.fixture
def client(server: StandIn) -> Iterator[Client]:
    """A connection to a server with one collection of six points and one snapshot."""
    with Client(server.url) as client:
        assert client.ask("PUT", path_of("c"), {"vectors": {"size": 4, "distance": "Dot"}}).result
        assert client.ask("PUT", path_of("c", "/points?wait=true"), {"points": POINTS}).result
        assert client.ask("POST", path_of("c", "/snapshots")).result
        yield client


def listed(client: Client) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = client.ask("GET", path_of("c", "/snapshots")).result
    return said


def download(client: Client, **headers: str) -> Reply:
    named = PLAIN | {key.replace("_", "-"): value for key, value in headers.items()}
    return client.ask("GET", path_of_snapshot("c", listed(client)[0]["name"]), headers=named)


def body_until_it_breaks(server: StandIn) -> bytes:
    """What arrives of a download that does not reach its end."""
    with Client(server.url) as client:
        path = path_of_snapshot("c", listed(client)[0]["name"])
        client.connection.request("GET", path, headers=PLAIN)
        with pytest.raises(http.client.IncompleteRead) as broken:
            client.connection.getresponse().read()
        return broken.value.partial


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (401, "", "Invalid API key or JWT"),
        (403, "", "Invalid API key or JWT"),
        (404, "text/plain; charset=utf-8", "Not found: Snapshot not found"),
        (429, "application/json", "Rate limiting exceeded: Read rate limit exceeded, retry later"),
        (500, "application/json", "Service internal error: No space left on device (os error 28)"),
        (507, "application/json", "Service internal error: No space left on device (os error 28)"),
        (502, "text/html", "<html>"),
        (503, "text/html", "<html>"),
    ],
)
def test_a_request_is_refused_as_often_as_told(
    server: StandIn, client: Client, status: int, kind: str, text: str
) -> None:
    server.faults.add("refuse", on="list", status=status, times=2)
    for _ in range(2):
        reply = client.ask("GET", path_of("c", "/snapshots"))
        said = reply.json["status"]["error"] if kind == "application/json" else reply.body.decode()
        assert (reply.status, reply.headers.get("content-type", "")) == (status, kind)
        assert said.startswith(text)
        assert ("retry-after" in reply.headers) == (status == 429)
    assert listed(client)


def test_the_wait_after_a_refusal_can_be_told(server: StandIn, client: Client) -> None:
    server.faults.add("refuse", on="list", status=429, headers={"Retry-After": "0"})
    assert client.ask("GET", path_of("c", "/snapshots")).headers["retry-after"] == "0"


def test_a_fault_keeps_to_its_collection_and_operation(server: StandIn, client: Client) -> None:
    server.faults.add("refuse", on="delete", collection="other")
    name = listed(client)[0]["name"]
    assert client.ask("DELETE", path_of_snapshot("c", name)).result
    server.faults.add("refuse", on="delete", collection="c", text="Service internal error: no")
    reply = client.ask("DELETE", path_of_snapshot("c", name))
    assert (reply.status, reply.json["status"]["error"]) == (500, "Service internal error: no")
    server.faults.clear()
    assert client.ask("DELETE", path_of_snapshot("c", name)).status == 404


def test_a_dropped_download_arrives_in_part_and_whole_the_third_time(server: StandIn, client: Client) -> None:
    server.faults.add("drop", after=1000, times=2)
    first = body_until_it_breaks(server)
    assert len(first) == 1000
    assert len(body_until_it_breaks(server)) == 1000
    whole = download(client).body
    assert whole.startswith(first)
    assert hashlib.sha256(whole).hexdigest() == listed(client)[0]["checksum"]


def test_a_resumed_download_may_drop_too(server: StandIn, client: Client) -> None:
    server.faults.add("drop", after=700)
    with pytest.raises(http.client.IncompleteRead) as broken:
        download(client, range="bytes=1000-")
    server.faults.clear()
    assert broken.value.partial == download(client).body[1000:1700]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("at", ["first", "entry", "middle", ""])
def test_a_cut_download_looks_complete_to_http(server: StandIn, client: Client, at: str, chunked: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    whole = download(client)
    server.faults.add("cut", at=at, after=2000, chunked=chunked)
    reply = download(client)
    assert (reply.status, "content-length" in reply.headers) == (200, not chunked)
    assert 0 < len(reply.body) < len(whole.body)
    assert whole.body.startswith(reply.body)
    with tarfile.open(fileobj=io.BytesIO(reply.body)) as archive:
        if at == "first":
            assert [name.split("/")[1] for name in archive.getnames()] == ["segments"]
        elif at == "entry":
            assert archive.getnames()[-1] == "config.json"
        else:
            with pytest.raises(tarfile.ReadError):
                archive.getnames()


def test_one_byte_is_changed_on_its_way(server: StandIn, client: Client) -> None:
    whole = download(client).body
    server.faults.add("corrupt", after=len(whole) - 1, times=1)
    spoilt = download(client).body
    assert [n for n in range(len(whole)) if whole[n] != spoilt[n]] == [len(whole) - 1]
    assert download(client).body == whole


def test_a_slow_download_takes_its_time(server: StandIn, client: Client) -> None:
    size = listed(client)[0]["size"]
    server.faults.add("slow", rate=size / 0.3)
    began = time.monotonic()
    assert len(download(client).body) == size
    assert time.monotonic() - began > 0.25


def test_a_bare_server_promises_nothing(server: StandIn, client: Client) -> None:
    whole = download(client).body
    server.faults.add("bare")
    assert "checksum" not in listed(client)[0]
    assert "checksum" not in client.ask("POST", path_of("c", "/snapshots")).result
    reply = download(client, range="bytes=100-")
    assert (reply.status, len(reply.body)) == (200, len(whole))
    assert not reply.headers.keys() & {"content-length", "accept-ranges", "etag", "content-range"}


def test_checksums_can_be_wrong_or_missing(server: StandIn, client: Client) -> None:
    right = listed(client)[0]["checksum"]
    server.faults.add("wrong_checksum", on="list", times=1)
    wrong = listed(client)[0]["checksum"]
    assert wrong != right
    assert len(wrong) == 64
    assert listed(client)[0]["checksum"] == right
    server.faults.add("no_checksum")
    assert "checksum" not in listed(client)[0]


def test_a_download_that_changes_cannot_be_resumed(server: StandIn, client: Client) -> None:
    server.faults.add("etag")
    tag = download(client).headers["etag"]
    assert download(client, range="bytes=10-", if_match=tag).status == 412


@pytest.mark.parametrize("kind", ["hang", "stall"])
def test_who_hangs_is_let_go_when_the_server_ends(tmp_path: Path, kind: str) -> None:
    broken: list[BaseException] = []
    with StandIn(tmp_path) as server, Client(server.url) as client:
        assert client.ask("PUT", path_of("c"), {"vectors": {"size": 4, "distance": "Dot"}}).result
        assert client.ask("POST", path_of("c", "/snapshots")).result
        server.faults.add(kind, on="download", after=100)
        url, path = server.url, path_of_snapshot("c", listed(client)[0]["name"])

        def wait() -> None:
            with Client(url) as patient:
                try:
                    patient.ask("GET", path, headers=PLAIN)
                except (OSError, http.client.HTTPException) as error:
                    broken.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        until(lambda: server.requests[-1].operation == "download")
        assert not broken
    thread.join(10)
    assert [type(error) for error in broken] == [
        http.client.RemoteDisconnected if kind == "hang" else http.client.IncompleteRead
    ]


def test_an_answer_is_lost_and_the_snapshot_is_made(server: StandIn, client: Client) -> None:
    assert client.ask("DELETE", path_of_snapshot("c", listed(client)[0]["name"])).result
    server.faults.add("lost", times=1)
    with pytest.raises(http.client.RemoteDisconnected):
        client.ask("POST", path_of("c", "/snapshots"))
    until(lambda: listed(client))
    assert client.ask("DELETE", path_of_snapshot("c", listed(client)[0]["name"])).result
    server.faults.add("lost", status=504, times=1)
    assert client.ask("POST", path_of("c", "/snapshots")).status == 504
    until(lambda: listed(client))


def test_a_restart_ends_connections_and_loses_what_was_being_made(server: StandIn, client: Client) -> None:
    url, before = server.url, listed(client)
    server.faults.add("linger")
    with Client(url) as other:
        other.connection.request("POST", path_of("c", "/snapshots"))
        until(lambda: server.snapshots.jobs.running("c"))
        server.restart(down_for=None)
        with pytest.raises(http.client.RemoteDisconnected):
            other.connection.getresponse()
    client.close()
    with pytest.raises(ConnectionRefusedError):
        listed(client)
    server.start()
    assert server.url == url
    assert listed(client) == before
    assert not server.snapshots.jobs.running("c")
    server.restart(down_for=0.05)
    client.close()
    until(lambda: server.up)
    assert listed(client) == before


def test_a_restart_can_be_asked_for_over_http(server: StandIn, client: Client) -> None:
    assert client.ask("POST", "/__standin/restart", {"down_for": 0.05}).status == 200
    until(lambda: not server.up)
    until(lambda: server.up)
    client.close()
    assert listed(client)


def test_somebody_elses_snapshot_appears(server: StandIn, client: Client) -> None:
    before = {one["name"] for one in listed(client)}
    server.faults.add("foreign", times=1)
    made = client.ask("POST", path_of("c", "/snapshots")).result["name"]
    strange = {one["name"] for one in listed(client)} - before - {made}
    assert [name.split("-")[1] for name in strange] == [str(server.peer_id + 1)]


def test_a_collection_tells_of_its_trouble(server: StandIn, client: Client) -> None:
    server.faults.add("status", state="red", text="optimizer: no space", times=1)
    said = client.ask("GET", path_of("c")).result
    assert (said["status"], said["optimizer_status"]) == ("red", {"error": "optimizer: no space"})
    assert client.ask("GET", path_of("c")).result["status"] == "green"
    server.faults.add("dead_replica", on="collection_cluster")
    assert client.ask("GET", path_of("c", "/cluster")).result["local_shards"][0]["state"] == "Dead"
    server.faults.add("dead_replica", on="metrics")
    assert "collection_dead_replicas 1\n" in client.ask("GET", "/metrics").body.decode()


def test_garbage_is_no_json(server: StandIn, client: Client) -> None:
    server.faults.add("garbage", times=1)
    reply = client.ask("GET", "/collections")
    assert reply.status == 200
    with pytest.raises(json.JSONDecodeError):
        _ = reply.json


def test_a_misspelt_fault_is_refused(server: StandIn) -> None:
    with pytest.raises(ValueError, match="no fault is called sloow"):
        server.faults.add("sloow")
