import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parrot import Parrot, open_sockets, reset, said
from standin import StandIn

from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.download import Download
from agent.adapters.qdrant.server import Server, Snapshot
from agent.adapters.qdrant.trouble import Away, Busy, Garbled, Lost
from agent.adapters.qdrant.wire import Wire
from agent.errors import AgentError, NoRights, Refused, TryLater

CONTENT = hashlib.shake_256(b"a snapshot").digest(300_000)
ETAG = 'ETag: "1"'
RANGES = "Accept-Ranges: bytes"


@pytest.fixture(autouse=True)
def no_socket_is_left() -> Iterator[None]:
    before = open_sockets()
    yield
    assert open_sockets() <= before


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[StandIn]:
    """A server with one collection, whose snapshots have the content above."""
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    with StandIn(tmp_path / "server", premade={"one": path}) as server:
        yield server


def wire(url: str, *, patience: float = 2.0, silence: float = 5.0, halted: Callable[[], str] = str) -> Wire:
    return Wire(Address(url, patience=patience, silence=silence), halted)


def made(standin: StandIn) -> Snapshot:
    return Server(wire(standin.url, silence=10)).create("one", time.monotonic() + 30)


def opened(standin: StandIn, snapshot: Snapshot | None = None, **how: Any) -> Download:
    server = Server(wire(standin.url, **how))
    snapshot = snapshot or made(standin)
    return Download(server.wire, server.download_path("one", snapshot.name), snapshot.size)


def read(download: Download, piece: int = 50_000) -> bytes:
    """All of it; closed, however it ends."""
    buffer, whole = memoryview(bytearray(piece)), bytearray()
    try:
        while got := download.readinto(buffer):
            whole += buffer[:got]
    finally:
        download.close()
    return bytes(whole)


def told(parrot: Parrot, expected: int = 10, **how: Any) -> bytes:
    return read(Download(wire(parrot.url, **how), "/x", expected))


def after(seconds: float) -> Callable[[], str]:
    until = time.monotonic() + seconds
    return lambda: "it was asked to stop" if time.monotonic() > until else ""


# A snapshot that comes whole.


@pytest.mark.parametrize("piece", [1 << 20, 4096, 999])
def test_a_snapshot_is_read_to_its_last_byte(standin: StandIn, piece: int) -> None:
    assert read(opened(standin), piece) == CONTENT


def test_after_its_end_there_is_nothing_more_and_nothing_is_asked(standin: StandIn) -> None:
    download = opened(standin)
    assert read(download) == CONTENT
    asked = len(standin.requests)
    assert [download.readinto(memoryview(bytearray(10))) for _ in range(3)] == [0, 0, 0]
    download.close()
    assert len(standin.requests) == asked


def test_what_closes_before_the_end_leaves_no_connection(standin: StandIn) -> None:
    download = opened(standin)
    assert download.readinto(memoryview(bytearray(10))) == 10
    download.close()
    download.close()


def test_an_empty_snapshot_is_read_as_such() -> None:
    with Parrot(said(200)) as parrot:
        assert told(parrot, 0) == b""


def test_a_server_that_keeps_the_connection_open_is_not_waited_for() -> None:
    with Parrot(said(200, b"0123456789"), hold=True) as parrot:
        began = time.monotonic()
        assert told(parrot) == b"0123456789"
        assert time.monotonic() - began < 2


def test_a_snapshot_may_come_in_chunks_without_a_length(standin: StandIn) -> None:
    standin.faults.add("bare")
    assert read(opened(standin)) == CONTENT


# Connections that break.


@pytest.fixture
def snapshot(standin: StandIn) -> Snapshot:
    return made(standin)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(breaks=st.lists(st.integers(1, len(CONTENT)), max_size=6), piece=st.integers(1_000, len(CONTENT) + 1))
