"""Rehearse the restore of one subject: read its archives, look at the restored copy, and judge it."""

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from agent.adapters.ledger import catalogue
from agent.adapters.ledger.catalogue import Key
from agent.adapters.ledger.drills import Drill
from agent.adapters.shelf import read
from agent.adapters.shelf.write import Permissions
from agent.errors import AgentError, TryLater
from agent.jobs.drill.recorded import Recorded, keep, path_of, recorded
from agent.jobs.drill.stage import Stage, Task
from agent.rules import rehearsal
from agent.rules.archive import ARRIVED, BAD, Form, Reading, Signature, lowest
from agent.rules.drilling import FAILED, FULL, INCONCLUSIVE, PASSED
from agent.rules.rehearsal import Expected, Judgement, Seen
from agent.rules.subjects import Piece, Spot, Subject
from agent.rules.words import rfc3339, span


class Order(Struct, frozen=True, kw_only=True):
    """How drills are made.

    Attributes:
        stage: where archives are restored.
        roots: the locations' folders.
        accept: writes down what reading an archive gave, as everywhere.
        depth: light or full.
        permissions: of the baselines that are written.
        now: the wall clock.
        stopping: whether to leave off.
        progress: is told of the bytes that were read since it was told last.
    """

    stage: Stage
    roots: Mapping[str, str]
    accept: Callable[[Key, Signature, Reading], None]
    depth: str
    permissions: Permissions
    now: Callable[[], float]
    stopping: Callable[[], bool]
    progress: Callable[[int], None]


class Stopped(Exception):
    """It was asked to leave off; nothing is known of the subject in hand."""


class _Late(Exception):
    """Its time was over while an archive was being read."""


class _WouldNot(Exception):
    """It would not restore, which was seen before any engine had to be asked."""


class _Findings:
    """What came together on the way: the archives that were read, and what was recorded of them."""

    def __init__(self) -> None:
        self.archives: dict[str, str] = {}
        self.levels: list[str] = []
        self.location = ""
        self.raw_bytes = 0
        self.recorded = Recorded(Expected())
        self.seen: list[Seen] = []
        self.notes: list[str] = []

    @property
    def level(self) -> str:
        """What reading has proved."""
        return lowest(self.levels) if self.levels else ARRIVED


def rehearse(db: sqlite3.Connection, order: Order, subject: Subject, seconds: float) -> Drill:
    """Rehearse the restore of one subject within so many seconds; what happens on the way is in what this returns.

    Raises:
        Stopped: it was asked to leave off.
    """
    at, clock = order.now(), time.monotonic()
    found = _Findings()
    try:
        judgement = _judged(db, order, subject, clock + seconds, found)
    except _WouldNot as error:
        judgement = Judgement(state=FAILED, level=found.level, why=str(error))
    except _Late:
        why = f"it was still being read when its time of {span(seconds)} was over"
        judgement = Judgement(state=INCONCLUSIVE, level=found.level, why=why)
    except AgentError as error:
        judgement = Judgement(state=INCONCLUSIVE, level=found.level, why=error.message)
    expected = found.recorded.expected
    return Drill(
        at=at,
        seconds=round(time.monotonic() - clock, 3),
        backup=subject.backup,
        tier=subject.tier,
        collection=subject.collection,
        location=found.location,
        depth=order.depth,
        state=judgement.state,
        level=judgement.level,
        why=judgement.why,
        engine=order.stage.name,
        points=judgement.points,
        low=expected.low,
        high=expected.high,
        asked=judgement.asked,
        matched=judgement.matched,
        raw_bytes=found.raw_bytes,
        archives=found.archives,
        evidence=_evidence(subject, judgement, found),
    )


def _evidence(subject: Subject, judgement: Judgement, found: _Findings) -> dict[str, Any]:
    return {
        "taken": rfc3339(subject.taken),
        "compared_with": found.recorded.expected.source,
        "compared": judgement.compared,
        "same": judgement.same,
        "peak_bytes": max((one.peak for one in found.seen), default=0),
        "notes": found.notes,
        **judgement.evidence,
    }


