"""A Qdrant server, or the peers of a cluster, as an engine: native snapshots, read over REST."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from agent.adapters import host
from agent.adapters.qdrant import snapshot
from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.operations import Operations
from agent.adapters.qdrant.server import Server, Snapshot
from agent.adapters.qdrant.snapshot import Journal, Ticket
from agent.adapters.qdrant.trouble import Away, Busy, Lost
from agent.adapters.qdrant.wire import Wire
from agent.errors import AgentError, CannotWrite, NoRights, TryLater, Unreachable
from agent.jobs.backup import witness
from agent.jobs.backup.engine import Halted, Piece, Surroundings
from agent.jobs.backup.native import Held
from agent.jobs.backup.witness import Before, Look
from agent.rules.cluster import Layout, Peer, gaps
from agent.rules.manifest import Failure
from agent.rules.names import literal
from agent.rules.words import count, span
from agent.rules.words import size as in_words

# Bytes that all probes and points may take in a manifest, which is read whole.
_ROOM = 8 << 20


class Remote:
    """A server's collections.

    Args:
        addresses: of the server, or of a cluster's peers; the first one is asked what there is.
        journal: where each snapshot that is asked for is noted first.
        deadline: seconds that the server may take for one snapshot.
        folders: where the server itself writes, if that is on this machine.
        include: patterns of the collections that are wanted.
        say: hears what a person who waits wants to know.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        journal: Journal,
        deadline: float,
        folders: Sequence[str] = (),
        include: Sequence[str] = ("*",),
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._servers = [Server(Wire(one)) for one in addresses]
        self._journal = journal
        self._deadline = deadline
        self._folders = folders
        self._include = include
        self._say = say
        self._room = _ROOM
        self._operations = Operations([])
        self._looks: dict[str, Look] = {}
        self._layout = Layout()
        self._by_peer: dict[int | None, Address] = {None: addresses[0]}

    def collections(self) -> list[str]:
        """Names of all collections.

        Raises:
            Unreachable: nothing answers, or no Qdrant.
            NoRights: the key is refused, or sees only some collections while a pattern asks for whatever there is.
        """
        server = self._servers[0]
        self._awaited(server)
        names = server.collections()
        if not server.sees_all() and any(literal(one) is None for one in self._include):
            seen = f"it sees {count(len(names), 'collection')}: {', '.join(names[:5]) or 'none'}"
            raise NoRights(
                f"the key does not see the whole server ({seen}); others could be forgotten without a word",
                "Give it global rights (manage), or name each collection in engine.collections.include.",
            )
        return names

    def _awaited(self, server: Server) -> None:
        """Wait for a server that may only be starting.

        Raises:
            Unreachable: it does not answer all the same, or is not what was expected.
        """
        try:
            server.identity()
        except (Lost, Away, Busy) as error:
            patience = server.wire.address.patience
            self._say(f"{error.message}; it is asked again for {span(patience)}")
            try:
                server.identity(patience=patience)
            except (Lost, Busy) as still:
                raise Unreachable(still.message, still.hint) from still

    def sizes(self, names: list[str]) -> Mapping[str, int]:
        """Bytes of vectors and payload, from the server's telemetry; a cluster's peers know their own part only."""
        known = self._servers[0].sizes()
        return {name: known[name] for name in names if name in known}

    def room(self, sizes: Mapping[str, int], parallel: int) -> None:
        """See that the snapshots made at the same time fit where the server writes them."""
        needed = sum(sorted(sizes.values(), reverse=True)[:parallel])
        for folder in self._folders:
            free = host.space(folder).free
            if needed > free:
                raise CannotWrite(
                    f"{folder} has {in_words(free)} free; the server's snapshots need about {in_words(needed)}",
                    "Free space there, or lower `parallel`: fewer snapshots then lie there at the same time.",
                )

    def pieces(self, names: list[str]) -> tuple[list[Piece], list[Failure]]:
        """One archive a collection; in a cluster, one for each peer that holds shards of it."""
        names, failed = self._allowed(names)
        if self._servers[0].cluster()["status"] != "enabled":
            return self._planned([Piece(name) for name in names]), failed
        peers: list[Peer] = []
        for server in self._servers:
            try:
                told = server.cluster()
                peers.append(Peer(server.url, int(told["peer_id"]), told))
                self._by_peer[int(told["peer_id"])] = server.wire.address
            except (AgentError, KeyError) as error:
                peers.append(Peer(server.url, None, problem=str(error)))
        placed: dict[str, dict[int, Any]] = {name: {} for name in names}
        for server, peer in zip(self._servers, peers, strict=True):
            for name in names if peer.id is not None else []:
                try:
                    placed[name][peer.id or 0] = server.shards(name)
                except AgentError as error:
                    failed.append(Failure(name=name, why=f"{server.url} does not say where its shards are: {error}"))
        self._layout = Layout(tuple(peers), placed)
        return self._planned([Piece(name, peer) for name in names for peer in self._layout.holders(name)]), failed

    def _planned(self, pieces: list[Piece]) -> list[Piece]:
        """Make ready for these pieces."""
        self._room = _ROOM // max(1, len(pieces))
        self._looks = {name: Look(archives) for name, archives in Counter(one.collection for one in pieces).items()}
        if self._layout.known().keys() <= self._by_peer.keys():  # else something could be written unseen
            self._operations = Operations(list(dict.fromkeys(self._by_peer.values())))
        return pieces

    def _allowed(self, names: list[str]) -> tuple[list[str], list[Failure]]:
        """The collections of which the key may make snapshots.

        Raises:
            NoRights: there is none.
        """
        server = self._servers[0]
        refused = [name for name in names if not server.may_write(name)]
        if len(refused) == len(names):
            raise NoRights(
                "the key may read, but not make snapshots", "It needs the right to manage, or rw on each collection."
            )
        why = "the key may not make snapshots of it: it lacks write access (rw) there"
        return [name for name in names if name not in refused], [Failure(name=name, why=why) for name in refused]

    @contextmanager
    def open(self, piece: Piece, halted: Halted) -> Iterator[Held]:
        """Let the server make a snapshot, and delete it when it was read."""
        address = self._by_peer[piece.peer]
        server = Server(Wire(address, halted))
        name = piece.collection
        info, unknown = _info(server, name)
        before = self._before(server, piece, info) if info else Before(why=unknown)
        made, ticket = snapshot.make(server, name, self._journal, time.monotonic() + self._deadline)
        try:
            yield Held(server, name, made, info, before, self._operations)
        finally:
            self._delete(Server(Wire(address)), piece, made, ticket)

    def _before(self, server: Server, piece: Piece, info: dict[str, Any]) -> Before:
        name, params, alone = piece.collection, info["config"]["params"], piece.peer is None
        return self._looks[name].once(
            lambda: witness.before(server, name, params, self._operations, self._room, alone=alone)
        )

    def surroundings(self) -> Surroundings:
        """Version, aliases, and the cluster."""
        server = self._servers[0]
        identity = server.identity()
        hidden = "the key does not see the whole server: aliases that it does not see are not in this backup"
        return Surroundings(
            engine={"kind": "qdrant", "version": identity.version, "commit": identity.commit, "url": server.url},
            aliases=server.aliases(),
            cluster=self._layout.told(),
            notes=() if server.sees_all() else (hidden,),
        )

    def gaps(self, done: list[tuple[Piece, tuple[int, ...]]]) -> list[Failure]:
        """Collections with a shard that is in no archive from an active replica."""
        return list(gaps(self._layout, [(one.collection, one.peer, shards) for one, shards in done]))

    def _delete(self, server: Server, piece: Piece, made: Snapshot, ticket: Ticket) -> None:
        try:
            if made.name not in ticket.beside:  # else somebody else had made it in the same second
                server.delete(piece.collection, made.name)
            self._journal.gone(ticket.id)
        except AgentError:  # its note stays: whoever looks next tries again, and says so
            return


def _info(server: Server, name: str) -> tuple[dict[str, Any], str]:
    """What the server says of a collection; where a shard is dead it may say nothing, but still make a snapshot."""
    try:
        return server.info(name), ""
    except (TryLater, Unreachable) as error:
        if server.wire.halted():
            raise
        return {}, f"the server tells nothing of it: {error.message}"
