"""Backups are taken away whole, on their own disk, and nothing that was put in their way is."""

import os
import subprocess
from pathlib import Path

import pytest
from madeup import made_up, tree
from small_disk import small_disk

from agent.adapters.shelf import remove
from agent.adapters.shelf.remove import Freed
from agent.errors import CannotWrite, NoRights, Refused

STARTED = 1_795_000_000.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "primary"
    made.mkdir()
    return made


def taken_away(root: Path, backup: str) -> Freed:
    with remove.opened(str(root)) as top:
        found = remove.inspect(top, backup)
        assert found is not None
        remove.put_aside(top, backup, found)
        return remove.clear(top, backup)


def name(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def test_a_backup_goes_and_nothing_else_does(root: Path) -> None:
    old, other = made_up(root, "daily", STARTED), made_up(root, "daily", STARTED + 1)
    size = sum(one.stat().st_size for one in old.iterdir())
    before = tree(root)
    assert taken_away(root, name(old)) == Freed(4, size)
    assert tree(root) == {path: data for path, data in before.items() if not path.startswith(name(old))}
    assert other.is_dir()


def test_between_its_two_steps_it_waits_out_of_sight(root: Path) -> None:
    old, other = made_up(root, "daily", STARTED), made_up(root, "weekly", STARTED)
    with remove.opened(str(root)) as top:
        assert remove.waiting(top) == []
        for one in (old, other):
            found = remove.inspect(top, name(one))
            assert found is not None
            remove.put_aside(top, name(one), found)
        assert remove.inspect(top, name(old)) is None
        assert remove.waiting(top) == [name(old), name(other)]
        remove.clear(top, name(old))
        assert remove.waiting(top) == [name(other)]
        assert os.listdir(root / ".expiring") == ["weekly"]
        remove.clear(top, name(other))
    assert sorted(os.listdir(root)) == ["daily", "weekly"]


def test_what_was_begun_to_be_cleared_can_be_gone_on_with(root: Path) -> None:
    old = made_up(root, "daily", STARTED)
    with remove.opened(str(root)) as top:
        found = remove.inspect(top, name(old))
        assert found is not None
        remove.put_aside(top, name(old), found)
        (root / ".expiring" / name(old) / "manifest.json").unlink()
        assert remove.clear(top, name(old)).files == 3
    assert os.listdir(root) == ["daily"]


def test_empty_folders_of_a_cleanup_that_died_go_and_full_ones_stay(root: Path) -> None:
    (root / ".expiring" / "daily").mkdir(parents=True)
    with remove.opened(str(root)) as top:
        remove.tidy(top)
        assert os.listdir(root) == []
        (root / ".expiring" / "daily" / "A").mkdir(parents=True)
        remove.tidy(top)
        assert remove.waiting(top) == ["daily/A"]


@pytest.mark.parametrize("part", ["daily", "daily/20261118T110640Z"])
def test_a_link_in_place_of_a_folder_is_not_followed(root: Path, tmp_path: Path, part: str) -> None:
    old = made_up(root, "daily", STARTED)
    assert name(old) == "daily/20261118T110640Z"
    (root / part).rename(tmp_path / "precious")
    (root / part).symlink_to(tmp_path / "precious")
    before = tree(tmp_path)
    with remove.opened(str(root)) as top, pytest.raises(Refused, match="symbolic link"):
        remove.inspect(top, name(old))
    assert tree(tmp_path) == before


def test_a_link_in_a_backup_goes_and_what_it_leads_to_stays(root: Path, tmp_path: Path) -> None:
    old = made_up(root, "daily", STARTED)
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (old / "docs.tar.gz").unlink()
    (old / "docs.tar.gz").symlink_to(precious)
    taken_away(root, name(old))
    assert precious.read_text() == "precious"


def test_a_folder_of_ours_that_is_a_link_is_not_used(root: Path, tmp_path: Path) -> None:
    old = made_up(root, "daily", STARTED)
    (tmp_path / "elsewhere").mkdir()
    (root / ".expiring").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="symbolic link"):
        taken_away(root, name(old))
    assert old.is_dir()
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_folder_in_a_backup_or_a_pipe_keeps_it(root: Path) -> None:
    holding, piped = made_up(root, "daily", STARTED), made_up(root, "daily", STARTED + 1)
    (holding / "more").mkdir()
    os.mkfifo(piped / "more")
    for one, what in ((holding, "holds a folder, more"), (piped, "holds a pipe, socket or device, more")):
        with pytest.raises(Refused, match=what):
            taken_away(root, name(one))
        assert len(list(one.iterdir())) == 5


