"""The clock that starts the jobs: cron slots and samplings, hosted by the package schedule.

Schedule keeps the list of jobs and passes over it. When a job is due is decided by `agent.rules.timetable`
and by a monotonic clock instead, because schedule counts in naive local time: it stands still for an hour
when the clocks go back, knows no months, and lets one job that raises stop all others.
"""

import abc
import logging
from collections.abc import Callable
from datetime import tzinfo
from typing import ParamSpec

import schedule

from agent.rules.timetable import Appointment, Due, Missed, plan

LONGEST_IDLE = 30.0  # a wait does not notice that the clock was set, or that the machine slept

log = logging.getLogger(__name__)
P = ParamSpec("P")


class TimedJob(schedule.Job, abc.ABC):
    """A job that knows itself when it is due; schedule only keeps and asks it."""

    def __init__(self, scheduler: schedule.Scheduler, name: str) -> None:
        super().__init__(1, scheduler)
        self.name = name

    @abc.abstractmethod
    def due_in(self) -> float:
        """Seconds until the job wants to run; 0 when it is due."""

    @property
    def should_run(self) -> bool:
        """Whether the job is due."""
        return self.due_in() <= 0

    def __lt__(self, other: "TimedJob") -> bool:
        return self.due_in() < other.due_in()


class CronJob(TimedJob):
    """A job of a cron line; its memory is `last`, the newest slot that was started or reported missed.

    It looks at its plan when the next start is reached, and when the clock has gone back since it last looked.
    """

    def __init__(
        self,
        scheduler: schedule.Scheduler,
        appointment: Appointment,
        now: Callable[[], float],
        last: float,
        fire: Callable[[Due], None],
        missed: Callable[[Missed], None],
        persist: Callable[[str, float], None],
    ) -> None:
        super().__init__(scheduler, appointment.job)
        self.appointment, self.now, self.last = appointment, now, last
        self.fire, self.missed, self.persist = fire, missed, persist
        self.do(fire)

    def due_in(self) -> float:
        """Seconds until the plan has to be looked at."""
        now = self.now()
        return 0.0 if now < self.looked else max(0.0, self.wake - now)

    def run(self) -> None:
        """Hand over what is due now, if anything; whatever a callback raises, no slot comes twice."""
        step = plan(self.appointment, self.last, self.now())
        news, self.last = step.settled != self.last, step.settled
        self._schedule_next_run()
        # Told before it is settled, settled before it is started: a crash repeats a message, never a job.
        if step.missed:
            _hand_over(self.name, self.missed, step.missed)
        if news:
            _hand_over(self.name, self.persist, self.name, step.settled)
        if step.due:
            _hand_over(self.name, self.fire, step.due)

    def _schedule_next_run(self) -> None:
        self.looked = self.now()
        step = plan(self.appointment, self.last, self.looked)
        self.wake = self.looked if step.due or step.missed else step.wake


class EveryJob(TimedJob):
    """A sampling, on the beat of a clock that nobody sets; beats that were overslept are dropped."""

    def __init__(
        self,
        scheduler: schedule.Scheduler,
        name: str,
        seconds: float,
        monotonic: Callable[[], float],
        fire: Callable[[], None],
    ) -> None:
        super().__init__(scheduler, name)
        self.step, self.monotonic, self.fire = seconds, monotonic, fire
        self.beat = monotonic()
        self.do(fire)

    def due_in(self) -> float:
        """Seconds until the next beat."""
        return max(0.0, self.beat - self.monotonic())

    def run(self) -> None:
        """Hand over one beat."""
        self._schedule_next_run()
        _hand_over(self.name, self.fire)

    def _schedule_next_run(self) -> None:
        behind = (self.monotonic() - self.beat) // self.step
        self.beat += self.step * (behind + 1)


class Timetable:
    """All timed jobs of the agent, run by whoever calls `run_pending` after waiting `idle_seconds`.

    Callbacks run inside `run_pending` and should only hand over, since one that takes long makes the others
    late. What they raise is logged and goes no further.

    Args:
        zone: the time zone of the cron lines.
        now: the wall clock, epoch seconds; it may jump.
        monotonic: seconds from a clock that never goes back, for samplings.
        catch_up: seconds within which a missed slot is still run.
        jitter: seconds over which the starts of many hosts are spread; slots keep their time.
        host: what makes this host's jitter its own.
    """

    def __init__(
        self,
        zone: tzinfo,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        catch_up: float,
        jitter: float = 0.0,
        host: str = "",
    ) -> None:
        self._zone, self._now, self._monotonic = zone, now, monotonic
        self._catch_up, self._jitter, self._host = catch_up, jitter, host
        self._scheduler = schedule.Scheduler()
        self._jobs: dict[str, TimedJob] = {}

    def add_cron(
        self,
        name: str,
        cron: str,
        last: float | None,
        fire: Callable[[Due], None],
        missed: Callable[[Missed], None],
        persist: Callable[[str, float], None],
    ) -> None:
        """Add a job of a cron line.

        Args:
            name: the job; a name can be given once.
            cron: five fields, six with seconds in front, or an alias such as @daily.
            last: what `persist` noted last, from an earlier life; None lets slots count from now on.
            fire: is given each slot when it is due, once.
            missed: is told of slots that will not be run.
            persist: notes the newest slot that was started or reported, before it is started. If it
                raises the job is started all the same: a backup too many is better than none.

        Raises:
            BadConfig: the cron line cannot be used.
            ValueError: there is a job of this name.
        """
        self._refuse_twin(name)
        appointment = Appointment(name, cron, self._zone, self._catch_up, self._host, self._jitter)
        start = self._now() if last is None else last
        self._jobs[name] = CronJob(self._scheduler, appointment, self._now, start, fire, missed, persist)
        if last is None:
            # Else a slot missed before the very first run would never be noticed.
            _hand_over(name, persist, name, start)

    def add_every(self, name: str, seconds: float, fire: Callable[[], None]) -> None:
        """Call `fire` every so many seconds, for the first time after one such span.

        Raises:
            ValueError: there is a job of this name.
        """
        self._refuse_twin(name)
        self._jobs[name] = EveryJob(self._scheduler, name, seconds, self._monotonic, fire)

    def run_pending(self) -> None:
        """Hand over everything that is due."""
        self._scheduler.run_pending()

    def idle_seconds(self) -> float:
        """Seconds to wait before the next `run_pending`: from 0 to `LONGEST_IDLE`."""
        return min([LONGEST_IDLE, *(job.due_in() for job in self._jobs.values())])

    def next_runs(self) -> dict[str, float]:
        """When each job is to start next, jitter included; epoch seconds."""
        now = self._now()
        return {name: now + job.due_in() for name, job in self._jobs.items()}

    def remove_all(self) -> None:
        """Forget all jobs, to add those of a new configuration."""
        self._scheduler.clear()
        self._jobs.clear()

    def _refuse_twin(self, name: str) -> None:
        if name in self._jobs:
            raise ValueError(f"There are two timed jobs called {name!r}.")


def _hand_over(job: str, callback: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    try:
        callback(*args, **kwargs)
    except Exception:
        log.exception("The timed job %s could not be handed over.", job)
