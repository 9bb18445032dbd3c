"""Whether anything was written to a collection between two moments, by the numbers that servers give operations."""

import threading
import time
from collections.abc import Mapping, Sequence

from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.server import Server
from agent.adapters.qdrant.wire import Halted, Wire
from agent.errors import AgentError

# Server and shard to the number of the last operation there.
Numbers = Mapping[tuple[int, int], int]


class Operations:
    """The number of the last operation on each shard of each collection.

    One answer has those of all collections, so it is asked once for all who want to know at the same time.

    Args:
        addresses: of all servers that have shards.
    """

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses
        self._turn = threading.Lock()
        self._asked = -1.0
        self._told: dict[str, dict[tuple[int, int], int]] = {}

    def before(self, collection: str, halted: Halted) -> Numbers:
        """Those of a moment that has passed, be it some time ago; empty where a server does not tell."""
        return self._since(0.0, halted).get(collection, {})

    def now(self, collection: str, halted: Halted) -> Numbers:
        """Those of this moment, or a later one; empty where a server does not tell."""
        return self._since(time.monotonic(), halted).get(collection, {})

    def _since(self, moment: float, halted: Halted) -> Mapping[str, Numbers]:
        with self._turn:
            if self._asked < moment:
                self._asked, self._told = time.monotonic(), {}
                self._told = self._ask(halted)
            return self._told

    def _ask(self, halted: Halted) -> dict[str, dict[tuple[int, int], int]]:
        told: dict[str, dict[tuple[int, int], int]] = {}
        for number, address in enumerate(self._addresses):
            wire = Wire(address, halted)
            try:
                shards = Server(wire).operations()
            except AgentError:
                wire.check()
                return {}
            for name, one in shards.items():
                told.setdefault(name, {}).update({(number, shard): last for shard, last in one.items()})
        return told


def writes(before: Numbers, after: Numbers) -> int | None:
    """How many operations lie between; None where that is not known, as after a restart of the server."""
    if not before or before.keys() != after.keys() or any(after[one] < before[one] for one in before):
        return None
    return sum(after.values()) - sum(before.values())
