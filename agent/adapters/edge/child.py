"""The process in which copies are opened: `python -m agent.adapters.edge.child`, with a task as JSON on its input.

It prints lines of JSON, each a `Line`. It may be ended at any moment, by the engine or from outside.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from typing import Any

from msgspec import Struct, json

from agent.adapters.edge import asking, drawing
from agent.adapters.edge.asking import Failed
from agent.adapters.edge.engine import library, version
from agent.adapters.edge.looking import Look
from agent.errors import AgentError
from agent.rules.manifest import Probe
from agent.rules.rehearsed import Part

_PR_SET_PDEATHSIG = 1
_NICE = 10


class Copy(Struct, frozen=True):
    """One shard to be opened: its number, and the folder it lies in, from where the process runs."""

    shard: int
    folder: str


class Task(Struct, frozen=True, kw_only=True):
    """What is to be done; the fields are those of `rehearse.Questions` and `rehearse.Limits`.

    `parent` is the process that is told, and without which there is nothing to do.
    """

    copies: tuple[Copy, ...]
    probes: tuple[Probe, ...]
    points: tuple[str, ...]
    whole: bool
    sample: int
    draw: bool
    memory: int
    seconds: float
    parent: int


class Line(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is told.

    Attributes:
        copy: the number, from 0 on, of the copy that it is about.
        step: what is done with it now.
        part: what it showed, as far as it got.
        panic: the engine stumbled over it.
        probes: questions that were drawn.
        engine: its name and version.
        unable: why nothing can be done here at all.
    """

    copy: int = 0
    step: str = ""
    part: Part | None = None
    panic: bool = False
    probes: tuple[Probe, ...] | None = None
    engine: str = ""
    unable: str = ""


def main() -> None:
    """Do the task."""
    task = json.decode(sys.stdin.buffer.read(), type=Task)
    _limit(task)
    try:
        _say(Line(engine=version()))
    except AgentError as error:
        _say(Line(unable=error.message))
        return
    probes, points = (task.probes, task.points) if not task.draw else _draw(task)
    for number, copy in enumerate(task.copies):
        _ask(number, copy, task, probes, points)


def _limit(task: Task) -> None:
    """Take no more than allowed, leave no core dump, make way for others, and end with the parent."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != task.parent:
        sys.exit(1)
    processor = int(task.seconds * (os.cpu_count() or 1)) + 1
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, task.memory),
        (resource.RLIMIT_CPU, processor),
        (resource.RLIMIT_NOFILE, files),  # a segment of many vectors and indexes has hundreds
    ):
        resource.setrlimit(what, (most, most))
    with contextlib.suppress(OSError):  # a sandbox may forbid it, and has a niceness of its own
        os.nice(_NICE)


def _draw(task: Task) -> tuple[tuple[Probe, ...], tuple[str, ...]]:
    probes: list[Probe] = []
    points: list[str] = []
    for number, copy in enumerate(task.copies):
        _say(Line(copy=number, step="drawing points"))
        try:
            shard = _load(copy)
            points += drawing.points(shard, asking.count(shard), len(task.copies))
            probes += drawing.probes(shard)
            with asking.told():
                shard.close()
        except Failed:
            continue  # the same will be told when it is asked
    chosen = tuple(probes[: drawing.MOST])
    _say(Line(probes=chosen))
    return chosen, tuple(points)


def _ask(number: int, copy: Copy, task: Task, probes: tuple[Probe, ...], points: tuple[str, ...]) -> None:
    found: dict[str, Any] = {"shard": copy.shard}

    def step(what: str) -> None:
        _say(Line(copy=number, step=what, part=Part(**found)))

    try:
        step("opening it")
        shard = _load(copy)
        step("counting its points")
        found["points"] = asking.count(shard)
        step("asking probes")
        found |= _probe(shard, probes)
        step("reading points")
        look = Look(points)
        try:
            _look(look, shard, task, points)
        finally:
            found |= look.found()
        step("closing it")
        with asking.told():
            shard.close()
        step("")
    except Failed as failed:
        _say(Line(copy=number, part=Part(**found, error=failed.words), panic=failed.panic))


def _probe(shard: Any, probes: tuple[Probe, ...]) -> dict[str, Any]:
    answers: list[tuple[tuple[int | str, float], ...] | None] = []
    unanswered = []
    for probe in probes:
        answers.append(None)
        try:
            answers[-1] = asking.answers(shard, probe)
        except Failed as failed:
            unanswered.append(f"the probe about point {probe.point}: {failed.words}")
        except (ValueError, TypeError, KeyError, OverflowError):
            continue  # of another kind than ours
    return {"answers": tuple(answers), "unanswered": tuple(unanswered)}


def _look(look: Look, shard: Any, task: Task, points: tuple[str, ...]) -> None:
    if task.whole:
        for page in asking.pages(shard):
            look.points(shard, page)
        return
    given = {one for one in map(asking.identifier, points) if one is not None}
    look.points(shard, list(given))
    if task.sample:
        look.points(shard, [one for one in asking.drawn(shard, task.sample) if one not in given])


def _load(copy: Copy) -> Any:
    with asking.told():
        return library().EdgeShard.load(copy.folder)


def _say(line: Line) -> None:
    sys.stdout.buffer.write(json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
