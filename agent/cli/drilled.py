"""What came of drills, as people and programs read it."""

from typing import Any

from agent.adapters.ledger.drills import Drill
from agent.cli import text
from agent.rules import drilling
from agent.rules.alert import plain
from agent.rules.archive import ARRIVED, lowest
from agent.rules.drilling import FAILED, INCONCLUSIVE, PASSED
from agent.rules.words import size, span

EXIT = {PASSED: 0, FAILED: 2, INCONCLUSIVE: 3}


class Answer:
    """Gathers what a run of the command answers."""

    def __init__(self, backup: str | None, depth: str) -> None:
        self.notes: list[str] = []
        self.left: list[str] = []
        self._backup, self._depth = backup, depth
        self._engine = ""
        self._raw = self._peak = 0

    def seen(self, done: Drill) -> None:
        """Add what one drill took."""
        self._engine = done.engine
        self._raw += done.raw_bytes
        self._peak = max(self._peak, int(done.evidence.get("peak_bytes", 0)))

    def told(self, rows: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
        """All of it, with a row for each collection."""
        return {
            "backup": self._backup,
            "engine": self._engine,
            "depth": self._depth,
            "level": lowest(one["level"] for one in rows),
            "state": drilling.summed([one["state"] for one in rows]),
            "seconds": round(seconds, 3),
            "raw_bytes": self._raw,
            "peak_bytes": self._peak,
            "collections": rows,
            "left": self.left,
            "notes": self.notes,
        }


def shown(one: Drill) -> dict[str, Any]:
    """One drill, as JSON has it."""
    return {
        "name": one.collection,
        "backup": one.backup,
        "level": one.level,
        "state": one.state,
        "points": one.points,
        "expected": [one.low, one.high],
        "probes": {"asked": one.asked, "matched": one.matched},
        "content": {"compared": one.evidence.get("compared", 0), "same": one.evidence.get("same", 0)},
        "seconds": one.seconds,
        "location": one.location,
        "why": one.why,
        "notes": list(one.evidence.get("notes", ())),
    }


def unknown(collection: str, backup: str, why: str) -> dict[str, Any]:
    """The row of a collection that was not drilled, since nothing could be."""
    nothing = Drill(
        at=0.0,
        seconds=0.0,
        backup=backup,
        tier="",
        collection=collection,
        location="",
        depth="",
        state=INCONCLUSIVE,
        level=ARRIVED,
        why=why,
        engine="",
    )
    return shown(nothing)


def words(answer: dict[str, Any]) -> str:
    """The sum of it in one line."""
    states = [one["state"] for one in answer["collections"]]
    if not states and not answer["left"]:
        return "there is nothing to drill"
    told = f"{drilling.headline(states)}, after {span(answer['seconds'])}"
    left = len(answer["left"])
    return f"{told}; {left:,} left for another time, as this one is short" if left else told


def show(answer: dict[str, Any]) -> None:
    """Print it for people."""
    if answer["collections"]:
        heads = ("STATE", "LEVEL", "COLLECTION", "POINTS", "PROBES", "CONTENT", "SECONDS", "WHY")
        text.table(heads, [_cells(one) for one in answer["collections"]])
    for one in answer["collections"]:
        for note in one["notes"]:
            text.say(f"  {text.state('warning')} {plain(one['name'])}: {plain(note)}")
    for note in answer["notes"]:
        text.say(text.dim(f"  {note}"))
    for name in answer["left"]:
        text.say(f"  {plain(name)} was not begun: the time would not have been enough")
    took = f"; {size(answer['raw_bytes'])} unpacked" if answer["raw_bytes"] else ""
    by = f" by {answer['engine']}" if answer["engine"] else ""
    text.say(f"{text.bold(words(answer))}{took}{by}")


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    probes, content = one["probes"], one["content"]
    return (
        text.state(one["state"]),
        one["level"],
        plain(one["name"]),
        "-" if one["points"] is None else f"{one['points']:,}",
        f"{probes['matched']}/{probes['asked']}" if probes["asked"] else "-",
        f"{content['same']:,}/{content['compared']:,}" if content["compared"] else "-",
        f"{one['seconds']:.1f}",
        plain(one["why"], 1000),
    )
