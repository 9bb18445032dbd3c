"""A clock that jumps."""

from collections.abc import Callable

import pytest
from campaigns.clocks import jumps
from program import Program


@pytest.mark.timeout(300)
def test_no_jump_of_the_clock_runs_a_slot_twice_or_drops_one_unsaid(
    program: Program, say: Callable[[object], None]
) -> None:
    seen = jumps(program)
    say(seen)
    assert seen == [("03-10 02:00", "ok"), ("03-11 02:00", "ok"), ("03-12 02:00", "ok"), ("03-15 02:00", "missed")]
