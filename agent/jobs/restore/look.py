"""Look at the server that is restored to, before anything is decided."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from agent.adapters import host
from agent.adapters.qdrant import admin
from agent.adapters.qdrant.server import Server
from agent.errors import AgentError, NoRights
from agent.rules import collection_config
from agent.rules.recovery.scene import Earlier, Scene, There, Wanted

_COUNTING = 300.0


class Site(Struct, frozen=True):
    """The server: `first` is asked for everything, `by_peer` are those that archives go to; without a cluster none."""

    first: Server
    by_peer: Mapping[int, Server] = {}


def look(
    servers: Sequence[Server], wanted: Sequence[Wanted], earlier: Mapping[str, Earlier], folders: Sequence[str]
) -> tuple[Site, Scene]:
    """See what there is.

    Args:
        servers: the server, or the peers of a cluster; the first one is asked.
        wanted: what is to be restored.
        earlier: by target, what an attempt that broke off has noted.
        folders: where the server itself writes, if that is on this machine.

    Raises:
        Unreachable: nothing answers, or no Qdrant.
        NoRights: the key may not restore.
    """
    first = servers[0]
    version = first.identity(patience=first.wire.address.patience).version
    _allowed(first, wanted[0].target if wanted else "any")
    by_peer, silent = _peers(servers)
    names, aliases = frozenset(first.collections()), first.aliases()
    scene = Scene(
        url=first.url,
        version=version,
        peers=tuple(by_peer),
        silent=silent,
        aliases=aliases,
        names=names,
        there={one.target: _there(first, one, names, aliases) for one in wanted},
        earlier=earlier,
        rooms=_rooms(folders),
    )
    return Site(first, by_peer), scene


def _allowed(server: Server, collection: str) -> None:
    if not server.sees_all() or not server.may_write(collection):
        raise NoRights(
            f"the key for {server.url} may not restore: that takes the right to manage everything",
            "Give engine.restore_api_key a key that may, such as the server's own api_key.",
        )


def _peers(servers: Sequence[Server]) -> tuple[dict[int, Server], tuple[str, ...]]:
    """The peers of a cluster that answer, and what is to be said of the others; nothing where there is no cluster."""
    told = servers[0].cluster()
    if told["status"] != "enabled":
        return {}, ()
    found, silent = {int(told["peer_id"]): servers[0]}, []
    for server in servers[1:]:
        try:
            found.setdefault(int(server.cluster()["peer_id"]), server)
        except (AgentError, KeyError) as error:
            silent.append(f"{server.url} takes no part: {error}")
    for peer, known in (told.get("peers") or {}).items():
        if int(peer) not in found:
            silent.append(f"peer {peer} at {known.get('uri', 'an unknown place')} gets no archive: it is not asked")
    return found, tuple(silent)


def _there(server: Server, wanted: Wanted, names: frozenset[str], aliases: Mapping[str, str]) -> There:
    target = wanted.target
    if target not in names:
        return There(alias_of=aliases.get(target, ""))
    try:
        points = server.count(target, _COUNTING)
        now = admin.config(server, target)
    except AgentError as error:
        server.wire.check()
        return There(exists=True, why=error.message)
    then = wanted.entry.config if wanted.entry else {}
    return There(exists=True, points=points, changes=tuple(collection_config.differs(then, now)) if then else ())


def _rooms(folders: Sequence[str]) -> dict[str, int]:
    found = {}
    for folder in folders:
        try:
            found[folder] = host.space(folder).free
        except OSError:
            continue  # it is somewhere else, and cannot be seen from here
    return found
