"""What a backup asks of an engine."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from msgspec import Struct


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
