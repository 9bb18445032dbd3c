"""Sudden deaths of restores in place: killed at random moments, and then made again."""

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping

from campaigns.restore_traces import PHASES, STATES, Site, Traces
from msgspec import Struct
from program import COMMAND, Program
from standin import StandIn

from agent.rules.content import digest

RESTORE = ("restore", "latest-good", "--replace", "--yes")
_BESIDE = "brought back"


class Breaks(Struct, frozen=True):
    """What was seen.

    Attributes:
        seed: of every moment.
        seconds: that a restore takes when nobody kills it.
        phases: kills by how far the restore had come.
        states: kills while restoring, by how far the collection in hand had come.
        servers: deaths of the server.
        found: collections right after a kill: untouched, restored, empty before, or only in the backup that is named.
        attempts: attempts that it took until all was restored.
        brought: collections that were brought back from a backup that was named.
    """

    seed: int
    seconds: float
    phases: dict[str, int]
    states: dict[str, int]
    servers: int
    found: dict[str, int]
    attempts: dict[str, int]
    brought: int

    def __str__(self) -> str:
        return (
            f"seed {self.seed}, undisturbed {self.seconds:.2f} s; killed {_listed(self.phases)};\n"
            f"  the collection in hand: {_listed(self.states)}; {self.servers} deaths of the server;\n"
            f"  collections after a kill: {_listed(self.found)}; {self.brought} brought back from what was named;\n"
            f"  all restored in {_listed(self.attempts)}"
        )


