"""A snapshot is given to a server, and whatever may happen to it on the way is told as what it is."""

import hashlib
import io
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from parrot import Lossy, Parrot, open_sockets, reset, said
from program import until
from standin import StandIn
from standin.client import Client, path_of, path_of_snapshot

from agent.adapters.qdrant import upload as uploading
from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.server import Server
from agent.adapters.qdrant.trouble import Absent, Away, Busy, Garbled, Lost
from agent.adapters.qdrant.upload import clear, new_name, upload, uploads
from agent.adapters.qdrant.wire import Wire
from agent.errors import AgentError, CannotWrite, Damaged, NoRights, Refused, TryLater, Unreachable

REAL = "SNAPWARD_TEST_QDRANT_URL"
C, BACK = "e_upload ü%", "e_upload_back"
DONE = said(200, b'{"result": true, "status": "ok", "time": 0.1}')
LARGE = 64 << 20


@pytest.fixture(autouse=True)
def no_socket_is_left() -> Iterator[None]:
    before = open_sockets()
    yield
    assert open_sockets() <= before


class Counted:
    """A source of bytes; it may have fewer or more of them than it promised, or turn out to be damaged."""

    def __init__(self, data: bytes, damaged_after: int | None = None) -> None:
        self._file, self._damaged, self.taken = io.BytesIO(data), damaged_after, 0

    def readinto(self, buffer: memoryview, /) -> int:
        if self._damaged is not None and self.taken >= self._damaged:
            raise OSError(5, "CRC-32 is wrong")
        got = self._file.readinto(buffer[:70_001])
        self.taken += got
        return got


class Zeros:
    """So many bytes that take no memory."""

    def __init__(self, size: int) -> None:
        self.left = size

    def readinto(self, buffer: memoryview, /) -> int:
        got = min(len(buffer), self.left)
        self.left -= got
        return got


def server(
    url: str,
    *,
    key: str = "",
    patience: float = 0.0,
    silence: float = 5.0,
    halted: Callable[[], str] = str,
    ca: str | None = None,
) -> Server:
    return Server(Wire(Address(url, key, patience, silence, ca), halted))


def give(to: Server, data: bytes, collection: str = BACK, *, within: float = 20.0, name: str = "") -> str:
    checksum = hashlib.sha256(data).hexdigest()
    return upload(to, collection, name or new_name(), len(data), checksum, Counted(data), time.monotonic() + within)


def give_zeros(to: Server, size: int, within: float = 20.0) -> tuple[str, Zeros]:
    source = Zeros(size)
    return upload(to, BACK, new_name(), size, "0" * 64, source, time.monotonic() + within), source


def archive_of(url: str, key: str | None = None) -> bytes:
    """The archive of a collection `C` of six points, made there and removed again."""
    with Client(url, key) as client:
        assert client.ask("PUT", path_of(C), {"vectors": {"size": 4, "distance": "Dot"}, "shard_number": 2}).result
        points = [{"id": n, "vector": [n, 1, 0, 0], "payload": {"n": n}} for n in range(6)]
        assert client.ask("PUT", path_of(C, "/points?wait=true"), {"points": points}).result
        made = path_of_snapshot(C, client.ask("POST", path_of(C, "/snapshots")).result["name"])
        data = client.ask("GET", made, headers={"accept-encoding": "identity"}).body
        assert client.ask("DELETE", made).result
        assert client.ask("DELETE", path_of(C)).result
        return data


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with StandIn(tmp_path_factory.mktemp("archive")) as made:
        return archive_of(made.url)


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path / "server", api_key="full", read_only_key="reader", collection_keys={"some": [BACK]}) as one:
        yield one


@pytest.fixture
def to(standin: StandIn) -> Server:
    return server(standin.url, key="full", patience=5.0)


