"""The daemon's moving parts, each by itself."""

import queue
import signal
import sys
import threading
from pathlib import Path

import pytest
from program import Program, until

from agent.adapters.ledger.catalogue import Key
from agent.daemon.arrivals import Arrivals
from agent.daemon.children import Children
from agent.daemon.events import Failed
from agent.daemon.worker import Worker
from agent.jobs.intake.reading import Outcome
from agent.jobs.intake.survey import Place, Survey
from agent.rules.archive import Signature
from agent.rules.storage import Root

HERE = "primary"


def key(name: str, folder: str = "daily") -> Key:
    return Key(HERE, folder, name)


def seen(number: int = 1) -> Signature:
    return Signature(number, 4096, number, number)


def survey(*changed: tuple[Key, Signature], gone: tuple[Key, ...] = ()) -> Survey:
    return Survey(Place(HERE, "/nowhere"), Root(), whole=False, changed=list(changed), gone=list(gone))


@pytest.fixture
def arrivals() -> Arrivals:
    return Arrivals({HERE: Place(HERE, "/nowhere")}, 2.0, lambda _key: (None, ""))


def names(arrivals: Arrivals, now: float) -> list[str]:
    return [work.key.name for works in arrivals.ready(now, set()).values() for work in works]


def test_a_file_is_handed_out_once_when_it_has_come_to_rest(arrivals: Arrivals) -> None:
    arrivals.surveyed(survey((key("a.snapshot"), seen())), 0.0)
    assert names(arrivals, 1.9) == []
    assert names(arrivals, 2.0) == ["a.snapshot"]
    assert names(arrivals, 9.0) == []
    arrivals.surveyed(survey((key("a.snapshot"), seen())), 9.0)
    assert len(arrivals) == 1, "it is being read as it is"


def test_an_archive_waits_for_a_checksum_file_that_is_still_being_written(arrivals: Arrivals) -> None:
    arrivals.surveyed(survey((key("a.snapshot"), seen())), 0.0)
    arrivals.surveyed(survey((key("SHA256SUMS"), seen(2)), (key("b.snapshot.sha256"), seen(3))), 1.0)
    assert names(arrivals, 2.5) == []
    assert names(arrivals, 3.0) == ["SHA256SUMS", "b.snapshot.sha256", "a.snapshot"]


def test_another_archives_checksum_file_holds_nothing_up(arrivals: Arrivals) -> None:
    arrivals.surveyed(survey((key("a.snapshot"), seen())), 0.0)
    arrivals.surveyed(survey((key("b.snapshot.sha256"), seen(3))), 1.0)
    assert names(arrivals, 2.5) == ["a.snapshot"]


def test_a_file_that_moved_under_the_reader_settles_anew(arrivals: Arrivals) -> None:
    arrivals.surveyed(survey((key("a.snapshot"), seen(1))), 0.0)
    assert names(arrivals, 2.0) == ["a.snapshot"]
    assert arrivals.answered([Outcome(key("a.snapshot"), seen(2), moved=True)], 3.0) == []
    assert names(arrivals, 4.9) == []
    assert names(arrivals, 5.0) == ["a.snapshot"]


def test_a_file_that_is_only_held_open_settles_anew_too(arrivals: Arrivals) -> None:
    arrivals.surveyed(survey((key("a.snapshot"), seen(1))), 0.0)
    names(arrivals, 2.0)
    arrivals.answered([Outcome(key("a.snapshot"), seen(1), moved=True)], 3.0)
    assert names(arrivals, 4.9) == []
    assert names(arrivals, 5.0) == ["a.snapshot"]


def test_what_a_failed_worker_had_in_hand_is_not_lost(arrivals: Arrivals) -> None:
    arrivals.surveyed(survey((key("a.snapshot"), seen(1))), 0.0)
    names(arrivals, 2.0)
    arrivals.give_back(HERE, 3.0)
    assert names(arrivals, 5.0) == ["a.snapshot"]


def test_a_file_that_is_gone_before_it_settled_is_forgotten(arrivals: Arrivals) -> None:
    arrivals.surveyed(survey((key("a.snapshot"), seen(1))), 0.0)
    arrivals.surveyed(survey(gone=(key("a.snapshot"),)), 1.0)
    assert names(arrivals, 9.0) == []
    assert len(arrivals) == 0


def test_what_the_catalogue_knows_as_it_is_is_not_read_again() -> None:
    arrivals = Arrivals({HERE: Place(HERE, "/nowhere")}, 2.0, lambda _key: (seen(1), ""))
    arrivals.surveyed(survey((key("a.snapshot"), seen(1)), (key("b.snapshot"), seen(2))), 0.0)
    assert names(arrivals, 5.0) == ["b.snapshot"]


