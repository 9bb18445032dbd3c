"""Twenty thousand archives at once, archives that take their time, and one flipped byte in each of fifty."""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from campaigns.burst import burst
from campaigns.flips import flips
from campaigns.pieces import write
from program import Program

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("promise", [True, False], ids=["with checksums", "without checksums"])
def test_a_burst_of_20000_archives_is_judged_once_each_within_a_minute(
    program: Program, say: Callable[[object], None], *, promise: bool
) -> None:
    seen = burst(program, 20_000, promise=promise, within=60, queue=4096)
    say(seen)
    assert seen.overflowed or seen.queue > 4096


def test_an_archive_written_over_ten_seconds_gets_one_verdict_when_it_is_complete(
    program: Program, say: Callable[[object], None]
) -> None:
    program.write(settle="1s", scan_every="1s")
    with program.agent(), ThreadPoolExecutor(2) as writers:
        held = writers.submit(write, program, "held-open.snapshot", 5, 2.0, keep_open=True)
        appended = writers.submit(write, program, "appended.snapshot", 17, 0.6, keep_open=False)
    for seen in (held.result(), appended.result()):
        say(seen)
        assert seen.verdicts == ["good"]
    assert appended.result().waited >= 1


def test_one_flipped_byte_in_each_of_fifty_archives_is_told_within_two_seconds(
    program: Program, say: Callable[[object], None]
) -> None:
    program.write(settle="2s", alerts="{}", targets='{terminal: {url: "console://"}}', secondary=False)
    with program.agent():
        seen = flips(program, 50, settle=2.0, seed=secrets.randbelow(10**6))
    say(seen)
    assert seen.told == 50
    assert seen.slowest <= 2
