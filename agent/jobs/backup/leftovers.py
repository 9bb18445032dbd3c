"""What earlier backups left on the server: deleted where it is certainly ours, reported where it cannot be."""

import time
from collections.abc import Sequence

from agent.adapters.qdrant import snapshot
from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.server import Server
from agent.adapters.qdrant.snapshot import Ticket
from agent.adapters.qdrant.trouble import Absent, Away, Lost
from agent.adapters.qdrant.wire import Wire
from agent.errors import AgentError
from agent.jobs.backup.journal import Journal
from agent.rules.words import count, size

# A request of which nothing has been seen for so long, and of which nobody can tell, came to nothing.
_FORGOTTEN = 2 * 86_400.0


def clear(addresses: Sequence[Address], journal: Journal) -> list[str]:
    """Delete the snapshots that backups of ours have left on these servers; only for the holder of the backup lock.

    A server that does not answer is asked once, not once for each snapshot.

    Returns:
        What was deleted, and what could not be and why, in words.
    """
    servers = {one.url: Server(Wire(one)) for one in addresses}
    away: dict[str, tuple[AgentError, list[str]]] = {}
    told = []
    tickets = journal.open()
    for ticket in tickets:
        server = servers.get(ticket.url)
        if server is None:
            told += _elsewhere(ticket, journal)
        elif ticket.url in away:
            away[ticket.url][1].append(ticket.collection)
        else:
            try:
                told += _clear(server, ticket, [one for one in tickets if _alike(one, ticket)], journal)
            except (Lost, Away) as error:
                away[ticket.url] = error, [ticket.collection]
            except AgentError as error:
                told.append(_unseen([ticket.collection], error))
    return told + [_unseen(names, error) for error, names in away.values()]


def _alike(one: Ticket, other: Ticket) -> bool:
    return (one.url, one.collection) == (other.url, other.collection)


def _clear(server: Server, ticket: Ticket, alike: Sequence[Ticket], journal: Journal) -> list[str]:
    name = ticket.collection
    try:
        making = ticket.name is None and server.making(name)
        there, clock = server.snapshots(name)
    except Absent:  # the server lists a collection's snapshots no more when it is gone, but keeps the files
        if time.time() - ticket.asked > _FORGOTTEN:
            journal.gone(ticket.id)
        return [f"collection {name} is gone; a snapshot that a backup left may lie in the server's folder for it"]
    if making:
        return [f"the server is making a snapshot of {name} that a backup asked for; it is deleted when it is there"]
    found = snapshot.left(ticket, there)
    if found and set(found) <= set(snapshot.ours(alike, there)):
        for one in found:
            server.delete(name, one.name)
        journal.gone(ticket.id)
        return [f"deleted what an earlier backup had left on the server: {one.name}, {size(one.size)}" for one in found]
    if found:
        journal.gone(ticket.id)
        several = f"{count(len(found), 'snapshot')} were made at that time: {', '.join(one.name for one in found)}"
        return [f"a backup left a snapshot of {name} on the server, and which it is cannot be told: {several}"]
    if making is not None or (clock or time.time()) - ticket.asked > _FORGOTTEN:
        journal.gone(ticket.id)
    return []


def _elsewhere(ticket: Ticket, journal: Journal) -> list[str]:
    if time.time() - ticket.asked > _FORGOTTEN:
        journal.gone(ticket.id)
    what = ticket.name or f"a snapshot of {ticket.collection}"
    return [f"a backup may have left {what} on {ticket.url}, which is not in the configuration any more"]


def _unseen(names: Sequence[str], error: AgentError) -> str:
    whose = ", ".join(dict.fromkeys(names))
    return f"whether backups left snapshots of {whose} on the server could not be seen: {error.message}"