def test_a_collection_is_restored_and_what_lies_on_the_server_removed(to: Server, archive: bytes) -> None:
    name, seen = new_name(), list[int]()
    checksum = hashlib.sha256(archive).hexdigest()
    soon = time.monotonic() + 20
    assert upload(to, BACK, name, len(archive), checksum, Counted(archive), soon, seen.append) == ""
    assert to.count(BACK, 5) == 6
    assert seen == sorted(seen)
    assert (seen[-1], len(seen)) == (len(archive), -(-len(archive) // 70_001))
    assert [one.name for one in uploads(to, BACK)] == [name]
    assert clear(to, BACK, name)
    assert clear(to, BACK, name)
    assert uploads(to, BACK) == []
    assert not clear(to, "e_upload_nowhere", name)


def test_the_request_is_a_form_of_known_length_with_the_checksum_and_the_priority(archive: bytes) -> None:
    got = bytearray()

    def listen(connection: socket.socket) -> None:
        while not got.endswith(b"--\r\n"):
            got.extend(connection.recv(1 << 20))
        connection.sendall(DONE)

    checksum = hashlib.sha256(archive).hexdigest()
    with Parrot(listen) as parrot:
        assert give(server(parrot.url, key="k"), archive, C, name="x.snapshot") == ""
        head, _, first = parrot.heard[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    query = f"wait=true&priority=snapshot&checksum={checksum}"
    assert lines[0] == f"POST /collections/e_upload%20%C3%BC%25/snapshots/upload?{query} HTTP/1.1"
    headers = dict(line.split(": ", 1) for line in lines[1:])
    edge = headers["Content-Type"].removeprefix("multipart/form-data; boundary=").encode()
    body = first + bytes(got)
    about = b'Content-Disposition: form-data; name="snapshot"; filename="x.snapshot"'
    kind = b"Content-Type: application/octet-stream"
    assert body == b"--%b\r\n%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n" % (edge, about, kind, archive, edge)
    assert headers["Content-Length"] == str(len(body))
    assert headers["api-key"] == "k"


def test_what_was_there_is_replaced(to: Server, archive: bytes) -> None:
    assert give(to, archive) == ""
    to.wire.ask("POST", path_of(BACK, "/points/delete?wait=true"), dict[str, object], {"points": [1, 2, 3]})
    assert to.count(BACK, 5) == 3
    assert give(to, archive) == ""
    assert to.count(BACK, 5) == 6


# Who may not, and what cannot be.


@pytest.mark.parametrize("key", ["", "wrong", "reader", "some"])
def test_a_key_that_may_not_is_told_so_before_much_is_sent(standin: StandIn, key: str) -> None:
    source = Zeros(LARGE)
    with pytest.raises(NoRights, match=r"restoring e_upload_back: the server answers 40[13]: ") as caught:
        upload(server(standin.url, key=key), BACK, new_name(), LARGE, "0" * 64, source, time.monotonic() + 20)
    assert "engine.restore_api_key" in caught.value.hint
    assert source.left > LARGE // 2


def test_a_proxy_that_takes_nothing_so_large_is_told(standin: StandIn, to: Server) -> None:
    standin.faults.add("refuse", on="upload", status=413)
    with pytest.raises(Refused, match=": the server answers 413: ") as caught:
        give_zeros(to, LARGE)
    assert "64 MiB" in caught.value.hint
    assert "engine.url" in caught.value.hint


@pytest.mark.parametrize("status", [502, 503, 504, 429])
def test_who_is_busy_before_anything_was_taken_may_be_asked_later(standin: StandIn, to: Server, status: int) -> None:
    standin.faults.add("refuse", on="upload", status=status)
    with pytest.raises(Busy, match=str(status)) as caught:
        give_zeros(to, LARGE)
    assert caught.value.hint == "Nothing was restored."


def test_other_bytes_than_promised_change_nothing(to: Server, archive: bytes) -> None:
    assert give(to, archive) == ""
    to.wire.ask("POST", path_of(BACK, "/points/delete?wait=true"), dict[str, object], {"points": [1]})
    with pytest.raises(Damaged, match=r"400: Checksum mismatch: .*; nothing was restored"):
        upload(to, BACK, new_name(), len(archive), "0" * 64, Counted(archive), time.monotonic() + 20)
    assert to.count(BACK, 5) == 5


def test_an_archive_that_cannot_be_restored_is_damaged_and_says_that_data_may_be_lost(
    to: Server, archive: bytes
) -> None:
    with pytest.raises(Damaged, match="the server answers 500: Service internal error") as caught:
        give(to, archive.replace(b'"config":', b'"konfig":'))
    assert "may be lost" in caught.value.hint


def test_a_collection_of_another_kind_is_left_alone(to: Server, archive: bytes) -> None:
    to.wire.ask("PUT", path_of(BACK), bool, {"vectors": {"size": 3, "distance": "Dot"}})
    with pytest.raises(Refused, match="400: Wrong input: Snapshot is not compatible") as caught:
        give(to, archive)
    assert type(caught.value) is Refused


def test_a_server_that_is_not_qdrant_is_told(archive: bytes) -> None:
    with (
        Parrot(said(200, b"<html>Welcome</html>")) as parrot,
        pytest.raises(Garbled, match=r"not Qdrant.s .*, after .* of 64 MiB; nothing was restored"),
    ):
        give(server(parrot.url), bytes(LARGE))
    with Parrot(said(404, b"<html>nowhere</html>")) as parrot, pytest.raises(Absent):
        give(server(parrot.url), archive)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"An error occurred processing field: snapshot"),
        (507, b'{"status": {"error": "Insufficient storage: quota"}}'),
        (500, b'{"status": {"error": "Service internal error: No space left on device (os error 28)"}}'),
    ],
)
@pytest.mark.parametrize("size", [1000, LARGE])
def test_a_server_whose_disk_is_full_is_told(status: int, body: bytes, size: int) -> None:
    with Parrot(said(status, body)) as parrot, pytest.raises(CannotWrite) as caught:
        give(server(parrot.url), bytes(size))
    assert "room for" in caught.value.hint


