"""A hundred sudden deaths."""

import secrets
from collections.abc import Callable

import pytest
from campaigns.kills import kills
from program import Program
from standins import Mailbox


@pytest.mark.timeout(900)
def test_a_hundred_kills_lose_nothing_and_leave_nothing_half_done(
    program: Program, smtp_server: Mailbox, say: Callable[[object], None]
) -> None:
    seed = secrets.randbelow(10**6)
    say(f"seed {seed}")
    seen = kills(program, smtp_server, 100, seed)
    say(seen)
    assert not seen.lost_slots
