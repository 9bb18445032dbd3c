"""Sudden deaths of backups from a Qdrant server that lives on: killed at random moments, and then made again."""

import gzip
import hashlib
import json
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from campaigns.qdrant_traces import FILES, OPERATIONS, PHASES, STATES, Server, Traces
from msgspec import Struct
from program import COMMAND, Program, until

_BESIDE = {"manifest.json", "SHA256SUMS", "RESTORE.md"}


class Deaths(Struct, frozen=True):
    """What was seen.

    Attributes:
        seed: of every moment.
        seconds: that a backup takes when nobody kills it.
        phases: kills by how far the backup had come, going by what lay on the disks and in the ledger.
        heard: kills by what the server had been asked last, where it tells.
        caught: by how far each single collection had come.
        published: folders that were proved whole.
        one_sided: backups that reached only the first location.
        again: backups that were made after a kill and were good.
        left: snapshots that lay on the server, or were being made there, right after a kill.
        reported: collections of which `snapward health` told that a snapshot was forgotten.
        late: snapshots that the server finished only after the next backup.
        interrupted: runs that the backup after them has closed.
    """

    seed: int
    seconds: float
    phases: dict[str, int]
    heard: dict[str, int]
    caught: dict[str, int]
    published: int
    one_sided: int
    again: int
    left: int
    reported: int
    late: int
    interrupted: int

    def __str__(self) -> str:
        heard = f"  the server was asked last: {_listed(self.heard)};\n" if self.heard else ""
        return (
            f"seed {self.seed}, undisturbed {self.seconds:.2f} s; killed {_listed(self.phases)};\n"
            f"{heard}  collections: {_listed(self.caught)};\n"
            f"  {self.published} published folders are whole, {self.one_sided} backups in one location only;"
            f" {self.again} backups made again; {self.left} snapshots left on the server, {self.reported} reported,"
            f" {self.late} finished after the next backup, none there in the end; {self.interrupted} runs interrupted"
        )


class Fire:
    """Backups under fire."""

    def __init__(self, program: Program, server: Server, chance: random.Random) -> None:
        self.program, self.server, self.chance = program, server, chance
        self.clock = threading.Event()
        self.foreign = {server.make_foreign()}
        self.whole: set[Path] = set()
        self.phases: Counter[str] = Counter()
        self.heard: Counter[str] = Counter()
        self.caught: Counter[str] = Counter()
        self.left = self.reported = self.late = self.again = 0
        self.seconds = min(self._undisturbed() for _ in range(2))

    def kill(self, moment: str | None) -> bool:
        """Kill a backup a little after a moment, or at any time; False if it was over before."""
        if self.server.standin:
            self.server.standin.requests.clear()
        traces, log = Traces(self.program), self.program.home / "backup.log"
        command = [*COMMAND, "--config", str(self.program.config), "backup"]
        delay = self.chance.uniform(0, self.seconds) if moment is None else self.chance.choice((0, 0, 0, 0.02))
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env=self.program.environment)
        if moment is not None:
            while process.poll() is None and not traces.reached(moment, self.server):
                self.clock.wait(0.0005)
        if delay:
            self.clock.wait(delay)
        process.kill()
        if process.wait() >= 0:
            assert process.returncode == 0, f"it ended with {process.returncode}: {log.read_text()}"
            return False
        phase = traces.phase()
        self.phases[phase] += 1
        self.heard.update(self.server.heard()[-1:])
        self.caught.update(traces.collections().values())
        self.left += len(self.server.snapshots() - self.foreign) + sum(self.server.making().values())
        self.nothing_is_half()
        return True

    def nothing_is_half(self) -> None:
        """See that what is published since the last time is whole, and that nothing else can be seen."""
        for root in (self.program.primary, self.program.secondary):
            assert {path.name for path in root.iterdir()} <= {".incoming", "manual"}
            for folder in set(root.glob("manual/*")) - self.whole:
                _is_whole(folder)
                self.whole.add(folder)

    def make_again(self) -> None:
        """The next backup succeeds and tidies up; what the server finishes later is told, and tidied up next."""
        self._backup()
        if self._asked():  # the server is still at work for a backup that died
            self.late += self.look()
            self._backup()
        assert self.server.snapshots() == self.foreign
        assert self._asked() == []
        assert self.program.query("PRAGMA quick_check") == [("ok",)]
        assert self.program.query("SELECT * FROM run WHERE outcome = 'running'") == []

    def look(self) -> int:
        """Once the server has done what it was asked, a look at it tells of each snapshot left; returns how many."""
        until(lambda: not self.server.making(), 60, "the end of the server's work")
        left = self.server.snapshots() - self.foreign
        told = self.program.json("health", expect=None)["findings"]
        forgotten = {one["subject"] for one in told if one["rule"] == "snapshots_forgotten" and one["level"] != "ok"}
        silent = {one for one in left if one[0] not in forgotten}
        assert not silent, f"nobody tells of {silent}; noted is {self._asked()}"
        self.reported += len({name for name, _ in left})
        return len(left)

    def _backup(self) -> None:
        answer = self.program.json("backup")
        assert (answer["state"], answer["locations"], answer["failed"]) == ("good", ["primary", "secondary"], [])
        assert answer["left_on_server"] == []
        for root in (self.program.primary, self.program.secondary):
            assert not (behind := list((root / ".incoming").iterdir())), f"{behind} were left behind"
        self.nothing_is_half()
        self.again += 1

    def _asked(self) -> list[tuple[Any, ...]]:
        return self.program.query("SELECT * FROM asked")

    def _undisturbed(self) -> float:
        began = time.monotonic()
        self.make_again()
        return time.monotonic() - began


