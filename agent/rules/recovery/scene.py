"""What a restore is asked for, what it may do, and what it finds."""

from collections.abc import Mapping

from msgspec import Struct

from agent.rules.manifest import CollectionEntry
from agent.rules.subjects import Piece, Subject


class Options(Struct, frozen=True, kw_only=True):
    """What the person allows."""

    replace: bool = False
    force: bool = False
    skip_proof: bool = False
    switch_alias: bool = False


class Wanted(Struct, frozen=True, kw_only=True):
    """A collection that is asked for.

    Attributes:
        subject: the collection in its backup, with its archives.
        target: its name on the server.
        entries: what the manifest says of its archives; empty where there is none.
        low: the least number of points that it has; None if nobody counted.
        high: the greatest.
        level: the least that is proved of its archives.
        proved: when that was, epoch seconds; None if never.
        bad: why an archive must not be relied on; empty if nothing speaks against any.
        rehearsed: whether an engine has opened all of it, and it was right.
    """

    subject: Subject
    target: str
    entries: tuple[CollectionEntry, ...] = ()
    low: int | None = None
    high: int | None = None
    level: str
    proved: float | None = None
    bad: str = ""
    rehearsed: bool = False

    @property
    def collection(self) -> str:
        """Its name in the backup."""
        return self.subject.collection

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Its archives."""
        return self.subject.pieces

    @property
    def entry(self) -> CollectionEntry | None:
        """What the manifest says of it, as far as that is the same in all of its archives."""
        return self.entries[0] if self.entries else None


class There(Struct, frozen=True, kw_only=True):
    """What the server has under a name.

    Attributes:
        exists: whether there is a collection of this name.
        points: exact count; None where the server does not say.
        why: why it does not say.
        alias_of: the collection that the name leads to, if it is an alias.
        changes: settings that are not as they were, in words.
    """

    exists: bool = False
    points: int | None = None
    why: str = ""
    alias_of: str = ""
    changes: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing is lost when it is replaced."""
        return not self.exists or self.points == 0


class Earlier(Struct, frozen=True, kw_only=True):
    """What an attempt that broke off has noted of a target: begun, failed or done, and where what it replaced is."""

    state: str
    began: float
    replaced: bool
    pre_restore: str | None


class Scene(Struct, frozen=True, kw_only=True):
    """The server that is restored to.

    Attributes:
        url: its address.
        version: of it.
        peers: ids of a cluster's peers that answer, in the order in which they were named; empty without a cluster.
        silent: peers that are known and were not named, or do not answer, in words.
        aliases: alias to collection.
        names: of all collections.
        there: what there is, by target.
        earlier: by target, what an attempt that broke off has noted.
        rooms: free bytes of the folders that the server writes to, where they can be seen.
    """

    url: str
    version: str
    peers: tuple[int, ...] = ()
    silent: tuple[str, ...] = ()
    aliases: Mapping[str, str] = {}
    names: frozenset[str] = frozenset()
    there: Mapping[str, There] = {}
    earlier: Mapping[str, Earlier] = {}
    rooms: Mapping[str, int] = {}
