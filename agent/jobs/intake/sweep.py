"""Do at once what the daemon does bit by bit: survey, read back and judge, for `verify` and `reconcile`."""

import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from agent.adapters.ledger import catalogue
from agent.adapters.ledger.catalogue import Key
from agent.jobs.intake import losses
from agent.jobs.intake.reading import Outcome, Work, read_back
from agent.jobs.intake.survey import Place, Survey, survey
from agent.jobs.intake.verdicts import Telling, accept
from agent.rules.archive import Signature
from agent.rules.checksums import is_checksum_file
from agent.rules.words import raw

_SMALL = 1 << 20
_BATCH = 256
# Two readers hash two archives on two cores; on small files they would only wait for each other.
_READERS = 2


def look_over(
    db: sqlite3.Connection,
    places: Iterable[Place],
    names: re.Pattern[str],
    keeps: losses.Keeps,
    minimum_size: int,
    now: Callable[[], float],
    telling: Telling,
) -> list[Survey]:
    """Compare every location with the catalogue, and write down what is gone. Reads no archive."""
    found = []
    for place in places:
        seen = survey(db, place, names)
        if not seen.root.trouble:
            losses.part_with(db, seen, keeps, minimum_size, now(), telling)
        found.append(seen)
    return found


def works(
    db: sqlite3.Connection, place: Place, files: Iterable[tuple[Key, Signature | None]], *, trust: bool
) -> list[Work]:
    """What there is to read; with `trust`, content that was inflated and looked through before is only hashed."""
    root = os.path.realpath(place.path)
    found = []
    for key, signature in files:
        path = os.path.join(root, raw(key.folder), raw(key.name))
        known = catalogue.archive(db, key) if trust else None
        reading = known.reading if known is not None else None
        found.append(Work(key, path, signature, reading if reading is not None and reading.proved else None))
    return found


def prove(
    db: sqlite3.Connection,
    todo: list[Work],
    names: re.Pattern[str],
    minimum_size: int,
    now: Callable[[], float],
    telling: Telling,
    *,
    progress: Callable[[int], None] = lambda _: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Iterator[Outcome]:
    """Read and judge files, checksum files first; yields each outcome once it is written down."""
    batch: list[Outcome] = []

    def settle() -> list[Outcome]:
        done, batch[:] = list(batch), []
        accept(db, done, minimum_size, now(), telling)
        return done

    ordered = sorted(todo, key=lambda one: not is_checksum_file(one.key.name))
    for outcome in _read(ordered, names, progress, stopping):
        batch.append(outcome)
        if len(batch) >= _BATCH or (outcome.reading is not None and outcome.reading.size > _SMALL):
            yield from settle()
    yield from settle()


def _read(
    todo: list[Work], names: re.Pattern[str], progress: Callable[[int], None], stopping: Callable[[], bool]
) -> Iterator[Outcome]:
    large = []
    for work in todo:
        if stopping():
            return
        if _size(work) > _SMALL and not is_checksum_file(work.key.name):
            large.append(work)
        else:
            yield read_back(work, names, progress)
    with ThreadPoolExecutor(_READERS, thread_name_prefix="reader") as pool:
        waiting = iter(sorted(large, key=_size, reverse=True))
        under_way: set[Future[Outcome]] = set()
        done: set[Future[Outcome]] = set()
        while True:
            while len(under_way) < _READERS and not stopping() and (one := next(waiting, None)) is not None:
                under_way.add(pool.submit(read_back, one, names, progress))
            # Handed over only now, so that the readers go on while what is done is written down.
            yield from (future.result() for future in done)
            if not under_way:
                return
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)


def _size(work: Work) -> int:
    if work.signature is not None:
        return work.signature.size
    try:
        return os.lstat(work.path).st_size
    except OSError:
        return 0
