"""When the daemon lets a watcher outside be told, and when it has no right to."""

import logging
import threading
from collections.abc import Iterator

import pytest
from program import Program, until

from agent.adapters.ledger import incidents, outbox, runs, writing
from agent.daemon import calls, pinging, slots
from agent.daemon.children import Children, Ended
from agent.daemon.desk import Clocks, Desk
from agent.daemon.events import Called, Overslept, Patrolled, Surveyed
from agent.daemon.locations import Location
from agent.daemon.run import open_desk
from agent.daemon.work import patrolled, surveyed
from agent.jobs.intake.survey import Survey
from agent.rules.finding import Finding, Level
from agent.rules.storage import Patrol, Root
from agent.rules.timetable import Due, Missed
from agent.settings import load

NOW = 1_790_000_000.0
SECRET = "4711-0815"
PINGS = (
    f"pings: {{agent: 'https://hc.example.org/{SECRET}', every: 60s,"
    f" jobs: {{backup:daily: 'https://hc.example.org/{SECRET}', report: 'https://hc.example.org/{SECRET}'}}}}\n"
)


class Noted(Children):
    """Children that are asked for and never started; those in `running` are under way."""

    def __init__(self, config: str) -> None:
        super().__init__(config)
        self.asked: list[tuple[str, list[str]]] = []
        self.running: list[str] = []

    def request(self, lane: str, job: str, argv: list[str], deadline: float) -> bool:
        assert deadline > 0
        if job in self.running:
            return False
        self.asked.append((job, argv))
        return True

    def busy(self, job: str) -> bool:
        return job in self.running

    def names(self) -> list[str]:
        return self.running


class Agent:
    """A desk with the hands of its clocks; no thread of it decides anything unless the test does."""

    def __init__(self, program: Program, pings: str) -> None:
        program.write(more=pings)
        self.wall, self.passed = NOW, 1000.0
        self.children = Noted(str(program.config))
        clocks = Clocks(lambda: self.wall, lambda: self.passed, lambda: self.passed)
        self.desk: Desk = open_desk(load(str(program.config)), self.children, clocks)
        for place in self.desk.places.values():
            self.desk.locations[place.name] = Location(place, self.desk.inbox.put)

    def wait(self, seconds: float) -> None:
        self.wall += seconds
        self.passed += seconds

    def alive(self, *, survey: bool = True, patrol: bool = True, ledger: bool = True) -> None:
        """Every part shows that it works, but for those that are named."""
        for location in self.desk.locations.values():
            if survey:
                surveyed(self.desk, Surveyed(Survey(location.place, Root(), whole=True)))
            if patrol:
                patrolled(self.desk, Patrolled(Patrol(location.place.name, location.place.path, Root())))
        if ledger:
            calls.pulse(self.desk)

    def asked(self) -> list[list[str]]:
        """What one look round asks for."""
        self.children.asked.clear()
        pinging.look_round(self.desk)
        return [argv for _, argv in self.children.asked]

    def close(self) -> None:
        for location in self.desk.locations.values():
            location.stop(5)
        self.desk.db.close()


@pytest.fixture
def agent(program: Program) -> Iterator[Agent]:
    made = Agent(program, PINGS)
    yield made
    made.close()


BEAT = [["ping", "--beat", "10 parts work"]]
TELL = [["ping"]]


def test_a_sign_of_life_is_given_as_soon_as_every_part_has_shown_one_and_then_every_minute(agent: Agent) -> None:
    assert agent.asked() == []
    agent.alive()
    agent.wait(2)
    assert agent.asked() == BEAT
    agent.wait(59)
    assert agent.asked() == []
    assert pinging.next_at(agent.desk) == agent.passed + 1
    agent.wait(1)
    assert agent.asked() == BEAT


def _warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name == pinging.__name__ and one.levelno > logging.INFO]


