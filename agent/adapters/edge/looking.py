"""Read points of an open shard whole, and look at what they hold."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from msgspec import json

from agent.adapters.edge import asking
from agent.adapters.edge.asking import Failed, Record
from agent.rules.content import digest
from agent.rules.rehearsed import Marks
from agent.rules.tally import Tally

_FIRST_BATCH, _LARGEST_BATCH = 16, 512
_WEIGHT = 200_000  # numbers in a batch; payloads count by their length
_NAMED = 20


class Look:
    """What points show that are read whole, see `agent.rules.rehearsed.Part`.

    Args:
        wanted: ids as text of the points whose digests are kept.
    """

    def __init__(self, wanted: Iterable[str] = ()) -> None:
        self._wanted = frozenset(wanted)
        self._unreadable = 0
        self._unread: list[str] = []
        self._digests: dict[str, str] = {}
        self._all, self._recorded = Tally(), Tally()
        self._batch = _FIRST_BATCH

    def found(self) -> dict[str, Any]:
        """All of it, as attributes of a `Part`."""
        return {
            "read": self._all.points,
            "unreadable": self._unreadable,
            "unread": tuple(self._unread),
            "digests": self._digests,
            "vectors": self._all.vectors,
            "zeroed": self._all.zeroed,
            "odd": self._all.odd,
            "alike": self._all.alike,
            "recorded": Marks(
                points=self._recorded.points,
                vectors=self._recorded.vectors,
                zeroed=self._recorded.zeroed,
                odd=self._recorded.odd,
                alike=self._recorded.alike,
            ),
        }

    def points(self, shard: Any, ids: Sequence[int | UUID]) -> None:
        """Read these points, a batch at a time; those that are not there are passed over."""
        at = 0
        while at < len(ids):
            batch = ids[at : at + self._batch]
            at += len(batch)
            try:
                self._take(asking.retrieve(shard, batch))
            except Failed:
                self._singly(shard, batch)

    def _singly(self, shard: Any, ids: Sequence[int | UUID]) -> None:
        for one in ids:
            try:
                self._take(asking.retrieve(shard, [one]))
            except Failed as failed:
                self._unreadable += 1
                if len(self._unread) < _NAMED:
                    self._unread.append(f"{_guilty(shard, one)} of point {one}: {failed.words}")

    def _take(self, records: list[Record]) -> None:
        heaviest = 1
        for number, record in enumerate(records):
            vectors, payload = record.vectors, record.payload
            weight = self._all.add(vectors)
            if record.key in self._wanted:
                self._recorded.add(vectors)
                self._digests[record.key] = digest(vectors, payload)
            if number % 64 == 0:
                heaviest = max(heaviest, weight + len(json.encode(payload)) // 8)
        self._batch = max(1, min(_LARGEST_BATCH, _WEIGHT // heaviest))


def _guilty(shard: Any, point: int | UUID) -> str:
    """What of a point cannot be read."""
    for name, wanted in (("the payload", {"vectors": False}), ("a vector", {"payload": False})):
        try:
            records = asking.retrieve(shard, [point], **wanted)
            _ = [record.vectors for record in records]
        except Failed:
            return name
    return "all"