def kills(program: Program, server: Server, number: int, seed: int) -> Deaths:
    """Kill `number` backups, every other one at any time, the rest when something has just happened."""
    chance = random.Random(seed)  # noqa: S311 - moments that can be chosen again, not a secret
    fire = Fire(program, server, chance)
    moments = [*PHASES[1:], *STATES, *(OPERATIONS if server.standin else ())]
    chance.shuffle(moments)
    killed = 0
    while killed < number:
        if server.standin and chance.random() < 0.2:  # the server takes so long that the next backup may be faster
            server.standin.faults.add("linger", collection=chance.choice(["sparse", "empty"]), seconds=3.0, times=1)
        if not fire.kill(moments[killed // 2 % len(moments)] if killed % 2 else None):
            continue
        killed += 1
        if (then := chance.choice(("again", "again", "look", "kill once more"))) == "look":
            fire.look()
        if then != "kill once more":
            fire.make_again()
    fire.make_again()
    return _looked_over(program, fire, seed)


def _looked_over(program: Program, fire: Fire, seed: int) -> Deaths:
    ids = [{path.name for path in root.glob("manual/*")} for root in (program.primary, program.secondary)]
    assert ids[1] <= ids[0]
    assert len(ids[0] - ids[1]) == fire.phases["published in 1"]
    interrupted = program.query("SELECT count(*) FROM run WHERE job = 'backup' AND outcome = 'interrupted'")[0][0]
    assert interrupted == sum(fire.phases.values()) - fire.phases["noted as over"] - fire.phases["not yet begun"]
    verified = program.json("verify", "--all")
    assert (verified["checked"], verified["bad"]) == (len(fire.whole) * len(FILES), 0)
    return Deaths(
        seed=seed,
        seconds=fire.seconds,
        phases=dict(fire.phases),
        heard=dict(fire.heard),
        caught=dict(fire.caught),
        published=len(fire.whole),
        one_sided=len(ids[0] - ids[1]),
        again=fire.again,
        left=fire.left,
        reported=fire.reported,
        late=fire.late,
        interrupted=interrupted,
    )


def _is_whole(folder: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True, check=False
    )
    assert done.returncode == 0, f"{folder}: {done.stdout!r} {done.stderr!r}"
    listed = (folder / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    assert {line.split("  ")[1] for line in listed} == {*FILES.values()}
    told = json.loads((folder / "manifest.json").read_bytes())
    assert told["failed"] == []
    assert {one["name"]: one["file"] for one in told["collections"]} == FILES
    assert {path.name for path in folder.iterdir()} == {*FILES.values(), *_BESIDE}
    for one in told["collections"]:
        raw = gzip.decompress((folder / one["file"]).read_bytes())
        assert hashlib.sha256(raw).hexdigest() == one["raw_sha256"] == one["server_sha256"]


def _listed(numbers: Mapping[str, int]) -> str:
    ordered = sorted(numbers.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{number} x {what}" for what, number in ordered)
