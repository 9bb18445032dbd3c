import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.adapters import command
from agent.adapters.command import Finished, run
from agent.errors import BadConfig, NoRights

FOREVER = "sleep 600"  # a program that hangs


def script(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "backup.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return [str(path)]


def sh(tmp_path: Path, text: str, deadline: float = 20.0, *, stopping: Callable[[], bool] = lambda: False) -> Finished:
    return run([*script(tmp_path, text), str(tmp_path)], {}, deadline, stopping)


def ended(path: Path) -> bool:
    """Whether the process whose number is in a file ends soon; if not, it is ended now."""
    number = int(path.read_text())
    try:
        handle = os.pidfd_open(number)
    except ProcessLookupError:
        return True
    over, _, _ = select.select([handle], [], [], 5)
    os.close(handle)
    if not over:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return bool(over)


@pytest.mark.parametrize("code", [0, 1, 2, 77, 255])
def test_a_program_ends_with_its_exit_code(tmp_path: Path, code: int) -> None:
    done = sh(tmp_path, f"exit {code}")
    assert (done.exit_code, done.output, done.timed_out, done.stopped) == (code, "", False, False)
    assert 0 < done.seconds < 10


def test_a_program_that_a_signal_ends_has_the_signal_as_negative_code(tmp_path: Path) -> None:
    assert sh(tmp_path, "kill -SEGV $$").exit_code == -signal.SIGSEGV


def test_both_outputs_come_in_their_order(tmp_path: Path) -> None:
    assert sh(tmp_path, "echo one; echo two >&2; echo three").output == "one\ntwo\nthree\n"


def test_of_a_long_output_the_end_is_kept(tmp_path: Path) -> None:
    done = sh(tmp_path, "seq 1 200000")
    assert len(done.output) == 16 << 10
    assert done.output.endswith("199999\n200000\n")


def test_output_that_is_no_text_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    assert sh(tmp_path, r"printf 'caf\351 \303\244'").output == "caf\N{REPLACEMENT CHARACTER} ä"


def test_a_program_gets_our_environment_and_what_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "kept")
    monkeypatch.setenv("BOTH", "ours")
    argv = script(tmp_path, 'echo "$OURS $BOTH $MORE $1"')
    done = run([*argv, "two words"], {"BOTH": "theirs", "MORE": "added"}, 20)
    assert done.output == "kept theirs added two words\n"


def test_a_program_that_asks_gets_no_answer(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"we\n")
    ours = os.dup(0)
    os.dup2(reader, 0)
    try:
        assert sh(tmp_path, "read answer || echo nobody").output == "nobody\n"
    finally:
        os.dup2(ours, 0)
        for one in (reader, writer, ours):
            os.close(one)


def test_a_program_gets_none_of_our_descriptors(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as ours:
        os.set_inheritable(ours.fileno(), True)
        done = sh(tmp_path, f"[ -e /proc/self/fd/{ours.fileno()} ] && echo inherited")
    assert done.output == ""


def test_a_program_that_is_missing_or_cannot_be_run_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="there is no program /no/such/program") as caught:
        run(["/no/such/program"], {}, 1)
    assert "engine.argv" in caught.value.hint
    path = tmp_path / "plain"
    path.write_text("#!/bin/sh\n")
    with pytest.raises(NoRights, match="plain cannot be run: Permission denied"):
        run([str(path)], {}, 1)
    path.write_bytes(b"\x7fELF nonsense")
    path.chmod(0o755)
    with pytest.raises(NoRights, match="plain cannot be run: Exec format error"):
        run([str(path)], {}, 1)


# Ends.


def test_at_its_deadline_a_program_is_ended(tmp_path: Path) -> None:
    done = sh(tmp_path, f"echo began; {FOREVER}", 0.1)
    assert (done.exit_code, done.output) == (-signal.SIGTERM, "began\n")
    assert (done.timed_out, done.stopped) == (True, False)
    assert 0.1 <= done.seconds < 5