# What goes wrong on the way.


@pytest.mark.parametrize("after", [0, 1, 80_000])
def test_a_source_that_turns_out_damaged_is_passed_on_and_nothing_is_restored(
    standin: StandIn, to: Server, archive: bytes, after: int
) -> None:
    assert give(to, archive, name="first.snapshot") == ""
    checksum = hashlib.sha256(archive).hexdigest()
    with pytest.raises(OSError, match="CRC-32 is wrong") as caught:
        upload(to, BACK, new_name(), len(archive), checksum, Counted(archive, after), time.monotonic() + 20)
    assert type(caught.value) is OSError
    assert to.count(BACK, 5) == 6
    until(lambda: not any((standin.snapshots_dir.parent / "storage" / "tmp").iterdir()))
    assert os.listdir(standin.snapshots_dir / BACK) == ["first.snapshot"]


def test_a_source_that_is_found_damaged_only_at_its_end_restores_nothing(
    standin: StandIn, to: Server, archive: bytes
) -> None:
    checksum, source = hashlib.sha256(archive).hexdigest(), Counted(archive, len(archive))
    with pytest.raises(OSError, match="CRC-32 is wrong"):
        upload(to, BACK, new_name(), len(archive), checksum, source, time.monotonic() + 20)
    assert to.collections() == []


@pytest.mark.parametrize(
    ("told", "why"),
    [(-1, "the snapshot is longer than the"), (1, r"the snapshot ends after [\d,]+ of the [\d,]+ bytes")],
)
def test_a_source_of_another_length_restores_nothing(to: Server, archive: bytes, told: int, why: str) -> None:
    checksum = hashlib.sha256(archive).hexdigest()
    with pytest.raises(Damaged, match=why):
        upload(to, BACK, new_name(), len(archive) + told, checksum, Counted(archive), time.monotonic() + 20)
    assert to.collections() == []


