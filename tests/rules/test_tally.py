import math
from typing import Any

import pytest

from agent.rules.tally import Tally


def counted(*vectors: Any) -> dict[str, Any]:
    tally = Tally()
    for one in vectors:
        tally.add(one)
    return tally.counts


@pytest.mark.parametrize(
    ("vector", "kind"),
    [
        ([0.0, 0.0], "zeroed"),
        ([0, 0], "zeroed"),
        ([[0.0, 0.0], [0.0, -0.0]], "zeroed"),
        ({"indices": [3, 7], "values": [0.0, 0.0]}, "zeroed"),
        ([1.0, math.nan], "odd"),
        ([0.0, None], "odd"),
        ([None, None], "odd"),
        ([math.inf, -math.inf], "odd"),
        ([[1.0, 2.0], [math.inf, 1.0]], "odd"),
        ({"indices": [3], "values": [None]}, "odd"),
        ([1.0, 2.0], ""),
        ([1e-45, 0.0], ""),
        ([3.4e38, 3.4e38], ""),
    ],
    ids=str,
)
def test_what_a_vector_is_counted_as(vector: Any, kind: str) -> None:
    told = counted({"v": vector})
    assert {name: told[name] for name in ("vectors", "zeroed", "odd")} == {
        "vectors": {"v": 1},
        "zeroed": {"v": 1} if kind == "zeroed" else {},
        "odd": {"v": 1} if kind == "odd" else {},
    }
    assert told["alike"] == {}


def test_of_vectors_that_are_one_and_the_same_the_most_are_counted() -> None:
    told = counted([1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [3.0, 4.0], [3.0, 4.0], [5.0, 6.0], [0.0, 0.0], [0.0, 0.0])
    assert (told["alike"], told["zeroed"], told["vectors"]) == ({"": 3}, {"": 2}, {"": 8})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"indices": [1, 2], "values": [1.0, 2.0]}, {"indices": [1, 3], "values": [1.0, 2.0]}),
        ({"a": [1.0, 2.0]}, {"b": [1.0, 2.0]}),
        ([1.0, 2.0], [2.0, 1.0]),
    ],
)
def test_vectors_that_only_look_alike_are_not_alike(one: Any, other: Any) -> None:
    assert counted({"v": one}, {"v": other})["alike"] == {}


def test_a_point_without_a_vector_has_none_of_them() -> None:
    tally = Tally()
    assert [tally.add(one) for one in (None, {}, {"a": []}, {"a": [1.0, 2.0], "b": [[1.0], [2.0]]})] == [0, 0, 0, 4]
    assert (tally.points, tally.vectors) == (4, {"a": 1, "b": 1})
