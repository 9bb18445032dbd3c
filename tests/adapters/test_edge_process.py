import signal
from typing import Any

import msgspec
import pytest

from agent.adapters.edge import blame
from agent.adapters.edge.child import Copy, Line, Task
from agent.adapters.edge.process import Run, _ending, lacking
from agent.rules.manifest import Probe
from agent.rules.rehearsed import Part

TASK = Task(
    copies=(Copy(0, "0"),),
    probes=(),
    points=(),
    whole=False,
    sample=0,
    draw=False,
    memory=1 << 30,
    seconds=60,
    parent=1,
)
ALLOCATION = "memory allocation of 109951162776 bytes failed"
PANIC = "thread 'main' panicked at lib/x.rs:1:2:\ncapacity overflow\n"


@pytest.mark.parametrize(
    ("code", "complaint", "ended", "why"),
    [
        (0, "some warning", "", ""),
        (-signal.SIGABRT, f"{ALLOCATION}\n", "memory", f"the engine asked for 102 GiB at once: {ALLOCATION}"),
        (-signal.SIGABRT, PANIC, "abort", "the engine was ended by SIGABRT: capacity overflow"),
        (-signal.SIGSEGV, "", "abort", "the engine was ended by SIGSEGV"),
        (-signal.SIGBUS, "\n\n", "abort", "the engine was ended by SIGBUS"),
        (-signal.SIGKILL, "", "memory", "the engine needed more than 1 GiB"),
        (-signal.SIGXCPU, "", "time", "the engine took the processor for longer than 60 s on each core"),
        (1, "Traceback\nMemoryError\n", "memory", "the engine needed more than 1 GiB: MemoryError"),
        (1, "Traceback\nKeyError: 'x'\n", "unable", "the process that opens copies failed: KeyError: 'x'"),
        (70, "", "unable", "the process that opens copies failed: exit code 70"),
    ],
)
def test_how_a_process_ended_is_told(code, complaint, ended, why):
    assert _ending(code, complaint, TASK) == (ended, why)


@pytest.mark.parametrize(
    ("words", "lacks"),
    [
        ("failed to load segment 0/segments/a: No links file found", ""),
        ("IO error: No such file or directory (os error 2)", ""),
        ("IO Error: No space left on device (os error 28)", "unable"),
        ("Permission denied (os error 13)", "unable"),
        ("Too many open files (os error 24)", "unable"),
        ("Input/output error (os error 5)", "unable"),
        ("Cannot allocate memory (os error 12)", "memory"),
        ('failed to spawn thread: Os { code: 11, kind: WouldBlock, message: "…" }', "memory"),
    ],
)
def test_what_the_machine_lacks_is_told_from_what_the_archive_lacks(words, lacks):
    assert lacking(words) == lacks


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("failed to load segment 0/segments/a-1: No links file found", "segments/a-1"),
        ("Failed to read segment 0/segments/a-1 error: 0/segments/a-1/segment.json: EOF.", "segments/a-1/segment.json"),
        ('Can\'t parse version from "0/segments/a/version.info": x', "segments/a/version.info"),
        ("failed to open WAL 0/wal: failed to read 0/wal/first-index: x", "wal/first-index"),
        ("failed to open WAL 0/wal: Illegal segment header", "wal"),
        ("capacity overflow", ""),
        ("walking through segments", ""),
    ],
)
def test_the_part_that_the_engine_names_is_taken_from_its_words(words, part):
    assert blame.named(words) == part


def told(**line: Any) -> bytes:
    return msgspec.json.encode(Line(**line))


def test_what_is_heard_is_kept_by_copy():
    heard = Run()
    probe = Probe(vector="", kind="dense", point=1, query={}, answers=[])
    for line in (
        told(engine="qdrant-edge-py 0.9.0"),
        told(probes=(probe,)),
        b"the engine's own words",
        b"",
        told(copy=0, step="opening it", part=Part(shard=4)),
        told(copy=0, part=Part(shard=4, points=7)),
        told(copy=1, step="opening it", part=Part(shard=5)),
        told(copy=1, part=Part(shard=5, error="x"), panic=True),
        told(copy=2, step="reading points", part=Part(shard=6, points=3)),
    ):
        heard.hear(line)
    assert (heard.engine, heard.probes) == ("qdrant-edge-py 0.9.0", (probe,))
    assert [part.points for part in heard.parts.values()] == [7, None, 3]
    assert (heard.done, heard.panicked) == ({0, 1}, {1})
    assert (heard.at, heard.step) == (2, "reading points")


def test_the_first_reason_is_the_one_that_is_told():
    heard = Run()
    heard.hear(told(unable="the engine is not installed"))
    heard.end("abort", "SIGABRT")
    assert (heard.ended, heard.why) == ("unable", "the engine is not installed")
