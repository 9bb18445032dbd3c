"""Snapshots: files beside their checksums, and the jobs that make them."""

import hashlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from standin.answers import Refused
from standin.faults import Fault, Faults
from standin.jobs import Job, Jobs
from standin.packing import pack
from standin.store import Store

_SUFFIX = ".checksum"


class Snapshots:
    """The snapshots of one server in `folder`/<collection>/."""

    def __init__(self, folder: Path, temporary: Path, peer: int, store: Store, faults: Faults) -> None:
        self.folder, self._temporary, self._peer, self._store, self._faults = folder, temporary, peer, store, faults
        self.jobs = Jobs(faults)
        self.created: Counter[str] = Counter()
        self._premade: dict[str, tuple[Path, str]] = {}
        self._lock = threading.Lock()
        self._drafts = 0
        for place in (folder, temporary):
            place.mkdir(parents=True, exist_ok=True)

    def list(self, collection: str) -> list[dict[str, Any]]:
        return [self.describe(path) for path in (self.folder / collection).glob("*.snapshot")]

    def describe(self, path: Path) -> dict[str, Any]:
        facts = path.stat()
        born = _moment(facts.st_ctime, "%Y-%m-%dT%H:%M:%S")
        told = {"name": path.name, "creation_time": born, "size": facts.st_size}
        sidecar = Path(f"{path}{_SUFFIX}")
        return {**told, "checksum": sidecar.read_text()} if sidecar.exists() else told

    def find(self, collection: str, name: str) -> Path:
        """The file of a snapshot."""
        path = self.folder / collection / name
        if "/" in name or not path.is_file():
            raise Refused(404, f"Not found: Snapshot {name} not found")
        return path

    def delete(self, collection: str, name: str) -> None:
        path = self.find(collection, name)
        path.unlink()
        Path(f"{path}{_SUFFIX}").unlink(missing_ok=True)

    def start(self, collection: str) -> Job:
        """Begin a snapshot and return at once; its result is the description."""
        how = self._faults.take("create", collection, "linger", "foreign")
        return self.jobs.start(collection, partial(self._make, how))

    def keep_premade(self, paths: Mapping[str, Path]) -> None:
        """Answer for these collections with archives that exist already."""
        for collection, path in paths.items():
            with path.open("rb") as file:
                self._premade[collection] = (path, hashlib.file_digest(file, "sha256").hexdigest())

    def draft(self) -> Path:
        """A name for a file that is not complete yet."""
        with self._lock:
            self._drafts += 1
            return self._temporary / f"draft-{self._drafts}"

    def _make(self, how: Mapping[str, Fault], job: Job) -> dict[str, Any]:
        if "linger" in how:
            self._faults.pause(how["linger"].seconds, job.lost)
        if "foreign" in how:
            self._place(job.collection, self._peer + 1)
        if job.lost.is_set():
            return {}
        path = self._place(job.collection, self._peer)
        self.created[job.collection] += 1
        return self.describe(path)

    def _place(self, collection: str, peer: int) -> Path:
        """Put a snapshot under its name, complete or not at all."""
        name = f"{collection}-{peer}-{_moment(time.time(), '%Y-%m-%d-%H-%M-%S')}.snapshot"
        target, draft = self.folder / collection / name, self.draft()
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            checksum = self._writer(collection)(draft)
            with self._lock:
                Path(f"{target}{_SUFFIX}").write_text(checksum)
                draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
        return target

    def _writer(self, collection: str) -> Callable[[Path], str]:
        if collection not in self._premade:
            return lambda draft: pack(self._store.get(collection), self._peer, draft)
        path, checksum = self._premade[collection]

        def link(draft: Path) -> str:
            os.link(path, draft)
            return checksum

        return link


def _moment(at: float, form: str) -> str:
    return datetime.fromtimestamp(at, UTC).strftime(form)
