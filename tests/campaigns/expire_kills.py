"""Sudden deaths of cleanups: killed at random moments, until one of them comes to its end."""

import os
import random
import subprocess
import threading
from collections import Counter
from pathlib import Path

from madeup import DAY, made_up, tree
from msgspec import Struct
from program import COMMAND, Program

KEPT = 12
_CLEANUP = ("expire", "--yes")
# What a backup that is made up has in it.
_FILES = 4


def _age(folder: Path) -> tuple[str, str]:
    return folder.name, folder.parts[-3]


class Kills(Struct, frozen=True):
    """What was seen: kills by how far the removal in hand had come, and how many copies of backups went and stayed."""

    seed: int
    phases: dict[str, int]
    removed: int
    kept: int
    finished: int

    def __str__(self) -> str:
        told = ", ".join(f"{number} x {phase}" for phase, number in sorted(self.phases.items()))
        return (
            f"killed {told} (seed {self.seed}): {self.removed} copies of backups went as planned, {self.finished} of"
            f" them finished by a later cleanup; {self.kept} stayed as they were, and nobody was alarmed"
        )


class Shelves:
    """Both locations: what is to go, what is to stay, and how that looked before."""

    def __init__(self, program: Program, number: int, now: float) -> None:
        self.program = program
        self.roots = {"primary": program.primary, "secondary": program.secondary}
        every = {
            (name, f"daily/{made_up(root, 'daily', now - (day + 1) * DAY).name}")
            for name, root in self.roots.items()
            for day in range(number)
        }
        self.foreign = made_up(program.primary, "daily", now - 2000 * DAY, engine="restic")
        (program.primary / ".other").mkdir()
        (program.primary / ".other" / "file").write_text("somebody's")
        program.run("verify", "--all", timeout=300)
        plan = program.json("expire")
        self.going = {
            (one["location"], f"{one['tier']}/{one['id']}") for one in plan["backups"] if one["action"] == "expire"
        }
        assert len(every - self.going) == 2 * KEPT
        self.before = self.staying()

    def staying(self) -> dict[str, bytes | None]:
        """All that no cleanup may touch, with what it holds."""
        return {
            f"{name}:{path}": data
            for name, root in self.roots.items()
            for path, data in tree(root).items()
            if (name, "/".join(path.split("/")[:2])) not in self.going and not path.startswith(".expiring")
        }

    def left(self) -> int:
        """How many of those that go are in their places."""
        return sum((self.roots[name] / path).is_dir() for name, path in self.going)

    def oldest(self) -> Path:
        """The first of them to go."""
        return min(
            (self.roots[name] / path for name, path in self.going if (self.roots[name] / path).is_dir()), key=_age
        )

    def aside(self) -> list[Path]:
        """What is being taken apart."""
        return [one for root in self.roots.values() for one in root.glob(".expiring/*/*")]

    def check(self) -> None:
        """See that every backup is whole in its place, or out of it and on record."""
        assert self.staying() == self.before
        begun = dict(self.program.query("SELECT location || ':' || path, ended FROM deed WHERE kind = 'expire'"))
        for name, path in self.going:
            if (self.roots[name] / path).is_dir():
                assert len(os.listdir(self.roots[name] / path)) == _FILES, f"{name} {path} is not whole"
            else:
                assert f"{name}:{path}" in begun, f"{name} {path} went without a record"
        for one in self.aside():
            location = one.parts[-4]
            assert begun[f"{location}:daily/{one.name}"] is None, f"{one} is said to be gone"
        strangers = {one.partition(":")[2] for one in begun} - {path for _, path in self.going}
        assert not strangers, f"{strangers} should not go"


def kills(program: Program, number: int, seed: int, now: float) -> Kills:
    """Kill a cleanup so often, and let the last one be; see after each that nothing else was touched."""
    program.write(
        tiers=f'{{daily: {{cron: "0 2 * * *", keep: {KEPT}}}}}', more="cleanup: {share: 100%}\n", settle="50ms"
    )
    chance = random.Random(seed)  # noqa: S311 - a seed makes it the same again
    shelves = Shelves(program, KEPT + 8 * number, now)
    phases: Counter[str] = Counter()
    broken_off: set[tuple[str, str]] = set()
    while sum(phases.values()) < number:
        before = shelves.left()
        assert before, "they are all gone: more backups are needed"
        phases[_killed(program, shelves, before, chance)] += 1
        shelves.check()
        broken_off.update(program.query("SELECT location, path FROM deed WHERE ended IS NULL"))
    program.run(*_CLEANUP, timeout=300)
    return _looked_over(program, shelves, seed, dict(phases), len(broken_off))


def _killed(program: Program, shelves: Shelves, before: int, chance: random.Random) -> str:
    """Kill a cleanup at a random moment, mostly while it removes; returns how far it was."""
    pause, early = threading.Event(), chance.random() < 0.2
    process = subprocess.Popen(
        [*COMMAND, "--config", str(program.config), *_CLEANUP],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=program.environment,
    )
    if early:
        pause.wait(chance.uniform(0.0, 0.4))
    else:
        oldest = shelves.oldest()
        while oldest.is_dir() and process.poll() is None:
            pause.wait(0.0005)
        pause.wait(chance.uniform(0.0, 0.01))
    process.kill()
    process.wait()
    aside = shelves.aside()
    if aside:
        return "between files" if len(os.listdir(aside[0])) < _FILES else "put aside"
    if program.query("SELECT 1 FROM deed WHERE ended IS NULL"):
        return "written down"
    return "between backups" if shelves.left() < before else "before the first"


def _looked_over(program: Program, shelves: Shelves, seed: int, phases: dict[str, int], finished: int) -> Kills:
    shelves.check()
    assert shelves.left() == 0
    assert not any((root / ".expiring").exists() for root in shelves.roots.values())
    assert program.query("PRAGMA quick_check") == [("ok",)]
    assert not program.query("SELECT path FROM deed WHERE ended IS NULL")
    done = Counter(program.query("SELECT location, path FROM deed WHERE outcome NOT LIKE 'not done%'"))
    assert done == Counter(shelves.going), "each copy goes once"
    outcomes = Counter(row[0] for row in program.query("SELECT outcome FROM run WHERE job = 'cleanup'"))
    assert outcomes["ok"] == 1
    assert outcomes["running"] == 0
    assert program.open_incidents() == {}
    assert {one["action"] for one in program.json("expire")["backups"]} == {"keep"}
    return Kills(seed, phases, len(shelves.going), 2 * KEPT, finished)
