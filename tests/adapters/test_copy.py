import hashlib
import os
import random
from pathlib import Path

import pytest
from small_disk import small_disk

from agent.adapters.shelf import copy as shelf
from agent.adapters.shelf.write import Permissions
from agent.errors import CannotWrite, Damaged
from agent.rules.archive import Promise

MIB = 1 << 20


def source(folder: Path, size: int) -> tuple[Path, Promise]:
    data = random.Random(size).randbytes(size)  # noqa: S311 - the same each time, not a secret
    path = folder / "source"
    path.write_bytes(data)
    return path, Promise("manifest.json", hashlib.sha256(data).hexdigest(), size)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1, 5 * MIB + 123])
def test_a_copy_is_the_same_whatever_its_length(tmp_path: Path, size: int) -> None:
    path, promise = source(tmp_path, size)
    os.utime(path, ns=(5, 1_700_000_000_123_456_789))
    seen: list[int] = []
    assert shelf.copy(str(path), str(tmp_path / "copy"), promise, Permissions(0o604), seen.append) == size
    made = tmp_path / "copy"
    assert made.read_bytes() == path.read_bytes()
    assert made.stat().st_mtime_ns == 1_700_000_000_123_456_789
    assert made.stat().st_mode & 0o7777 == 0o604
    assert sum(seen) == size


@pytest.mark.parametrize(
    ("promise", "why"),
    [(Promise("m", "0" * 64, 5000), "another SHA-256"), (Promise("m", None, 4999), "not the 4.88 KiB")],
    ids=["other bytes", "other length"],
)
def test_what_was_not_proved_is_not_copied(tmp_path: Path, promise: Promise, why: str) -> None:
    path, _ = source(tmp_path, 5000)
    with pytest.raises(Damaged, match=why):
        shelf.copy(str(path), str(tmp_path / "copy"), promise, Permissions())
    assert [one.name for one in tmp_path.iterdir()] == ["source"]


def test_a_link_is_no_source(tmp_path: Path) -> None:
    path, promise = source(tmp_path, 100)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(Damaged, match="cannot be read"):
        shelf.copy(str(tmp_path / "link"), str(tmp_path / "copy"), promise, Permissions())


def test_what_is_there_already_is_not_written_over(tmp_path: Path) -> None:
    path, promise = source(tmp_path, 100)
    (tmp_path / "copy").write_bytes(b"mine")
    with pytest.raises(CannotWrite):
        shelf.copy(str(path), str(tmp_path / "copy"), promise, Permissions())
    assert (tmp_path / "copy").read_bytes() == b"mine"


def test_a_full_disk_keeps_nothing_and_is_told_as_such(tmp_path: Path) -> None:
    path, promise = source(tmp_path, MIB)
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk, "256k"):
        with pytest.raises(CannotWrite, match="No space"):
            shelf.copy(str(path), str(disk / "copy"), promise, Permissions())
        assert list(disk.iterdir()) == []


def test_what_is_put_aside_keeps_its_place_until_something_takes_it(tmp_path: Path) -> None:
    bad, new, aside = tmp_path / "bad", tmp_path / "new", tmp_path / "aside"
    bad.write_bytes(b"bad")
    new.write_bytes(b"new")
    name = shelf.free(str(aside), str(bad))
    shelf.put_aside(str(bad), name)
    assert (bad.read_bytes(), aside.read_bytes()) == (b"bad", b"bad")
    assert shelf.free(str(aside), str(bad)) == name  # a second life goes on with it
    shelf.put_aside(str(bad), name)
    shelf.put(str(new), str(bad))
    assert (bad.read_bytes(), aside.read_bytes()) == (b"new", b"bad")
    assert shelf.free(str(aside), str(bad)) == f"{aside}.2"
