"""The stand-in server: its life, its connections, and the way of a request."""

import ssl
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from standin.connections import Listener, Seen
from standin.faults import Faults
from standin.keys import Keys
from standin.restore import Restores
from standin.snapshots import Snapshots
from standin.store import Store

if TYPE_CHECKING:
    from standin.cluster import Cluster

PEER = 5151480347910154


class StandIn:
    """A Qdrant server on loopback, running as long as its `with` block.

    Args:
        folder: where it keeps `storage` and `snapshots`; what is there from an earlier run is opened.
        port: to listen on; 0 takes a free one and keeps it over restarts.
        version: what `GET /` says.
        api_key: may do everything. Without any key, everybody may.
        read_only_key: may only read.
        collection_keys: key to the collections that it may read and write.
        tls: context for HTTPS.
        premade: collection to an archive that is handed out, by a hard link, as each new snapshot of it.
        peer_id: its own in a cluster.
        store: what it shares with the other peers of the cluster.
        cluster: which it belongs to.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        version: str = "1.18.3",
        api_key: str | None = None,
        read_only_key: str | None = None,
        collection_keys: Mapping[str, Sequence[str]] | None = None,
        tls: ssl.SSLContext | None = None,
        premade: Mapping[str, Path] | None = None,
        peer_id: int = PEER,
        store: Store | None = None,
        cluster: "Cluster | None" = None,
    ) -> None:
        self.version, self.peer_id, self.tls = version, peer_id, tls
        self.since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        self.keys = Keys(api_key, read_only_key, dict(collection_keys or {}))
        self.faults = Faults()
        self.requests: list[Seen] = []
        self.failures: list[Exception] = []
        self.snapshots_dir = folder / "snapshots"
        self._own_store, self._cluster = store is None, cluster
        self.store = store or Store({peer_id: folder / "storage"})
        temporary = folder / "storage" / "tmp"
        self.snapshots = Snapshots(self.snapshots_dir, temporary, peer_id, self.store, self.faults)
        self.restores = Restores(self.snapshots, self.store, peer_id, self.faults, self.restart)
        self._premade = dict(premade or {})
        self._port = port
        self._listener: Listener | None = None
        self._return: threading.Timer | None = None
        self._lock = threading.RLock()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def uri(self) -> str:
        """Where the other peers of a cluster reach it, which is not where clients do."""
        return f"http://127.0.0.1:{self._port + 2}/"

    @property
    def up(self) -> bool:
        return self._listener is not None

    def start(self) -> None:
        """Listen; does nothing while it does so already."""
        with self._lock:
            if self._listener is None:
                self._listener = Listener(self, self._port)
                self._port = self._listener.port
                self.store.down.discard(self.peer_id)

    def stop(self) -> None:
        """Die: connections end, and snapshots that are being made are lost."""
        with self._lock:
            if self._return is not None:
                self._return.cancel()
                self._return = None
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.die()
            self.store.down.add(self.peer_id)
            for jobs in (self.snapshots.jobs, self.restores.jobs):
                jobs.lose()
            self.snapshots.created.clear()  # it counts since the start of a server
            listener.join()

    def restart(self, down_for: float | None = 0.0) -> None:
        """Die and come back after `down_for` seconds; None waits for `start`. Returns at once."""
        self.stop()
        if down_for is None:
            return
        with self._lock:
            if down_for > 0:
                self._return = threading.Timer(down_for, self._come_back)
                self._return.daemon = True
                self._return.start()
            else:
                self.start()

    def _come_back(self) -> None:
        with self._lock:
            if self._return is not None:  # nobody stopped it meanwhile
                self._return = None
                self.start()

    def cluster_status(self) -> dict[str, Any]:
        """The answer of `GET /cluster`."""
        return {"status": "disabled"} if self._cluster is None else self._cluster.status(self)

    def __enter__(self) -> Self:
        for name in self._premade:
            if name not in self.store.collections:
                self.store.create(name, {"vectors": {"size": 4, "distance": "Cosine"}})
        self.snapshots.keep_premade(self._premade)
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._own_store:
            self.store.close()
        if self.failures:
            raise ExceptionGroup("the stand-in itself failed", self.failures)