def test_what_took_its_place_meanwhile_is_not_removed(root: Path) -> None:
    old = made_up(root, "daily", STARTED)
    with remove.opened(str(root)) as top:
        found = remove.inspect(top, name(old))
        assert found is not None
        old.rename(root / "moved")
        other = made_up(root, "daily", STARTED)
        with pytest.raises(Refused, match="was replaced"):
            remove.put_aside(top, name(old), found)
    assert len(list(other.iterdir())) == 4
    assert len(list((root / "moved").iterdir())) == 4


def test_a_file_with_another_name_frees_nothing(root: Path, tmp_path: Path) -> None:
    old = made_up(root, "daily", STARTED)
    os.link(old / "docs.tar.gz", tmp_path / "kept.tar.gz")
    size = sum(one.stat().st_size for one in old.iterdir() if one.name != "docs.tar.gz")
    assert taken_away(root, name(old)) == Freed(4, size)
    assert (tmp_path / "kept.tar.gz").exists()


def test_names_that_are_no_text_are_removed_too(root: Path) -> None:
    old = made_up(root, "daily", STARTED)
    (old / os.fsdecode(b"\xff\n\\.tar.gz")).write_bytes(b"x")
    assert taken_away(root, name(old)).files == 5


def test_the_location_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    old = made_up(root, "daily", STARTED)
    (tmp_path / "link").symlink_to(root)
    taken_away(tmp_path / "link", name(old))
    assert not old.exists()


def test_nothing_there_is_nothing(root: Path) -> None:
    with remove.opened(str(root)) as top:
        assert remove.inspect(top, "daily/A") is None
    with pytest.raises(CannotWrite), remove.opened(str(root / "missing")):
        pass


@pytest.mark.parametrize("bound", [False, True])
def test_another_disk_is_never_entered(root: Path, tmp_path: Path, bound: bool) -> None:  # noqa: FBT001 - pytest's way
    old = made_up(root, "daily", STARTED)
    precious = tmp_path / "precious"
    precious.mkdir()
    with small_disk(tmp_path / "precious"):
        (precious / "file").write_text("precious")
        if bound:  # from the same device, so that only the mount is another one
            (tmp_path / "same").mkdir()
            (tmp_path / "same" / "file").write_text("precious")
        source = tmp_path / "same" if bound else precious
        subprocess.run(["mount", "--bind", str(source), str(old)], check=True)
        try:
            with remove.opened(str(root)) as top, pytest.raises(Refused, match="another disk"):
                remove.inspect(top, name(old))
        finally:
            subprocess.run(["umount", str(old)], check=True)
        assert (source / "file").read_text() == "precious"


def test_a_disk_that_is_read_only_is_said_to_be(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    with small_disk(root, "1m"):
        old = made_up(root, "daily", STARTED)
        subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
        with pytest.raises(CannotWrite, match="Read-only"):
            taken_away(root, name(old))
        assert len(list(old.iterdir())) == 4


def test_a_missing_right_is_said_to_be(root: Path) -> None:
    old = made_up(root, "daily", STARTED)
    (root / ".expiring" / "daily").mkdir(parents=True)
    subprocess.run(["chattr", "+i", str(old)], check=False, capture_output=True)
    (old.parent).chmod(0o555)
    try:
        if (
            os.geteuid() == 0
            and "i"
            not in subprocess.run(["lsattr", "-d", str(old)], capture_output=True, text=True, check=False).stdout.split(
                " "
            )[0]
        ):
            pytest.skip("root may do everything here")
        with pytest.raises(NoRights):
            taken_away(root, name(old))
        assert len(list(old.iterdir())) == 4
    finally:
        (old.parent).chmod(0o755)
        subprocess.run(["chattr", "-i", str(old)], check=False, capture_output=True)
