"""Watchdog: turns the kernel's file events into hints about which folder to look at.

A hint is all an event is good for: events get lost (queue overflow, unmount, network file systems, a watched
folder that is replaced), so nothing is decided from one. See docs/decisions.
"""

import logging
import os
import warnings
from collections.abc import Callable

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from agent.rules.words import printable

_EVENTS: list[type[FileSystemEvent]] = [
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirMovedEvent,
    DirDeletedEvent,
]
_OVERFLOW_LOGGER = "watchdog.observers.inotify_c"


class Watch:
    """One location under watch. `hint(folder)` is called from watchdog's thread and must only hand over.

    `hint` gets the folder inside the location, or None when any folder may have changed.
    """

    def __init__(self, path: str, hint: Callable[[str | None], None]) -> None:
        self._path = path
        self._hint = hint
        self._observer: BaseObserver | None = None
        self.trouble = ""

    def start(self) -> None:
        """Begin to watch; on failure `trouble` says why, and scanning has to do."""
        self.stop()
        root = os.path.realpath(self._path)  # a link may point elsewhere by now
        # Of folders made one in the other watchdog sees some twice, and says so at length; it does no harm.
        warnings.filterwarnings("ignore", "Callback with id .* already exists", RuntimeWarning)
        observer = None
        try:
            observer = Observer()
            observer.schedule(_Hints(root, self._hint), root, recursive=True, event_filter=_EVENTS)
            observer.start()
        except OSError as error:
            if observer is not None:
                observer.stop()  # it has a thread and descriptors even so
            self.trouble = _limit_words(error)
            return
        self._observer = observer
        self.trouble = ""
        logging.getLogger(_OVERFLOW_LOGGER).addFilter(self._overflowed)

    def alive(self) -> bool:
        """Whether every thread that brings events still runs."""
        observer = self._observer
        if observer is None:
            return False
        reader = getattr(observer, "_inotify_fd", observer)  # watchdog does not ask whether it still reads
        return all(one.is_alive() for one in (observer, reader, *observer.emitters))

    def stop(self) -> None:
        """End the watch; a second call does nothing."""
        logging.getLogger(_OVERFLOW_LOGGER).removeFilter(self._overflowed)
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join(5)

    def _overflowed(self, record: logging.LogRecord) -> bool:
        # Watchdog tells of an overflow nowhere else than in its log.
        if "overflow" in record.getMessage():
            self._hint(None)
        return True


class _Hints(FileSystemEventHandler):
    """An exception in a handler would end the observer's thread, so this one does next to nothing."""

    def __init__(self, root: str, hint: Callable[[str | None], None]) -> None:
        self._root = root
        self._inside = os.path.join(root, "")
        self._hint = hint

    def dispatch(self, event: FileSystemEvent) -> None:
        for path in (event.src_path, event.dest_path):
            if path:
                self._tell(os.fsdecode(path), event.is_directory)

    def _tell(self, path: str, is_directory: bool) -> None:  # noqa: FBT001 - watchdog's own flag
        folder, name = os.path.split(path)
        if is_directory:
            folder = path
        elif name.startswith("."):
            return
        relative = folder.removeprefix(self._inside)
        if folder == self._root:
            self._hint("")
        elif relative == folder:
            self._hint(None)  # not below the root: who knows what became of it
        elif not any(part.startswith(".") for part in relative.split("/")):
            self._hint(printable(relative))


def _limit_words(error: OSError) -> str:
    if error.errno == 28:
        return "the kernel's limit of watched folders is reached; raise fs.inotify.max_user_watches"
    if error.errno == 24:
        return "the limit of inotify instances, or of open files, is reached; raise fs.inotify.max_user_instances"
    return f"watching failed: {error.strerror or error}"
