"""The folders that a backup is written to: a location that fails drops out, and the others go on."""

import threading
from collections.abc import Callable, Mapping

from agent.errors import AgentError, CannotWrite


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
