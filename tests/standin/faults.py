"""What a server is told to do wrong, how often, and where."""

import threading
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, to_builtins

ANYWHERE = "*"
_WHERE = {
    # kind: the operation it spoils when none is named
    "refuse": ANYWHERE,
    "garbage": ANYWHERE,
    "hang": ANYWHERE,
    "lost": "create",
    "slow": "download",
    "drop": "download",
    "stall": "download",
    "cut": "download",
    "corrupt": "download",
    "bare": ANYWHERE,
    "etag": "download",
    "wrong_checksum": ANYWHERE,
    "no_checksum": ANYWHERE,
    "linger": "create",
    "foreign": "create",
    "status": "info",
    "queue": "info",
    "dead_replica": ANYWHERE,
    "hollow": "upload",
    "partial": "upload",
    "die": "upload",
}


class Fault(Struct, frozen=True, kw_only=True):
    """One thing to do wrong.

    Attributes:
        kind: what:
            refuse: answer with `status` and `text`; `headers` are added. 401 and 403 are plain text, 413, 502, 503 and
                504 are a proxy's HTML, all others are the server's JSON. An upload is answered before it is read.
            garbage: answer 200 with something that is not JSON.
            hang: accept, and never answer.
            lost: do as asked, and close the connection instead of answering, or answer with the page of a proxy when
                `status` is 502, 503 or 504. A snapshot's job goes on.
            slow: send `rate` bytes a second.
            drop: close the connection after `after` bytes of each body, so that who resumes gets on; after none, not.
            stall: send nothing more after `after` bytes of each body.
            cut: a body that ends after `after` bytes, or `at` a place of the archive, while HTTP says that it is
                complete: "first" is after its first entry, "entry" before its last but one, "middle" within the
                longest. `chunked` leaves out the length.
            corrupt: change the byte at `after` of the file.
            bare: as with S3: no checksum, no length, no ranges, no ETag.
            etag: another ETag at every request.
            wrong_checksum, no_checksum: in the description of snapshots.
            linger: a snapshot takes `seconds`, or until `Faults.release`; so does a restore `on` "upload", "recover".
            foreign: somebody else's snapshot appears just before the one that is asked for.
            status: the collection's status is `state`, and `text` the optimizer's error.
            queue: `after` updates have yet to be carried out.
            dead_replica: shard 0 of this peer is in `state` "Dead".
            hollow: a restore is said to be done, and nothing was restored; `on` "move" the same of a shard's moving.
            partial: a restore keeps only `after` of the points.
            die: a server dies while it restores, and comes back after `seconds` (None: when it is started); `at`
                "half" leaves the collection so that it cannot be read.
        on: operation, such as "download", "create", "list", "delete", "info", "count"; "*" is any.
        collection: only there; "" is any.
        times: how many requests; None is all.
    """

    kind: str
    on: str = ""
    collection: str = ""
    times: int | None = None
    status: int = 500
    text: str = ""
    headers: Mapping[str, str] = {}
    after: int = 0
    at: str = ""
    chunked: bool = False
    rate: float = 1_000_000
    seconds: float | None = None
    state: str = ""

    def concerns(self, operation: str, collection: str) -> bool:
        where = self.on or _WHERE[self.kind]
        return where in {ANYWHERE, operation} and self.collection in {"", collection}


class Faults:
    """The faults of one server; safe to change while it answers."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._all: list[tuple[Fault, int | None]] = []
        self._waiting = 0
        self._releases = 0

    def add(self, kind: str, **how: Any) -> None:
        """Add a fault, see `Fault`."""
        if kind not in _WHERE:
            raise ValueError(f"no fault is called {kind}; there are {', '.join(_WHERE)}")
        headers = {name.lower(): value for name, value in how.pop("headers", {}).items()}
        fault = Fault(kind=kind, headers=headers, **how)
        with self._lock:
            self._all.append((fault, fault.times))

    def clear(self) -> None:
        """Do nothing wrong from now on."""
        with self._lock:
            self._all.clear()
        self.release()

    def left(self) -> list[dict[str, Any]]:
        """What is still to be done wrong."""
        with self._lock:
            return [{**to_builtins(fault), "times": times} for fault, times in self._all]

    def take(self, operation: str, collection: str, *kinds: str) -> dict[str, Fault]:
        """The faults of these kinds that concern a request, by kind, each counted as done once."""
        found: dict[str, Fault] = {}
        with self._lock:
            remaining = []
            for fault, times in self._all:
                left = times
                if fault.kind in kinds and fault.kind not in found and fault.concerns(operation, collection):
                    found[fault.kind] = fault
                    left = None if times is None else times - 1
                if left != 0:
                    remaining.append((fault, left))
            self._all = remaining
        return found

    def pause(self, seconds: float | None, unless: threading.Event) -> None:
        """Wait so long, or until `release`; not at all once `unless` is set."""
        with self._lock:
            if unless.is_set():
                return
            before = self._releases
            self._waiting += 1
            self._lock.notify_all()
            self._lock.wait_for(lambda: self._releases != before, seconds)
            self._waiting -= 1

    def release(self, waiting: int = 0) -> None:
        """Let go of whoever hangs, stalls or lingers, once there are so many of them."""
        with self._lock:
            self._lock.wait_for(lambda: self._waiting >= waiting)
            self._releases += 1
            self._lock.notify_all()
