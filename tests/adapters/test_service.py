import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.service import notify, watchdog_seconds


@pytest.fixture(params=["a path", "an abstract name"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """The socket that systemd listens on, and how it tells us where that is."""
    address = str(tmp_path / "notify") if request.param == "a path" else f"@snapward-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address.replace("@", "\0"))
        listening.settimeout(10)
        yield listening, {"NOTIFY_SOCKET": address}


def test_systemd_hears_what_it_is_told(systemd: tuple[socket.socket, dict[str, str]]) -> None:
    listening, environment = systemd
    assert notify(environment, READY="1", STATUS="120 archives, all good")
    assert listening.recv(4096) == b"READY=1\nSTATUS=120 archives, all good"
    assert notify(environment, WATCHDOG="1")
    assert listening.recv(4096) == b"WATCHDOG=1"
    assert notify(environment, STATUS="städte ☃")
    assert listening.recv(4096) == "STATUS=städte ☃".encode()


def test_without_systemd_nothing_is_said() -> None:
    assert not notify({}, READY="1")
    assert not notify({"NOTIFY_SOCKET": ""}, READY="1")


def test_a_systemd_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert not notify({"NOTIFY_SOCKET": str(tmp_path / "gone")}, READY="1")
    (tmp_path / "file").write_bytes(b"")
    assert not notify({"NOTIFY_SOCKET": str(tmp_path / "file")}, READY="1")
    assert not notify({"NOTIFY_SOCKET": "x" * 500}, READY="1")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_systemd_that_does_not_read_holds_nobody_up_for_ever(tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(environment["NOTIFY_SOCKET"])
        told = 0
        while told < 10_000 and notify(environment, WATCHDOG="1"):
            told += 1
    assert 0 < told < 10_000


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_PID": str(os.getpid())}, None),
    ],
)
def test_the_watchdog_wants_a_sign_of_life_as_often_as_it_says(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert watchdog_seconds(environment) == seconds
