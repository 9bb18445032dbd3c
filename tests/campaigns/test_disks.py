"""Disks that are full, read-only or gone, under the agent's archives and under its ledger."""

from collections.abc import Callable

import pytest
from campaigns import disks
from program import Program
from standins import Sink

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("scenario", [disks.full_location, disks.read_only_location, disks.absent_location])
def test_a_location_in_trouble_is_told_and_heals(program: Program, scenario: Callable[[Program], None]) -> None:
    scenario(program)


def test_a_full_disk_under_the_ledger_loses_nothing(program: Program, http_sink: Sink) -> None:
    disks.full_state(program, http_sink, 200)


def test_the_agent_starts_on_a_full_disk(program: Program) -> None:
    disks.start_on_full_state(program)
