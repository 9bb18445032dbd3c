"""Questions with exact answers, recorded at backup time, so that a restored copy can be asked the same."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct, json

from agent.adapters.qdrant.server import Server
from agent.errors import AgentError
from agent.rules.comparison import unlike
from agent.rules.content import key
from agent.rules.manifest import Probe
from agent.rules.words import count

# Each named vector is asked so often; all of them together at most so often.
EACH, MOST = 2, 16
# Above so many points an exact answer over all of them costs the server too much: it is asked over a sample.
_WHOLE, _SAMPLE = 100_000, 500
_ANSWERS = 10
# How far a probe is set in.
_INDENT = 8


class Asked(Struct, frozen=True, kw_only=True):
    """Questions with their answers.

    Attributes:
        probes: those that were answered.
        versions: of each one's answers, by id, the operation that changed the point last.
        size: bytes that they take in the manifest.
        why: why there are not more; empty if all were answered.
    """

    probes: tuple[Probe, ...] = ()
    versions: tuple[Mapping[str, Any], ...] = ()
    size: int = 0
    why: str = ""


def ask(server: Server, collection: str, params: Mapping[str, Any], points: int, budget: float, room: int) -> Asked:
    """Ask a handful of exact questions, each about a point that was drawn at random.

    Args:
        server: that holds the collection.
        collection: its name.
        params: `config.params` of its info.
        points: how many it holds.
        budget: seconds for all of it.
        room: bytes that all of it may take in the manifest.
    """
    found: list[Probe] = []
    versions: list[Mapping[str, Any]] = []
    size = 0

    def so_far(why: str) -> Asked:
        return Asked(probes=tuple(found), versions=tuple(versions), size=size, why=why)

    if not points:
        return so_far("")
    until = time.monotonic() + budget
    try:
        drawn = _draw(server, collection, points, until)
        for using, kind in list(_vectors(params))[: MOST // EACH]:
            for point in [one for one in drawn if _vector(one, using)][:EACH]:
                if time.monotonic() > until:
                    return so_far(f"{count(len(found), 'probe')} took the time that all may take")
                body = _question(point, using, drawn, points)
                answers = server.query(collection, body, max(1.0, until - time.monotonic()))
                told = [{"id": one["id"], "score": one["score"]} for one in answers]
                probe = Probe(vector=using, kind=kind, point=point["id"], query=body, answers=told)
                needs = _size(probe)
                if size + needs > room:
                    return so_far(f"{count(len(found), 'probe')} took the room that all may take")
                size += needs
                found.append(probe)
                versions.append(_versions(answers))
    except (AgentError, KeyError, TypeError) as error:
        server.wire.check()
        return so_far(f"probes could not be asked: {error}")
    return so_far("")


def again(
    server: Server, collection: str, asked: Asked, until: float, *, alone: bool = True
) -> tuple[tuple[Probe, ...], str]:
    """Ask the same questions once more, and keep those with the same answers, of points that nobody has changed.

    Args:
        server: that holds the collection.
        collection: its name.
        asked: the questions with their answers.
        until: when to end (monotonic).
        alone: whether it has no other peers: replicas number operations each in its own way.

    Returns:
        Those that are kept, and why these are not more; an empty text where they are all.
    """
    kept: list[Probe] = []
    try:
        for number, (probe, versions) in enumerate(zip(asked.probes, asked.versions, strict=True)):
            if time.monotonic() > until:
                left = count(len(asked.probes) - number, "probe")
                return tuple(kept), f"{left} could not be asked again in the time that all may take"
            found = server.query(collection, probe.query, max(1.0, until - time.monotonic()))
            if _alike(probe, found) and (not alone or _kept(versions, _versions(found))):
                kept.append(probe)
    except (AgentError, KeyError, TypeError) as error:
        server.wire.check()
        return tuple(kept), f"probes could not be asked again: {error}"
    changed = len(asked.probes) - len(kept)
    return tuple(kept), f"{count(changed, 'probe')} had other answers afterwards" if changed else asked.why


def _size(probe: Probe) -> int:
    """Bytes of a probe in the manifest, where each number has a line of its own."""
    text = json.format(json.encode(probe))
    return len(text) + (text.count(b"\n") + 1) * _INDENT + len(",\n")


def _versions(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {key(one["id"]): one.get("version") for one in answers}


def _kept(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether no point of both answers was changed in between, be it for a moment only."""
    return all(before[one] == after[one] for one in before.keys() & after.keys())


def _alike(probe: Probe, found: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the answers are the recorded ones, but for ties and rounding."""
    then, now = ([(one["id"], one["score"]) for one in answers] for answers in (probe.answers, found))
    return not unlike(then, [now], probe.query["limit"])


def _draw(server: Server, collection: str, points: int, until: float) -> list[dict[str, Any]]:
    few = {"query": {"sample": "random"}, "limit": 8 * EACH, "with_vector": True, "with_payload": False}
    drawn = server.query(collection, few, max(1.0, until - time.monotonic()))
    if points > _WHOLE:
        more = {"query": {"sample": "random"}, "limit": _SAMPLE, "with_payload": False}
        seen = {str(one["id"]) for one in drawn}
        others = server.query(collection, more, max(1.0, until - time.monotonic()))
        drawn += [{"id": one["id"]} for one in others if str(one["id"]) not in seen]
    return drawn


def _question(point: dict[str, Any], using: str, drawn: list[dict[str, Any]], points: int) -> dict[str, Any]:
    body: dict[str, Any] = {"query": _vector(point, using), "limit": _ANSWERS, "params": {"exact": True}}
    if using:
        body["using"] = using
    if points > _WHOLE:
        body["filter"] = {"must": [{"has_id": [one["id"] for one in drawn]}]}
    return body


def dense(params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The parameters of each dense vector that a point may have, one or many of them; the unnamed one is called ""."""
    vectors = params.get("vectors") or {}
    named = {"": vectors} if isinstance(vectors.get("size"), int) else vectors
    return {name: one for name, one in named.items() if isinstance(one, dict)}


def _vectors(params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and kind of each vector that a point may have."""
    for name, one in dense(params).items():
        yield name, "multi" if one.get("multivector_config") else "dense"
    for name in params.get("sparse_vectors") or {}:
        yield name, "sparse"


def _vector(point: dict[str, Any], using: str) -> Any:
    """What a point has for this vector; something empty if it has none."""
    vector = point.get("vector")
    if isinstance(vector, dict):
        vector = vector.get(using)
        return vector if not isinstance(vector, dict) or vector.get("values") else None
    return None if using else vector
