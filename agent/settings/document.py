"""YAML text to a small tree in which every key knows its line."""

from collections.abc import Callable
from typing import Any

import yaml

from agent.errors import BadConfig
from agent.settings.tree import Branch, Items, Leaf, Node

_DEEPEST = 8
_TAG = "tag:yaml.org,2002:"

Note = Callable[[int, str, str], None]


def parse(text: str, path: str, note: Note, loader_class: Any = None) -> Node | None:
    """Return the tree of `text`; None when nothing but comments is written there.

    `note(line, dotted key, what is wrong)` is called for mistakes that leave a tree, such as a key written twice.

    Raises:
        BadConfig: it is not YAML, or not one document.
    """
    if loader_class is None:
        loader_class = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        # The C loader refuses some characters as soon as it is made.
        return _Tree(loader_class(text), note).document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
        context = getattr(error, "context", None)
        raise _broken(path, mark.line + 1 if mark else 1, f"{context}: {problem}" if context else problem) from None
    except (ValueError, OverflowError) as error:
        # The Python loader turns an escape such as "\UFFFFFFFF" into this.
        raise _broken(path, 1, str(error)) from None
    except _Unusable as error:
        raise _broken(path, error.line, error.why) from None


def _broken(path: str, line: int, why: str) -> BadConfig:
    return BadConfig(f"{path}:{line}: not YAML: {why}", "mend this line; indent with spaces, and quote what holds ': '")


class _Unusable(Exception):
    def __init__(self, line: int, why: str) -> None:
        self.line = line
        self.why = why


class _Tree:
    """Builds the tree from YAML's events: unlike PyYAML's own composer it cannot be made to recurse without end."""

    def __init__(self, loader: Any, note: Note) -> None:
        self._loader = loader
        self._note = note
        self._anchors: dict[str, Node] = {}

    def document(self) -> Node | None:
        self._loader.get_event()
        if self._loader.check_event(yaml.StreamEndEvent):
            return None
        self._loader.get_event()
        root = self._node("", 0)
        self._loader.get_event()
        if not self._loader.check_event(yaml.StreamEndEvent):
            self._note(self._loader.peek_event().start_mark.line + 1, "", "a second document begins; there must be one")
        empty = isinstance(root, Leaf) and root.kind == "null"
        return None if empty else root

    def _node(self, where: str, depth: int) -> Node:
        event = self._loader.get_event()
        line = event.start_mark.line + 1
        if depth > _DEEPEST:
            raise _Unusable(line, "nested too deeply")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _Unusable(line, f"*{event.anchor} is used before &{event.anchor} is complete")
            return self._anchors[event.anchor]
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = Leaf(event.value, self._kind(event), line)
        elif isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not self._loader.check_event(yaml.SequenceEndEvent):
                items.append(self._node(f"{where}[{len(items)}]", depth + 1))
            self._loader.get_event()
            node = Items(tuple(items), line)
        else:
            node = Branch(self._entries(where, depth), line)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _entries(self, where: str, depth: int) -> dict[str, tuple[int, Node]]:
        entries: dict[str, tuple[int, Node]] = {}
        while not self._loader.check_event(yaml.MappingEndEvent):
            line = self._loader.peek_event().start_mark.line + 1
            key = self._node(where, depth + 1)
            name = key.text if isinstance(key, Leaf) else ""
            spot = f"{where}.{name[:64]}" if where else name[:64]
            value = self._node(spot, depth + 1)
            if not isinstance(key, Leaf):
                self._note(line, where, "a key must be a word, not a list or a mapping")
            elif key.kind == "merge":
                self._note(line, where, "'<<' is not understood here; write the keys out")
            elif name in entries:
                self._note(line, spot, f"is written twice, first on line {entries[name][0]}")
            else:
                entries[name] = (line, value)
        self._loader.get_event()
        return entries

    def _kind(self, event: Any) -> str:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        return str(tag).removeprefix(_TAG)
