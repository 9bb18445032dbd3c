"""Choose what is read again today, so that a disk that forgets is noticed while another one still remembers."""

import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from typing import Any

from msgspec import Struct

from agent.adapters.ledger import catalogue, runs
from agent.adapters.ledger.catalogue import Key
from agent.rules import reverify
from agent.rules.finding import Finding
from agent.rules.reverify import Archive, Plan, Work

JOB = "reread"


class Budget(Struct, frozen=True):
    """What a day may take: seconds and bytes, no more than `rate` bytes a second, each archive once in `every` seconds.

    The locations share it alike.
    """

    seconds: float
    volume: int
    rate: int
    every: float


def plans(
    db: sqlite3.Connection, locations: Iterable[str], budget: Budget, spent: Mapping[str, Work], now: float
) -> dict[str, Plan[Key]]:
    """What is to be read again now in each location, the oldest proof first.

    Args:
        db: the ledger.
        locations: all that are configured.
        budget: of a day.
        spent: what of it is gone today, by location.
        now: epoch seconds.
    """
    names = list(locations)
    share = Work(budget.seconds / len(names), budget.volume // len(names))
    every: dict[str, list[Archive[Key]]] = {name: [] for name in names}
    readings = []
    for one in catalogue.archives(db):
        if one.vanished is None and one.key.location in every:
            every[one.key.location].append(Archive(one.key, one.signature.size, one.checked))
            if one.reading is not None and not one.reading.error:
                readings.append(Work(one.reading.seconds, one.reading.size))
    pace = min(reverify.speed(readings), budget.rate)
    return {
        name: reverify.plan(found, pace, share, spent.get(name, Work()), now, budget.every)
        for name, found in every.items()
    }


def findings(found: Mapping[str, Plan[Key]]) -> list[Finding]:
    """The finding `reverify_behind` about each location."""
    return [reverify.finding(name, plan) for name, plan in found.items()]


def spent(db: sqlite3.Connection, now: float, zone: tzinfo) -> dict[str, Work]:
    """What of today's budget is gone, by location; also by runs that died."""
    midnight = datetime.fromtimestamp(now, zone).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    found: dict[str, Work] = {}
    for run in runs.between(db, midnight, now + 1):
        if run.job == JOB:
            for name, told in run.figures.get("locations", {}).items():
                before = found.get(name, Work())
                found[name] = Work(before.seconds + told["seconds"], before.bytes + told["bytes"])
    return found


class Tally:
    """What a run has read so far."""

    def __init__(self) -> None:
        self._locations: dict[str, dict[str, Any]] = {}

    def add(self, location: str, seconds: float, size: int, archives: int) -> None:
        """So much more was read there."""
        told = self._locations.setdefault(location, {"seconds": 0.0, "bytes": 0, "archives": 0})
        told["seconds"] = round(told["seconds"] + seconds, 3)
        told["bytes"] += size
        told["archives"] += archives

    def figures(self) -> dict[str, Any]:
        """The sums, and each location's own, as a run keeps them."""
        sums = {
            name: round(sum(one[name] for one in self._locations.values()), 3)
            for name in ("seconds", "bytes", "archives")
        }
        return {**sums, "locations": self._locations}
