"""The stand-in restores what it, or a real server, has archived."""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from program import until
from standin import StandIn, nine
from standin.client import Client, path_of, path_of_snapshot

EVERYTHING = {"limit": 1000, "with_vector": True}
POINTS = [{"id": n, "vector": [n, 1, 0, 0], "payload": {"city": "ab"[n % 2]}} for n in range(6)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path, api_key="full", read_only_key="reader") as server:
        yield server


@pytest.fixture
def client(server: StandIn) -> Iterator[Client]:
    """A connection to a server with a collection `c` of six points."""
    with Client(server.url, "full") as client:
        assert client.ask("PUT", path_of("c"), {"vectors": {"size": 4, "distance": "Dot"}, "shard_number": 2}).result
        assert client.ask("PUT", path_of("c", "/points?wait=true"), {"points": POINTS}).result
        yield client


@pytest.fixture
def archive(client: Client) -> bytes:
    return archived(client, "c")


def archived(client: Client, name: str) -> bytes:
    made = client.ask("POST", path_of(name, "/snapshots")).result["name"]
    return client.ask("GET", path_of_snapshot(name, made), headers={"accept-encoding": "identity"}).body


def points(client: Client, name: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = client.ask("POST", path_of(name, "/points/scroll"), EVERYTHING).result["points"]
    return found


def test_all_nine_collections_come_back(server: StandIn, client: Client) -> None:
    for name, count in nine.seed(server.url, "full", points=5).items():
        checksum = hashlib.sha256(data := archived(client, name)).hexdigest()
        path = path_of("back", f"/snapshots/upload?priority=snapshot&checksum={checksum}")
        assert client.upload(path, data).result is True
        assert points(client, "back") == points(client, name)
        assert len(points(client, "back")) == count
        was, now = (client.ask("GET", path_of(one)).result for one in (name, "back"))
        assert (now["config"], now["payload_schema"]) == (was["config"], was["payload_schema"])
        assert client.ask("DELETE", path_of("back")).result


def test_an_upload_takes_the_place_of_what_was_there_and_stays_on_disk(
    server: StandIn, client: Client, archive: bytes
) -> None:
    assert client.ask("POST", path_of("c", "/points/delete?wait=true"), {"points": [1, 2, 3]}).result
    assert client.upload(path_of("c", "/snapshots/upload"), archive, "mine.snapshot").result
    assert len(points(client, "c")) == 6
    assert (server.snapshots_dir / "c" / "mine.snapshot").read_bytes() == archive
    listed = {one["name"]: one for one in client.ask("GET", path_of("c", "/snapshots")).result}
    assert "checksum" not in listed["mine.snapshot"]
    assert client.ask("DELETE", path_of_snapshot("c", "mine.snapshot")).result


def test_wait_false_is_accepted_and_done_later(client: Client, archive: bytes) -> None:
    assert client.upload(path_of("new", "/snapshots/upload?wait=false"), archive).status == 202
    until(lambda: client.ask("GET", path_of("new", "/exists")).result["exists"] and len(points(client, "new")) == 6)


def test_what_is_wrong_with_an_upload_is_told(client: Client, archive: bytes) -> None:
    path = path_of("new", "/snapshots/upload")
    refused = client.upload(f"{path}?checksum={'0' * 64}", archive)
    right = hashlib.sha256(archive).hexdigest()
    assert (refused.status, refused.json["status"]["error"]) == (
        400,
        f"Checksum mismatch: expected {right}, actual {'0' * 64}",
    )
    assert client.upload(f"{path}?checksum=zz", archive).status == 422
    assert client.upload(f"{path}?priority=zz", archive).status == 400
    assert client.upload(path, archive, field="other").status == 400
    assert client.ask("POST", path, raw=b"x").status == 415
    assert client.upload(path, archive[:20000]).status == 500
    assert client.upload(path, b"hello").status == 500
    assert client.upload(path_of("a:b", "/snapshots/upload"), archive).status == 422
    assert not client.ask("GET", path_of("new", "/exists")).result["exists"]
    assert client.ask("PUT", path_of("other"), {"vectors": {"size": 3, "distance": "Dot"}}).result
    refused = client.upload(path_of("other", "/snapshots/upload"), archive)
    assert refused.status == 400
    assert "not compatible with existing collection" in refused.json["status"]["error"]


def test_a_restore_that_fails_has_lost_what_was_there(client: Client, archive: bytes) -> None:
    spoilt = archive.replace(b'"config":', b'"konfig":')  # of the segments
    assert spoilt != archive
    assert client.upload(path_of("c", "/snapshots/upload"), spoilt).status == 500
    assert client.ask("POST", path_of("c", "/points/count"), {}).status == 500


def test_a_key_that_may_not_restore_is_refused_before_the_archive_is_read(server: StandIn, archive: bytes) -> None:
    with Client(server.url, "reader") as reader:
        assert reader.upload(path_of("new", "/snapshots/upload"), archive).status == 403


def test_an_upload_is_dropped_in_the_middle(server: StandIn, client: Client, archive: bytes) -> None:
    server.faults.add("drop", on="upload", after=1000, times=1)
    with pytest.raises(OSError):  # noqa: PT011 - while it sends or after it, as it happens
        client.upload(path_of("new", "/snapshots/upload"), archive)
    assert client.upload(path_of("new", "/snapshots/upload"), archive).result


def test_it_recovers_from_its_own_folder_and_from_another_server(
    server: StandIn, client: Client, archive: bytes, tmp_path: Path
) -> None:
    name = client.ask("GET", path_of("c", "/snapshots")).result[0]["name"]
    here = server.snapshots_dir / "c" / name
    recover = path_of("new", "/snapshots/recover")
    assert client.ask("PUT", recover, {"location": here.as_uri()}).result
    assert points(client, "new") == points(client, "c")
    outside = tmp_path / "outside.snapshot"
    outside.write_bytes(archive)
    assert client.ask("PUT", recover, {"location": outside.as_uri()}).status == 403
    there = f"{server.url}{path_of_snapshot('c', name)}"
    assert client.ask("PUT", recover, {"location": there}).status == 400
    asked = {"location": there, "api_key": "full", "checksum": hashlib.sha256(archive).hexdigest()}
    assert client.ask("PUT", recover, asked).result
    assert client.ask("PUT", recover, {**asked, "checksum": "0" * 64}).status == 400


def test_a_restore_is_said_to_be_done_and_nothing_was_restored(server: StandIn, client: Client, archive: bytes) -> None:
    server.faults.add("hollow", times=1)
    assert client.upload(path_of("new", "/snapshots/upload"), archive).result is True
    assert points(client, "new") == []
    assert client.upload(path_of("new", "/snapshots/upload"), archive).result is True
    assert len(points(client, "new")) == 6


@pytest.mark.parametrize("kept", [0, 2])
def test_a_restore_keeps_only_some_of_the_points(server: StandIn, client: Client, archive: bytes, kept: int) -> None:
    server.faults.add("partial", after=kept)
    assert client.upload(path_of("new", "/snapshots/upload"), archive).result is True
    assert [one["id"] for one in points(client, "new")] == list(range(kept))


@pytest.mark.parametrize(("at", "status"), [("", 200), ("half", 500)])
def test_a_server_dies_while_it_restores(server: StandIn, client: Client, archive: bytes, at: str, status: int) -> None:
    server.faults.add("die", at=at, seconds=0.0, times=1)
    with pytest.raises(OSError):  # noqa: PT011 - a connection that ends, in whatever words
        client.upload(path_of("c", "/snapshots/upload"), archive)
    until(lambda: server.up)
    assert client.ask("POST", path_of("c", "/points/count"), {}).status == status
    assert client.upload(path_of("c", "/snapshots/upload"), archive).result is True
    assert len(points(client, "c")) == 6


def test_an_upload_to_an_alias_is_restored_over_the_collection_behind_it(
    server: StandIn, client: Client, archive: bytes
) -> None:
    change = {"create_alias": {"collection_name": "c", "alias_name": "other"}}
    assert client.ask("POST", "/collections/aliases", {"actions": [change]}).result
    assert client.ask("POST", path_of("c", "/points/delete?wait=true"), {"points": [1]}).result
    assert client.upload(path_of("other", "/snapshots/upload"), archive, "x.snapshot").result is True
    assert len(points(client, "c")) == 6
    assert (server.snapshots_dir / "other" / "x.snapshot").exists()


def test_a_proxy_refuses_an_upload_before_it_is_read(server: StandIn, client: Client, archive: bytes) -> None:
    server.faults.add("refuse", on="upload", status=413, times=1)
    with suppress(OSError):  # the answer may come while it is still being sent
        assert client.upload(path_of("new", "/snapshots/upload"), archive).status == 413
    client.close()  # as the other side did
    assert not client.ask("GET", path_of("new", "/exists")).result["exists"]
