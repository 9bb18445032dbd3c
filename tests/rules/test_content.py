import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rules import content

FLOATS = st.floats(width=32, allow_nan=False)
VALUES = st.none() | st.booleans() | st.integers() | FLOATS | st.text()
PAYLOADS = st.dictionaries(st.text(max_size=8), VALUES, max_size=5)


def single(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


@given(st.lists(FLOATS, min_size=1, max_size=20), PAYLOADS)
def test_the_order_in_which_a_payload_is_told_does_not_matter(vector: list[float], payload: dict[str, Any]) -> None:
    other = dict(reversed(list(payload.items())))
    assert content.digest(vector, payload) == content.digest(vector, other)


@given(st.lists(FLOATS, min_size=1, max_size=20), st.data())
def test_each_changed_bit_of_a_vector_shows(vector: list[float], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(vector) * 4 - 1))
    packed = bytearray(struct.pack(f"<{len(vector)}f", *vector))
    packed[at] ^= 1 << data.draw(st.integers(0, 7))
    changed = list(struct.unpack(f"<{len(vector)}f", packed))
    before, after = content.digest(vector, {"a": 1}), content.digest(changed, {"a": 1})
    assert content.differs(before, after) == "vectors"


def test_what_is_read_with_more_digits_is_the_same_float() -> None:
    assert content.digest([0.1, 0.7], None) == content.digest([single(0.1), single(0.7)], {})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1.0, 2.0], {"": [1.0, 2.0]}),
        ({"a": [1.0], "b": []}, {"a": [1.0]}),
        ({"a": {"indices": [7, 3], "values": [0.7, 0.3]}}, {"a": {"values": [0.3, 0.7], "indices": [3, 7]}}),
        (None, {}),
        ({}, {"a": {"indices": [], "values": []}}),
        ({"a": [[1, 2], [3, 4]]}, {"a": [[1.0, 2.0], [3.0, 4.0]]}),
    ],
)
def test_two_ways_to_tell_the_same_vectors_have_one_digest(one: Any, other: Any) -> None:
    assert content.digest(one, None) == content.digest(other, None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": [1.0]}, {"b": [1.0]}),
        ([1.0, 2.0], [2.0, 1.0]),
        ([[1.0, 2.0]], [[1.0], [2.0]]),
        ([[1.0, 2.0]], [1.0, 2.0]),
        ({"a": {"indices": [1], "values": [2.0]}}, {"a": {"indices": [2], "values": [1.0]}}),
        ([1.0], None),
        ([None], [0.0]),
    ],
)
def test_two_different_vectors_have_two_digests(one: Any, other: Any) -> None:
    assert content.digest(one, None) != content.digest(other, None)


def test_a_digest_tells_whether_the_vectors_or_the_payload_changed() -> None:
    whole = content.digest([1.0], {"city": "Lima"})
    assert len(whole) == 16
    assert content.differs(whole, content.digest([1.0], {"city": "Kyoto"})) == "payload"
    assert content.differs(whole, content.digest([2.0], {"city": "Kyoto"})) == "vectors and payload"
    assert content.differs(whole, whole) == ""