def test_wherever_connections_break_the_bytes_are_the_same(
    standin: StandIn, snapshot: Snapshot, breaks: list[int], piece: int
) -> None:
    standin.faults.clear()
    for after_bytes in breaks:
        standin.faults.add("drop", after=after_bytes, times=1)
    assert read(opened(standin, snapshot), piece) == CONTENT


def test_a_connection_that_is_reset_is_taken_up_where_it_was() -> None:
    arrived = threading.Event()

    def half(connection: socket.socket) -> None:
        connection.sendall(said(200, b"01234", RANGES, ETAG, "Content-Length: 10", length=False))
        arrived.wait(10)
        reset(connection)

    with Parrot(half, b"", said(206, b"56789", "Content-Range: bytes 5-9/10")) as parrot:
        download, buffer = Download(wire(parrot.url), "/x", 10), memoryview(bytearray(10))
        assert download.readinto(buffer) == 5
        arrived.set()
        assert read(download) == b"56789"
    for again in parrot.heard[1:]:
        assert b"Range: bytes=5-\r\n" in again
        assert b'If-Match: "1"\r\n' in again


def test_a_stream_that_stalls_is_taken_up_where_it_stalled(standin: StandIn) -> None:
    standin.faults.add("stall", after=100_000, times=2)
    assert read(opened(standin, silence=0.4)) == CONTENT
    ranges = [one.headers.get("range") for one in standin.requests if one.operation == "download"]
    assert ranges == [None, "bytes=100000-", "bytes=200000-"]


def test_a_server_that_restarts_in_the_middle_is_waited_for(standin: StandIn) -> None:
    standin.faults.add("slow", rate=400_000, times=1)
    download, buffer = opened(standin, patience=10), memoryview(bytearray(10_000))
    begun = bytes(buffer[: download.readinto(buffer)])
    standin.restart(down_for=0.1)
    assert begun + read(download) == CONTENT
    assert [one.status for one in standin.requests if one.operation == "download"] == [200, 206]


def test_a_server_that_stays_away_is_not_waited_for_for_ever(standin: StandIn) -> None:
    download, buffer = opened(standin, patience=0.4), memoryview(bytearray(10_000))
    standin.faults.add("drop", after=20_000)
    assert download.readinto(buffer)
    standin.stop()
    with pytest.raises(Away, match="cannot be reached"):
        read(download)


def test_silence_from_the_first_byte_on_ends_with_patience(standin: StandIn) -> None:
    standin.faults.add("stall", after=0)
    with pytest.raises(TryLater, match=r"the connection broke after 0 B of 293 KiB: it stays silent"):
        read(opened(standin, patience=0.4, silence=0.2))
    standin.faults.clear()
    standin.faults.add("hang", on="download")
    with pytest.raises(Lost, match="it stays silent"):
        read(opened(standin, patience=0.4, silence=0.2))


def test_a_stream_that_ends_without_saying_so_is_complete_when_all_bytes_came() -> None:
    with Parrot(said(200, b"a\r\n0123456789\r\n", "Transfer-Encoding: chunked", length=False)) as parrot:
        assert told(parrot) == b"0123456789"
        assert len(parrot.heard) == 1


@pytest.mark.parametrize("status", [429, 502, 503, 500])
def test_a_refusal_that_passes_is_borne_also_in_the_middle(standin: StandIn, status: int) -> None:
    snapshot = made(standin)
    standin.faults.add("refuse", on="download", status=status, text="busy", headers={"retry-after": "0"}, times=1)
    assert read(opened(standin, snapshot)) == CONTENT
    standin.faults.add("drop", after=100_000, times=1)
    download = opened(standin, snapshot)
    buffer = memoryview(bytearray(10_000))
    begun = bytes(buffer[: download.readinto(buffer)])
    standin.faults.add("refuse", on="download", status=status, text="busy", headers={"retry-after": "0"}, times=1)
    assert begun + read(download) == CONTENT


def test_a_pause_that_the_server_asks_for_is_not_longer_than_patience() -> None:
    with Parrot(said(503, b"later", "Retry-After: 100")) as parrot, pytest.raises(Busy, match="later"):
        told(parrot)
    assert len(parrot.heard) == 1


