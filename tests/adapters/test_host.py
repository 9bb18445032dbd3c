import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import agent
from agent.adapters import host
from agent.adapters.host import Mount, has_inotify, mount_of, mounts, patrol, probe, root, space

TMPFS = ("-t", "tmpfs", "-o", "size=1m", "tmpfs")


@contextmanager
def mounted(path: Path, *arguments: str) -> Iterator[Path]:
    """Something mounted at `path`, which only root can do."""
    if os.geteuid():
        pytest.skip("only root can mount a file system")
    path.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(path)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def df(path: Path, *fields: str) -> list[int]:
    asked = ["df", "--block-size=1", f"--output={','.join(fields)}", str(path)]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()[1]
    return [int(one.rstrip("%").replace("-", "0")) for one in told.split()]


# Mounts.


def test_a_folder_that_is_there_can_be_used(tmp_path: Path) -> None:
    found = root(str(tmp_path), None)
    seen = tmp_path.stat()
    assert (found.trouble, found.hint, found.read_only) == ("", "", False)
    assert (found.device, found.inode) == (seen.st_dev, seen.st_ino)
    assert found.mount_id > 0


def test_a_location_is_on_its_disk_only_while_something_is_mounted_there(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    (place / "backups").mkdir()
    without = root(str(place / "backups"), str(place))
    assert without.trouble == f"is not on its disk: nothing is mounted at {place}"
    assert without.hint == f"Mount it: `mount {place}`."
    before = root(str(place), None)
    with mounted(place, *TMPFS):
        (place / "backups").mkdir()
        inside = root(str(place / "backups"), str(place))
        assert inside.trouble == ""
        assert inside.mount_id != before.mount_id
        assert root(str(place), None).device != before.device
    assert root(str(place / "backups"), str(place)).trouble


def test_a_bind_mount_counts_although_it_is_the_same_file_system(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "bound").mkdir()
    outside = root(str(tmp_path / "bound"), None)
    with mounted(tmp_path / "bound", "--bind", str(tmp_path / "real")) as bound:
        assert not os.path.ismount(bound)
        found = root(str(bound), str(bound))
        assert found.trouble == ""
        assert found.device == outside.device
        assert found.mount_id != outside.mount_id


def test_a_folder_that_is_bound_onto_itself_is_no_disk(tmp_path: Path) -> None:
    # As systemd does with every ReadWritePaths= of a unit, whether its disk is mounted or not.
    place = tmp_path / "disk"
    place.mkdir()
    with mounted(place, "--bind", str(place)):
        assert root(str(place), str(place)).trouble.startswith("is not on its disk")
        assert root(str(place), None).trouble == ""
    with mounted(place, *TMPFS), mounted(place, "--bind", str(place)):
        assert root(str(place), str(place)).trouble == ""
    with mounted(tmp_path / "whole", *TMPFS) as whole:
        (whole / "inner").mkdir()
        with mounted(whole / "inner", "--bind", str(whole / "inner")):
            assert root(str(whole / "inner"), str(whole / "inner")).trouble.startswith("is not on its disk")


def test_a_mount_over_a_mount_is_another_place(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", *TMPFS) as below:
        first = root(str(below), str(below))
        with mounted(tmp_path / "disk", *TMPFS) as above:
            second = root(str(above), str(above))
            assert first.mount_id != second.mount_id
            assert first.device != second.device


@pytest.mark.parametrize("name", ["with a blank", "tab\tand\nline", "back\\slash", "städte ☃", "a - b", "\\040"])
def test_a_mount_point_of_any_name_is_found(tmp_path: Path, name: str) -> None:
    with mounted(tmp_path / name, *TMPFS) as place:
        assert root(str(place), str(place)).trouble == ""
        on = mount_of(str(place / "deep" / "er"), mounts())
        assert on is not None
        assert (on.point, on.kind) == (str(place), "tmpfs")


def test_a_link_leads_to_the_mount_it_points_at(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", *TMPFS) as place:
        (tmp_path / "link").symlink_to(place)
        assert root(str(tmp_path / "link"), str(tmp_path / "link")) == root(str(place), str(place))


def test_the_longest_and_latest_mount_holds_a_path() -> None:
    points = ["/", "/data", "/data", "/data/a"]
    table = [Mount(number, 1, "8:1", "/", point, "ext4") for number, point in enumerate(points)]
    assert [mount_of(path, table) for path in ("/", "/database", "/data", "/data/b/c", "/data/a/x")] == [
        table[0],
        table[0],
        table[2],
        table[2],
        table[3],
    ]
    assert mount_of("/x", []) is None


def test_the_kernel_reports_changes_on_an_ordinary_disk(tmp_path: Path) -> None:
    assert has_inotify(str(tmp_path))
    assert has_inotify(str(tmp_path / "not there yet"))


# Places that cannot be used.


def test_a_place_that_is_missing_or_no_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "lost").symlink_to("nothing")
    said = {name: root(str(tmp_path / name), None) for name in ("missing", "file", "file/below", "loop", "lost")}
    assert {name: one.trouble for name, one in said.items()} == {
        "missing": "does not exist",
        "file": "is not a folder",
        "file/below": "cannot be looked at: Not a directory",
        "loop": "cannot be looked at: Too many levels of symbolic links",
        "lost": "does not exist",
    }
    assert all(one.hint for one in said.values())


def test_a_place_that_may_not_be_read_says_so() -> None:
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        shut = Path(made) / "shut"
        (shut / "below").mkdir(parents=True)
        code = (
            "import os, sys\n"
            "from agent.adapters import host\n"
            "for mode in (0o000, 0o444, 0o111, 0o555):\n"
            "    os.chmod(sys.argv[1], mode)\n"
            "    if os.fork() == 0:\n"
            "        if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "        print(oct(mode), host.root(sys.argv[1], None).trouble, '/',\n"
            "              host.root(sys.argv[1] + '/below', None).trouble, flush=True)\n"
            "        os._exit(0)\n"
            "    os.wait()\n"
        )
        told = subprocess.run(
            [sys.executable, "-c", code, str(shut)],
            env={**os.environ, "PYTHONPATH": str(Path(agent.__file__).parent.parent)},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        shut.chmod(0o755)
    cannot, hidden = "cannot be read by the agent's user", "cannot be looked at: Permission denied"
    assert told.stdout.splitlines() == [
        f"0o0 {cannot} / {hidden}",
        f"0o444 {cannot} / {hidden}",
        f"0o111 {cannot} / ",
        "0o555  / ",
    ]


# Space.


@pytest.mark.parametrize("kind", ["the temporary folder", "a small disk", "a full disk"])
def test_the_figures_are_those_of_df(tmp_path: Path, kind: str) -> None:
    if kind == "the temporary folder":
        compare(tmp_path)
        return
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=1m,nr_inodes=100", "tmpfs") as place:
        for number in range(20):
            (place / str(number)).touch()
        if kind == "a full disk":
            with pytest.raises(OSError, match="No space left"):
                (place / "large").write_bytes(bytes(2 << 20))
        compare(place)


def compare(path: Path) -> None:
    before = df(path, "size", "used", "avail", "pcent", "ipcent")
    found = space(str(path))
    # Others write to the same disk meanwhile.
    slack = 64 << 20
    assert found.total == before[0]
    assert abs(found.used - before[1]) < slack
    assert abs(found.free - before[2]) < slack
    assert abs(math.ceil(found.used_percent - 0.05) - before[3]) <= 1
    assert found.inodes_percent is not None
    assert abs(math.ceil(found.inodes_percent) - before[4]) <= 1


def test_a_reserve_for_root_does_not_count_as_free(tmp_path: Path) -> None:
    if not shutil.which("mkfs.ext4"):
        pytest.skip("mkfs.ext4 is not installed")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "20", str(image)], check=True)
    with mounted(tmp_path / "disk", "-o", "loop", str(image)) as place:
        found = space(str(place))
        size, used, free = df(place, "size", "used", "avail")
        assert (found.total, found.used, found.free) == (size, used, free)
        assert found.free < found.total - found.used - (1 << 20)


# Does it take data?


def test_a_probe_that_succeeds_leaves_nothing_behind(tmp_path: Path) -> None:
    assert probe(str(tmp_path)) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_probe_tells_why_nothing_can_be_written(tmp_path: Path) -> None:
    assert probe(str(tmp_path / "missing")) == "No such file or directory"
    with mounted(tmp_path / "full", *TMPFS) as full:
        with pytest.raises(OSError, match="No space left"):
            (full / "large").write_bytes(bytes(2 << 20))
        assert probe(str(full)) == "No space left on device"
        assert [one.name for one in full.iterdir()] == ["large"]
    with mounted(tmp_path / "fixed", "-r", *TMPFS) as fixed:
        assert probe(str(fixed)) == "Read-only file system"


def test_a_probe_writes_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"kept")
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / host._PROBE).symlink_to(tmp_path / "precious")
    assert probe(str(tmp_path / "place"))
    assert (tmp_path / "precious").read_bytes() == b"kept"


