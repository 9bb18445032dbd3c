"""What a route is."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from standin.answers import Answer
from standin.request import Request

if TYPE_CHECKING:
    from standin.server import StandIn

Do = Callable[["StandIn", Request, str, str], Answer]


class Route(Struct, frozen=True):
    """A route: its method and path, the operation's name for faults, what it needs, and what it does."""

    method: str
    path: str
    operation: str
    need: str
    do: Do


class Match(Struct, frozen=True):
    """A route that matches, with the collection and the last part of the path."""

    route: Route
    collection: str
    name: str