# What cannot be taken up.


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ((), "10 bytes came of the 20 .* cannot go on from there"),
        ((RANGES,), "cannot go on from there"),
        ((ETAG,), "cannot go on from there"),
        ((RANGES, 'ETag: W/"1"'), "cannot go on from there"),
    ],
)
def test_a_stream_without_ranges_or_a_strong_tag_cannot_be_taken_up(headers: tuple[str, ...], why: str) -> None:
    broken = said(200, bytes(10), *headers, "Content-Length: 20", length=False)
    with Parrot(broken) as parrot, pytest.raises(TryLater, match=why):
        told(parrot, 20)
    assert len(parrot.heard) == 1


def test_a_store_like_s3_that_breaks_off_cannot_be_taken_up(standin: StandIn) -> None:
    standin.faults.add("bare")
    standin.faults.add("drop", after=100_000)
    with pytest.raises(TryLater, match=r"100,000 bytes came of the 300,000 .* cannot go on from there"):
        read(opened(standin))


BROKEN = said(200, bytes(10), RANGES, ETAG, "Content-Length: 20", length=False)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (said(200, bytes(20), RANGES, ETAG), "begins anew instead of going on"),
        (said(206, bytes(10), "Content-Range: bytes 0-9/20"), "something else: bytes 0-9/20"),
        (said(206, bytes(10), "Content-Range: bytes 11-19/20"), "something else: bytes 11-19/20"),
        (said(206, bytes(10), "Content-Range: bytes 10-19/21"), "something else: bytes 10-19/21"),
        (said(206, bytes(10), "Content-Range: nonsense\x1b[2J"), r"something else: nonsense\[2J"),
        (said(206, bytes(10)), "something else"),
        (said(206, bytes(11), "Content-Range: bytes 10-19/20"), "21 bytes are to come instead of the 20"),
        (said(412), "the snapshot is another one since"),
        (said(416), "it has no more"),
        (said(404, b"gone"), "it is not there any more"),
    ],
)
def test_what_comes_instead_of_the_rest_is_not_taken_for_it(answer: bytes, why: str) -> None:
    with Parrot(BROKEN, answer) as parrot, pytest.raises(TryLater, match=f"10 bytes came of the 20 .*{why}|{why}"):
        told(parrot, 20)
    assert len(parrot.heard) == 2


def test_a_snapshot_that_is_another_one_since_is_not_mixed_with_it(standin: StandIn) -> None:
    standin.faults.add("etag")
    standin.faults.add("drop", after=100_000, times=1)
    with pytest.raises(TryLater, match="another one since"):
        read(opened(standin))


def test_a_snapshot_that_is_deleted_in_the_middle_is_told(standin: StandIn) -> None:
    snapshot = made(standin)
    standin.faults.add("drop", after=100_000, times=1)
    download, buffer = opened(standin, snapshot), memoryview(bytearray(10_000))
    assert download.readinto(buffer)
    Server(wire(standin.url)).delete("one", snapshot.name)
    with pytest.raises(TryLater, match="not there any more"):
        read(download)


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("after_bytes", [1, 150_000, 299_999])
def test_fewer_bytes_than_promised_are_never_an_end(standin: StandIn, after_bytes: int, *, chunked: bool) -> None:
    standin.faults.add("cut", after=after_bytes, chunked=chunked)
    with pytest.raises(
        TryLater, match=rf"{after_bytes:,} bytes came of the 300,000 that the server promised, and it has"
    ):
        read(opened(standin))


def test_more_bytes_than_promised_are_not_read() -> None:
    endless = said(200, b"6\r\n012345\r\n" * 1000, "Transfer-Encoding: chunked", length=False)
    with Parrot(endless) as parrot, pytest.raises(TryLater, match="more bytes come than the 10 "):
        told(parrot)
    with (
        Parrot(said(200, bytes(11))) as parrot,
        pytest.raises(TryLater, match="11 bytes are to come instead of the 10"),
    ):
        told(parrot)
    with Parrot(said(200, bytes(11), length=False)) as parrot, pytest.raises(TryLater, match="more bytes come"):
        told(parrot)


