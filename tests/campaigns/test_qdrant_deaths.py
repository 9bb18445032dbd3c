"""Fifty sudden deaths of a backup from a Qdrant server: a stand-in always, a real one where there is one."""

import fcntl
import json
import os
import random
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from campaigns.qdrant_kills import Fire, kills
from campaigns.qdrant_traces import Server
from program import Program, until
from standin import StandIn, nine

REAL = "SNAPWARD_TEST_QDRANT_URL"


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.real_qdrant)])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server with the nine collections, of which a backup takes one or two seconds."""
    if request.param == "stand-in":
        with StandIn(tmp_path / "server") as standin:
            nine.seed(standin.url, points=300)
            for name, seconds in {"indexed": 0.2, "multi": 0.5, nine.AWKWARD: 0.3}.items():
                standin.faults.add("linger", collection=name, seconds=seconds)
            for name, rate in {"dense": 1_000_000, "binary": 2_000_000, "named": 500_000}.items():
                standin.faults.add("slow", collection=name, rate=rate)
            yield Server(standin.url, standin)
        return
    url = os.environ.get(REAL)
    if not url:
        pytest.skip(f"{REAL} names no Qdrant server")
    with open(Path(tempfile.gettempdir()) / "snapward-real-qdrant.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        nine.drop(url)
        nine.seed(url, points=6000)
        yield Server(url)
        nine.drop(url)


def configure(program: Program, url: str, parallel: int) -> None:
    include = json.dumps([name.replace("[", "[[]") for name in nine.COLLECTIONS], ensure_ascii=False)
    engine = f'{{kind: qdrant, url: "{url}", collections: {{include: {include}}}}}'
    program.write(engine=engine, more=f"parallel: {parallel}\n")


@pytest.mark.timeout(900)
def test_fifty_kills_publish_nothing_half_and_the_next_backup_tidies_up(
    program: Program, server: Server, say: Callable[[object], None]
) -> None:
    configure(program, server.url, 4)
    seed = secrets.randbelow(10**6)
    say(f"seed {seed}")
    say(kills(program, server, 50, seed))
    shutil.rmtree(program.home)  # hundreds of megabytes that nobody needs any more


def test_what_two_backups_left_that_died_while_the_server_was_at_work_is_told_and_deleted(
    program: Program, tmp_path: Path
) -> None:
    with StandIn(tmp_path / "server") as standin:
        nine.seed(standin.url)
        configure(program, standin.url, 1)
        fire = Fire(program, Server(standin.url, standin), random.Random(0))  # noqa: S311 - nothing is left to chance
        for seconds in (5.0, 6.5):
            standin.faults.add("linger", seconds=seconds, times=1)
            assert fire.kill("create")
            killed = int(time.time())
            until(lambda killed=killed: int(time.time()) > killed, what="the next second, by which a snapshot is named")
        assert list(fire.server.making().values()) == [2]
        assert fire.look() == 2
        fire.make_again()
