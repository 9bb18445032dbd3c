"""How far a restore has come, and what is on its server, going by what can be seen of them from outside."""

import contextlib
import os
import random
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any

from program import Program, until
from standin import StandIn, nine
from standin.client import Client, path_of

# How far a restore has come, in order.
PHASES = ("not yet begun", "begun", "putting aside", "put aside", "restoring", "all restored", "over")
# How far the collection in hand has come, in order.
STATES = ("noted", "being sent", "being restored", "restored")
# What somebody does on the server between two restores.
_CHANGES = ("none", "fewer", "more", "other", "other", "gone")
_EIGHT = ("dense", "scalar", "indexed")  # points of which are easily made up
_NEW = 1000


class Site:
    """A server with the nine collections."""

    def __init__(self, standin: StandIn, chance: random.Random) -> None:
        self.standin, self.url, self.chance = standin, standin.url, chance

    def facts(self, name: str) -> dict[str, Any]:
        """All that a collection has to have as before; nothing where there is none."""
        found: list[dict[str, Any]] = []

        def looked() -> bool:
            with contextlib.suppress(OSError, HTTPException):  # it may be dead, or just about to die
                found.append(self._facts(name))
            return bool(found)

        until(looked, what="the server")
        return found[0]

    def _facts(self, name: str) -> dict[str, Any]:
        body = {"limit": 10_000, "with_vector": True, "with_payload": True}
        with Client(self.url) as client:
            if not client.ask("GET", path_of(name, "/exists")).result["exists"]:
                return {}
            asked = [client.ask("GET", path_of(name)), client.ask("POST", path_of(name, "/points/scroll"), body)]
        if wrong := [one.body for one in asked if one.status != HTTPStatus.OK]:
            return {"unreadable": wrong}
        info, said = (one.result for one in asked)
        schema = {field: (one["data_type"], one.get("params")) for field, one in info["payload_schema"].items()}
        return {"config": info["config"], "schema": schema, "points": said["points"]}

    def everything(self) -> dict[str, dict[str, Any]]:
        """The facts of all nine."""
        return {name: self.facts(name) for name in nine.COLLECTIONS}

    def aliases(self) -> dict[str, str]:
        """Alias to collection."""
        with Client(self.url) as client:
            listed = client.ask("GET", "/aliases").result["aliases"]
        return {one["alias_name"]: one["collection_name"] for one in listed}

    def left(self) -> list[Path]:
        """Snapshots that lie there, also in the folders of collections that are gone."""
        return list(self.standin.snapshots_dir.rglob("*.snapshot"))

    def restoring(self, name: str) -> bool:
        """Whether it is at work on what was uploaded."""
        return self.standin.restores.jobs.running(name) > 0

    def drop(self, name: str) -> None:
        """Remove a collection."""
        with Client(self.url) as client:
            assert client.ask("DELETE", path_of(name)).result

    def work(self) -> None:
        """Somebody writes, deletes, and makes collections anew; and the server may die while it restores one."""
        for name in nine.COLLECTIONS:
            self.standin.faults.take("upload", name, "die")
        if self.chance.random() < 0.3:
            name, at = self.chance.choice(list(nine.COLLECTIONS)), self.chance.choice(("", "half", "half"))
            self.standin.faults.add("die", collection=name, seconds=0.3, at=at, times=1)
        for name in nine.COLLECTIONS:
            change = self.chance.choice(_CHANGES)
            if change in {"gone", "other"}:
                self.drop(name)
            with Client(self.url) as client:
                if change == "other":
                    config = nine.COLLECTIONS[name] | {"hnsw_config": {"m": 5}}
                    assert client.ask("PUT", path_of(name), config).result
                if change in {"more", "other"} and name in _EIGHT:
                    points = [self._point(number) for number in range(_NEW, _NEW + self.chance.randint(1, 90))]
                    assert client.ask("PUT", path_of(name, "/points?wait=true"), {"points": points}).result
                if change == "fewer":
                    gone = self.chance.sample(range(60), 10)
                    assert client.ask("POST", path_of(name, "/points/delete?wait=true"), {"points": gone}).result

    def _point(self, number: int) -> dict[str, Any]:
        return {"id": number, "vector": [self.chance.uniform(-1, 1) for _ in range(8)], "payload": {"new": number}}


class Traces:
    """What a restore that is made from now on leaves on the disks, in the ledger and at the server."""

    def __init__(self, program: Program, site: Site) -> None:
        self.program, self.site = program, site
        self._before = {below: set(self._names(below)) for below in (".incoming", "pre-restore")}
        self._run = max((row[0] for row in program.query("SELECT id FROM run")), default=0)
        self._note = max((row[0] for row in program.query("SELECT id FROM restored")), default=0)
        self._asked = len(site.standin.requests)

    def phase(self) -> str:
        """How far all of it has come."""
        if self.program.query("SELECT 1 FROM run WHERE id > ? AND outcome != 'running'", self._run):
            return "over"
        if states := [state for _, state in self._notes()]:
            return "all restored" if states.count("done") == len(nine.COLLECTIONS) else "restoring"
        if self._new("pre-restore"):
            return "put aside"
        if self._new(".incoming"):
            return "putting aside"
        return "begun" if self.program.query("SELECT 1 FROM run WHERE id > ?", self._run) else "not yet begun"

    def state(self) -> str:
        """How far the collection in hand has come."""
        begun = [name for name, state in self._notes() if state == "begun"]
        if not begun:
            return "restored"
        if self.site.restoring(begun[-1]):
            return "being restored"
        asked = [one for one in self.site.standin.requests[self._asked :] if one.operation == "upload"]
        mine = [one.status for one in asked if one.collection == begun[-1]]
        return "noted" if not mine else "restored" if mine[-1] else "being sent"

    def reached(self, moment: str) -> bool:
        """Whether all of it is in a phase, or beyond that, or the collection in hand is in a state."""
        now = PHASES.index(self.phase())
        if moment in PHASES:
            return now >= PHASES.index(moment)
        return now > PHASES.index("restoring") or (PHASES[now] == "restoring" and self.state() == moment)

    def _notes(self) -> list[tuple[str, str]]:
        rows = self.program.query("SELECT target, state FROM restored WHERE id > ? ORDER BY id", self._note)
        return [(target, state) for target, state in rows]

    def _new(self, below: str) -> set[str]:
        return set(self._names(below)) - self._before[below]

    def _names(self, below: str) -> list[str]:
        place = self.program.primary / below
        return os.listdir(place) if place.exists() else []
