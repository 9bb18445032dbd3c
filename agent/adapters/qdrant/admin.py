"""What a restore asks of a server beside the upload; each function raises what `Wire.ask` does."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from agent.adapters.qdrant.reply import result
from agent.adapters.qdrant.server import Server, gauge
from agent.adapters.qdrant.trouble import Lost
from agent.errors import TryLater, Unreachable
from agent.rules import retry
from agent.rules.cluster import is_active
from agent.rules.words import count

# Seconds that a change may take to which all peers of a cluster have to agree.
AGREEING = 60.0
# Who waits for something looks so often at least, in seconds.
LOOK = 2.0
# Seconds after which what seldom passes by itself counts as lasting.
STUCK = 30.0
_SOON = 3.0
# Peers learn of each other's states a little later: for so many seconds all has to be well at all of them.
_AGREED = 1.0
# The parts of a configuration beside its `params`, and what they are called on creation.
_SECTIONS = {
    "hnsw_config": "hnsw_config",
    "optimizer_config": "optimizers_config",
    "wal_config": "wal_config",
    "quantization_config": "quantization_config",
    "strict_mode_config": "strict_mode_config",
    "metadata": "metadata",
}
# Params that a server takes only once there is a collection.
_LATER = ("read_fan_out_factor", "read_fan_out_delay_ms")
_CALM = frozenset({"green", "yellow", "grey"})


def exists(server: Server, collection: str) -> bool:
    """Whether there is a collection of this name; an alias is none."""
    return collection in server.collections()


def config(server: Server, collection: str) -> dict[str, Any]:
    """The configuration of a collection, as `config` of the manifest has it (see `rules.collection_config.differs`)."""
    return dict(server.info(collection)["config"])


def create(server: Server, collection: str, config: Mapping[str, Any]) -> None:
    """Make an empty collection with a configuration as `config` tells it (that of a manifest's entry).

    With `sharding_method: custom` it has no shards until its keys are made.

    Raises:
        Refused: it is there already, or the name is an alias', or the server does not take the configuration.
    """
    params = {name: value for name, value in (config.get("params") or {}).items() if name not in _LATER}
    parts = {_SECTIONS[name]: value for name, value in config.items() if name in _SECTIONS and value is not None}
    once(server, "PUT", at(collection), params | parts, lambda: exists(server, collection))
    complete(server, collection, config)


def complete(server: Server, collection: str, config: Mapping[str, Any]) -> None:
    """Set what of a configuration a server leaves out when it makes a collection, also from a snapshot."""
    later = {name: value for name, value in (config.get("params") or {}).items() if name in _LATER}
    if later:
        server.wire.ask("PATCH", at(collection), bool, {"params": later}, takes=AGREEING)


def drop(server: Server, collection: str) -> None:
    """Remove a collection, with the aliases that lead to it; one that is not there is removed already."""
    server.wire.ask("DELETE", at(collection), bool, takes=AGREEING)


def indexes(server: Server, collection: str) -> dict[str, Any]:
    """The payload indexes: field to schema, in the form of `payload_index.json` (and so of the manifest)."""
    told = server.info(collection).get("payload_schema") or {}
    return {field: one.get("params") or one["data_type"] for field, one in told.items()}


def put_index(server: Server, collection: str, field: str, schema: Any, until: float) -> None:
    """Make a payload index, with a schema as `indexes` tells it; returns when it is built.

    Raises:
        TryLater: the server has not said so by `until` (monotonic).
    """
    body = {"field_name": field, "field_schema": schema}
    takes = max(AGREEING, until - time.monotonic())
    server.wire.ask("PUT", f"{at(collection)}/index?wait=true", dict[str, Any], body, takes=takes)


def point_alias(alias: str, collection: str) -> dict[str, Any]:
    """The change after which an alias leads to this collection, wherever it led before."""
    return {"create_alias": {"alias_name": alias, "collection_name": collection}}


def remove_alias(alias: str) -> dict[str, Any]:
    """The change after which there is no such alias."""
    return {"delete_alias": {"alias_name": alias}}


def change_aliases(server: Server, changes: Sequence[Mapping[str, Any]]) -> None:
    """Make these changes in one request: nobody sees a moment between them. Without any, nothing is asked.

    Raises:
        Refused: one of them cannot be made, such as for a collection that is not there. Those before it are made.
    """
    if changes:
        server.wire.ask("POST", "/collections/aliases", bool, {"actions": list(changes)}, takes=AGREEING)


def restoring(server: Server, collection: str) -> bool | None:
    """Whether the server restores a collection from a snapshot now; None when it does not tell."""
    got = server.wire.answer("GET", "/metrics?timeout=10")
    if got.status != 200:
        return None
    return gauge(got.body.decode("utf-8", "replace"), "snapshot_recovery_running", collection) or False


def wait_ready(server: Server, collection: str, until: float, *, peers: Sequence[Server] = ()) -> list[str]:
    """Wait until a restored collection is at rest; returns what was not so at the end, in words; nothing if it is.

    At rest: its status is green, yellow or grey without an error of the optimizer, every replica is active, no shard is
    being moved and none restored, and no update is waiting. What seldom passes by itself, such as a red status or a
    dead replica that nobody mends, is borne for half a minute.

    A restore at one peer of a cluster lets the replicas at other peers be made anew from it. To restore at the next one
    meanwhile can end with no replica that is active, so wait in between, with all peers given.

    Args:
        server: of a cluster: the peer at which it was restored.
        collection: that was restored.
        until: monotonic deadline.
        peers: the others of a cluster, which have to see it in the same way, and for a moment longer.
    """
    stuck, rested = time.monotonic() + STUCK, 0.0
    for attempt in itertools.count():
        seen = [_unready(one, collection) for one in (server, *peers)]
        passing, staying = ([*dict.fromkeys(word for one in seen for word in one[kind])] for kind in (0, 1))
        now = time.monotonic()
        if passing:
            stuck = now + STUCK
        if not passing and not staying:
            rested = rested or now
            if not peers or now - rested >= _AGREED:
                return []
        else:
            rested = 0.0
            if now >= min(until, stuck):
                return [*staying, *passing]
        server.wire.rest(min(LOOK, retry.pause(attempt), max(0.0, until - now)))
    raise AssertionError("counting has no end")


def at(collection: str) -> str:
    """The path of a collection."""
    return f"/collections/{quote(collection, safe='')}"


def once(server: Server, method: str, path: str, body: Any, done: Callable[[], bool]) -> None:
    """Change something that may be asked for once only; `done` tells whether it is where the answer does not."""
    try:
        got = server.wire.once(method, path, body, until=time.monotonic() + AGREEING)
    except Lost:
        if not done():
            raise
        return
    if not (retry.passes(got.status, got.words) and done()):
        result(got, f"{method} {path}", Any)


def _unready(server: Server, collection: str) -> tuple[list[str], list[str]]:
    """What is not at rest, in words: what passes by itself, and what seldom does."""
    try:
        passing, staying = _condition(server, collection)
        placed = server.shards(collection)
        moved = placed.get("shard_transfers") or []
        passing += [f"shard {one['shard_id']} is copied from peer {one['from']} to peer {one['to']}" for one in moved]
        if restoring(server, collection):
            passing.append("it is still being restored")
    except (TryLater, Unreachable) as error:
        server.wire.check()
        return [error.message], []
    replicas = [(placed["peer_id"], one) for one in placed["local_shards"]]
    replicas += [(one["peer_id"], one) for one in placed["remote_shards"]]
    lame = [
        f"shard {one['shard_id']} on peer {peer} is {one['state'].lower()}"
        for peer, one in replicas
        if not is_active(one["state"])
    ]
    return (passing + lame, staying) if passing else (passing, staying + lame)


def _condition(server: Server, collection: str) -> tuple[list[str], list[str]]:
    """The same of the collection as a whole."""
    got = server.wire.answer("GET", at(collection), patience=_SOON)
    if got.status >= 500:
        return [], [f"the server cannot tell of it: {got.words}"]
    told = result(got, f"GET {at(collection)}", dict[str, Any])
    waiting = (told.get("update_queue") or {}).get("length") or 0
    staying = [] if told.get("status") in _CALM else [f"its status is {told.get('status')}"]
    if isinstance(told.get("optimizer_status"), dict):
        staying.append(f"its optimizer says: {told['optimizer_status'].get('error')}")
    return [f"{count(waiting, 'update')} to be applied"] if waiting else [], staying
