"""Questions with exact answers, recorded at backup time, so that a restored copy can be asked the same."""

import time
from collections.abc import Iterator
from typing import Any

from msgspec import json

from agent.adapters.qdrant.server import Server
from agent.errors import AgentError
from agent.rules.manifest import Probe
from agent.rules.words import count

# Each named vector is asked so often; all of them together at most so often.
EACH, MOST = 2, 16
# Above so many points an exact answer over all of them costs the server too much: it is asked over a sample.
_WHOLE, _SAMPLE = 100_000, 500
_ANSWERS = 10


def ask(
    server: Server, collection: str, params: dict[str, Any], points: int, budget: float, room: int
) -> tuple[list[Probe], str]:
    """Ask a handful of exact questions, each about a point that was drawn at random.

    Args:
        server: that holds the collection.
        collection: its name.
        params: `config.params` of its info.
        points: how many it holds.
        budget: seconds for all of it.
        room: bytes that all of it may take in the manifest.

    Returns:
        The questions with their answers, and why there are not more of them; an empty text when all were answered.
    """
    if not points:
        return [], ""
    until = time.monotonic() + budget
    found: list[Probe] = []
    try:
        drawn = _draw(server, collection, points, until)
        for using, kind in list(_vectors(params))[: MOST // EACH]:
            for point in [one for one in drawn if _vector(one, using)][:EACH]:
                if time.monotonic() > until:
                    return found, f"{count(len(found), 'probe')} took the time that all may take"
                body = _question(point, using, drawn, points)
                answers = server.query(collection, body, max(1.0, until - time.monotonic()))
                told = [{"id": one["id"], "score": one["score"]} for one in answers]
                probe = Probe(vector=using, kind=kind, point=point["id"], query=body, answers=told)
                room -= len(json.encode(probe))
                if room < 0:
                    return found, f"{count(len(found), 'probe')} took the room that all may take"
                found.append(probe)
    except (AgentError, KeyError, TypeError) as error:
        server.wire.check()
        return found, f"probes could not be asked: {error}"
    return found, ""


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


def _vectors(params: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and kind of each vector that a point may have; the unnamed one has the name ""."""
    dense = params.get("vectors") or {}
    named = {"": dense} if isinstance(dense.get("size"), int) else dense
    for name, one in named.items():
        yield name, "multi" if isinstance(one, dict) and one.get("multivector_config") else "dense"
    for name in params.get("sparse_vectors") or {}:
        yield name, "sparse"


def _vector(point: dict[str, Any], using: str) -> Any:
    """What a point has for this vector; something empty if it has none."""
    vector = point.get("vector")
    if isinstance(vector, dict):
        vector = vector.get(using)
        return vector if not isinstance(vector, dict) or vector.get("values") else None
    return None if using else vector
