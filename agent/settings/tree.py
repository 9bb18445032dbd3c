"""What a configuration file holds, with the line of every key, whatever language it was written in."""

from msgspec import Struct


class Leaf(Struct, frozen=True):
    """A single value: its text as written, and YAML's name for its kind (str, int, float, bool, null ...)."""

    text: str
    kind: str
    line: int


class Items(Struct, frozen=True):
    """A list."""

    items: tuple["Node", ...]
    line: int


class Branch(Struct, frozen=True):
    """A mapping; each key has its own line."""

    entries: dict[str, tuple[int, "Node"]]
    line: int


Node = Leaf | Items | Branch
