"""What a backup is asked for, and what it asks of an engine."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from msgspec import Struct

from agent.adapters.shelf.write import Permissions


class Plan(Protocol):
    """What an archive will hold: its exact length in bytes, and its content in pieces."""

    @property
    def raw_size(self) -> int: ...

    def chunks(self) -> Iterator[bytes]: ...


class Source(Protocol):
    """One collection, held open while it is read."""

    @property
    def name(self) -> str: ...
    @property
    def points(self) -> int: ...
    @property
    def shards(self) -> tuple[int, ...]: ...
    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def payload_schema(self) -> dict[str, Any]: ...
    @property
    def plan(self) -> Plan: ...


class Engine(Struct, frozen=True):
    """What an engine can do for a backup: name itself, list its collections, open one for reading."""

    kind: str
    version: Callable[[], str]
    collections: Callable[[], list[str]]
    open: Callable[[str], AbstractContextManager[Source]]


# Hears how a backup gets on: collection, bytes done, bytes in all. Called from several threads.
Progress = Callable[[str, int, int], None]


class Order(Struct, frozen=True):
    """What is to be backed up, where to and how. `locations` maps names to (path, expected mount)."""

    tier: str
    locations: Mapping[str, tuple[str, str | None]]
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    config_files: tuple[str, ...] = ()
    level: int = 6
    parallel: int = 8
    permissions: Permissions = Permissions()
    deadline: float = 7200.0
