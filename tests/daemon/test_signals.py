"""Signals wake who waits for events, also when they come just before it falls asleep."""

import signal
import subprocess
import sys

import pytest

# A signal that another thread takes does not interrupt the main one, as if it had come a moment before the waiting.
ASLEEP = """
import os, queue, signal, sys, threading
from agent.daemon.signals import Signals

inbox = queue.SimpleQueue()
Signals(inbox, lambda: (print("left", flush=True), os._exit(3)))
number = getattr(signal, sys.argv[1])
signal.pthread_sigmask(signal.SIG_BLOCK, {number})

def take():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    threading.Event().wait()

threading.Thread(target=take, daemon=True).start()
print(inbox.get(timeout=20).what, flush=True)
if sys.argv[2] == "2":
    os.kill(os.getpid(), number)
    threading.Event().wait(20)
"""


def told(number: signal.Signals, times: int = 1) -> tuple[list[str], int]:
    done = subprocess.run(
        [sys.executable, "-c", ASLEEP, number.name, str(times)], capture_output=True, text=True, timeout=40, check=False
    )
    assert done.returncode in {0, 3}, done.stderr
    return done.stdout.split(), done.returncode


@pytest.mark.parametrize(
    ("number", "what"), [(signal.SIGTERM, "stop"), (signal.SIGHUP, "validate"), (signal.SIGCHLD, "child")]
)
def test_a_signal_wakes_a_main_thread_that_it_did_not_interrupt(number: signal.Signals, what: str) -> None:
    assert told(number) == ([what], 0)


def test_the_second_request_to_stop_leaves_at_once() -> None:
    words, code = told(signal.SIGINT, 2)
    assert (words[-1], code) == ("left", 3)
