"""Points that were the same before a snapshot and after it, so that a restored copy can be compared with them."""

import math
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from agent.adapters.qdrant.probes import dense
from agent.adapters.qdrant.server import Points, Server
from agent.errors import AgentError
from agent.rules.content import digest, key
from agent.rules.manifest import Content
from agent.rules.words import count

Id = int | str

# Up to so many points all of them are drawn, if that is not more than so many numbers; else a sample.
_ALL, _ALL_NUMBERS = 10_000, 500_000
_SAMPLE, _SAMPLE_NUMBERS = 1_000, 250_000
# Bytes that a point takes in the manifest at the most.
_ROW = 72
# Bytes of one answer, about, and of all of them together: what points hold may be long.
_ANSWER, _ANSWERS = 256 << 10, 16 << 20
_FIRST, _MOST = 16, 1_000
# What goes wrong, answers of another shape than Qdrant's included.
_TROUBLE = (AgentError, KeyError, TypeError, ValueError, OverflowError)


class Drawn(Struct, frozen=True, kw_only=True):
    """Points as they were before a snapshot.

    Attributes:
        of: how many the collection had.
        digests: by id.
        versions: in their order, the operation that changed each last; -1 where that is not told.
        why: why there are not more of them.
    """

    of: int
    digests: dict[str, str] = {}
    versions: Sequence[int] = ()
    why: str = ""


def draw(
    server: Server,
    collection: str,
    params: Mapping[str, Any],
    points: int,
    until: float,
    room: int,
    *,
    alone: bool = True,
) -> Drawn:
    """Read points that are drawn at random; all of them where they are few.

    Args:
        server: that holds the collection.
        collection: its name.
        params: `config.params` of its info.
        points: how many it holds.
        until: when to end (monotonic).
        room: bytes that they may take in the manifest.
        alone: whether it has no other peers: replicas number operations each in its own way.
    """
    few = wanted(params, points)
    most = min(few, room // _ROW)
    why = "" if most == few else f"there was room for {count(most, 'point')} of {few:,}"
    found: dict[str, str] = {}
    versions: dict[str, int] = {}
    try:
        ids = sample(server, collection, most, until) if most else []
        versions = _versions(server, collection, params, ids, until) if alone else {}
        asked = 0
        for part, page in pages(_from(server, collection, until), ids, until, _ANSWERS):
            asked += len(part)
            found |= _digests(page)
        if asked < len(ids):
            why = f"{count(asked, 'point')} of {len(ids):,} took the time or room that all may take"
    except _TROUBLE as error:
        server.wire.check()
        why = f"points could not be read: {error}"
    told = array("q", [versions.get(one, -1) for one in found])
    return Drawn(of=points, digests=found, versions=told, why=why)


def again(
    server: Server, collection: str, params: Mapping[str, Any], drawn: Drawn, until: float
) -> tuple[Content | None, str]:
    """Keep the points that nobody has changed since.

    A change is seen by a point's version, even if it was undone; where that is not told, by what the point holds.

    Returns:
        What is to be recorded, None where no point could be looked at again; and why it is not more.
    """
    why = drawn.why
    now: dict[str, str] = {}
    try:
        told = {one: version for one, version in zip(drawn.digests, drawn.versions, strict=True) if version >= 0}
        versions = _versions(server, collection, params, list(map(id_of, told)), until)
        for one, version in told.items() if versions else ():
            now[one] = drawn.digests[one] if versions.get(one) == version else ""
        others = [id_of(one) for one in drawn.digests if one not in now]
        for part, page in pages(_from(server, collection, until), others, until, _ANSWERS):
            now |= {key(one): "" for one in part} | _digests(page)
        if len(now) < len(drawn.digests):
            why = f"{count(len(now), 'point')} of {len(drawn.digests):,} took the time that all may take afterwards"
    except _TROUBLE as error:
        server.wire.check()
        why = f"points could not be read again: {error}"
    same = {one: held for one, held in now.items() if held == drawn.digests[one]}
    content = Content(of=drawn.of, drawn=len(now), changed=len(now) - len(same), points=same)
    return content if now or not drawn.digests else None, why


def unchanged(drawn: Drawn) -> Content | None:
    """What is to be recorded where nobody wrote anything meanwhile."""
    content = Content(of=drawn.of, drawn=len(drawn.digests), points=drawn.digests)
    return content if drawn.digests or not drawn.of else None


def wanted(params: Mapping[str, Any], points: int) -> int:
    """How many of so many points are looked at; `params` are those of the collection."""
    numbers = max(1, sum(one.get("size") or 0 for one in dense(params).values()))
    if points <= _ALL and points * numbers <= _ALL_NUMBERS:
        return points
    return min(points, _SAMPLE, max(1, _SAMPLE_NUMBERS // numbers))


def sample(server: Server, collection: str, most: int, until: float) -> list[Id]:
    """Ids of points, drawn at random; of all points, if there are not more."""
    body = {"query": {"sample": "random"}, "limit": most}
    return [one.id for one in server.find(collection, body, _left(until))]


def pages(
    retrieve: Callable[[Sequence[Id]], Points], ids: Sequence[Id], until: float, most: float = math.inf
) -> Iterator[tuple[Sequence[Id], list[dict[str, Any]]]]:
    """Ids, and the points among them that are there, whole; ends early at that time (monotonic), or after `most` bytes.

    An answer has about as many points as are a quarter of a megabyte.
    """
    at, many, size = 0, _FIRST, 0
    while at < len(ids) and size < most and time.monotonic() < until:
        part = ids[at : at + many]
        page = retrieve(part)
        yield part, page.found
        at, size = at + len(part), size + page.size
        many = max(1, min(_MOST, at * _ANSWER // max(1, size)))


def id_of(text: str) -> Id:
    """The id that `agent.rules.content.key` made this of."""
    return int(text) if text.isdecimal() else text


def _versions(
    server: Server, collection: str, params: Mapping[str, Any], ids: Sequence[Id], until: float
) -> dict[str, int]:
    """Of these points, the number of the operation that changed each last; only a search by a vector tells it."""
    found: dict[str, int] = {}
    try:
        for using, one in dense(params).items():
            left = [point for point in ids if key(point) not in found]
            ones = [1.0] * one["size"]
            for start in range(0, len(left), _MOST):
                part = left[start : start + _MOST]
                body = {
                    "query": [ones] if one.get("multivector_config") else ones,
                    "filter": {"must": [{"has_id": part}]},
                    "params": {"exact": True},
                    "limit": len(part),
                } | ({"using": using} if using else {})
                found |= {key(hit.id): hit.version for hit in server.find(collection, body, _left(until))}
    except _TROUBLE:  # such as a strict mode that does not allow it
        server.wire.check()
        return {}
    return found


def _from(server: Server, collection: str, until: float) -> Callable[[Sequence[Id]], Points]:
    return lambda ids: server.retrieve(collection, ids, _left(until))


def _digests(points: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {key(one["id"]): digest(one.get("vector"), one.get("payload")) for one in points}


def _left(until: float) -> float:
    return max(1.0, until - time.monotonic())