def test_a_program_may_tidy_up_when_it_is_ended(tmp_path: Path) -> None:
    done = sh(tmp_path, f"trap 'echo tidied; exit 3' TERM; {FOREVER} & wait", 0.1)
    assert (done.exit_code, done.output, done.timed_out) == (3, "tidied\n", True)


def test_a_program_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_GRACE", 0.2)
    done = sh(tmp_path, f"trap '' TERM; echo began; {FOREVER}", 0.1)
    assert (done.exit_code, done.timed_out, done.output) == (-signal.SIGKILL, True, "began\n")
    assert 0.3 <= done.seconds < 5


@pytest.mark.parametrize("outputs", ["", ">/dev/null 2>&1"], ids=["that holds the output", "that holds nothing"])
@pytest.mark.parametrize("trap", ["", "trap '' TERM;"], ids=["that listens", "that does not listen"])
def test_what_a_program_started_is_ended_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outputs: str, trap: str
) -> None:
    monkeypatch.setattr(command, "_GRACE", 0.2)
    done = sh(tmp_path, f"({trap} exec {FOREVER} {outputs}) & echo $! >$1/child; wait", 0.1)
    assert done.timed_out
    assert ended(tmp_path / "child")
    assert done.seconds < 5


def test_what_has_ended_and_is_never_collected_is_not_waited_for(tmp_path: Path) -> None:
    # A child that ended stays in the group while its parent, which has left the group, does not ask for it.
    code = (
        "import os, sys\n"
        "if os.fork() == 0: os._exit(0)\n"
        "os.setsid(); open(sys.argv[1], 'w').close(); open(sys.argv[2]).read()\n"
    )
    (tmp_path / "parent.py").write_text(code)
    for name in ("ready", "gate"):
        os.mkfifo(tmp_path / name)
    parent = f'"{sys.executable}" $1/parent.py $1/ready $1/gate >/dev/null 2>&1 &'
    done = sh(tmp_path, f"{parent} read line <$1/ready; {FOREVER}", 1.0)
    (tmp_path / "gate").write_bytes(b"")
    assert done.timed_out
    assert done.seconds < 5


def test_a_program_that_floods_is_ended_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_GRACE", 0.2)
    done = sh(tmp_path, "trap '' TERM; yes & echo $! >$1/child; yes", 0.1)
    assert done.timed_out
    assert done.output.endswith("y\ny\n")
    assert ended(tmp_path / "child")
    assert done.seconds < 5


def test_what_a_program_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    done = sh(tmp_path, f"{FOREVER} & echo $! >$1/child; echo done")
    assert (done.exit_code, done.output) == (0, "done\n")
    assert time.monotonic() - began < 5
    number = int((tmp_path / "child").read_text())
    os.kill(number, 0)  # it may be a database that the program started
    os.kill(number, signal.SIGKILL)


def test_a_program_that_closes_its_output_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    opened = threading.Thread(target=(tmp_path / "gate").write_text, args=("go\n",))
    opened.start()
    done = sh(tmp_path, "exec >&- 2>&-; read line <$1/gate; exit 5")
    opened.join()
    assert done.exit_code == 5


def test_a_program_is_ended_when_it_is_asked_to_stop(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    begun = threading.Event()

    def listen() -> None:
        (tmp_path / "gate").read_text()
        begun.set()

    listening = threading.Thread(target=listen)
    listening.start()
    done = sh(tmp_path, f"echo began >$1/gate; {FOREVER}", stopping=begun.is_set)
    listening.join()
    assert (done.exit_code, done.timed_out, done.stopped) == (-signal.SIGTERM, False, True)


def test_no_descriptor_and_no_process_is_left(tmp_path: Path) -> None:
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    before = len(os.listdir("/proc/self/fd")), children.read_text()
    for text, deadline in (("exit 0", 20), (FOREVER, 0.1), ("seq 1 100000; exit 1", 20)):
        sh(tmp_path, text, deadline)
    with pytest.raises(BadConfig):
        run(["/no/such/program"], {}, 1)
    assert (len(os.listdir("/proc/self/fd")), children.read_text()) == before
