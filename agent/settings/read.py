"""The tree of a file to Settings, noting every mistake instead of stopping at the first."""

import os
import re
from typing import Any

from msgspec import UNSET, Struct

from agent.settings.keys import MOST, Key, keys
from agent.settings.secret import SECRET, SECRET_URL
from agent.settings.shape import Settings
from agent.settings.tree import Branch, Items, Leaf, Node
from agent.settings.units import PATH, Unit

_KINDS = {
    "str": "text",
    "int": "a number",
    "float": "a number",
    "bool": "a switch",
    "null": "empty",
    "timestamp": "a date",
}


# More mistakes than these are counted, not told.
TOLD = 60


class Mistake(Struct, frozen=True, order=True):
    """One thing that is wrong: on which line, with which dotted key, and what."""

    line: int
    key: str
    what: str


class Reader:
    """Reads one tree; `lines` and `mistakes` are what it found besides the values.

    Args:
        folder: where relative paths count from.
        thorough: whether what is dear to check is checked too.
    """

    def __init__(self, folder: str, *, thorough: bool) -> None:
        self.lines: dict[str, int] = {}
        self.mistakes: list[Mistake] = []
        self._unread: set[str] = set()
        self._folder = folder
        self._thorough = thorough

    def note(self, line: int, key: str, what: str) -> None:
        """Remember a mistake."""
        self.mistakes.append(Mistake(line, key, what))

    def sound(self, key: str) -> bool:
        """Whether the value at `key` could be read, so that it can be compared with others."""
        parts = key.split(".")
        return not any(".".join(parts[: count + 1]) in self._unread for count in range(len(parts)))

    def settings(self, root: Branch) -> Settings:
        """Return what `root` says; where something could not be read stands its default, or UNSET."""
        settings: Settings = self._section(root, Settings, "")
        return settings

    def _section(self, branch: Branch, shape: type[Struct], where: str) -> Any:
        known = {key.name: key for key in keys(shape)}
        values: dict[str, Any] = {}
        for name, (line, _) in branch.entries.items():
            if name not in known:
                near = _nearest(name, list(known)) if len(self.mistakes) < TOLD else ""
                self.note(line, _join(where, name[:64]), f"is not known{near}")
        for key in known.values():
            spot = _join(where, key.name)
            line, node = branch.entries.get(key.name, (branch.line, None))
            empty = isinstance(node, Leaf) and node.kind == "null"
            if node:
                self.lines[spot] = line
            if node is None or (empty and key.may_be_empty):
                if key.required:
                    values[key.field] = self._cannot(line, spot, f"is missing: {key.about}")
                continue
            value = self._value(node, key, line, spot)
            if value is not UNSET or key.required:
                values[key.field] = value
        return shape(**values)

    def _value(self, node: Node, key: Key, line: int, where: str) -> Any:
        if key.many == "map":
            if not isinstance(node, Branch):
                return self._wrong(line, where, node, "a mapping from names to values")
            return self._map(node, key, line, where)
        if key.many == "list":
            if not isinstance(node, Items):
                return self._wrong(line, where, node, 'a list such as ["one", "two"]')
            return self._list(node, key, line, where)
        return self._one(node, key, line, where)

    def _map(self, branch: Branch, key: Key, line: int, where: str) -> Any:
        if not key.least <= len(branch.entries) <= MOST:
            return self._wrong_count(len(branch.entries), key, line, where)
        values = {}
        for name, (at, node) in branch.entries.items():
            spot = _join(where, name)
            self.lines[spot] = at
            if not re.fullmatch(key.names.pattern, name):
                self.note(at, where, f"{_short(name)} cannot be a name here; {key.names.rule}")
            value = self._one(node, key, at, spot)
            if value is not UNSET:
                values[name] = value
        return values

    def _list(self, items: Items, key: Key, line: int, where: str) -> Any:
        if not key.least <= len(items.items) <= MOST:
            return self._wrong_count(len(items.items), key, line, where)
        values = tuple(self._one(node, key, node.line, f"{where}[{at}]") for at, node in enumerate(items.items))
        if UNSET in values:
            self._unread.add(where)
            return UNSET
        return values

    def _wrong_count(self, count: int, key: Key, line: int, where: str) -> Any:
        return self._cannot(line, where, f"holds {count}; {MOST} is the most" if count else f"is empty: {key.about}")

    def _one(self, node: Node, key: Key, line: int, where: str) -> Any:
        if key.unit:
            return self._leaf(node, key.unit, line, where)
        if key.section and isinstance(node, Branch):
            return self._section(node, key.section, where)
        known = ", ".join(inner.name for inner in keys(key.section or Settings))
        return self._wrong(line, where, node, f"a mapping of {known}")

    def _leaf(self, node: Node, unit: Unit, line: int, where: str) -> Any:
        if not isinstance(node, Leaf):
            return self._wrong(line, where, node, unit.noun)
        if "${" in node.text and unit not in (SECRET, SECRET_URL):
            why = "holds a '${', which is read only in engine.api_key, engine.env and notify.targets.*.url"
            return self._cannot(line, where, why)
        if node.kind not in unit.takes:
            if node.kind == "null":
                return self._cannot(line, where, f"is empty; {unit.hint}")
            shown = f"{_short(node.text)} is" if unit.open else "is"
            advice = "put it in quotes" if unit.takes == ("str",) else unit.hint
            return self._cannot(line, where, f"{shown} {_found(node)}, not {unit.noun}; {advice}")
        try:
            value = unit.read(node.text)
            if unit.check and self._thorough:
                unit.check(value)
        except ValueError as error:
            return self._cannot(line, where, str(error) or f"{_short(node.text)} is not {unit.noun}; {unit.hint}")
        return os.path.normpath(os.path.join(self._folder, value)) if unit is PATH else value

    def _wrong(self, line: int, where: str, node: Node, wanted: str) -> Any:
        return self._cannot(line, where, f"is {_found(node)}, but has to be {wanted}")

    def _cannot(self, line: int, where: str, what: str) -> Any:
        self.note(line, where, what)
        self._unread.add(where)
        return UNSET


def _found(node: Node) -> str:
    if isinstance(node, Leaf):
        return _KINDS.get(node.kind, f"of the kind {_short(node.kind)}")
    return "a list" if isinstance(node, Items) else "a mapping"


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _nearest(name: str, known: list[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only a mistake needs it

    near = get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(known)}"