def _judged(db: sqlite3.Connection, order: Order, subject: Subject, until: float, found: _Findings) -> Judgement:
    if subject.lacking:
        raise _WouldNot(subject.lacking)
    malformed = ""
    for piece in subject.pieces:
        seen, malformed = _looked_at(db, order, subject, piece, until, found)
        found.seen.append(seen)
        if malformed or seen.ended:
            break
    if order.stopping():
        raise Stopped
    whole = _joined(found.seen, order.stage.name)
    judgement = rehearsal.judge(
        whole,
        found.recorded.expected,
        malformed=malformed,
        made_by=subject.made_by,
        raw_size=found.raw_bytes,
    )
    if judgement.state == PASSED and found.recorded.bare:
        _keep(db, order, subject, whole, found)
    return judgement


def _looked_at(
    db: sqlite3.Connection, order: Order, subject: Subject, piece: Piece, until: float, found: _Findings
) -> tuple[Seen, str]:
    """Read one archive, from the first location whose copy is good, and look at what it holds."""
    bad, away = list(piece.bad), []
    for spot in piece.spots:
        path = path_of(order.roots, spot, piece.file)
        with order.stage.take(piece, alone=len(subject.pieces) == 1) as taken:

            def content(data: memoryview, feed: Callable[[memoryview], None] = taken.feed) -> None:
                if order.stopping():
                    raise Stopped
                if time.monotonic() > until:
                    raise _Late
                feed(data)

            try:
                reading, signature = read.read(path, None, content=content, progress=order.progress)
            except read.Moved:
                away.append(f"{spot[0]}: it is not there, or changes while it is read")
                continue
            known = _noted(db, order, Key(*spot, piece.file), signature, reading)
            if known is None or known.state in BAD:
                bad.append(f"{spot[0]}: {known.state}: {known.why}" if known else f"{spot[0]}: it is gone")
                continue
            if reading.form is not Form.SNAPSHOT:
                raise TryLater(reading.form_why or reading.stream_why or "what it holds was not looked into")
            found.archives[reading.sha256] = piece.file
            found.levels.append(known.level)
            found.location = found.location or spot[0]
            found.raw_bytes += taken.raw_size
            found.notes += [f"the copy in {one}" for one in (*bad, *away)]
            if piece is subject.pieces[0]:
                found.recorded = recorded(subject, order.roots, reading.sha256)
                found.notes += found.recorded.notes
            return taken.see(_task(order, subject, piece, path, found, until))
    if bad:
        raise _WouldNot(f"no copy of {piece.file} is good: {'; '.join((*bad, *away))}")
    raise TryLater(f"no copy of {piece.file} can be read: {'; '.join(away) or 'it is gone'}")


def _noted(
    db: sqlite3.Connection, order: Order, key: Key, signature: Signature, reading: Reading
) -> catalogue.Archive | None:
    order.accept(key, signature, reading)
    return catalogue.archive(db, key)


def _task(order: Order, subject: Subject, piece: Piece, path: str, found: _Findings, until: float) -> Task:
    return Task(
        piece=piece,
        path=path,
        entries=found.recorded.entries,
        expected=found.recorded.expected,
        whole=order.depth == FULL,
        draw=found.recorded.bare and len(subject.pieces) == 1,
        seconds=max(until - time.monotonic(), 1.0),
        stopping=order.stopping,
    )


def _joined(seen: Sequence[Seen], engine: str) -> Seen:
    """What was seen of all archives as if it had been one."""
    if len(seen) == 1:
        return seen[0]
    last = seen[-1]
    return Seen(
        engine=engine,
        parts=tuple(part for one in seen for part in one.parts),
        ended=last.ended,
        why=last.why,
        where=last.where,
        peak=max(one.peak for one in seen),
        seconds=sum(one.seconds for one in seen),
    )


def _keep(db: sqlite3.Connection, order: Order, subject: Subject, seen: Seen, found: _Findings) -> None:
    """Keep what was seen, where nothing was recorded, beside every copy that holds the same."""
    if len(subject.pieces) != 1:
        return
    piece, (sha256, *_) = subject.pieces[0], found.archives
    baseline = rehearsal.baseline(seen, sha256, order.now())
    if baseline is None:
        return

    def same(spot: Spot) -> bool:
        known = catalogue.archive(db, Key(*spot, piece.file))
        return (known.reading.sha256 if known and known.reading else piece.sha256) == sha256

    found.notes += keep(baseline, piece.file, filter(same, piece.spots), order.roots, order.permissions)
