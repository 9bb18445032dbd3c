"""Fifty sudden deaths of cleanups."""

import secrets
import time
from collections.abc import Callable

import pytest
from campaigns.expire_kills import kills
from program import Program


@pytest.mark.timeout(900)
def test_fifty_kills_complete_the_plan_and_touch_nothing_else(program: Program, say: Callable[[object], None]) -> None:
    seed = secrets.randbelow(10**6)
    say(f"seed {seed}")
    seen = kills(program, 50, seed, time.time())
    say(seen)
    assert seen.phases["put aside"] + seen.phases.get("between files", 0) >= 5