@pytest.mark.parametrize(
    ("answer", "kind", "why"),
    [
        (said(401, b"Invalid API key or JWT"), NoRights, "Invalid API key"),
        (said(403, b"Forbidden"), NoRights, "403: Forbidden"),
        (said(404, b"Not found: Snapshot x not found"), Refused, "404: Not found"),
        (said(206, bytes(10)), Refused, "answers 206"),
        (said(302, b"", "Location: http://elsewhere"), Refused, "answers 302"),
        (said(500, b"No space left on device"), AgentError, "No space left"),
        (said(200, b"\x1f\x8b", "Content-Encoding: gzip"), Garbled, "compressed"),
    ],
)
def test_a_refusal_that_stays_is_told_at_once(answer: bytes, kind: type[AgentError], why: str) -> None:
    with Parrot(answer) as parrot, pytest.raises(kind, match=why):
        told(parrot, patience=60)
    assert len(parrot.heard) == 1


# Stopping.


@pytest.mark.parametrize(
    "fault", [{"kind": "stall", "after": 50_000}, {"kind": "stall", "after": 0}, {"kind": "hang", "on": "download"}]
)
def test_who_is_asked_to_stop_stops_in_the_middle_of_silence(standin: StandIn, fault: dict[str, Any]) -> None:
    snapshot = made(standin)
    standin.faults.add(**fault)
    began = time.monotonic()
    with pytest.raises(TryLater, match="asked to stop"):
        read(opened(standin, snapshot, silence=60, patience=60, halted=after(0.1)))
    assert time.monotonic() - began < 2


def test_who_is_asked_to_stop_stops_while_bytes_come(standin: StandIn) -> None:
    snapshot = made(standin)
    standin.faults.add("slow", rate=100_000)
    with pytest.raises(TryLater, match=r"broken off after [1-9].* of 293 KiB: it was asked to stop|given up"):
        read(opened(standin, snapshot, halted=after(0.2)))


def test_who_is_asked_to_stop_stops_while_the_server_is_away(standin: StandIn) -> None:
    snapshot = made(standin)
    standin.stop()
    began = time.monotonic()
    with pytest.raises(TryLater, match="asked to stop"):
        read(opened(standin, snapshot, patience=60, halted=after(0.1)))
    assert time.monotonic() - began < 2


# A real server.


@pytest.mark.real_qdrant
def test_a_real_server_goes_on_where_a_connection_broke() -> None:
    url = os.environ.get("SNAPWARD_TEST_QDRANT_URL")
    if not url:
        pytest.skip("SNAPWARD_TEST_QDRANT_URL names no Qdrant server")
    server = Server(wire(url, silence=30))
    at = "/collections/e_download"
    server.wire.answer("DELETE", at)
    server.wire.ask("PUT", at, bool, {"vectors": {"size": 4, "distance": "Dot"}})
    try:
        snapshot = server.create("e_download", time.monotonic() + 60)
        path = server.download_path("e_download", snapshot.name)
        whole = read(Download(server.wire, path, snapshot.size))
        download, buffer, found = Download(server.wire, path, snapshot.size), memoryview(bytearray(7000)), b""
        while got := download.readinto(buffer):
            found += buffer[:got]
            assert download._reply is not None
            with suppress(OSError):  # the server has sent it all and closed
                download._reply._line._sock.shutdown(socket.SHUT_RDWR)
        assert len(found) == snapshot.size
        assert found == whole
        server.delete("e_download", snapshot.name)
        with pytest.raises(Refused, match="404"):
            read(Download(server.wire, path, snapshot.size))
    finally:
        server.wire.answer("DELETE", at)
