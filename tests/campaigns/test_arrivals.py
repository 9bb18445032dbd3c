"""Twenty thousand archives at once, archives that take their time, and one flipped byte in each of fifty."""

from collections.abc import Callable

import pytest
from campaigns.burst import burst
from program import Program

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("promise", [True, False], ids=["with checksums", "without checksums"])
def test_a_burst_of_20000_archives_is_judged_once_each_within_a_minute(
    program: Program, say: Callable[[object], None], promise: bool
) -> None:
    seen = burst(program, 20_000, promise=promise, within=60, queue=16384)
    say(seen)
    assert seen.overflowed
