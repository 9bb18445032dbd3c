"""What every test may ask for."""

import fcntl
import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from program import Program

pytest_plugins = ["standins"]


def pytest_collection_finish() -> None:
    """Keep the garbage collector from going through five thousand tests again and again."""
    gc.freeze()


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """snapward in a folder of its own, with an ordinary configuration."""
    made = Program(tmp_path / "home")
    made.write()
    return made


@pytest.fixture(autouse=True)
def one_at_a_time(request: pytest.FixtureRequest) -> Iterator[None]:
    """A real server has one set of collections: whoever uses it has it alone."""
    if request.node.get_closest_marker("real_qdrant") is None:
        yield
        return
    with open(Path(tempfile.gettempdir()) / "snapward-real-tests.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
