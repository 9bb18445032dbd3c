"""How single values are written: read from text, checked, written back, and described to an editor."""

import re
from collections.abc import Callable
from typing import Any

from msgspec import Struct

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0, "mo": 2_629_800.0}
_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SIZES |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_CENTURY = 100 * 365.25 * 86_400
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


class Unit(Struct, frozen=True):
    """One way of writing a value.

    Attributes:
        noun: what it is called, with its article.
        hint: what to write instead of something else, as an order.
        read: text to value; raises ValueError, empty when noun and hint say it all.
        write: value to what the file holds.
        schema: JSON Schema of the written form.
        takes: YAML's own names for the kinds of scalar that are accepted.
        check: what is dear to find out; raises ValueError. None: nothing is.
        open: whether a wrong text may be repeated in a message.
    """

    noun: str
    hint: str
    read: Callable[[str], Any]
    write: Callable[[Any], Any]
    schema: dict[str, Any]
    takes: tuple[str, ...] = ("str",)
    check: Callable[[Any], None] | None = None
    open: bool = True


class Span(Struct, frozen=True):
    """An age in the calendar's own steps: 30 days, 12 weeks, 24 months."""

    amount: int
    unit: str

    def seconds(self) -> float:
        """Return its length in seconds; a month counts as a twelfth of 365.25 days."""
        return self.amount * SECONDS[self.unit]

    def __str__(self) -> str:
        return f"{self.amount}{self.unit}"


def _same(value: Any) -> Any:
    return value


def plain(text: str) -> str:
    """Return `text` if it has something in it and nothing that a terminal would act on."""
    if not text.strip():
        raise ValueError("is empty")
    if _UNPRINTABLE.search(text):
        raise ValueError("holds a control character")
    return text


TEXT = Unit("text", "write it in quotes", plain, _same, {"type": "string", "minLength": 1})


def _path(text: str) -> str:
    if plain(text).startswith("~"):
        raise ValueError("'~' means another folder for every user; write the whole path")
    return text


PATH = Unit("a path", "write something like /var/lib/snapward", _path, _same, TEXT.schema)


def _file_pattern(text: str) -> str:
    if "/" in plain(text):
        raise ValueError(f"{text!r} holds a '/'; a pattern is compared with the file's name alone")
    return text


FILE_PATTERN = Unit(
    "a pattern", 'write something like "*.snapshot"', _file_pattern, _same, {"type": "string", "pattern": "^[^/]+$"}
)

_URL = r"https?://(?:[\w.-]+|\[[0-9a-fA-F:.]+\])(?::([0-9]{1,5}))?(?:/[^\s?#@]*)?"


def _url(text: str) -> str:
    found = re.fullmatch(_URL, text)
    if found is None or int(found[1] or 0) > 65_535:
        raise ValueError("is not the address of a server; write something like http://127.0.0.1:6333")
    return text.rstrip("/")


URL = Unit(
    "an address",
    "write something like http://127.0.0.1:6333",
    _url,
    _same,
    {"type": "string", "pattern": "^https?://[^@?#]+$"},
    open=False,
)


def duration(least: float = 0.0) -> Unit:
    """Return the unit of a length of time of at least `least` seconds; values are float seconds."""

    def read(text: str) -> float:
        found = re.fullmatch(r"([0-9]{1,12}) ?(ms|s|m|h|d|w|mo)", text)
        if found is None:
            raise ValueError(f"{text!r} has no unit; {hint}" if text.isdigit() else "")
        seconds = int(found[1]) * SECONDS[found[2]]
        if seconds < least:
            raise ValueError(f"{text!r} is too short; {write_duration(least)} is the least")
        if seconds > _CENTURY:
            raise ValueError(f"{text!r} is more than a hundred years")
        return seconds

    hint = "write 30s, 5m, 12h, 30d, 12w or 24mo"
    schema = {"type": "string", "pattern": "^[0-9]+ ?(ms|s|m|h|d|w|mo)$"}
    return Unit("a duration", hint, read, write_duration, schema, takes=("str", "int", "float"))


