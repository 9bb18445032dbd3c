import logging
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from watchdog.events import DirDeletedEvent, FileCreatedEvent, FileMovedEvent, FileSystemEvent

import agent
from agent.adapters import watch as module
from agent.adapters.watch import Watch
from agent.rules.words import printable

PATIENCE = 10.0

# The agent asks for the same, but each test begins with filters of its own.
pytestmark = pytest.mark.filterwarnings("ignore:Callback with id .* already exists:RuntimeWarning")


class Watched:
    """A location under watch, and the hints that came from it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hints: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.watch = Watch(str(root), self.hints.put)
        self._barriers = 0

    def wait_for(self, *wanted: str | None) -> list[str | None]:
        """Wait for one of these hints; returns every hint that came until then."""
        came: list[str | None] = []
        while not came or came[-1] not in wanted:
            try:
                came.append(self.hints.get(timeout=PATIENCE))
            except queue.Empty:
                pytest.fail(f"none of the hints {wanted} came, but {came}")
        return came

    def so_far(self) -> set[str | None]:
        """Every hint from what happened up to now: events come in order, so another one ends the wait."""
        self._barriers += 1
        name = f"barrier {self._barriers}"
        (self.root / name).mkdir()
        return set(self.wait_for(name)) - {name}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    for folder in ("root/daily/1", "root/.incoming/1", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    made = Watched(tmp_path / "root")
    made.watch.start()
    assert made.watch.trouble == ""
    yield made
    made.watch.stop()


def write(folder: Path) -> None:
    (folder / "a.snapshot").write_bytes(b"x")


def rename_inside(folder: Path, _: Path) -> None:
    (folder / ".a.part").write_bytes(b"x")
    (folder / ".a.part").rename(folder / "a.snapshot")


def move_in(folder: Path, outside: Path) -> None:
    write(outside)
    (outside / "a.snapshot").rename(folder / "a.snapshot")


def link_in(folder: Path, outside: Path) -> None:
    write(outside)
    (folder / "a.snapshot").hardlink_to(outside / "a.snapshot")


def link_unnamed(folder: Path, _: Path) -> None:
    unnamed, there = os.open(folder, os.O_TMPFILE | os.O_WRONLY), os.open(folder, os.O_RDONLY)
    os.link(f"/proc/self/fd/{unnamed}", "a.snapshot", dst_dir_fd=there)
    os.close(unnamed)
    os.close(there)


def point_at(folder: Path, _: Path) -> None:
    (folder / "a.snapshot").symlink_to("anything")


@pytest.mark.parametrize("outside", ["outside", "root/.incoming/1"])
@pytest.mark.parametrize(
    "arrive", [lambda folder, _: write(folder), rename_inside, move_in, link_in, link_unnamed, point_at]
)
@pytest.mark.parametrize("folder", ["", "daily", "daily/1"])
def test_each_way_to_arrive_gives_a_hint_about_the_folder(
    watched: Watched, tmp_path: Path, folder: str, arrive: Callable[[Path, Path], None], outside: str
) -> None:
    arrive(watched.root / folder, tmp_path / outside)
    watched.wait_for(folder)


def delete(path: Path, _: Path) -> None:
    path.unlink()


def move_out(path: Path, outside: Path) -> None:
    path.rename(outside / "a")


def hide(path: Path, _: Path) -> None:
    path.rename(path.with_name(".a"))


def replace(path: Path, _: Path) -> None:
    path.with_name(".b").write_bytes(b"y")
    path.with_name(".b").replace(path)


def overwrite(path: Path, _: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"y")


@pytest.mark.parametrize("change", [delete, move_out, hide, replace, overwrite])
@pytest.mark.parametrize("folder", ["", "daily/1"])
def test_each_change_of_what_is_there_gives_a_hint(
    watched: Watched, tmp_path: Path, folder: str, change: Callable[[Path, Path], None]
) -> None:
    write(watched.root / folder)
    watched.so_far()
    change(watched.root / folder / "a.snapshot", tmp_path / "outside")
    watched.wait_for(folder)


def test_a_backup_that_is_published_gives_a_hint_about_its_folder(watched: Watched) -> None:
    write(watched.root / ".incoming/1")
    assert watched.so_far() == set()
    (watched.root / ".incoming/1").rename(watched.root / "daily/2")
    watched.wait_for("daily/2")


def test_a_folder_that_is_moved_in_and_out_gives_hints(watched: Watched, tmp_path: Path) -> None:
    write(tmp_path / "outside")
    (tmp_path / "outside").rename(watched.root / "daily/2")
    watched.wait_for("daily/2")
    watched.so_far()
    write(watched.root / "daily/2")
    watched.wait_for("daily/2")
    (watched.root / "daily/2").rename(tmp_path / "outside")
    watched.wait_for("daily/2")


def test_folders_made_in_one_go_give_a_hint_that_covers_what_is_in_them(watched: Watched) -> None:
    deep = watched.root / "a/b/c"
    deep.mkdir(parents=True)
    write(deep)
    watched.wait_for("a", "a/b", "a/b/c")
    watched.so_far()
    write(deep)
    watched.wait_for("a/b/c")


def test_a_folder_that_is_removed_gives_a_hint(watched: Watched) -> None:
    write(watched.root / "daily/1")
    watched.so_far()
    shutil.rmtree(watched.root / "daily/1")
    watched.wait_for("daily/1")


def test_hidden_folders_and_files_give_no_hints(watched: Watched) -> None:
    for folder in (".incoming", ".incoming/1", ".quarantine", "daily/.hidden", "daily/.hidden/deep"):
        (watched.root / folder).mkdir(exist_ok=True)
        write(watched.root / folder)
        rename_inside(watched.root / folder, watched.root)
        (watched.root / folder / "a.snapshot").unlink()
    (watched.root / "daily" / ".partial").write_bytes(b"x")
    shutil.rmtree(watched.root / ".incoming/1")
    assert watched.so_far() == set()


def test_reading_gives_no_hints(watched: Watched) -> None:
    write(watched.root)
    watched.so_far()
    assert (watched.root / "a.snapshot").read_bytes() == b"x"
    assert watched.so_far() == set()


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b"back\\slash", "städte ☃".encode(), b"n" * 255])
def test_a_folder_of_any_name_gives_a_hint_that_can_be_printed(watched: Watched, name: bytes) -> None:
    path = os.path.join(watched.root, os.fsdecode(name))
    os.mkdir(path)
    watched.wait_for(printable(os.fsdecode(name)))
    watched.so_far()
    write(Path(path))
    watched.wait_for(printable(os.fsdecode(name)))


# What becomes of the root.


def test_a_root_that_is_replaced_is_watched_after_another_start(watched: Watched) -> None:
    watched.root.rename(watched.root.with_name("old"))
    watched.root.mkdir()
    watched.watch.start()
    assert watched.watch.alive()
    write(watched.root)
    watched.wait_for("")


def test_a_link_that_is_turned_to_another_folder_is_followed_after_another_start(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("first")
    watched = Watched(tmp_path / "link")
    watched.watch.start()
    write(tmp_path / "first")
    watched.wait_for("")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("second")
    watched.watch.start()
    watched.so_far()
    (tmp_path / "second/daily").mkdir()
    watched.wait_for("daily")
    watched.watch.stop()


def test_a_watch_knows_when_its_root_was_removed(watched: Watched) -> None:
    assert watched.watch.alive()
    assert watched.watch._observer is not None
    emitters = watched.watch._observer.emitters
    shutil.rmtree(watched.root)
    for one in emitters:
        one.join(PATIENCE)
    assert not watched.watch.alive()
    watched.root.mkdir()
    watched.watch.start()
    assert watched.watch.alive()
    write(watched.root)
    watched.wait_for("")


def test_a_watch_knows_when_nothing_is_read_any_more(watched: Watched) -> None:
    assert watched.watch._observer is not None
    reader = watched.watch._observer._inotify_fd  # type: ignore[attr-defined] # watchdog's own thread
    reader.stop()
    reader.join(PATIENCE)
    assert not watched.watch.alive()


def test_folders_that_are_seen_twice_are_not_complained_about(tmp_path: Path) -> None:
    code = (
        "import os, queue, sys\n"
        "from agent.adapters.watch import Watch\n"
        "hints = queue.SimpleQueue()\n"
        "watch = Watch(sys.argv[1], hints.put)\n"
        "watch.start()\n"
        "for number in range(300): os.makedirs(f'{sys.argv[1]}/{number}/b/c')\n"
        "while hints.get(timeout=10) != '299': pass\n"
        "print(watch.alive())\n"
        "watch.stop()\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(agent.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert told.stdout == "True\n"
    assert "Warning" not in told.stderr


@pytest.mark.parametrize(
    "event",
    [
        FileCreatedEvent("/elsewhere/a"),
        FileMovedEvent("/elsewhere/a", "/else/a"),
        DirDeletedEvent("/"),
        DirDeletedEvent("/locations"),
        FileCreatedEvent("/location-2/a"),
        FileCreatedEvent(b"/caf\xe9/a"),
    ],
)
def test_an_event_about_something_else_means_that_any_folder_may_have_changed(event: FileSystemEvent) -> None:
    came: list[str | None] = []
    module._Hints("/location", came.append).dispatch(event)
    assert set(came) == {None}


# Limits.


def test_an_overflow_makes_everything_be_looked_at(watched: Watched) -> None:
    # The kernel keeps no more than so many events that nobody has taken yet.
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as file:
        most = int(file.read())
    if most > 50_000:
        pytest.skip("this kernel keeps too many events to overflow them in a test")
    (watched.root / ".a").touch()
    assert watched.watch._observer is not None
    with watched.watch._observer._inotify_fd._lock:  # type: ignore[attr-defined] # keeps watchdog from reading
        for _ in range(most):
            os.link(watched.root / ".a", watched.root / ".b")
            os.unlink(watched.root / ".b")
    watched.wait_for(None)
    assert watched.watch.alive()


def test_watchdogs_word_about_an_overflow_is_heard_until_the_watch_stops(watched: Watched) -> None:
    log = logging.getLogger("watchdog.observers.inotify_c")
    log.warning("something else")
    assert watched.so_far() == set()
    log.warning("Inotify queue overflowed; filesystem events were lost")
    watched.wait_for(None)
    watched.watch.stop()
    log.warning("Inotify queue overflowed; filesystem events were lost")
    assert watched.hints.empty()


def test_a_folder_that_is_missing_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    watched = Watched(tmp_path / "missing")
    watched.watch.start()
    assert watched.watch.trouble == "watching failed: No such file or directory"
    assert not watched.watch.alive()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, files)
    (tmp_path / "missing").mkdir()
    watched.watch.start()
    assert (watched.watch.trouble, watched.watch.alive()) == ("", True)
    watched.watch.stop()


def test_a_limit_that_is_reached_is_named_with_what_raises_it(tmp_path: Path) -> None:
    code = (
        "import os, resource, sys, threading\n"
        "from agent.adapters.watch import Watch\n"
        "watch = Watch(sys.argv[1], print)\n"
        "watch.start(); watch.stop()\n"
        "from resource import RLIMIT_NOFILE as limit\n"
        "files, most = sorted(map(int, os.listdir('/proc/self/fd')))[:-1], resource.getrlimit(limit)[1]\n"
        "for more in range(3):\n"
        "    resource.setrlimit(limit, (files[-1] + 1 + more, most))\n"
        "    watch.start()\n"
        "    print(watch.trouble, watch.alive(), threading.active_count())\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(agent.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    wanted = "the limit of inotify instances, or of open files, is reached; raise fs.inotify.max_user_instances False 1"
    assert told.stdout.splitlines() == [wanted] * 3, told.stderr
    assert "fs.inotify.max_user_watches" in module._limit_words(OSError(28, "No space left on device"))


def test_every_thread_and_descriptor_ends_with_the_watch(watched: Watched) -> None:
    watched.watch.stop()
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        watched.watch.start()
        watched.watch.start()
        assert watched.watch.alive()
        watched.watch.stop()
        watched.watch.stop()
        assert not watched.watch.alive()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, files)
    write(watched.root)
    assert watched.hints.empty()