@pytest.mark.parametrize("part", ["survey", "patrol", "ledger"])
def test_a_part_that_never_showed_itself_or_grew_silent_keeps_the_agent_silent(
    agent: Agent, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    agent.alive(**{part: False})
    agent.wait(2)
    assert agent.asked() == []
    assert _warned(caplog) == [], "it has only just begun"
    agent.alive()
    agent.wait(2)
    assert agent.asked() == BEAT
    for _ in range(40):
        agent.wait(60)
        agent.alive(**{part: False})
        last = agent.asked()
    assert last == []
    (told,) = _warned(caplog)
    assert part in told
    agent.alive()
    agent.wait(2)
    assert agent.asked() == BEAT


def test_a_thread_that_hangs_or_is_gone_keeps_the_agent_silent(agent: Agent) -> None:
    release = threading.Event()
    scout = agent.desk.locations["primary"].scout
    scout.give("survey", release.wait)
    until(lambda: scout.beat is not None)
    agent.alive()
    scout.beat = agent.passed - 118
    assert agent.asked() == BEAT
    agent.wait(60)
    agent.alive()
    assert agent.asked() == []
    release.set()
    until(lambda: scout.beat is None)
    agent.wait(2)
    assert agent.asked() == BEAT
    agent.desk.locations["secondary"].reader.stop(5)
    agent.wait(60)
    agent.alive()
    assert agent.asked() == []


def test_messages_that_nobody_delivers_keep_the_agent_silent(agent: Agent) -> None:
    with writing(agent.desk.db):
        outbox.enqueue(agent.desk.db, "ops", "test", "", NOW)
    agent.alive()
    assert agent.asked() == BEAT
    agent.wait(1300)
    agent.alive()
    assert agent.asked() == []


def test_a_run_is_told_when_it_begins_and_again_when_it_is_over(agent: Agent) -> None:
    agent.desk.pinging.agent = False
    assert agent.asked() == []
    assert agent.asked() == [], "the ledger is the same as before"
    with writing(agent.desk.db):
        run = runs.begin(agent.desk.db, "backup", "daily", NOW, NOW)
    assert agent.asked() == TELL
    assert agent.asked() == [], "nothing has changed since"
    with writing(agent.desk.db):
        runs.end(agent.desk.db, run, "failed", NOW)
    agent.children.running.append("ping")
    assert agent.asked() == [], "one is under way"
    agent.children.running.clear()
    assert agent.asked() == TELL


def test_the_daemon_looks_often_until_a_job_has_begun_and_then_no_more(agent: Agent) -> None:
    agent.desk.pinging.agent = False
    agent.asked()
    assert pinging.next_at(agent.desk) is None
    agent.children.running.append("backup:daily")
    assert pinging.next_at(agent.desk) == agent.passed + 0.5
    with writing(agent.desk.db):
        runs.begin(agent.desk.db, "backup", "daily", NOW, NOW)
    agent.asked()
    assert pinging.next_at(agent.desk) is None
    agent.children.running.append("drill")
    assert pinging.next_at(agent.desk) is None, "nobody waits for drills"


def test_a_child_that_came_to_grief_is_asked_for_again_in_a_while(agent: Agent) -> None:
    agent.desk.pinging.agent = False
    with writing(agent.desk.db):
        runs.begin(agent.desk.db, "report", "2026-W38", NOW, NOW)
    assert agent.asked() == TELL
    slots.ended(agent.desk, Ended("ping", 1, 75))
    assert agent.asked() == []
    agent.wait(5)
    assert agent.asked() == TELL


def test_what_was_never_told_is_told_after_a_restart(program: Program, agent: Agent) -> None:
    with writing(agent.desk.db):
        runs.end(agent.desk.db, runs.begin(agent.desk.db, "report", "2026-W38", NOW, NOW), "ok", NOW)
    second = Agent(program, PINGS)
    second.desk.pinging.agent = False
    assert second.asked() == TELL
    second.close()


def test_nothing_is_asked_for_where_nobody_watches(program: Program) -> None:
    quiet = Agent(program, "")
    quiet.alive()
    with writing(quiet.desk.db):
        runs.begin(quiet.desk.db, "report", "2026-W38", NOW, NOW)
    quiet.children.running.append("report")
    assert quiet.asked() == []
    assert pinging.next_at(quiet.desk) is None
    quiet.close()


def test_the_address_of_a_check_is_in_no_command(agent: Agent) -> None:
    agent.alive()
    with writing(agent.desk.db):
        runs.begin(agent.desk.db, "report", "2026-W38", NOW, NOW)
    said = agent.asked()
    assert len(said) == 2
    assert SECRET not in str(said)


def test_an_incident_about_a_watcher_that_is_no_longer_configured_is_over(agent: Agent) -> None:
    found = [Finding("ping_failing", one, Level.WARNING, "down") for one in ("agent", "report", "backup:weekly")]
    with writing(agent.desk.db):
        incidents.observe(agent.desk.db, found, NOW, agent.desk.telling.policy, {})
    calls.end_strangers(agent.desk)
    assert {one.subject for one in incidents.active(agent.desk.db)} == {"agent", "report"}


# Slots that were not run.


@pytest.mark.parametrize("job", ["drill", "cleanup", "reread", "report"])
def test_a_slot_that_was_skipped_or_never_began_is_looked_into_at_once(agent: Agent, job: str) -> None:
    agent.children.running.append(job)
    slots.called(agent.desk, Called(Due(job, NOW, 0.0, caught_up=False)))
    assert agent.children.asked == [("upkeep", ["upkeep"])]
    agent.children.running.clear()
    agent.children.asked.clear()
    slots.called(agent.desk, Called(Due(job, NOW + 60, 0.0, caught_up=False)))
    slots.ended(agent.desk, Ended(job, 1, 65))
    assert [name for name, _ in agent.children.asked] == [job, "upkeep"]
    assert [one.outcome for one in runs.between(agent.desk.db, 0, NOW + 99)] == ["skipped", "missed"]


def test_a_slot_that_was_overslept_waits_for_the_run_that_may_make_up_for_it(agent: Agent) -> None:
    slots.overslept(agent.desk, Overslept(Missed("drill", 1, NOW - 90, NOW - 90, "the agent was not awake")))
    assert agent.children.asked == []
    assert [one.outcome for one in runs.between(agent.desk.db, 0, NOW + 1)] == ["missed"]


def test_the_daemon_notes_from_when_on_its_schedule_counts(agent: Agent, program: Program) -> None:
    noted = {part: (one.at, one.words) for part, one in runs.pulses(agent.desk.db).items() if part.startswith("since")}
    assert noted["since:backup:daily"] == (NOW, "0 2 * * *")
    assert {"since:report", "since:drill", "since:cleanup", "since:reread"} <= noted.keys()
    later = Agent(program, PINGS + "cleanup: {cron: '0 3 * * *'}\n")
    assert runs.pulses(later.desk.db)["since:cleanup"].words == "0 3 * * *"
    assert runs.pulses(later.desk.db)["since:backup:daily"].at == NOW
    later.close()