class Fire:
    """Restores under fire."""

    def __init__(self, program: Program, standin: StandIn, chance: random.Random) -> None:
        self.program, self.standin, self.chance, self.site = program, standin, chance, Site(standin, chance)
        self.clock = threading.Event()
        self.phases: Counter[str] = Counter()
        self.states: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self.attempts: Counter[str] = Counter()
        self.servers = self.brought = 0
        self.recorded, self.aliases = self.site.everything(), self.site.aliases()
        self.backup = program.json("backup")["id"]
        assert program.json("drill", "--light")["state"] == "passed"
        self.before = self.recorded
        self.named: dict[str, str] = {}
        began = time.monotonic()
        self.finish()
        self.seconds = time.monotonic() - began

    def stir(self) -> None:
        """From now on something else is on the server than in the backup."""
        self.site.work()
        self.before, self.named = self.site.everything(), {}

    def kill(self, moment: str | None) -> bool:
        """Kill a restore a little after a moment, or at any time; False if it was over before."""
        traces, log = Traces(self.program, self.site), self.program.home / "restore.log"
        delay = self.chance.uniform(0, self.seconds) if moment is None else self.chance.choice((0, 0, 0, 0.02))
        command = [*COMMAND, "--config", str(self.program.config), *RESTORE]
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env=self.program.environment, process_group=0)
        if moment is not None:
            while process.poll() is None and not traces.reached(moment):
                self.clock.wait(0.002)
        self.clock.wait(delay)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.wait() >= 0:
            return False
        phase = traces.phase()
        self.phases[phase] += 1
        if phase == "restoring":
            self.states[traces.state()] += 1
        if self.chance.random() < 0.15:
            self.servers += 1
            self.standin.restart(self.chance.choice((0.0, 0.3)))
        self.found.update(self.nothing_is_lost().values())
        return True

    def nothing_is_lost(self, said: str = "") -> dict[str, str]:
        """See that what was there is there, or was restored, or is in a backup that is named; returns which it is."""
        found = {}
        for name, before in self.before.items():
            now = self.site.facts(name)
            if now == before:
                found[name] = "untouched"
            elif now == self.recorded[name]:
                found[name] = "restored"
            elif before.get("points"):
                found[name] = "named"
                self.named[name] = self._named(name, said)
            else:
                found[name] = "empty"
        return found

    def finish(self) -> None:
        """The same command ends well, after three attempts at most, and all is as it was backed up."""
        for attempt in ("1 attempt", "2 attempts", "3 attempts"):
            done = self.program.run(*RESTORE, "--json", expect=None)
            if not done.returncode:
                self.attempts[attempt] += 1
                break
            assert done.returncode in {2, 69, 75}, f"{done.returncode}: {done.stdout}{done.stderr}"
            self.nothing_is_lost(done.stdout)
        assert done.returncode == 0, f"it does not come to its end: {done.stdout}{done.stderr}"
        answer = json.loads(done.stdout)
        assert (answer["state"], answer["backup"]) == ("good", self.backup)
        for name, now in self.site.everything().items():
            assert now == self.recorded[name], f"{name} is not as it was: {answer}"
        assert self.site.aliases() == self.aliases
        assert self.program.query("SELECT id FROM run WHERE outcome = 'running'") == []
        assert not {rule for rule, _ in self.program.open_incidents()} & {"restore_failed", "drill_failed"}
        self._is_tidy()
        self._bring_back()

    def _named(self, name: str, said: str) -> str:
        """The backup that is named for a collection, and that has all that was there."""
        note = "SELECT pre_restore FROM restored WHERE target = ? AND url = ? ORDER BY id DESC LIMIT 1"
        named = next((row[0] for row in self.program.query(note, name, self.site.url)), None)
        assert named, f"{name} is not as it was, and nothing tells where that is now"
        manifest = json.loads((self.program.primary / "pre-restore" / named / "manifest.json").read_bytes())
        (entry,) = (one for one in manifest["collections"] if one["name"] == name)
        there = {str(one["id"]): digest(one["vector"], one["payload"]) for one in self.before[name]["points"]}
        assert entry["content"]["points"] == there, f"backup {named} of {name} has other points than were there"
        for one in json.loads(said)["collections"] if said else ():
            if (one["name"], one["state"]) == (name, "bad"):
                assert f"`snapward restore {named} --collection" in one["why"], f"{name}: {one['why']}"
        return str(named)

    def _bring_back(self) -> None:
        """What was named is known now that somebody has looked, and brings back what was there."""
        listed = {one["id"] for one in self.program.json("list", "--tier", "pre-restore")["backups"]}
        assert set(self.named.values()) <= listed
        for name, named in list(self.named.items())[:1]:
            words = ("--collection", name, "--as", _BESIDE)
            assert self.program.json("restore", named, *words, "--yes")["state"] == "good"
            assert self.site.facts(_BESIDE)["points"] == self.before[name]["points"]
            self.site.drop(_BESIDE)
            self.brought += 1

    def _is_tidy(self) -> None:
        """Nothing that was uploaded is left, and what backups have left is known."""
        left = self.site.left()
        assert not [path for path in left if path.name.startswith("snapward-restore-")]
        known = {row[0] for row in self.program.query("SELECT collection FROM asked")}
        assert {path.parent.name for path in left} <= known, f"nobody knows of {left}"
        for root in (self.program.primary, self.program.secondary):
            assert not list((root / ".incoming").iterdir())


def kills(program: Program, standin: StandIn, number: int, seed: int) -> Breaks:
    """Kill `number` restores, every other one at any time, the rest when something has just happened."""
    chance = random.Random(seed)  # noqa: S311 - moments that can be chosen again, not a secret
    fire = Fire(program, standin, chance)
    moments = [*PHASES[1:-1], *STATES]
    chance.shuffle(moments)
    killed = 0
    while killed < number:
        fire.stir()
        while fire.kill(moments[killed // 2 % len(moments)] if killed % 2 else None):
            killed += 1
            if killed == number or chance.random() < 0.7:
                break
        fire.finish()
    program.json("backup")
    assert not fire.site.left()
    assert not program.query("SELECT id FROM asked")
    return Breaks(
        seed=seed,
        seconds=fire.seconds,
        phases=dict(fire.phases),
        states=dict(fire.states),
        servers=fire.servers,
        found=dict(fire.found),
        attempts=dict(fire.attempts),
        brought=fire.brought,
    )


def _listed(numbers: Mapping[str, int]) -> str:
    ordered = sorted(numbers.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{number} x {what}" for what, number in ordered)
