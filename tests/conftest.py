"""What every test may ask for."""

import signal
from pathlib import Path

import pytest
from program import Program

pytest_plugins = ["standins"]

# A file that is looked at with a lease may be opened for writing meanwhile; the default would end the test runner.
signal.signal(signal.SIGIO, signal.SIG_IGN)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """snapward in a folder of its own, with an ordinary configuration."""
    made = Program(tmp_path / "home")
    made.write()
    return made
