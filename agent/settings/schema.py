"""The JSON Schema of the configuration, for editors: it says what the Structs say."""

from typing import Any

from msgspec import NODEFAULT, Struct

from agent.settings.keys import MOST, Key, keys, written
from agent.settings.shape import ENGINE_NEEDS, ENGINE_TAKES, OWN_TIERS, Engine, Settings


def schema() -> dict[str, Any]:
    """Return the schema, draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "snapward configuration",
        **_section(Settings),
    }


def _section(section: type[Struct]) -> dict[str, Any]:
    known = keys(section)
    found: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {key.name: _described(key) for key in known},
    }
    if required := [key.name for key in known if key.required]:
        found["required"] = required
    if section is Engine:
        found["allOf"] = [_only(kind) for kind in ENGINE_NEEDS]
    return found


def _described(key: Key) -> dict[str, Any]:
    form = _form(key)
    if key.may_be_empty:
        form = {"anyOf": [form, {"type": "null"}]}
    described = {"description": key.about, **form}
    if key.default is not NODEFAULT and (key.unit or key.many == "map"):
        described["default"] = _default(key)
    return described


def _default(key: Key) -> Any:
    if key.many == "map":
        return {name: written(key, value) for name, value in key.default.items()}
    return written(key, key.default)


def _form(key: Key) -> dict[str, Any]:
    one = key.unit.schema if key.unit else _section(key.section or Struct)
    if key.many == "list":
        return {"type": "array", "items": one, "minItems": key.least, "maxItems": MOST}
    if key.many == "map":
        names: dict[str, Any] = {"pattern": key.names.pattern}
        if key.name == "tiers":
            names["not"] = {"enum": list(OWN_TIERS)}
        return {
            "type": "object",
            "propertyNames": names,
            "patternProperties": {key.names.pattern: one},
            "additionalProperties": False,
            "minProperties": key.least,
            "maxProperties": MOST,
        }
    return one


def _only(kind: str) -> dict[str, Any]:
    """Return the rule for one kind of engine: what it needs, and that nothing of another kind is given."""
    takes = ("kind", *ENGINE_NEEDS[kind], *ENGINE_TAKES[kind])
    others = [key.name for key in keys(Engine) if key.name not in takes]
    return {
        "if": {"required": ["kind"], "properties": {"kind": {"const": kind}}},
        "then": {"required": list(ENGINE_NEEDS[kind]), "properties": dict.fromkeys(others, False)},
    }
