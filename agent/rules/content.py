"""What a point holds, as one short text: the same for the same point, whichever engine or server tells it.

A digest has 16 hexadecimal digits: eight of the vectors, then eight of the payload, so that it says which of both is
not as it was. Vectors count as the 32-bit floats that Qdrant stores.
"""

import sys
from array import array
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

_PART = 4  # bytes
_NAN = float("nan")


def key(point: int | str) -> str:
    """A point's id as text; a number and a UUID can never be the same."""
    return str(point)


def digest(vectors: Any, payload: Mapping[str, Any] | None) -> str:
    """The digest of a point.

    Args:
        vectors: as Qdrant's REST tells them: one vector, or vectors by name. A vector is a list of numbers, a list of
            such lists, or `indices` with their `values`. A point without any has None or nothing.
        payload: as JSON has it; no payload is the same as an empty one.
    """
    told = blake2b(digest_size=_PART)
    for name, vector in sorted(named(vectors).items()):
        for part in (name.encode("utf-8", "surrogateescape"), *_parts(vector)):
            told.update(len(part).to_bytes(8))
            told.update(part)
    body = msgspec.json.encode(payload or {}, order="deterministic")
    return told.hexdigest() + blake2b(body, digest_size=_PART).hexdigest()


def named(vectors: Any) -> dict[str, Any]:
    """The vectors that a point has, by name; one without a name is called ""."""
    if isinstance(vectors, Mapping) and not _is_sparse(vectors):
        return {name: one for name, one in vectors.items() if _there(one)}
    return {"": vectors} if _there(vectors) else {}


def differs(recorded: str, found: str) -> str:
    """What of a point is not as it was: "vectors", "payload", both, or an empty text."""
    parts = (("vectors", slice(None, 8)), ("payload", slice(8, None)))
    return " and ".join(name for name, part in parts if recorded[part] != found[part])


def _parts(vector: Any) -> Iterator[bytes]:
    if isinstance(vector, Mapping):
        pairs = sorted(zip(vector["indices"], vector["values"], strict=True))
        yield b"sparse"
        yield b"".join(index.to_bytes(8) for index, _ in pairs)
        yield _floats([value for _, value in pairs])
    elif isinstance(vector[0], list | tuple):
        yield b"multi"
        yield from map(_floats, vector)
    else:
        yield b"dense"
        yield _floats(vector)


def _floats(values: Any) -> bytes:
    """As 32-bit floats, the least byte first; what JSON cannot say of a number is no number."""
    try:
        packed = array("f", values)
    except TypeError:
        packed = array("f", [_NAN if one is None else one for one in values])
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _is_sparse(vector: Mapping[str, Any]) -> bool:
    return vector.keys() == {"indices", "values"} and isinstance(vector["indices"], list | tuple)


def _there(vector: Any) -> bool:
    if isinstance(vector, Mapping):
        return bool(vector.get("indices"))
    return vector is not None and len(vector) > 0