def write_duration(seconds: float) -> str:
    """Return `seconds` in the largest unit that needs no fraction: 43200.0 gives 12h."""
    if seconds != int(seconds):
        return f"{round(seconds * 1000)}ms"
    unit = next((unit for unit in ("mo", "w", "d", "h", "m") if seconds and seconds % SECONDS[unit] == 0), "s")
    return f"{round(seconds / SECONDS[unit])}{unit}"


def _keep(text: str) -> Span | int:
    found = re.fullmatch(r"([0-9]{1,4}) ?(d|w|mo)?", text)
    if found is None:
        raise ValueError
    if int(found[1]) == 0:
        raise ValueError(f"{text!r} would keep nothing")
    return Span(int(found[1]), found[2]) if found[2] else int(found[1])


def _write_keep(keep: Span | int) -> str | int:
    return str(keep) if isinstance(keep, Span) else keep


KEEP = Unit(
    "a duration",
    "write 30d, 12w or 24mo",
    _keep,
    _write_keep,
    {
        "anyOf": [
            {"type": "string", "pattern": "^[0-9]{1,4} ?(d|w|mo)$"},
            {"type": "integer", "minimum": 1, "maximum": 9999},
        ]
    },
    takes=("str", "int"),
)


def _size(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,12}) ?([KMGT]?i?B)?", text, re.IGNORECASE)
    if found is None or (found[2] or "").lower() not in _SIZES:
        raise ValueError
    return int(found[1]) * _SIZES[(found[2] or "").lower()]


def _write_size(size: int) -> str | int:
    names = ("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "KB")
    name = next((name for name in names if size and size % _SIZES[name.lower()] == 0), "")
    return f"{size // _SIZES[name.lower()]}{name}" if name else size


SIZE = Unit(
    "a size",
    "write 512, 1KiB or 10MB",
    _size,
    _write_size,
    {
        "anyOf": [
            {"type": "string", "pattern": "^[0-9]{1,12} ?([KkMmGgTt]?[Ii]?[Bb])?$"},
            {"type": "integer", "minimum": 0},
        ]
    },
    takes=("str", "int"),
)


def _percent(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%?", text)
    if found is None:
        raise ValueError
    if float(found[1]) > 100:
        raise ValueError(f"{text!r} is more than 100%")
    return float(found[1])


PERCENT = Unit(
    "a percentage",
    "write 80%",
    _percent,
    lambda value: f"{value:g}%",
    {
        "anyOf": [
            {"type": "string", "pattern": "^[0-9]{1,3}([.][0-9]+)? ?%?$"},
            {"type": "number", "minimum": 0, "maximum": 100},
        ]
    },
    takes=("str", "int", "float"),
)


def mode(least: int, example: str) -> Unit:
    """Return the unit of octal permissions, such as `example`, that must include the bits of `least`."""

    def read(text: str) -> int:
        found = re.fullmatch(r"0?o?([0-7]{3,4})", text)
        if found is None:
            raise ValueError
        if int(found[1], 8) & least != least:
            raise ValueError(f"{text!r} takes the owner's own rights away; it must include {least:o}")
        return int(found[1], 8)

    schema = {"anyOf": [{"type": "string", "pattern": "^0?o?[0-7]{3,4}$"}, {"type": "integer"}]}
    hint = f'write octal digits such as "{example}"'
    return Unit("a file mode", hint, read, lambda value: f"{value:o}", schema, takes=("str", "int"))


def integer(low: int, high: int) -> Unit:
    """Return the unit of a whole number from `low` to `high`, both included."""

    def read(text: str) -> int:
        if not re.fullmatch(r"-?(0|[1-9][0-9]{0,14})", text) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Unit(f"a whole number from {low} to {high}", "write plain digits", read, _same, schema, takes=("int",))


def choice(*words: str) -> Unit:
    """Return the unit of one word out of `words`."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    listed = ", ".join(words[:-1]) + " or " + words[-1] if words[1:] else words[0]
    return Unit("a word known here", f"write {listed}", read, _same, {"type": "string", "enum": list(words)})


def _switch(text: str) -> bool:
    return text.lower() in {"true", "yes", "on"}


SWITCH = Unit("a switch", "write true or false", _switch, _same, {"type": "boolean"}, takes=("bool",))
