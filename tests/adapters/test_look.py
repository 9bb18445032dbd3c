import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import agent
from agent.adapters.shelf import look
from agent.adapters.shelf.look import Listing, exists, listing, pattern, signature, walk
from agent.rules.words import raw

ODD_NAMES = {
    "not UTF-8": b"caf\xe9.snapshot",
    "a line break": b"two\nlines.snapshot",
    "a carriage return": b"back\r.snapshot",
    "a backslash": b"x\\x41.snapshot",
    "255 bytes": b"n" * 246 + b".snapshot",
    "the right-to-left mark": "abc\u202etohs.snapshot".encode(),
    "letters of every script": "städte ☃ 東京.snapshot".encode(),
    "blanks": b" a  b .snapshot",
}

# What the agent's user sees: the superuser may read everything.
AS_NOBODY = """
import os, sys
from agent.adapters.shelf import look
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
"""


def as_nobody(code: str, *arguments: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", AS_NOBODY + code, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(agent.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return ran.stdout.strip()


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can reach, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def names(found: Listing) -> set[str]:
    return {one[0] for one in found.files}


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
def test_a_file_of_any_name_can_be_listed_compared_and_opened_again(tmp_path: Path, name: bytes) -> None:
    with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
        file.write(b"content")
    found = listing(str(tmp_path), "")
    (shown,) = names(found)
    assert shown.isprintable()
    assert shown.encode()  # SQLite takes it
    assert os.fsencode(raw(shown)) == name
    assert exists(str(tmp_path), "", shown)
    (one,) = found.files
    assert one[1:] == signature(os.path.join(tmp_path, os.fsdecode(name)))


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
def test_a_folder_of_any_name_is_walked(tmp_path: Path, name: bytes) -> None:
    inside = os.path.join(os.fsencode(tmp_path), name, b"deeper")
    os.makedirs(inside)
    with open(os.path.join(inside, b"a.snapshot"), "wb"):
        pass
    found = dict(walk(str(tmp_path)))
    assert len(found) == 3
    (deepest,) = [folder for folder, here in found.items() if here.files]
    assert os.fsencode(raw(deepest)) == name + b"/deeper"
    assert exists(str(tmp_path), deepest, "a.snapshot")


def test_what_is_no_file_is_named_for_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"x")
    (tmp_path / "link.snapshot").symlink_to(tmp_path / "target")
    (tmp_path / "lost.snapshot").symlink_to(tmp_path / "nothing")
    (tmp_path / "folder-link.snapshot").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.snapshot")
    (tmp_path / "folder.snapshot").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.snapshot"))
        found = listing(str(tmp_path), "")
    link, other = "a symbolic link; links are not followed", "a pipe, socket or device"
    assert names(found) == {"target"}
    assert found.folders == ("folder.snapshot",)
    assert found.odd == {
        "link.snapshot": link,
        "lost.snapshot": link,
        "folder-link.snapshot": link,
        "pipe.snapshot": other,
        "socket.snapshot": other,
    }
    assert look.kind(os.lstat(tmp_path / "folder.snapshot").st_mode) == "a folder"
    assert look.kind(os.lstat(tmp_path / "target").st_mode) == "a file"


def test_hidden_folders_are_not_entered(tmp_path: Path) -> None:
    for folder in (".incoming/1", ".quarantine", "daily/.hidden", "daily/1"):
        (tmp_path / folder).mkdir(parents=True)
    assert {folder for folder, _ in walk(str(tmp_path))} == {"", "daily", "daily/1"}


def test_a_folder_that_is_a_link_is_not_listed_even_when_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.snapshot").write_bytes(b"x")
    (tmp_path / "location").mkdir()
    (tmp_path / "location" / "daily").symlink_to(tmp_path / "elsewhere")
    found = listing(str(tmp_path / "location"), "daily")
    assert not found.files
    assert found.gone


def test_a_folder_that_is_missing_is_gone(tmp_path: Path) -> None:
    assert listing(str(tmp_path), "daily") == Listing(error="is gone", gone=True)


def test_a_file_in_place_of_a_folder_means_that_the_folder_is_gone(tmp_path: Path) -> None:
    (tmp_path / "daily").write_bytes(b"")
    found = listing(str(tmp_path), "daily")
    assert found.gone
    assert found.error == "Not a directory"


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o444])
def test_a_folder_that_may_not_be_read_is_an_error_and_not_an_empty_folder(public: Path, mode: int) -> None:
    folder = public / "daily"
    folder.mkdir()
    (folder / "a.snapshot").write_bytes(b"x")
    folder.chmod(mode)
    told = as_nobody("print(look.listing(sys.argv[1], 'daily'))", str(public))
    assert told == "Listing(files=set(), folders=(), odd={}, error='Permission denied', gone=False)"


def test_a_file_behind_a_folder_that_may_not_be_searched_does_not_count_as_missing(public: Path) -> None:
    folder = public / "daily"
    folder.mkdir()
    (folder / "a.snapshot").write_bytes(b"x")
    folder.chmod(0o444)
    assert as_nobody("print(look.exists(sys.argv[1], 'daily', 'a.snapshot'))", str(public)) == "True"


def test_there_is_something_behind_a_name_until_it_is_gone(tmp_path: Path) -> None:
    (tmp_path / "lost").symlink_to("nothing")
    (tmp_path / "file").write_bytes(b"")
    assert exists(str(tmp_path), "", "lost")
    assert not exists(str(tmp_path), "", "never")
    assert not exists(str(tmp_path), "no/folder", "a")
    assert not exists(str(tmp_path), "file", "a")


def test_a_walk_of_some_folders_goes_past_each_of_them_once(tmp_path: Path) -> None:
    for folder in ("a/b/c", "a/d", "e/f"):
        (tmp_path / folder).mkdir(parents=True)
    walked = [folder for folder, _ in walk(str(tmp_path), {"a", "a/b", "gone"})]
    assert sorted(walked) == ["a", "a/b", "a/b/c", "a/d", "gone"]


def test_a_walk_does_not_go_down_for_ever(tmp_path: Path) -> None:
    (tmp_path / "/".join("d" * 40)).mkdir(parents=True)
    assert max(folder.count("/") + 1 for folder, _ in walk(str(tmp_path)) if folder) == 17


def test_thousands_of_files_are_listed_with_none_lost(tmp_path: Path) -> None:
    for number in range(2000):
        os.close(os.open(f"{tmp_path}/{number}.snapshot", os.O_CREAT | os.O_WRONLY))
    assert len(listing(str(tmp_path), "").files) == 2000


def test_a_signature_changes_with_each_way_to_change_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    seen = [signature(str(path))]
    old = path.stat()
    with path.open("r+b") as file:
        file.write(b"two")
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    seen.append(signature(str(path)))
    (tmp_path / "b").write_bytes(b"one")
    os.utime(tmp_path / "b", ns=(old.st_atime_ns, old.st_mtime_ns))
    os.replace(tmp_path / "b", path)
    seen.append(signature(str(path)))
    path.unlink()
    seen.append(signature(str(path)))
    assert seen[-1] is None
    assert len(set(seen)) == 4


def test_patterns_match_whole_names_and_none_match_nothing() -> None:
    names = pattern(("*.snapshot", "*.tar.gz", "db-[0-9]*"))
    assert all(names.match(one) for one in ("a.snapshot", ".snapshot", "a b.tar.gz", "db-1", "a\\x0ab.snapshot"))
    assert not any(names.match(one) for one in ("a.snapshot.part", "a.SNAPSHOT", "db-x", "a.tar.gz\n.part", ""))
    assert not pattern(()).match("")
