"""Fifty repairs that die."""

import secrets
from collections.abc import Callable

import pytest
from campaigns.repair_kills import repair_kills
from program import Program


@pytest.mark.timeout(900)
def test_fifty_killed_repairs_are_finished_and_lose_nothing(program: Program, say: Callable[[object], None]) -> None:
    seed = secrets.randbelow(10**6)
    say(f"seed {seed}")
    seen = repair_kills(program, 50, seed)
    say(seen)
    assert seen.halves
