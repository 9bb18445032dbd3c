"""What the Structs of the configuration say about their keys: one reading of them for every purpose."""

import functools
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from agent.settings.units import Unit


class Least(NamedTuple):
    """Marks a list or mapping that must hold at least so many."""

    number: int


class Names(NamedTuple):
    """Marks a mapping whose keys are chosen by the user, and how they are written."""

    pattern: str
    rule: str


# The most entries of a list or mapping: comparing each with each must stay a matter of milliseconds.
MOST = 200
NAMES = Names("^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", "write letters, digits, - and _, at most 64 of them")


class Key(Struct, frozen=True):
    """One key of one section.

    Attributes:
        name: as written in the file.
        field: as called in the Struct.
        about: what it means, for people.
        many: whether it holds one value, a list of them, or a mapping from names to them.
        unit: how a value is written; None when it is a section of its own.
        section: the Struct of that section.
        nullable: whether null is one of its values.
        default: the value when it is not given; NODEFAULT when it has to be.
    """

    name: str
    field: str
    about: str
    many: Literal["one", "list", "map"]
    unit: Unit | None
    section: type[Struct] | None
    nullable: bool
    default: Any
    least: int
    names: Names

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is NODEFAULT

    @property
    def may_be_empty(self) -> bool:
        """Whether `key:` with nothing behind it means the same as no such line."""
        return not self.required and (self.unit is None or self.many != "one" or self.nullable)


@functools.cache
def keys(section: type[Struct]) -> tuple[Key, ...]:
    """Return the keys of `section`, in the order they are written."""
    return tuple(_key(field) for field in fields(section))


def leaves(section: Struct, where: str = "") -> Iterator[tuple[str, Key, Any]]:
    """Yield every value below `section` with its dotted key; an empty mapping counts as a value."""
    for key in keys(type(section)):
        spot = f"{where}{key.name}"
        value = getattr(section, key.field)
        if key.many == "map" and value:
            for name, inner in value.items():
                if isinstance(inner, Struct) and key.section:
                    yield from leaves(inner, f"{spot}.{name}.")
                else:
                    yield f"{spot}.{name}", key, inner
        elif key.section and key.many == "one":
            yield from leaves(value, f"{spot}.")
        else:
            yield spot, key, value


def written(key: Key, value: Any) -> Any:
    """Return one `value` of `key` as the file would hold it: text, numbers, lists, mappings; never a secret."""
    if value is None or value == {}:
        return value
    if isinstance(value, tuple) and key.unit:
        return [key.unit.write(item) for item in value]
    if key.unit:
        return key.unit.write(value)
    section: type[Struct] = type(value)
    return {inner.name: written(inner, getattr(value, inner.field)) for inner in keys(section)}


def _key(field: msgspec.structs.FieldInfo) -> Key:
    plain, marks = _opened(field.type)
    many: Literal["one", "list", "map"] = "one"
    if get_origin(plain) is dict:
        many, (plain, inner) = "map", _opened(get_args(plain)[1])
        marks += inner
    elif get_origin(plain) is tuple:
        many, (plain, inner) = "list", _opened(get_args(plain)[0])
        marks += inner
    unit = next((mark for mark in marks if isinstance(mark, Unit)), None)
    default = field.default if field.default_factory is NODEFAULT else field.default_factory()
    return Key(
        name=field.encode_name,
        field=field.name,
        about=next((mark for mark in marks if isinstance(mark, str)), ""),
        many=many,
        unit=unit,
        section=plain if isinstance(plain, type) and issubclass(plain, Struct) and not unit else None,
        nullable=default is None,
        default=default,
        least=next((mark.number for mark in marks if isinstance(mark, Least)), 0),
        names=next((mark for mark in marks if isinstance(mark, Names)), NAMES),
    )


def _opened(annotation: Any) -> tuple[Any, list[Any]]:
    marks: list[Any] = []
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            marks += more
        elif isinstance(annotation, types.UnionType) and types.NoneType in get_args(annotation):
            annotation = next(part for part in get_args(annotation) if part is not types.NoneType)
        else:
            return annotation, marks