def test_a_patrol_tells_everything_about_a_place_that_is_well(tmp_path: Path) -> None:
    found = patrol("primary", str(tmp_path), None)
    assert (found.location, found.path, found.root.trouble, found.probe) == ("primary", str(tmp_path), "", "")
    assert found.space is not None
    assert found.space.total > 0
    assert found.seconds > 0


def test_a_patrol_past_a_place_that_is_gone_tells_only_that(tmp_path: Path) -> None:
    found = patrol("primary", str(tmp_path / "gone"), None)
    assert found.root.trouble == "does not exist"
    assert (found.space, found.probe) == (None, "")


def test_a_patrol_past_a_read_only_place_writes_nothing_and_measures_all_the_same(tmp_path: Path) -> None:
    with mounted(tmp_path / "fixed", "-r", *TMPFS) as fixed:
        found = patrol("primary", str(fixed), str(fixed))
        assert found.root.read_only
        assert found.probe == ""
        assert found.space is not None
        assert found.space.total == 1 << 20


def test_a_folder_that_is_held_open_is_written_to_and_nothing_else(tmp_path: Path) -> None:
    with host.anchored(str(tmp_path), None) as anchor:
        assert anchor.there()
        (tmp_path.parent / "moved").mkdir()
        kept = tmp_path.parent / "moved" / "away"
        tmp_path.rename(kept)
        assert not anchor.there()
        Path(anchor.at, "file").write_text("mine", encoding="ascii")
        assert (kept / "file").read_text() == "mine"
        tmp_path.mkdir()
        assert not anchor.there()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_used_is_not_held_open(tmp_path: Path) -> None:
    with host.anchored(str(tmp_path / "nowhere"), None) as anchor:
        assert anchor.at == ""
        assert anchor.root.trouble == "does not exist"
    with host.anchored(str(tmp_path), str(tmp_path)) as anchor:
        assert anchor.at == ""
        assert "nothing is mounted" in anchor.root.trouble
