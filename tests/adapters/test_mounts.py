"""What counts as mounted, in a mount namespace of the test's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CAN_MOUNT = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
pytestmark = pytest.mark.skipif(not CAN_MOUNT, reason="a mount namespace of its own takes root")

LOOK = "import sys; from agent.adapters import host; print(host.root(sys.argv[1], sys.argv[2]).trouble or 'fine')"


def seen(script: str, point: Path) -> str:
    """What `host.root` says of the folder `backups` at a mount point, after a script of mounts."""
    command = f'set -e\n{script}\nmkdir -p "$1/backups"\nexec "$2" -c "$3" "$1/backups" "$1"'
    argv = ["unshare", "-m", "sh", "-c", command, "sh", str(point), sys.executable, LOOK]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={**os.environ, "P": str(point)})
    return done.stdout.strip()


@pytest.fixture
def point(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    (tmp_path / "other").mkdir()
    return tmp_path / "disk"


def test_a_disk_that_is_mounted_is_fine(point: Path) -> None:
    assert seen('mount -t tmpfs none "$P"', point) == "fine"


def test_a_disk_that_is_not_mounted_is_told(point: Path) -> None:
    assert "nothing is mounted" in seen(":", point)


def test_another_folder_that_is_bound_there_counts_as_mounted(point: Path) -> None:
    assert seen('mount --bind "$P/../other" "$P"', point) == "fine"


def test_an_empty_mount_point_that_systemd_bound_onto_itself_is_told(point: Path) -> None:
    """ReadWritePaths= makes such a mount of every path it names, whether a disk is there or not."""
    assert "nothing is mounted" in seen('mount --bind "$P" "$P"', point)
    assert "nothing is mounted" in seen('mount --bind "$P" "$P"; mount --bind "$P" "$P"', point)


def test_a_disk_that_systemd_bound_onto_itself_is_fine(point: Path) -> None:
    assert seen('mount -t tmpfs none "$P"; mount --bind "$P" "$P"', point) == "fine"


def test_a_mount_point_with_a_space_in_its_name_is_found(tmp_path: Path) -> None:
    point = tmp_path / "my disk"
    point.mkdir()
    assert seen('mount -t tmpfs none "$P"', point) == "fine"
