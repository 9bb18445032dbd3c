"""One stream into every location at once: hashed, compressed once, hashed again, written everywhere."""

import contextlib
import hashlib
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from agent.adapters.shelf import write
from agent.adapters.shelf.write import Permissions
from agent.errors import AgentError, CannotWrite


class Written(Struct, frozen=True):
    """What went in (`raw_*`) and what lies on the disks now; sizes in bytes."""

    raw_size: int
    raw_sha256: str
    size: int
    sha256: str


class Places:
    """The folders a backup is being written to, by location; a location that fails drops out, with its reason.

    Several collections are written at the same time, so the reasons are kept behind a lock.
    """

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._folders = dict(folders)
        self._failed: dict[str, AgentError] = {}
        self._lock = threading.Lock()

    @property
    def failed(self) -> dict[str, AgentError]:
        """Why each location that dropped out did."""
        with self._lock:
            return dict(self._failed)

    def left(self) -> dict[str, str]:
        """The folders that still take part, by location.

        Raises:
            CannotWrite: none is left.
        """
        with self._lock:
            left = {name: path for name, path in self._folders.items() if name not in self._failed}
            if not left:
                reasons = "; ".join(f"{name}: {error.message}" for name, error in self._failed.items())
                hints = next((error.hint for error in self._failed.values() if error.hint), "")
                raise CannotWrite(f"no location takes the backup: {reasons}", hints)
            return left

    def fail(self, location: str, error: AgentError) -> None:
        """Let a location drop out."""
        with self._lock:
            self._failed.setdefault(location, error)

    def each(self, action: Callable[[str], None]) -> None:
        """Do something in the folder of every location that is left; one that fails drops out."""
        for location, folder in self.left().items():
            try:
                action(folder)
            except AgentError as error:
                self.fail(location, error)
        self.left()


def pour(
    chunks: Iterator[bytes],
    places: Places,
    name: str,
    level: int,
    permissions: Permissions,
) -> Written:
    """Compress a stream with gzip at `level` into the file `name` of every location, whole or not at all.

    Raises:
        CannotWrite: no location is left to write to.
    """
    raw, packed = hashlib.sha256(), hashlib.sha256()
    press = zlib.compressobj(level, zlib.DEFLATED, 31)
    raw_size = size = 0
    with contextlib.ExitStack() as stack:
        files = _open(places, name, permissions, stack)
        for chunk in chunks:
            raw.update(chunk)
            raw_size += len(chunk)
            data = press.compress(chunk)
            if data:
                packed.update(data)
                size += len(data)
                _write(files, data, places)
        data = press.flush()
        packed.update(data)
        size += len(data)
        _write(files, data, places)
        _close(files, places)
    return Written(raw_size, raw.hexdigest(), size, packed.hexdigest())


class _File:
    """One open file of one location."""

    def __init__(self, path: str, fd: int, closing: contextlib.AbstractContextManager[int]) -> None:
        self.path = path
        self.fd = fd
        self.closing = closing


def _open(places: Places, name: str, permissions: Permissions, stack: contextlib.ExitStack) -> dict[str, _File]:
    files = {}
    for location, folder in places.left().items():
        path = os.path.join(folder, name)
        closing = write.new_file(path, permissions)
        try:
            files[location] = _File(path, closing.__enter__(), closing)
        except AgentError as error:
            places.fail(location, error)
    stack.callback(_abandon, files)
    places.left()
    return files


def _write(files: dict[str, _File], data: bytes, places: Places) -> None:
    for location, file in list(files.items()):
        try:
            with write.explained(file.path):
                write.write_all(file.fd, data)
        except AgentError as error:
            places.fail(location, error)
            del files[location]
            _end(file, error)
    places.left()


def _close(files: dict[str, _File], places: Places) -> None:
    for location, file in list(files.items()):
        del files[location]
        try:
            file.closing.__exit__(None, None, None)
        except AgentError as error:
            places.fail(location, error)
    places.left()


def _abandon(files: dict[str, _File]) -> None:
    for file in files.values():
        _end(file, CannotWrite("the backup was given up"))


def _end(file: _File, error: AgentError) -> None:
    with contextlib.suppress(AgentError):
        file.closing.__exit__(type(error), error, None)
