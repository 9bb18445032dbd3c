"""Open a restored copy in the embedded engine, in a child process that may abort, hang or take too much."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence

from msgspec import Struct, structs

from agent.adapters.edge import blame, process
from agent.adapters.edge.child import Copy, Task
from agent.adapters.edge.process import Run, lacking
from agent.rules.manifest import Probe
from agent.rules.rehearsed import Part, Seen

# Seconds that may go into finding out what the engine failed on.
_SEARCH = 60.0


class Questions(Struct, frozen=True, kw_only=True):
    """What a copy is asked.

    Attributes:
        probes: queries; each shard answers all of them.
        points: ids as text of those whose digests are wanted.
        whole: whether every point is read with its vectors and payload, or only a sample.
        sample: how many points of each shard that is.
        draw: whether the engine draws probes and points itself, since nothing was recorded; see `Seen.probes`.
    """

    probes: tuple[Probe, ...] = ()
    points: tuple[str, ...] = ()
    whole: bool = False
    sample: int = 1000
    draw: bool = False


class Limits(Struct, frozen=True, kw_only=True):
    """What the engine may take: `memory` in bytes beside the files that it maps, `seconds` for all of it."""

    memory: int
    seconds: float


def rehearse(
    folder: str,
    shards: Sequence[int],
    questions: Questions,
    limits: Limits,
    stopping: Callable[[], bool] = lambda: False,
) -> Seen:
    """Open each shard below `folder` in a process of its own, and ask it.

    Whatever the engine does is in what this returns. The copy may be changed by being opened, and is of no use
    afterwards.

    Args:
        folder: where an `Unpacker` has put the shards, each in a folder of its number.
        shards: their numbers.
        questions: what is asked.
        limits: what it may take.
        stopping: asked often; once it says so, the child is ended.
    """
    began = time.monotonic()
    rehearsal = _Rehearsal(folder, questions, limits, stopping)
    copies = [Copy(shard, str(shard)) for shard in shards]
    rehearsal.open(copies)
    rehearsal.search(copies)
    return rehearsal.seen(time.monotonic() - began)


class _Rehearsal:
    def __init__(self, folder: str, questions: Questions, limits: Limits, stopping: Callable[[], bool]) -> None:
        self._folder, self._questions, self._limits, self._stopping = folder, questions, limits, stopping
        self._until = time.monotonic() + limits.seconds
        self._parts: dict[int, Part] = {}
        self._probes: tuple[Probe, ...] = ()
        self._engine = self._ended = self._why = self._where = ""
        self._peak = 0
        self._flaws: dict[int, str] = {}
        self._again = structs.replace(questions, draw=False)

    def open(self, copies: list[Copy]) -> None:
        """Open all copies; after one that ends the process comes the next."""
        self._flaws = {copy.shard: blame.flaw(os.path.join(self._folder, copy.folder)) for copy in copies}
        questions, left = self._questions, copies
        while left:
            run = self._run(left, questions)
            self._probes = self._probes or run.probes
            for number, part in sorted(run.parts.items()):
                ended = "panic" if number in run.panicked else lacking(part.error)
                self._take(structs.replace(part, ended=ended), "")
            if not run.ended:
                return
            shard = left[run.at].shard
            if run.ended not in {"abort", "memory"}:
                self._end(run.ended, run.why, f"shard {shard}, {run.step}" if run.step else "")
                return
            part = run.parts.get(run.at, Part(shard=shard))
            self._take(structs.replace(part, error=run.why, ended=run.ended), run.step)
            left = [copy for number, copy in enumerate(left) if number != run.at and number not in run.done]
            questions = structs.replace(questions, draw=False)

    def search(self, copies: list[Copy]) -> None:
        """Find out what in a shard it was that the engine failed on, as far as there is time."""
        self._until = min(self._until, time.monotonic() + _SEARCH)
        for copy in copies:
            if part := self._parts.get(copy.shard):
                where = blame.named(part.error) or self._flaws[copy.shard]
                self._parts[copy.shard] = structs.replace(part, where=where)
                if part.error and part.ended != "unable":
                    with contextlib.suppress(OSError):  # a full disk; then that much is not known
                        self._try_parts(copy)

    def _try_parts(self, copy: Copy) -> None:
        """Open a shard without its log, and each of its segments alone."""
        part = self._parts[copy.shard]
        if blame.about_log(part.error) and blame.without_log(self._folder, copy):
            run = self._run([copy], self._again)
            if not run.ended and not run.parts[0].error:
                words = f"{part.error}; it opens without its write-ahead log"
                part = structs.replace(part, error=words, where=part.where or "wal")
        if not part.where:
            alone = blame.segments(self._folder, copy)
            run = self._run(alone, self._again)
            failed = [number for number, one in sorted(run.parts.items()) if one.error]
            failed += [run.at] if run.ended in {"abort", "memory"} else []
            part = structs.replace(part, where=blame.segment(alone[failed[0]]) if failed else "")
        self._parts[copy.shard] = part

    def seen(self, seconds: float) -> Seen:
        return Seen(
            engine=self._engine,
            parts=tuple(part for _, part in sorted(self._parts.items())),
            ended=self._ended,
            why=self._why,
            where=self._where,
            probes=self._probes,
            peak=self._peak,
            seconds=seconds,
        )

    def _take(self, part: Part, step: str) -> None:
        assert part.shard is not None  # noqa: S101 - a copy has a number
        self._parts[part.shard] = part
        if part.ended:
            self._end(part.ended, part.error, f"shard {part.shard}{f', {step}' if step else ''}")

    def _end(self, ended: str, why: str, where: str) -> None:
        if not self._ended:
            self._ended, self._why, self._where = ended, why, where

    def _run(self, copies: list[Copy], questions: Questions) -> Run:
        task = Task(
            copies=tuple(copies),
            **structs.asdict(questions),
            memory=self._limits.memory,
            seconds=max(0.0, self._until - time.monotonic()),
            parent=os.getpid(),
        )
        heard = process.run(self._folder, task, self._stopping)
        self._engine = self._engine or heard.engine
        self._peak = max(self._peak, heard.peak)
        return heard
