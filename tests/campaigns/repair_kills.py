"""Repairs that are killed at a random byte, with SIGKILL, and what is left of both locations then."""

import contextlib
import gzip
import hashlib
import json
import random
import shutil
import signal
import subprocess
from pathlib import Path

from msgspec import Struct
from program import COMMAND, Program, flip, until
from tars import collection, segment

NAME = "20261123T020000Z"
WRONG = "c1.snapshot.gz"


class Seen(Struct, frozen=True):
    """How many repairs died before their end, with something half done, and after all was in its place."""

    killed: int
    halves: int
    wholes: int


def tree(folder: Path) -> dict[str, bytes]:
    """All that lies there for people, hidden folders left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.relative_to(folder).parts[0].startswith(".")
    }


def large(program: Program, size: int) -> Path:
    """A backup by hand in the primary, large enough to be killed in the middle of its copy."""
    folder = program.primary / "daily" / NAME
    folder.mkdir(parents=True)
    entries = []
    for number in range(3):
        content = random.Random(number).randbytes(size)  # noqa: S311 - the same each time, not a secret
        data = gzip.compress(collection(segment(more=[("seed", content)])), compresslevel=0, mtime=0)
        (folder / f"c{number}.snapshot.gz").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        entries.append({"name": f"c{number}", "file": f"c{number}.snapshot.gz", "size": len(data), "sha256": digest})
    said = {"id": folder.name, "tier": "daily", "engine": {"kind": "edge"}, "collections": entries}
    said |= {"started": "2026-11-23T02:00:00Z", "ended": "2026-11-23T02:00:05Z"}
    (folder / "manifest.json").write_text(json.dumps(said), encoding="utf-8")
    return folder


def killed(program: Program, done: int) -> bool:
    """A repair that is killed when about so many bytes are copied; whether it was still at work."""
    with program.log.open("ab") as log:
        process = subprocess.Popen(
            [*COMMAND, "--config", str(program.config), "repair", "--yes"],
            stdout=log,
            stderr=log,
            env=program.environment,
        )

        def far() -> bool:
            below = (program.secondary / ".repairing").rglob("*")
            return process.poll() is not None or sum(one.stat().st_size for one in below if one.is_file()) >= done

        with contextlib.suppress(FileNotFoundError):  # it was just renamed
            until(far, what="the copy")
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


def repair_kills(program: Program, rounds: int, seed: int, size: int = 8 << 20) -> Seen:
    """Kill a repair in each round, of a copy that is gone or of one that is bad in turn, and let the next one end it.

    After each death both locations hold what they held before, or all of what was wanted; after the next repair they
    are equal, each bad file lies in the quarantine, and every deed is over.
    """
    dice = random.Random(seed)  # noqa: S311 - a campaign can be repeated
    large(program, size)
    program.run("verify", "--all")
    good = tree(program.primary)
    copy = program.secondary / "daily" / NAME
    aside = program.secondary / ".quarantine" / "daily" / NAME
    program.run("repair", "--yes")
    deaths = halves = wholes = 0
    for number in range(rounds):
        damaged = b""
        if number % 2:
            flip(copy / WRONG, dice.randrange(1000, size))
            damaged = (copy / WRONG).read_bytes()
            program.run("verify", "--all", expect=2)
        else:
            shutil.rmtree(copy)
            program.run("reconcile")
        before = tree(program.secondary)
        deaths += killed(program, dice.randrange((1 if number % 2 else 3) * size))
        after = tree(program.secondary)
        assert after in (before, good), f"seed {seed}, round {number}"
        halves += (program.secondary / ".repairing").exists()
        wholes += after == good
        program.run("repair", "--yes")
        assert tree(program.secondary) == good == tree(program.primary), f"seed {seed}, round {number}"
        assert not (program.secondary / ".repairing").exists()
        if damaged:
            assert damaged in [path.read_bytes() for path in aside.glob(f"{WRONG}*")]
        assert not program.query("SELECT * FROM deed WHERE ended IS NULL")
    assert program.open_incidents() == {}
    return Seen(deaths, halves, wholes)
