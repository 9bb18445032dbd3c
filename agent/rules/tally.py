"""What the vectors of many points have in common that those of whole data have not: zeros, no numbers, one vector."""

import math
from array import array
from collections.abc import Mapping
from typing import Any

from agent.rules.content import named

# So many different vectors are told apart at the most.
_DISTINCT = 1_000_000


class Tally:
    """Counts vectors by name, see `agent.rules.rehearsed.Part`."""

    def __init__(self) -> None:
        self.points = 0
        self.vectors: dict[str, int] = {}
        self.zeroed: dict[str, int] = {}
        self.odd: dict[str, int] = {}
        self._same: dict[str, dict[int, int]] = {}

    @property
    def alike(self) -> dict[str, int]:
        """By name, the most that are one and the same vector, if there are two or more of it."""
        return {name: most for name, same in self._same.items() if (most := max(same.values())) > 1}

    @property
    def counts(self) -> dict[str, Any]:
        """All of them, as attributes of a `Part` or `Marks`."""
        return {"vectors": self.vectors, "zeroed": self.zeroed, "odd": self.odd, "alike": self.alike}

    def add(self, vectors: Any) -> int:
        """Look at the vectors of one more point; returns how many numbers they have."""
        self.points += 1
        return sum(self._look(name, vector) for name, vector in named(vectors).items())

    def _look(self, name: str, vector: Any) -> int:
        _plus(self.vectors, name)
        numbers, where = _flat(vector)
        if not any(one is None or one for one in numbers):
            _plus(self.zeroed, name)
        elif None in numbers or not math.isfinite(sum(numbers)):
            _plus(self.odd, name)
        else:
            same = self._same.setdefault(name, {})
            which = hash((array("f", numbers).tobytes(), where))
            if which in same or len(same) < _DISTINCT:
                same[which] = same.get(which, 0) + 1
        return len(numbers)


def _plus(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def _flat(vector: Any) -> tuple[list[float], tuple[int, ...]]:
    """All numbers of a vector, and what else tells it from others: of a sparse one the indices."""
    if isinstance(vector, Mapping):
        return vector["values"], tuple(vector["indices"])
    if isinstance(vector[0], list | tuple):
        return [number for row in vector for number in row], ()
    return vector, ()
