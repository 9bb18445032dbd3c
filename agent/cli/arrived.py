"""Take note of what has arrived and that no agent has looked at yet, before anything is done with backups."""

import sqlite3
from collections.abc import Callable, Sequence

from agent.adapters.ledger import catalogue
from agent.adapters.ledger.catalogue import Key
from agent.adapters.shelf import look
from agent.cli import parts
from agent.jobs.intake import sweep
from agent.rules.checksums import is_checksum_file
from agent.settings import Settings
from agent.settings.parts import keeps, places, telling


def arrived(
    db: sqlite3.Connection, settings: Settings, stopping: Callable[[], bool] = lambda: False, *, loose: bool
) -> list[Key]:
    """Take note of backups that have arrived, each by its manifest, and where `loose` of archives that are in none.

    Returns the archives that are new, or not what they were, and that nobody has read so far.

    A manifest is small. A loose archive is read to its end, since nothing else tells what it is.
    """
    names, told, least = look.pattern(settings.watch.patterns), telling(settings), settings.watch.minimum_size
    by_name = places(settings)
    found = sweep.look_over(db, by_name.values(), names, keeps(settings), least, parts.now, told)
    new = [key for one in found for key, _ in one.changed]

    def prove(keys: Sequence[Key]) -> None:
        for name, place in by_name.items():
            todo = sweep.works(db, place, [(key, None) for key in keys if key.location == name], trust=True)
            for _ in sweep.prove(db, todo, names, least, parts.now, told, stopping=stopping):
                pass

    prove([key for key in new if is_checksum_file(key.name)])
    archives = [key for key in new if not is_checksum_file(key.name)]
    left = [key for key in archives if not loose or catalogue.folder(db, key.location, key.folder) is not None]
    prove(sorted(set(archives) - set(left)))
    return left
