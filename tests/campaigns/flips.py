"""Damage: one byte flipped at a random place of every archive."""

import gzip
import hashlib
import io
import os
import random
import tarfile
import threading
import time
from pathlib import Path

from msgspec import Struct
from program import Program, flip, until


class Flips(Struct, frozen=True):
    """What became of so many flipped bytes; the waits are seconds from coming to rest to the row in the outbox."""

    seed: int
    archives: int
    told: int
    slowest: float
    median: float

    def __str__(self) -> str:
        return (
            f"{self.told} of {self.archives} flipped bytes told; from rest to the outbox {self.median:.2f} s in the"
            f" median, {self.slowest:.2f} s at most (seed {self.seed})"
        )


def flips(program: Program, number: int, *, settle: float, seed: int) -> Flips:
    """Let `number` archives be proved, flip one byte in each, and see when that is in the outbox."""
    chance = random.Random(seed)  # noqa: S311 - damage that can be repeated, not a secret
    folder = program.primary / "daily"
    folder.mkdir()
    paths = [_archive(folder, index, chance) for index in range(number)]
    names = {path.name for path in paths}
    until(lambda: _good(program) >= names, 60, "the first verdicts")
    flipped = {}
    hand = threading.Event()
    for path in chance.sample(paths, len(paths)):
        before = path.stat()
        flip(path, chance.randrange(before.st_size))
        if chance.random() < 0.5:  # damage does not always show in the modification time
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        flipped[f"primary:daily/{path.name}"] = time.time()
        hand.wait(chance.uniform(0, 0.2))
    until(lambda: _told(program).keys() >= flipped.keys(), 60, "the alerts")
    told = _told(program)
    assert told.keys() == flipped.keys()
    waits = sorted(told[subject] - (at + settle) for subject, at in flipped.items())
    return Flips(seed, number, len(told), waits[-1], waits[len(waits) // 2])


def _archive(folder: Path, index: int, chance: random.Random) -> Path:
    """A compressed snapshot, a tar archive or a plain snapshot, from 4 KiB to 4 MiB."""
    data = b"snapshot" + chance.randbytes(int(2 ** chance.uniform(12, 22)) - 8)
    kind = (".snapshot.gz", ".tar.gz", ".snapshot")[index % 3]
    if kind == ".snapshot.gz":
        data = gzip.compress(data, 1)
    elif kind == ".tar.gz":
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
            entry = tarfile.TarInfo("content")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        data = packed.getvalue()
    path = folder / f"{index:03}{kind}"
    path.write_bytes(data)
    Path(f"{path}.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  {path.name}\n", encoding="ascii")
    return path


def _good(program: Program) -> set[str]:
    return {row[0] for row in program.query("SELECT name FROM archive WHERE state = 'good'")}


def _told(program: Program) -> dict[str, float]:
    """When the news that an archive is bad came into the outbox, by the archive."""
    rows = program.query(
        "SELECT subject, min(at) FROM news JOIN incident ON incident.id = news.incident"
        " WHERE rule = 'archive_bad' AND change = 'opened' GROUP BY subject"
    )
    return dict(rows)
