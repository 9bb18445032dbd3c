"""What can be asked of a Qdrant server, one question a method; each raises what `Wire.ask` does."""

import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from agent.adapters.qdrant import shapes
from agent.adapters.qdrant.reply import parsed, refusal, result
from agent.adapters.qdrant.trouble import Garbled, Lost
from agent.adapters.qdrant.wire import T, Wire
from agent.errors import AgentError, NoRights

# Where somebody waits, or another answer does as well: a question is asked again for so many seconds.
_SOON = 3.0
# Seconds that the way to the server and back may take, beside the time it was given.
_WAY = 5.0
_STAMP = re.compile(r"-(\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d)\.snapshot$")


class Snapshot(Struct, frozen=True):
    """A snapshot that lies on the server; `stamp` is the moment in its name, by the server's clock in epoch seconds."""

    name: str
    size: int
    checksum: str | None = None
    stamp: float | None = None


class Identity(Struct, frozen=True):
    """What a server says it is."""

    version: str
    commit: str = ""


class Points(Struct, frozen=True):
    """Points as REST tells them, and how many bytes that took."""

    found: list[dict[str, Any]]
    size: int


class Server:
    """One Qdrant server, or one peer of a cluster."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.url = wire.address.url

    def identity(self, *, patience: float = _SOON) -> Identity:
        """Version and commit; needs no key.

        Raises:
            Unreachable: nothing answers, or it is no Qdrant.
        """
        got = self.wire.answer("GET", "/", patience=patience)
        try:
            if got.status == 200:
                told = parsed(got.body, got, "GET /", shapes.Root)
                return Identity(told.version, told.commit or "")
        except Garbled:
            pass
        raise Garbled(f"{self.url} answers {got.status}, but not as Qdrant does", "Is engine.url right?")

    def collections(self, *, patience: float = _SOON) -> list[str]:
        """Names of all collections that the key may see, sorted."""
        told = self.wire.ask("GET", "/collections", shapes.Collections, patience=patience)
        return sorted(one.name for one in told.collections)

    def aliases(self) -> dict[str, str]:
        """Every alias, and the collection it stands for."""
        told = self.wire.ask("GET", "/aliases", shapes.Aliases)
        return {one.alias_name: one.collection_name for one in told.aliases}

    def info(self, collection: str) -> dict[str, Any]:
        """Status and configuration of a collection, as the server tells them."""
        return self._told(_at(collection), shapes.Info)

    def count(self, collection: str, timeout: float) -> int:
        """The exact number of points; the server gives up after `timeout` seconds."""
        path = f"{_at(collection)}/points/count?timeout={max(1, int(timeout))}"
        told = self.wire.ask("POST", path, shapes.Count, {"exact": True}, patience=_SOON, takes=timeout + _WAY)
        return told.count

    def query(self, collection: str, body: dict[str, Any], timeout: float) -> list[dict[str, Any]]:
        """The points that answer a query; the server gives up after `timeout` seconds."""
        return self._queried(collection, body, timeout, shapes.Hits).points

    def find(self, collection: str, body: dict[str, Any], timeout: float) -> list[shapes.Hit]:
        """Like `query`, for many points: of each just its id and version."""
        return self._queried(collection, body | {"with_payload": False}, timeout, shapes.BareHits).points

    def retrieve(
        self, collection: str, points: Sequence[int | str], timeout: float, *, patience: float = _SOON
    ) -> Points:
        """These points, as far as they are there, with their vectors and payload."""
        path = f"{_at(collection)}/points?timeout={max(1, int(timeout))}"
        body = {"ids": points, "with_vector": True, "with_payload": True}
        got = self.wire.answer("POST", path, body, patience=patience, takes=timeout + _WAY)
        return Points(result(got, f"POST {path}", list[dict[str, Any]]), len(got.body))

    def pending(self, collection: str) -> int | None:
        """How many updates the server took in and has not carried out; None where it does not tell (before 1.17).

        Points that a search does not show before they are indexed count as well. The update that it is at does not.
        """
        queue = self.wire.ask("GET", _at(collection), shapes.Queued, patience=_SOON).update_queue
        return None if queue is None else queue.length + (queue.deferred_points or 0)

    def operations(self) -> dict[str, dict[int, int]]:
        """Number of the last operation on each local shard, by collection; where it does not tell, there is none.

        Raises:
            NoRights: the key may not ask that.
        """
        told = self.wire.ask("GET", "/telemetry?details_level=3&timeout=10", shapes.Telemetry, patience=0)
        numbers: dict[str, dict[int, int]] = {}
        for one in told.collections.kept:
            local = {shard.id: shard.local.update_queue for shard in one.shards or () if shard.local}
            known = {shard: queue.op_num for shard, queue in local.items() if queue and queue.op_num is not None}
            if known and known.keys() == local.keys():
                numbers[one.id] = known
        return numbers

    def cluster(self) -> dict[str, Any]:
        """What `/cluster` says; `status` is disabled or enabled.

        A key for some collections may not ask that. Where none of them has a shard elsewhere it need not know, either.
        """
        try:
            return self._told("/cluster", shapes.Cluster)
        except NoRights:
            if any(self.shards(name)["remote_shards"] for name in self.collections()):
                raise
            return {"status": "disabled"}

    def shards(self, collection: str) -> dict[str, Any]:
        """Where the shards of a collection are: `peer_id`, `shard_count`, `local_shards`, `remote_shards`."""
        return self._told(f"{_at(collection)}/cluster", shapes.Placed)

    def sizes(self) -> dict[str, int]:
        """Bytes of vectors and payload by collection, as far as the server knows; empty where it does not tell."""
        try:
            told = self.wire.ask("GET", "/telemetry?details_level=3&timeout=10", shapes.Telemetry, patience=0)
        except AgentError:
            self.wire.check()
            return {}
        local = {one.id: [shard.local for shard in one.shards or () if shard.local] for one in told.collections.kept}
        return {
            name: sum((shard.vectors_size_bytes or 0) + (shard.payloads_size_bytes or 0) for shard in shards)
            for name, shards in local.items()
            if any(shard.vectors_size_bytes is not None for shard in shards)
        }

    def sees_all(self) -> bool:
        """Whether the key reads the whole server, and not just some collections of it."""
        got = self.wire.answer("GET", "/cluster", patience=_SOON)
        if got.status in {401, 403}:
            return False
        if got.status == 200:
            return True
        raise refusal(got, "GET /cluster")

    def may_write(self, collection: str) -> bool:
        """Whether the key may make and delete snapshots of a collection; asked by deleting one that cannot be there."""
        path = f"{_at(collection)}/snapshots/snapward-asks-{uuid.uuid4()}.snapshot"
        return self.wire.answer("DELETE", path, patience=_SOON).status not in {401, 403}

    def making(self, collection: str) -> bool | None:
        """Whether the server is making a snapshot of a collection now; None when it does not tell."""
        got = self.wire.answer("GET", "/metrics?timeout=10")
        if got.status == 200:
            running = gauge(got.body.decode("utf-8", "replace"), "snapshot_creation_running", collection)
            if running is not None:
                return running
        # A key for some collections may not read metrics, and 1.16 leaves out collections without a snapshot so far.
        got = self.wire.answer("GET", "/telemetry?details_level=2&timeout=10")
        if got.status != 200:
            return None
        told = result(got, "GET /telemetry", shapes.Telemetry).collections.snapshots
        return None if told is None else any(one.running_snapshots for one in told if one.id == collection)

    def snapshots(self, collection: str | None) -> tuple[list[Snapshot], float | None]:
        """The snapshots of a collection (None: of the whole storage) on the server, and the server's clock."""
        path = f"{_at(collection)}/snapshots" if collection is not None else "/snapshots"
        got = self.wire.answer("GET", path)
        return [_snapshot(one) for one in result(got, f"GET {path}", list[shapes.Description])], got.clock

    def create(self, collection: str, until: float) -> Snapshot:
        """Make a snapshot; returns when it is there, however long that takes, but not after `until` (monotonic).

        Raises:
            Lost: the server's own answer did not come; it may be at work on it all the same.
            Busy, Away: nothing was made, and may be made later.
            NoRights, CannotWrite, Unreachable, Refused: nothing is made.
            TryLater: it was asked to stop; what becomes of the snapshot is not known.
        """
        what = f"POST {_at(collection)}/snapshots"
        try:
            got = self.wire.once("POST", f"{_at(collection)}/snapshots?wait=true", until=until)
            if got.status == 408 or (got.status >= 500 and not got.own):  # a proxy's word: the server goes on
                raise Lost(refusal(got, what).message, "A proxy before the server should wait longer for its answer.")
            return _snapshot(result(got, what, shapes.Description))
        except Garbled as error:
            raise Lost(error.message, error.hint) from error

    def delete(self, collection: str, name: str) -> None:
        """Delete a snapshot; one that is not there is deleted already."""
        path = self.download_path(collection, name)
        got = self.wire.answer("DELETE", f"{path}?wait=true")
        if not 200 <= got.status < 300 and not (got.status == 404 and got.own):
            raise refusal(got, f"DELETE {path}")

    def download_path(self, collection: str, name: str) -> str:
        """Where a snapshot is read from."""
        return f"{_at(collection)}/snapshots/{quote(name, safe='')}"

    def _queried(self, collection: str, body: dict[str, Any], timeout: float, shape: type[T]) -> T:
        path = f"{_at(collection)}/points/query?timeout={max(1, int(timeout))}"
        return self.wire.ask("POST", path, shape, body, patience=_SOON, takes=timeout + _WAY)

    def _told(self, path: str, shape: Any) -> dict[str, Any]:
        """All that the server says, once what matters of it has this shape."""
        got = self.wire.answer("GET", path)
        result(got, f"GET {path}", shape)
        return result(got, f"GET {path}", dict[str, Any])


def stamp(name: str) -> float | None:
    """The moment in a snapshot's name, in epoch seconds by the server's clock; None if there is none."""
    found = _STAMP.search(name)
    if found is None:
        return None
    try:
        return datetime.strptime(found[1], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def gauge(metrics: str, name: str, collection: str) -> bool | None:
    """Whether a gauge of a collection is above zero in Prometheus' text, where a prefix may stand before its name."""
    label = collection.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    found = re.search(rf'{name}\{{id="{re.escape(label)}"\}} (\S+)', metrics)
    return None if found is None else found[1] not in {"0", "0.0"}


def _at(collection: str) -> str:
    return f"/collections/{quote(collection, safe='')}"


def _snapshot(told: shapes.Description) -> Snapshot:
    return Snapshot(told.name, told.size, told.checksum.lower() if told.checksum else None, stamp(told.name))
