"""Ask an open shard, in the words of a server's REST."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from agent.adapters.edge.engine import library
from agent.rules.content import key
from agent.rules.manifest import Probe

_PAGE = 10_000
_WORDS = 500
_NOISE = re.compile(r"Service (?:runtime )?error: ")


class Failed(Exception):
    """The engine could not do it; `panic` says that it stumbled rather than refused."""

    def __init__(self, words: str, *, panic: bool) -> None:
        super().__init__(words)
        self.words = words
        self.panic = panic


class Record:
    """A point as a server tells it; vectors and payload are translated when they are asked for."""

    def __init__(self, found: Any) -> None:
        self.key = key(found.id)
        self._found = found

    @property
    def vectors(self) -> Any:
        """One vector, or vectors by name."""
        return _plain(self._found.vector)

    @property
    def payload(self) -> Mapping[str, Any]:
        """As JSON has it."""
        return self._found.payload or {}


@contextmanager
def told() -> Iterator[None]:
    """Turn what the engine raises into `Failed`."""
    try:
        yield
    except BaseException as error:
        panic = type(error).__name__ == "PanicException"  # no Exception, and its class cannot be imported
        if not (panic or isinstance(error, Exception)) or isinstance(error, MemoryError):
            raise
        words = _NOISE.sub("", str(error)) or type(error).__name__
        raise Failed(words[:_WORDS], panic=panic) from error


def count(shard: Any) -> int:
    """The exact number of points."""
    with told():
        return int(shard.count(library().CountRequest(exact=True)))


def answers(shard: Any, probe: Probe) -> tuple[tuple[int | str, float], ...]:
    """Ask a probe; pairs of id and score, the nearest first.

    Raises:
        Failed: the engine refuses it.
        ValueError, TypeError, KeyError, OverflowError: it is none that can be asked here.
    """
    request = _request(probe.query)
    with told():
        found = tuple((_told_id(one.id), one.score) for one in shard.query(request))
    if not all(math.isfinite(score) for _, score in found):
        raise ValueError("a score is no number, which can be neither written down nor compared")
    return found


def pages(shard: Any) -> Iterator[list[int | UUID]]:
    """The ids of all points, many at a time."""
    offset = None
    while True:
        with told():
            request = library().ScrollRequest(offset=offset, limit=_PAGE, with_payload=False, with_vector=False)
            found, offset = shard.scroll(request)
            ids = [one.id for one in found]
        yield ids
        if offset is None:
            return


def drawn(shard: Any, number: int) -> list[int | UUID]:
    """The ids of so many points, drawn at random."""
    engine = library()
    with told():
        return [one.id for one in shard.query(engine.QueryRequest(query=engine.Sample.Random, limit=number))]


def retrieve(shard: Any, ids: Sequence[int | UUID], *, payload: bool = True, vectors: bool = True) -> list[Record]:
    """These points, of which those are left out that are not there."""
    with told():
        return [Record(one) for one in shard.retrieve(list(ids), payload, vectors)]


def identifier(text: str) -> int | UUID | None:
    """The id that a text says; None if it says none."""
    if text.isdecimal():
        return int(text)
    try:
        return UUID(text)
    except ValueError:
        return None


def _request(body: Mapping[str, Any]) -> Any:
    """The engine's query for a body of REST's `points/query`, as far as probes use it.

    Raises:
        ValueError: it asks for something else.
    """
    engine = library()
    known = {"query", "using", "limit", "params", "filter"}
    if not known.issuperset(body):
        raise ValueError(f"this probe cannot be asked here: {', '.join(sorted(set(body) - known))}")
    params = body.get("params") or {}
    return engine.QueryRequest(
        query=engine.Query.Nearest(_vector(body["query"]), body.get("using")),
        limit=body["limit"],
        filter=_filter(body.get("filter")),
        params=engine.SearchParams(exact=bool(params.get("exact"))),
        with_payload=False,
        with_vector=False,
    )


def _vector(given: Any) -> Any:
    if isinstance(given, Mapping):
        return library().SparseVector(given["indices"], given["values"])
    return given


def _filter(given: Mapping[str, Any] | None) -> Any:
    match given:
        case None:
            return None
        case {"must": [{"has_id": ids}]} if len(given) == 1:
            found = (identifier(str(one)) for one in ids)
            return library().Filter(must=[library().HasIdCondition({one for one in found if one is not None})])
    raise ValueError(f"this probe cannot be asked here: filter {sorted(given)}")


def _told_id(given: Any) -> int | str:
    return given if isinstance(given, int) else str(given)


def _plain(vector: Any) -> Any:
    if isinstance(vector, Mapping):
        return {name: _plain(one) for name, one in vector.items()}
    if vector is None or isinstance(vector, list):
        return vector
    return {"indices": vector.indices, "values": vector.values}
