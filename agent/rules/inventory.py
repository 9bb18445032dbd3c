"""Notice collections that backups used to hold and no longer do, and name those that are new."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import tzinfo

from msgspec import Struct

from agent.rules.finding import Finding, Level, ok
from agent.rules.words import count, moment

STAYS = 5  # backups without a collection after which it is no longer missed
KNOWN = 2 * STAYS  # backups that say what there is


class Inventory(Struct, frozen=True, kw_only=True):
    """What one whole backup holds.

    Attributes:
        backup: its id.
        at: when it began, epoch seconds.
        points: collection to its exact count, None where nobody counted. One that could not be backed up is in it too:
            that is trouble of another kind.
        aliases: alias to collection, as the server had them.
    """

    backup: str
    at: float
    points: Mapping[str, int | None]
    aliases: Mapping[str, str] = {}


def judge(history: Sequence[Inventory], zone: tzinfo) -> list[Finding]:
    """Which collections of the backups shortly before are missing from the last one in `history`.

    Args:
        history: backups that were to hold all collections, oldest first.
        zone: of the times that people read.
    """
    earlier = history[-KNOWN:-1]
    return [_missing(name, history, zone) for name in sorted({one for it in earlier for one in it.points})]


def fresh(history: Sequence[Inventory]) -> list[str]:
    """Collections of the last backup in `history` that none of those before it holds: a fact, and no trouble."""
    if len(history) < 2:
        return []
    *earlier, newest = history
    return sorted(newest.points.keys() - {one for it in earlier for one in it.points})


def _missing(name: str, history: Sequence[Inventory], zone: tzinfo) -> Finding:
    newest = history[-1]
    last = max(index for index, one in enumerate(history) if name in one.points)
    without = len(history) - 1 - last
    if not without:
        return ok("collection_missing", name, f"{name} is in backup {newest.backup}")
    held, first = history[last], history[last + 1]
    if without >= STAYS:
        lately = count(without, "backup")
        return ok("collection_missing", name, f"{name} has been in none of the last {lately}, and is no longer missed")
    successor = _successor(name, held, newest)
    if successor:
        return ok("collection_missing", name, f"{name} was replaced by {successor}, which has its alias now")
    points = held.points[name]
    held_words = "" if points is None else f" with {count(points, 'point')}"
    return Finding(
        "collection_missing",
        name,
        Level.CRITICAL,
        f"{name} is missing since {moment(first.at, zone)} (backup {first.backup});"
        f" backup {held.backup} has it{held_words}",
        f"`snapward keep {held.backup}` keeps the last backup that has it, `snapward restore {held.backup}"
        f" --collection {shlex.quote(name)}` brings it back. If it was dropped on purpose, nothing is to be"
        f" done: after {STAYS} backups it is no longer missed.",
    )


def _successor(name: str, held: Inventory, newest: Inventory) -> str:
    """The collection that has taken over every alias of one that is gone, as after loading everything anew."""
    aliases = [alias for alias, target in held.aliases.items() if target == name]
    targets = {newest.aliases.get(alias, "") for alias in aliases}
    target = targets.pop() if len(targets) == 1 else ""
    return target if newest.points.get(target, 0) != 0 else ""
