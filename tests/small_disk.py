"""A disk so small that it fills up: a tmpfs, for tests that run as root where something can be mounted."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(path: Path, size: str = "64k") -> Iterator[None]:
    """Mount it there for as long as the block runs; the block may take it away itself."""
    if os.geteuid():
        pytest.skip("only root can mount a file system")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        if os.path.ismount(path):
            subprocess.run(["umount", str(path)], check=True)
