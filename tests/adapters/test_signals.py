"""Signals are heard, also when they come just before the main thread falls asleep."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from program import until

from agent.adapters import signals

# A signal that another thread takes does not interrupt the main one, as if it had come a moment before the waiting.
ASLEEP = """
import os, signal, threading
from agent.cli.parts import finishing

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
woken = threading.Lock()
woken.acquire()

def work(asked):
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    os.kill(os.getpid(), signal.SIGTERM)
    while not asked():
        pass
    woken.release()

with finishing() as asked:
    threading.Thread(target=work, args=(asked,), daemon=True).start()
    woken.acquire()
    print("finished", flush=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.fixture
def heard() -> Iterator[list[signal.Signals]]:
    """The signals that were heard."""
    found: list[signal.Signals] = []
    end = signals.listen([signal.SIGUSR1, signal.SIGUSR2], found.append)
    yield found
    end()


def test_a_command_hears_the_first_signal_while_it_waits_and_leaves_at_the_second() -> None:
    done = subprocess.run([sys.executable, "-c", ASLEEP], capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("finished\n", "", 130)


def test_each_signal_is_heard_until_nobody_listens_any_more() -> None:
    found: list[signal.Signals] = []
    before = signal.getsignal(signal.SIGUSR1)
    end = signals.listen([signal.SIGUSR1], found.append)
    for number in (1, 2):
        os.kill(os.getpid(), signal.SIGUSR1)
        until(lambda number=number: len(found) == number)
    end()
    assert found == [signal.SIGUSR1] * 2
    assert signal.getsignal(signal.SIGUSR1) is before


def test_what_somebody_else_handles_meanwhile_is_theirs(heard: list[signal.Signals]) -> None:
    theirs: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: theirs.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
    until(lambda: heard)
    signal.signal(signal.SIGUSR1, before)
    assert (theirs, heard) == ([signal.SIGUSR1], [signal.SIGUSR2])
