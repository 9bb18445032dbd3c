"""How far a backup from a Qdrant server has come, going by what can be seen of it from outside."""

import contextlib
import os
import re
from typing import Any

from program import Program
from standin import StandIn, nine
from standin.client import Client, path_of

from agent.rules.names import file_stem

FILES = {name: f"{file_stem(name)}.snapshot.gz" for name in nine.COLLECTIONS}
_WORK = "collections under way"
# How far a backup has come, in order.
PHASES = (
    "not yet begun",
    "begun",
    "folders made",
    _WORK,
    "all deleted",
    "SHA256SUMS in 1",
    "SHA256SUMS in 2",
    "manifest.json in 1",
    "manifest.json in 2",
    "published in 1",
    "published in 2",
    "noted as over",
)
# How far one collection has come, in order.
STATES = ("asked for", "made, not yet read", "being read", "read, not yet deleted", "deleted")
# What is asked of the server.
OPERATIONS = ("create", "download", "delete")
_BELOW = (".incoming", "manual")
_WRITING = 0o600  # an archive's mode until all of it is on the disk


class Server:
    """The server as it looks from outside; a stand-in also tells what it was asked."""

    def __init__(self, url: str, standin: StandIn | None = None) -> None:
        self.url, self.standin = url, standin

    def snapshots(self) -> set[tuple[str, str]]:
        """(collection, name) of all that lie there."""
        with Client(self.url) as client:
            return {
                (name, one["name"])
                for name in nine.COLLECTIONS
                for one in client.ask("GET", path_of(name, "/snapshots")).result
            }

    def make_foreign(self) -> tuple[str, str]:
        """A snapshot that somebody else has made."""
        with Client(self.url) as client:
            return "dense", client.ask("POST", path_of("dense", "/snapshots")).result["name"]

    def making(self) -> dict[str, int]:
        """How many snapshots of each collection are being made now."""
        with Client(self.url) as client:
            text = client.ask("GET", "/metrics").body.decode()
        told = {
            name: re.search(rf'^snapshot_creation_running{{id="{re.escape(name)}"}} (\d+)', text, re.MULTILINE)
            for name in FILES
        }
        return {name: int(found[1]) for name, found in told.items() if found and found[1] != "0"}

    def heard(self) -> list[str]:
        """What concerned snapshots, as far as it is known."""
        asked = [one for one in self.standin.requests if "/snapshots" in one.path] if self.standin else []
        return [
            f"{one.operation}{'' if one.status else ' at work'}" for one in asked if "snapward-asks" not in one.path
        ]


class Traces:
    """What a backup that is made from now on leaves on the disks and in the ledger."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._roots = (program.primary, program.secondary)
        self._before = {(place, below): set(self._names(place, below)) for place in range(2) for below in _BELOW}
        self._rows = set(self._asked())
        self._run = max((row[0] for row in program.query("SELECT id FROM run")), default=0)

    def files(self, place: int) -> dict[str, int]:
        """Name and mode of what lies below `.incoming` of the first or second location."""
        found = {}
        for name in self._new(place, ".incoming"):
            with (
                contextlib.suppress(FileNotFoundError),  # it may be renamed meanwhile
                os.scandir(self._roots[place] / ".incoming" / name) as there,
            ):
                found.update((one.name, one.stat().st_mode & 0o777) for one in there)
        return found

    def published(self) -> int:
        """In how many locations it can be seen."""
        return sum(bool(self._new(place, "manual")) for place in range(2))

    def over(self) -> bool:
        """Whether the ledger says that the run is over."""
        return bool(self.program.query("SELECT 1 FROM run WHERE id > ? AND outcome != 'running'", self._run))

    def collections(self) -> dict[str, str]:
        """How far each has come that has been begun."""
        files, there = self.files(0), {}
        rows = {row[1]: row[3] for row in self._asked() if row not in self._rows}
        for name, file in FILES.items():
            if name in rows:
                state = 0 if rows[name] is None else 1 if file not in files else 2 if files[file] == _WRITING else 3
                there[name] = STATES[state]
            elif file in files:
                there[name] = STATES[4]
        return there

    def phase(self) -> str:
        """How far all of it has come."""
        if places := self.published():
            return "noted as over" if self.over() else f"published in {places}"
        files = [self.files(place) for place in range(2)]
        for name in ("manifest.json", "SHA256SUMS"):
            if places := sum(name in one for one in files):
                return f"{name} in {places}"
        if there := list(self.collections().values()):
            return "all deleted" if there == ["deleted"] * len(FILES) else _WORK
        if any(self._new(place, ".incoming") for place in range(2)):
            return "folders made"
        return "begun" if self.program.query("SELECT 1 FROM run WHERE id > ?", self._run) else "not yet begun"

    def reached(self, moment: str, server: Server) -> bool:
        """Whether a backup is in a phase, a collection in a state, or the server was asked; or is beyond that."""
        now = PHASES.index(self.phase())
        if moment in PHASES:
            return now >= PHASES.index(moment)
        seen = [*self.collections().values(), *(one.split()[0] for one in server.heard())]
        return moment in seen or now > PHASES.index(_WORK)

    def _asked(self) -> list[tuple[Any, ...]]:
        return self.program.query("SELECT id, collection, asked, name FROM asked")

    def _new(self, place: int, below: str) -> set[str]:
        return set(self._names(place, below)) - self._before[place, below]

    def _names(self, place: int, below: str) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return os.listdir(self._roots[place] / below)
        return []
