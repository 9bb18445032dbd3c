"""One location as the daemon keeps it: its watch, its two workers, and when it is to be looked at next."""

from collections.abc import Callable

from agent.adapters import host
from agent.adapters.watch import Watch
from agent.daemon.events import Hint
from agent.daemon.worker import Worker
from agent.jobs.intake.survey import Place, Survey
from agent.rules.storage import Root

_COALESCE = 0.2
_BREATH = 4.0


class Location:
    """A location's moving parts. Times are those of a clock that never goes back."""

    def __init__(self, place: Place, answer: Callable[[object], None]) -> None:
        self.place = place
        self.scout = Worker(place.name, "scout", answer)
        self.reader = Worker(place.name, "reader", answer)
        self.watch: Watch | None = None
        if host.has_inotify(place.path):
            self.watch = Watch(place.path, lambda folder: answer(Hint(place.name, folder)))
        self.surveyed_at: float | None = None
        self.patrolled_at: float | None = None
        self.root = Root("has not been looked at yet")
        self._dirty: set[str] = {""}
        self._next = 0.0

    def hint(self, folder: str | None, now: float) -> None:
        """Note that a folder, or all of them, should be looked at soon: events come in bursts."""
        if not self._dirty:
            self._next = max(self._next, now + _COALESCE)
        self._dirty.add(folder or "")

    def due(self) -> float | None:
        """When the next survey is to be made; None when there is nothing to look at, or one is being made."""
        return self._next if self._dirty and not self.scout.waiting else None

    def at_rest(self) -> bool:
        """Whether there is nothing left to look at."""
        return not self._dirty and not self.scout.waiting

    def take(self) -> set[str] | None:
        """The folders to look at now; None for all of them."""
        dirty, self._dirty = self._dirty, set()
        return None if "" in dirty else dirty

    def surveyed(self, survey: Survey, now: float) -> bool:
        """Take note of a survey; True if the folder behind the path is another one than before."""
        if survey.whole:
            self.surveyed_at = now
        # A large location is not looked at without a pause, however fast its events come.
        self._next = max(self._next, now + _BREATH * survey.seconds)
        before, self.root = self.root, survey.root
        same = (before.device, before.inode, before.mount_id, before.trouble) == (
            survey.root.device,
            survey.root.inode,
            survey.root.mount_id,
            survey.root.trouble,
        )
        return not same

    def watch_anew(self) -> str:
        """Begin to watch the folder that the path means now; returns why that failed, or an empty text."""
        if self.watch is None:
            return ""
        self.watch.start()
        return self.watch.trouble

    def blind(self) -> bool:
        """Whether events should come from here and cannot."""
        return self.watch is not None and not self.root.trouble and not self.watch.alive()

    def stop(self, patience: float) -> None:
        """Let the tasks in hand end."""
        if self.watch is not None:
            self.watch.stop()
        self.scout.stop(patience)
        self.reader.stop(patience)
