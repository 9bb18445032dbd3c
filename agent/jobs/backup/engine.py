"""What a backup is asked for, and what it asks of an engine."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from typing import Any, Protocol

from msgspec import Struct

from agent.adapters.press import Squeeze
from agent.adapters.shelf.write import Permissions
from agent.rules.manifest import Content, Failure, labelled

# Why work has to end now; empty while it may go on.
Halted = Callable[[], str]
# Hears how a backup gets on: archive, raw bytes done, raw bytes in all. Called from several threads.
Progress = Callable[[str, int, int], None]


class Piece(Struct, frozen=True):
    """What becomes one archive: a collection, or what one peer of a cluster holds of it."""

    collection: str
    peer: int | None = None

    @property
    def label(self) -> str:
        """How people call it."""
        return labelled(self.collection, self.peer)


class About(Struct, frozen=True, kw_only=True):
    """What the manifest says of an archive beside its sizes and hashes; see `CollectionEntry`."""

    points_before: int | None
    points_after: int | None
    writes: int | None = None
    shards: tuple[int, ...] = ()
    config: dict[str, Any] = {}
    payload_schema: dict[str, Any] = {}
    snapshot: str | None = None
    server_sha256: str | None = None
    sharding: str = "auto"
    shard_keys: tuple[dict[str, Any], ...] = ()
    probes: tuple[Any, ...] = ()
    probes_why: str = ""
    content: Content | None = None
    content_why: str = ""


class Stream(Protocol):
    """The bytes of an archive."""

    def readinto(self, buffer: memoryview, /) -> int: ...


class Source(Protocol):
    """One piece, held open while it is read."""

    @property
    def size(self) -> int:
        """Its bytes, before compression."""

    @property
    def tries(self) -> int:
        """How often its stream may be begun, where it breaks for a reason that passes."""

    def stream(self) -> AbstractContextManager[Stream]:
        """Its bytes, from the beginning."""

    def confirm(self, size: int, sha256: str) -> None:
        """Compare what was read with what was promised.

        Raises:
            AgentError: it is not that.
        """

    def about(self) -> About:
        """What is known of it, now that it was read."""


class Surroundings(Struct, frozen=True, kw_only=True):
    """What belongs to a backup and is in no archive; `notes` say what of it could not be had."""

    engine: dict[str, Any]
    aliases: dict[str, str] = {}
    cluster: dict[str, Any] = {}
    notes: tuple[str, ...] = ()


class Engine(Protocol):
    """Where collections come from."""

    def collections(self) -> list[str]:
        """Names of all collections."""

    def pieces(self, names: list[str]) -> tuple[list[Piece], list[Failure]]:
        """The archives that make up these collections, and the collections of which nothing can be had."""

    def sizes(self, names: list[str]) -> Mapping[str, int]:
        """About how many bytes each collection is; a collection of which nothing is known is not in it."""

    def room(self, sizes: Mapping[str, int], parallel: int) -> None:
        """See that the engine itself has room for making a backup.

        Raises:
            CannotWrite: it has not.
        """

    def open(self, piece: Piece, halted: Halted) -> AbstractContextManager[Source]:
        """Hold one piece open; what that needed of the engine is given back at the end."""

    def surroundings(self) -> Surroundings:
        """What is in no archive; asked once the pieces are known, and before the first is opened."""

    def gaps(self, done: list[tuple[Piece, tuple[int, ...]]]) -> list[Failure]:
        """Collections of which something is missing; `done` are the pieces that were written, with their shards."""


class Order(Struct, frozen=True):
    """What is to be backed up, where to and how. `locations` maps names to (path, expected mount).

    `squeezes` are compressions by pattern of collections' names; the first that matches, else `squeeze`. `partial` is
    whether somebody wants some collections only.
    """

    tier: str
    locations: Mapping[str, tuple[str, str | None]]
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    config_files: tuple[str, ...] = ()
    squeeze: Squeeze = Squeeze()
    squeezes: tuple[tuple[str, Squeeze], ...] = ()
    parallel: int = 8
    permissions: Permissions = Permissions()
    deadline: float = 7200.0
    partial: bool = False

    def squeeze_of(self, collection: str) -> Squeeze:
        """How the archive of a collection is compressed."""
        return next((one for pattern, one in self.squeezes if fnmatchcase(collection, pattern)), self.squeeze)
