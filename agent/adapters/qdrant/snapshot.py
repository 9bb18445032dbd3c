"""Snapshots that we have made on a server: made once, found again after an answer was lost, and deleted."""

import itertools
import time
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from agent.adapters.qdrant.server import Server, Snapshot
from agent.adapters.qdrant.trouble import Away, Busy, Lost
from agent.errors import AgentError, TryLater
from agent.rules import retry

# So many answers may be lost: each may leave a snapshot behind.
_LOST = 3
# Seconds after which a snapshot that nothing is seen of counts as not made, where the server does not tell.
_UNSEEN = 60.0
# Seconds by which a moment in a snapshot's name may be before, and after, that of the answer before it: the server's
# clock told both, a proxy may have told the latter, and a request may take its time to reach the server's own hands.
_BEFORE, _AFTER = 1.0, 10.0
# While a snapshot is being made it is looked for so often, in seconds.
_LOOK = 10.0


class Ticket(Struct, frozen=True):
    """A request for a snapshot, noted before it was made.

    Attributes:
        id: of the note.
        url: of the server.
        collection: whose snapshot.
        asked: when, by the server's clock, epoch seconds.
        beside: names of the snapshots that the collection had then.
        name: of the snapshot, once it is known.
    """

    id: int
    url: str
    collection: str
    asked: float
    beside: frozenset[str]
    name: str | None = None


class Journal(Protocol):
    """Remembers what we asked for, so that whoever comes after a crash can clean up."""

    def asked(self, url: str, collection: str, moment: float, beside: frozenset[str]) -> int:
        """Note a request that is made next; returns the note's id. It is on the disk when this returns."""

    def made(self, note: int, name: str) -> None:
        """Note the name of what was made."""

    def gone(self, note: int) -> None:
        """Forget a request: nothing of it is on the server any more."""


def make(server: Server, collection: str, journal: Journal, until: float) -> tuple[Snapshot, Ticket]:
    """Let the server make a snapshot; returns it, and the note of it.

    Refusals that pass are borne as long as the server's `patience`. After a lost answer the snapshot is looked for, and
    another one is asked for only when the server is not at work on it any more.

    Args:
        server: to be asked.
        collection: of the server.
        journal: where each request is noted before it is made.
        until: monotonic deadline.

    Raises:
        TryLater: it was asked to stop, the deadline has passed, or the server is too busy.
        NoRights, CannotWrite, Unreachable, Refused: the server makes none.
    """
    lost, refused, bearable = 0, 0, until
    barren: Ticket | None = None
    while True:
        ticket, noted = _note(server, collection, journal, barren), time.monotonic()
        try:
            made: Snapshot | None = server.create(collection, until)
            wait = 0.0
        except Lost as error:
            lost += 1
            made, barren = _found(server, ticket, until), ticket
            if made is None and lost == _LOST:
                raise TryLater(f"{error.message}, {lost} times", error.hint) from error
            wait = max(0.0, 1.0 - (time.monotonic() - noted))  # a snapshot is named by its second
        except (Busy, Away) as error:
            journal.gone(ticket.id)
            made, barren, now = None, None, time.monotonic()
            wait = retry.pause(refused, getattr(error, "wait", None))
            if not refused:
                bearable = min(until, now + server.wire.address.patience)
            refused += 1
            if now + wait > bearable:
                raise
        except AgentError:
            if not server.wire.halted():  # else what becomes of it is not known
                journal.gone(ticket.id)
            raise
        if made is not None:
            journal.made(ticket.id, made.name)
            return made, ticket
        server.wire.rest(wait)


def left(ticket: Ticket, there: list[Snapshot]) -> list[Snapshot]:
    """What a request may have left, of the snapshots that are there; of several nobody can tell which one it is."""
    new = [one for one in there if one.name not in ticket.beside]
    if ticket.name is not None:
        return [one for one in new if one.name == ticket.name]
    return [one for one in new if one.stamp is not None and -_BEFORE <= one.stamp - ticket.asked <= _AFTER]


def ours(tickets: Sequence[Ticket], there: list[Snapshot]) -> list[Snapshot]:
    """What these requests for snapshots of one collection have certainly left: where no more came than were asked for.

    Two backups may have died one soon after the other while the server was at work for both: which snapshot was made
    for which of them cannot be told, and need not be.
    """
    claims = [found for one in tickets if (found := left(one, there))]
    certain = [found for found in claims if len(found) <= sum(not set(found).isdisjoint(one) for one in claims)]
    return [one for one in there if any(one in found for found in certain)]


def _note(server: Server, collection: str, journal: Journal, barren: Ticket | None) -> Ticket:
    """Note what is asked next, and forget the request before it when certainly nothing came of that."""
    ended = barren is not None and server.making(collection) is False
    there, clock = server.snapshots(collection)
    if barren is not None and ended and not left(barren, there):
        journal.gone(barren.id)
    asked = clock or time.time()
    if any(one.stamp is not None and one.stamp >= asked for one in there):
        server.wire.rest(1.0)  # a snapshot is named by its second: ours would take that one's place
    beside = frozenset(one.name for one in there)
    return Ticket(journal.asked(server.url, collection, asked, beside), server.url, collection, asked, beside)


def _found(server: Server, ticket: Ticket, until: float) -> Snapshot | None:
    """After an answer was lost: the snapshot, once it is there; None when the server is not at work on it either.

    While the server is at work nothing counts: what is there may be somebody else's, and ours still be made.
    """
    unseen = time.monotonic() + _UNSEEN
    for attempt in itertools.count():
        making = server.making(ticket.collection)
        there, _ = server.snapshots(ticket.collection)  # asked last: what has just been finished is in it
        found = left(ticket, there)
        if not making and len(found) == 1:
            return found[0]
        now = time.monotonic()
        if making is False or (making is None and now > unseen):
            return None
        if now >= until:
            raise TryLater(f"{server.url} has not made a snapshot of {ticket.collection} by the deadline")
        server.wire.rest(min(_LOOK, retry.pause(attempt), until - now))
    raise AssertionError("counting has no end")
