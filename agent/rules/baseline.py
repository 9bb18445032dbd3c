"""What the first drill of an archive finds, kept so that later ones can be compared with it."""

import msgspec

from agent.rules import comparison
from agent.rules.manifest import Content
from agent.rules.rehearsed import Baseline, Expected, Seen
from agent.rules.words import rfc3339

_SCHEMA_VERSION = 1


def baseline(seen: Seen, sha256: str, at: float) -> Baseline | None:
    """What a drill found that passed.

    Args:
        seen: what it saw.
        sha256: of the archive's file.
        at: when, epoch seconds.

    Returns:
        None where it did not see all of the archive.
    """
    counts = [part.points for part in seen.parts if part.points is not None and not part.error]
    if seen.ended or not counts or len(counts) != len(seen.parts):
        return None
    probes = []
    for number, probe in enumerate(seen.probes):
        given = [answers for part in seen.parts if (answers := part.answers[number]) is not None]
        if len(given) == len(seen.parts):
            descending = comparison.descending(given)
            nearest = comparison.merged(given, probe.query["limit"], descending=descending)
            told = [{"id": point, "score": score} for point, score in nearest]
            probes.append(msgspec.structs.replace(probe, answers=told))
    points = {point: told for part in seen.parts for point, told in part.digests.items()}
    content = Content(of=sum(counts), drawn=len(points), points=points)
    return Baseline(
        sha256=sha256,
        made=at,
        engine=seen.engine,
        points=sum(counts),
        probes=probes,
        content=content if points or not content.of else None,
    )


def encode_baseline(found: Baseline) -> bytes:
    """As JSON, indented for people."""
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"


def decode_baseline(data: bytes) -> Baseline:
    """Read what `encode_baseline` wrote.

    Raises:
        ValueError: it is not that, or a newer form of it.
    """
    try:
        found = msgspec.json.decode(data, type=Baseline)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"it cannot be read: {error}") from error
    if found.schema_version != _SCHEMA_VERSION:
        raise ValueError(f"it has form {found.schema_version}, and only {_SCHEMA_VERSION} is known here")
    return found


def as_expected(found: Baseline) -> Expected:
    """What a later drill is compared with."""
    return Expected(
        low=found.points,
        high=found.points,
        probes=tuple(found.probes),
        content=found.content,
        writes=0,
        source=f"its first drill on {(rfc3339(found.made) or '')[:10]}",
    )
