"""Draw points of an open shard, and questions about them, to be compared with later."""

import contextlib
import math
from typing import Any

from msgspec import Struct, structs

from agent.adapters.edge import asking
from agent.adapters.edge.asking import Failed
from agent.adapters.edge.looking import Look
from agent.rules.content import named
from agent.rules.manifest import Content, Probe

# As much as a server is asked for when it is backed up: points, those of a sample, and numbers in their vectors.
_POINTS, _SAMPLE, _NUMBERS = 10_000, 1000, 1_000_000
# Each vector is asked about so often, all together so often, and no question has more numbers.
_EACH, MOST, _LONGEST = 2, 16, 20_000
_ANSWERS = 10


class Record(Struct, frozen=True):
    """What a copy of a shard can be compared with; `probes_why` and `content_why` say why there is not more."""

    probes: tuple[Probe, ...] = ()
    probes_why: str = ""
    content: Content | None = None
    content_why: str = ""


def record(shard: Any, count: int) -> Record:
    """Draw from a shard with `count` points that nobody writes to; what cannot be read is left out and told."""
    asked: list[Probe] = []
    asked_why = content_why = ""
    content = None
    try:
        for probe in probes(shard)[:MOST]:
            with contextlib.suppress(ValueError):
                answers = [{"id": point, "score": score} for point, score in asking.answers(shard, probe)]
                asked.append(structs.replace(probe, answers=answers))
    except Failed as failed:
        asked_why = f"probes could not be asked: {failed.words}"
    try:
        look = Look(drawn := points(shard, count))
        look.points(shard, [one for one in map(asking.identifier, drawn) if one is not None])
        found = look.found()
        content = Content(of=count, drawn=len(found["digests"]), points=found["digests"])
        if found["unread"]:
            content_why = f"{found['unreadable']} of {len(drawn)} points could not be read: {found['unread'][0]}"
    except Failed as failed:
        content_why = f"points could not be read: {failed.words}"
    return Record(tuple(asked), asked_why, content, content_why)


def points(shard: Any, count: int, share: int = 1) -> list[str]:
    """Ids as text of all points where there are few, else of some; `share` shards are drawn from alike."""
    few = asking.retrieve(shard, asking.drawn(shard, 16), payload=False)
    numbers = max(1, sum(_length(one) for record in few for one in named(record.vectors).values()) // max(1, len(few)))
    if count <= _POINTS // share and count * numbers <= _NUMBERS // share:
        return [str(one) for page in asking.pages(shard) for one in page]
    return [str(one) for one in asking.drawn(shard, max(1, min(_SAMPLE, _NUMBERS // numbers) // share))]


def probes(shard: Any) -> list[Probe]:
    """Exact queries about points drawn at random, without answers."""
    found: dict[str, list[Probe]] = {}
    for record in asking.retrieve(shard, asking.drawn(shard, 8 * _EACH), payload=False):
        for name, vector in named(record.vectors).items():
            about = found.setdefault(name, [])
            if len(about) < _EACH and _length(vector) <= _LONGEST and _is_sound(vector):
                about.append(_probe(record.key, name, vector))
    return [probe for about in found.values() for probe in about][:MOST]


def _probe(point: str, name: str, vector: Any) -> Probe:
    kind = "sparse" if isinstance(vector, dict) else "multi" if isinstance(vector[0], list) else "dense"
    query: dict[str, Any] = {"query": _short(vector), "limit": _ANSWERS, "params": {"exact": True}}
    if name:
        query["using"] = name
    return Probe(vector=name, kind=kind, point=int(point) if point.isdecimal() else point, query=query, answers=[])


def _length(vector: Any) -> int:
    if isinstance(vector, dict):
        return len(vector["values"])
    return len(vector) * (len(vector[0]) if isinstance(vector[0], list) else 1)


def _is_sound(vector: Any) -> bool:
    rows = [vector["values"]] if isinstance(vector, dict) else vector if isinstance(vector[0], list) else [vector]
    return all(math.isfinite(sum(row)) for row in rows)


def _short(vector: Any) -> Any:
    """Written with as many digits as a 32-bit float needs."""
    if isinstance(vector, dict):
        return {"indices": vector["indices"], "values": _short(vector["values"])}
    if isinstance(vector[0], list):
        return [_short(row) for row in vector]
    return [float(f"{number:.9g}") for number in vector]