def test_a_connection_that_breaks_on_the_way_is_told_with_how_far_it_got(standin: StandIn, to: Server) -> None:
    standin.faults.add("drop", on="upload", after=LARGE // 2)
    with pytest.raises(Lost, match=r"broke off: .*, after \d+(\.\d+)? MiB of 64 MiB; nothing was restored"):
        give_zeros(to, LARGE)
    assert to.collections() == []


def test_a_server_that_resets_the_connection_at_once_is_told(archive: bytes) -> None:
    with Parrot(reset) as parrot, pytest.raises(Lost, match="broke off"):
        give_zeros(server(parrot.url), LARGE)


def test_a_server_that_is_not_there_yet_is_waited_for_and_the_source_kept_for_it(
    standin: StandIn, to: Server, archive: bytes
) -> None:
    standin.restart(0.3)
    assert give(to, archive) == ""
    assert to.count(BACK, 5) == 6


def test_a_server_that_does_not_come_is_away(standin: StandIn, archive: bytes) -> None:
    standin.stop()
    with pytest.raises(Away):
        give(server(standin.url, patience=0.3), archive)


def test_a_server_that_takes_nothing_is_given_up_after_its_silence() -> None:
    with Parrot(lambda _: None, hold=True) as parrot, pytest.raises(Lost, match="it stays silent, after"):
        give_zeros(server(parrot.url, silence=0.5), LARGE)


def test_who_is_asked_to_stop_stops_while_sending_and_while_waiting(standin: StandIn, archive: bytes) -> None:
    began = time.monotonic()
    stopped = server(standin.url, key="full", halted=lambda: "enough" if time.monotonic() > began + 0.5 else "")
    standin.faults.add("linger", on="upload")
    with pytest.raises(TryLater, match="enough"):
        give(stopped, archive)
    with Parrot(lambda _: None, hold=True) as parrot, pytest.raises(TryLater, match="enough"):
        give_zeros(server(parrot.url, halted=lambda: "enough" if time.monotonic() > began + 1 else ""), LARGE)
    assert time.monotonic() - began < 5
    standin.faults.release()


def test_the_deadline_ends_the_sending(standin: StandIn, to: Server) -> None:
    with pytest.raises(TryLater, match=r"the deadline has passed after .*; nothing was restored"):
        give_zeros(to, LARGE, within=0.0)


def test_tls_carries_it_and_a_refusal_as_well(authority: trustme.CA, archive: bytes, tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    with StandIn(tmp_path / "server", tls=tls, api_key="full") as made:
        assert give(server(made.url, key="full", ca=str(ca)), archive) == ""
        assert server(made.url, key="full", ca=str(ca)).count(BACK, 5) == 6
        with pytest.raises((NoRights, Lost)):  # the alert of a connection that ends may overtake the answer
            give_zeros(server(made.url, ca=str(ca)), LARGE)


# When the answer is lost.


def test_a_server_may_be_silent_until_the_deadline_once_it_has_everything(standin: StandIn, archive: bytes) -> None:
    standin.faults.add("linger", on="upload", seconds=1.0)
    assert give(server(standin.url, key="full", silence=0.2), archive) == ""


@pytest.mark.parametrize("lost", [b"", said(504, b"<html>504 Gateway Time-out</html>"), said(200, b"<html>")])
def test_a_proxy_that_does_not_wait_is_outlasted(standin: StandIn, archive: bytes, lost: bytes) -> None:
    standin.faults.add("linger", on="upload", seconds=1.0)
    with Lossy(standin.url, "POST", *([lost] if lost else [])) as proxy:
        told = give(server(proxy.url, key="full"), archive)
    assert told
    assert server(standin.url, key="full").count(BACK, 5) == 6


def test_a_restore_that_goes_on_beyond_the_deadline_is_told(standin: StandIn, archive: bytes) -> None:
    standin.faults.add("linger", on="upload")
    with (
        Lossy(standin.url, "POST") as proxy,
        pytest.raises(TryLater, match="had not restored e_upload_back by the deadline"),
    ):
        give(server(proxy.url, key="full"), archive, within=1.0)
    standin.faults.release()


def test_a_server_that_dies_while_it_restores_is_told(standin: StandIn, archive: bytes) -> None:
    standin.faults.add("die", at="half", times=1)
    with pytest.raises(Unreachable, match="may have died restoring e_upload_back") as caught:
        give(server(standin.url, key="full", patience=0.3), archive)
    assert "restored again" in caught.value.hint
    standin.start()
    to = server(standin.url, key="full")
    with pytest.raises(AgentError, match="Dirty shard"):
        to.count(BACK, 5)
    assert give(to, archive) == ""
    assert to.count(BACK, 5) == 6


def test_a_server_that_died_and_came_back_leaves_it_to_whoever_looks(
    standin: StandIn, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "_UNSEEN", 0.5)
    standin.faults.add("die", at="half", seconds=0.2, times=1)
    assert "broke off" in give(server(standin.url, key="full", patience=10), archive)
    with pytest.raises(AgentError, match="Dirty shard"):
        server(standin.url, key="full").count(BACK, 5)


def test_memory_does_not_grow_with_the_archive() -> None:
    def swallow(connection: socket.socket) -> None:
        buffer = bytearray(1 << 20)
        while (got := connection.recv_into(buffer)) and not buffer[:got].endswith(b"--\r\n"):
            pass
        connection.sendall(DONE)

    import tracemalloc

    with Parrot(swallow) as parrot:
        tracemalloc.start()
        try:
            give_zeros(server(parrot.url), LARGE)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 4 << 20


# A real server.


@pytest.fixture
def real() -> Iterator[Server]:
    one = server(os.environ[REAL], key=os.environ.get("SNAPWARD_TEST_QDRANT_KEY", ""), patience=5.0)
    yield one
    for name in (C, BACK):
        if name in one.collections():
            for left in uploads(one, name):
                one.delete(name, left.name)
        one.wire.ask("DELETE", path_of(name), bool)


@pytest.mark.real_qdrant
@pytest.mark.skipif(REAL not in os.environ, reason=f"{REAL} names no Qdrant")
def test_a_real_server_restores_and_keeps_nothing_of_what_was_cut(real: Server) -> None:
    archive = archive_of(real.url, os.environ.get("SNAPWARD_TEST_QDRANT_KEY"))
    checksum = hashlib.sha256(archive).hexdigest()
    for after in (0, len(archive) // 2, len(archive)):
        with pytest.raises(OSError, match="CRC-32 is wrong"):
            upload(real, BACK, new_name(), len(archive), checksum, Counted(archive, after), time.monotonic() + 20)
        assert BACK not in real.collections()
    with pytest.raises(Damaged, match="Checksum mismatch"):
        upload(real, BACK, new_name(), len(archive), "0" * 64, Counted(archive), time.monotonic() + 20)
    assert BACK not in real.collections()
    name = new_name()
    assert give(real, archive, name=name) == ""
    assert real.count(BACK, 5) == 6
    assert [one.name for one in uploads(real, BACK)] == [name]
    assert clear(real, BACK, name)
    with pytest.raises(OSError, match="CRC-32 is wrong"):
        upload(real, BACK, new_name(), len(archive), checksum, Counted(archive, 1), time.monotonic() + 20)
    assert real.count(BACK, 5) == 6
    assert uploads(real, BACK) == []
    with pytest.raises(Damaged, match="the server answers 500"):
        give(real, archive.replace(b'"config":', b'"konfig":'))


@pytest.mark.real_qdrant
@pytest.mark.skipif(REAL not in os.environ, reason=f"{REAL} names no Qdrant")
def test_a_real_server_goes_on_when_nobody_waits_for_its_answer(real: Server) -> None:
    archive = archive_of(real.url, os.environ.get("SNAPWARD_TEST_QDRANT_KEY"))
    with Lossy(real.url, "POST") as proxy:
        told = give(server(proxy.url, key=real.wire.address.key), archive)
    assert "broke off" in told
    assert real.count(BACK, 5) == 6
