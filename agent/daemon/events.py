"""Everything that can lie in the inbox. Events are immutable, and whoever puts one in has finished with it."""

from msgspec import Struct

from agent.jobs.intake.reading import Outcome
from agent.jobs.intake.survey import Survey
from agent.rules.storage import Patrol
from agent.rules.timetable import Due, Missed


class Hint(Struct, frozen=True):
    """Something may have changed in a folder of a location, or anywhere in it (None)."""

    location: str
    folder: str | None


class Surveyed(Struct, frozen=True):
    """A location was compared with the catalogue."""

    survey: Survey


class ReadBack(Struct, frozen=True):
    """Files of one location were read."""

    location: str
    outcomes: list[Outcome]


class Patrolled(Struct, frozen=True):
    """A location's storage was looked at."""

    patrol: Patrol


class Failed(Struct, frozen=True):
    """A worker's task ended in an error nobody expected; `task` says which."""

    location: str
    task: str
    why: str


class Called(Struct, frozen=True):
    """A slot of a job is due."""

    due: Due


class Overslept(Struct, frozen=True):
    """Slots of a job will not be run."""

    missed: Missed


class Tick(Struct, frozen=True):
    """A sampling is due: scan, sample, remind or trim."""

    what: str


class Signalled(Struct, frozen=True):
    """The process was asked to stop or to reload, or a child ended."""

    what: str
