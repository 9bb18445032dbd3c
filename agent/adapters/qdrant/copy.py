"""Ask a restored copy on a server what it holds, so that it can be judged by what was recorded."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from agent.adapters.qdrant import content, probes
from agent.adapters.qdrant.content import Id
from agent.adapters.qdrant.server import Points, Server
from agent.adapters.qdrant.trouble import Away, Garbled, Lost, Untrusted
from agent.errors import AgentError, NoRights
from agent.rules.content import digest, key
from agent.rules.manifest import Probe
from agent.rules.rehearsed import Expected, Marks, Part, Seen
from agent.rules.tally import Tally
from agent.rules.words import count, span

# Trouble that says nothing about the copy; and what an answer of another shape than Qdrant's comes to.
_UNABLE = (Away, Lost, Garbled, Untrusted, NoRights)
_SHAPELESS = (KeyError, TypeError, ValueError, OverflowError)
# Seconds between two looks at what a server has yet to write, and in which it has carried out what it is at.
_LOOK, _LULL = 0.2, 1.0
# Seconds in which a question that fails is asked again.
_PATIENCE = 3.0
# So many failures are named; what is behind them is not tried any more.
_NAMED = 10
# Bytes that questions may take which are only asked because none were recorded.
_ROOM = 1 << 20


def seen(server: Server, collection: str, expected: Expected, *, seconds: float, sample: int = 1000) -> Seen:
    """Ask a collection on a server what was recorded of it, and look at some of its points whole.

    What the server cannot answer is told in what is returned, as far as it got: nothing is raised for that. Where
    neither probes nor points were recorded it draws some itself, as `baseline` wants them.

    Args:
        server: that holds the copy.
        collection: its name there.
        expected: what was recorded: its probes are asked, and its points are read.
        seconds: for all of it, with waiting until the server has written what it took in.
        sample: how many points are read whole beside those, drawn at random; all of them where there are not more.

    Returns:
        One part with `shard` None. `ended` is `time` if that was too short, `unable` if the server did not answer.

    Raises:
        TryLater: it was asked to stop meanwhile.
    """
    began = time.monotonic()
    engine, ended, why, error = f"Qdrant at {server.url}", "", "", ""
    look = _Look(server, collection, expected, sample, began + seconds)
    try:
        engine = f"Qdrant {server.identity().version} at {server.url}"
        look.all()
        took = time.monotonic() - began
        if not look.is_expected() and took + _LULL < seconds - took:
            # What is missing may be on its way still: points appear for a while after a restore (qdrant#9930).
            server.wire.rest(_LULL)
            look = _Look(server, collection, expected, sample, began + seconds)
            look.all()
    except _Late as late:
        ended, why = "time", f"there was no more time within {span(seconds)}: {late}"
    except _UNABLE as trouble:
        server.wire.check()
        ended, why = "unable", trouble.message
    except _SHAPELESS as trouble:
        ended, why = "unable", f"{server.url} answers, but not as Qdrant does, {look.step}: {trouble!r}"
    except AgentError as trouble:
        server.wire.check()
        error = trouble.message
    return Seen(
        engine=engine,
        parts=(look.part(error),),
        ended=ended,
        why=why,
        where=look.step if ended or error else "",
        probes=look.drawn,
        seconds=time.monotonic() - began,
    )


class _Late(Exception):
    """There is no more time."""


class _Look:
    """What one look at a copy shows, as far as it gets."""

    def __init__(self, server: Server, collection: str, expected: Expected, sample: int, until: float) -> None:
        self.drawn: tuple[Probe, ...] = ()
        self.step = ""
        self._server, self._collection, self._expected = server, collection, expected
        self._sample, self._until = sample, until
        self._points: int | None = None
        self._answers: list[tuple[tuple[Id, float], ...] | None] = []
        self._unanswered: list[str] = []
        self._digests: dict[str, str] = {}
        self._unread: list[str] = []
        self._unreadable = 0
        self._tally, self._recorded = Tally(), Tally()

    def part(self, error: str) -> Part:
        """What it has shown by now."""
        return Part(
            error=error,
            points=self._points,
            answers=tuple(self._answers),
            unanswered=tuple(self._unanswered),
            digests=self._digests,
            read=self._tally.points,
            unreadable=self._unreadable,
            unread=tuple(self._unread),
            recorded=Marks(points=self._recorded.points, **self._recorded.counts),
            **self._tally.counts,
        )

    def is_expected(self) -> bool:
        """Whether number and content of the points are what was recorded."""
        low, high, recorded = self._expected.low, self._expected.high, self._expected.content
        if self._points is None or not (low or 0) <= self._points <= (self._points if high is None else high):
            return False
        return recorded is None or self._digests == recorded.points

    def all(self) -> None:
        """Wait, count, ask and read."""
        self.step = "waiting for its updates"
        self._settle()
        self.step = "counting its points"
        self._points = self._server.count(self._collection, self._left())
        self.step = "asking probes"
        self._ask()
        self.step = "reading points"
        self._read()

    def _settle(self) -> None:
        while left := self._server.pending(self._collection):
            if time.monotonic() > self._until:
                raise _Late(f"{count(left, 'update')} had yet to be carried out")
            self._server.wire.rest(_LOOK)

    def _ask(self) -> None:
        asked = self._expected.probes
        if not asked and self._expected.content is None:
            asked = self.drawn = self._draw()
        for number, probe in enumerate(asked):
            if time.monotonic() > self._until:
                raise _Late(f"{count(len(asked) - number, 'probe')} had yet to be asked")
            try:
                hits = self._server.query(self._collection, probe.query, self._left())
                self._answers.append(tuple((one["id"], one["score"]) for one in hits))
            except _UNABLE:
                raise
            except AgentError as error:
                self._server.wire.check()
                self._answers.append(None)
                self._unanswered.append(error.message)

    def _draw(self) -> tuple[Probe, ...]:
        params = self._server.info(self._collection)["config"]["params"]
        return probes.ask(self._server, self._collection, params, self._points or 0, self._left(), _ROOM).probes

    def _read(self) -> None:
        recorded = self._expected.content.points if self._expected.content else None
        some = content.sample(self._server, self._collection, self._sample, self._until) if self._sample else []
        ids = list(map(content.id_of, recorded or {}))
        ids += [one for one in some if recorded is None or key(one) not in recorded]
        asked = 0
        for part, page in content.pages(self._retrieve, ids, self._until):
            asked += len(part)
            for point in page:
                self._take(point, recorded)
        if asked < len(ids):
            raise _Late(f"{count(len(ids) - asked, 'point')} had yet to be read")

    def _take(self, point: Mapping[str, Any], recorded: Mapping[str, str] | None) -> None:
        one, vectors = key(point["id"]), point.get("vector")
        self._tally.add(vectors)
        if recorded is None or one in recorded:
            self._digests[one] = digest(vectors, point.get("payload"))
        if recorded and one in recorded:
            self._recorded.add(vectors)

    def _retrieve(self, ids: Sequence[Id], patience: float = _PATIENCE) -> Points:
        """These points; where some cannot be read, the others."""
        if len(self._unread) >= _NAMED:
            self._unreadable += len(ids)
            return Points([], 0)
        if time.monotonic() > self._until:
            raise _Late("some points could not be read")
        try:
            return self._server.retrieve(self._collection, ids, self._left(), patience=patience)
        except _UNABLE:
            raise
        except AgentError as error:
            self._server.wire.check()
            if len(ids) == 1:
                self._unreadable += 1
                self._unread.append(f"point {ids[0]}: {error.message}")
                return Points([], 0)
        middle = len(ids) // 2
        first, second = self._retrieve(ids[:middle], 0.0), self._retrieve(ids[middle:], 0.0)
        return Points(first.found + second.found, first.size + second.size)

    def _left(self) -> float:
        return max(1.0, self._until - time.monotonic())