def test_a_busy_location_keeps_its_files_until_its_reader_is_free(arrivals: Arrivals) -> None:
    arrivals.surveyed(survey((key("a.snapshot"), seen(1))), 0.0)
    assert arrivals.ready(5.0, {HERE}) == {}
    assert names(arrivals, 5.0) == ["a.snapshot"]


def test_a_file_that_never_comes_to_rest_is_stalled_after_an_hour(arrivals: Arrivals) -> None:
    for minute in range(61):
        arrivals.surveyed(survey((key("a.snapshot"), seen(minute))), minute * 60.0)
    assert arrivals.stalled(3599.0) == []
    assert arrivals.stalled(3600.0) == [key("a.snapshot")]


def test_a_worker_answers_in_order_and_also_when_it_fails() -> None:
    answers: queue.SimpleQueue[object] = queue.SimpleQueue()
    worker = Worker(HERE, "scout", answers.put)
    worker.give("one", lambda: 1)
    worker.give("two", lambda: 1 // 0)
    worker.give("three", lambda: 3)
    got = [answers.get(timeout=5) for _ in range(3)]
    worker.stop(5)
    assert got[0] == 1
    assert isinstance(got[1], Failed)
    assert "ZeroDivisionError" in got[1].why
    assert got[2] == 3
    assert not worker.alive()


def test_a_worker_that_hangs_is_seen_by_its_silence() -> None:
    release = threading.Event()
    worker = Worker(HERE, "scout", lambda _: None)
    worker.give("hang", release.wait)
    until(lambda: worker.beat is not None)
    assert worker.beat is not None
    assert worker.silent(worker.beat + 75) == 75
    release.set()
    worker.stop(5)
    assert worker.silent(1e9) == 0


class Shell(Children):
    """Children that are shell scripts instead of snapward's own commands."""

    def __init__(self) -> None:
        super().__init__("unused")

    def _spawn(self, argv: list[str]):
        import subprocess

        return subprocess.Popen([sys.executable, "-c", *argv])


def ended(children: Children, now: float = 0.0) -> list[tuple[str, int]]:
    return [(one.job, one.exit_code) for one in until(lambda: children.reap(now))]


def test_jobs_of_one_lane_run_one_after_the_other() -> None:
    children = Shell()
    assert children.request("backup", "backup:daily", ["raise SystemExit(3)"], 60)
    assert children.request("backup", "backup:weekly", ["pass"], 60)
    assert not children.request("backup", "backup:weekly", ["pass"], 60), "queued already"
    children.start_waiting(0.0)
    assert children.names() == ["backup:daily"]
    children.start_waiting(0.0)
    assert children.names() == ["backup:daily"]
    assert ended(children) == [("backup:daily", 3)]
    children.start_waiting(0.0)
    assert ended(children) == [("backup:weekly", 0)]


def test_jobs_of_different_lanes_run_side_by_side() -> None:
    children = Shell()
    children.request("backup", "backup:daily", ["import signal; signal.pause()"], 60)
    children.request("deliver", "deliver", ["import signal; signal.pause()"], 60)
    children.start_waiting(0.0)
    assert len(children.names()) == 2
    children.stop(10)
    assert children.names() == []


def test_a_child_past_its_deadline_is_asked_and_then_ended(tmp_path: Path) -> None:
    children = Shell()
    up = tmp_path / "up"
    stubborn = (
        "import pathlib, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(up)!r}).touch()\nwhile True: signal.pause()"
    )
    children.request("backup", "backup:daily", [stubborn], 60)
    children.start_waiting(0.0)
    until(up.exists)
    assert children.next_at() == 60
    assert children.reap(61.0) == []
    assert children.next_at() == 91
    assert ended(children, 92.0) == [("backup:daily", -signal.SIGKILL)]
    assert children.names() == []


def test_a_slot_whose_lock_is_held_is_tried_again(program: Program) -> None:
    from agent.adapters import edge, locks

    edge.build_sample(str(program.home / "qdrant"), "articles", 20, 4)
    program.write(tiers='{daily: {cron: "* * * * * *", keep: 30d}}')
    with locks.held(str(program.state), "backup"), program.agent():
        until(lambda: "tried again in 60 s" in program.lines())
    assert not program.query("SELECT 1 FROM run WHERE job = 'backup' AND outcome = 'missed'")


def test_the_log_of_a_reload_says_so(program: Program, tmp_path: Path) -> None:
    with program.agent() as process:
        process.send_signal(signal.SIGHUP)
        until(lambda: "the configuration was read anew" in program.lines())
        assert process.poll() is None
