"""What every test may ask for."""

from pathlib import Path

import pytest
from program import Program

pytest_plugins = ["standins"]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """snapward in a folder of its own, with an ordinary configuration."""
    made = Program(tmp_path / "home")
    made.write()
    return made
