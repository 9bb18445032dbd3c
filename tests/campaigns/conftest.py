"""Campaigns tell what they saw, whether they pass or not."""

from collections.abc import Callable

import pytest


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[object], None]:
    """Print a line of figures past the test runner's capture."""

    def said(figures: object) -> None:
        with capsys.disabled():
            print(f"\n  {figures}", end="", flush=True)

    return said
