"""Compare what a collection was set to with what it is set to now."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

# What a server takes where a configuration says nothing. Without a word, a switch is off and a list is empty.
_DEFAULTS: dict[str, Any] = {
    "params.shard_number": 1,
    "params.sharding_method": "auto",
    "params.replication_factor": 1,
    "params.write_consistency_factor": 1,
    "params.on_disk_payload": True,
    "params.read_fan_out_delay_ms": 0,
}
_DATATYPE = "float32"
# Every setting in these is always told: one of which one side says nothing is one that its version does not have.
_COMPLETE = ("hnsw_config.", "optimizer_config.", "wal_config.")
# The collection's own number, another one whenever it is made anew; and what the application keeps there, told whole.
_NUMBER, _METADATA = "uuid", "metadata"

# What is named in these is there, even if nothing more is said of it.
_MEMBERS = ("params.sparse_vectors.", "quantization_config.")


def differs(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Which settings are not as before, each in words such as `hnsw_config.m was 32 and is 16`; empty if none.

    Both are `config` as a server tells it, or an archive's `config.json`. What a server fills in by itself is no
    difference, nor is a default that only one of them tells.
    """
    before, after = dict(_settings(then)), dict(_settings(now))
    found = []
    for name in sorted(before.keys() | after.keys()):
        if name.startswith(_COMPLETE) and not (name in before and name in after):
            continue
        was, has = before.get(name), after.get(name)
        if _meant(name, was) != _meant(name, has):
            found.append(f"{name} was {_told(was)} and is {_told(has)}")
    return found


def _settings(config: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each setting with its path."""
    for key, value in config.items():
        name = f"{within}{key}"
        if isinstance(value, Mapping) and name != _METADATA:
            if within in _MEMBERS:
                yield name, ...
            yield from _settings(value, f"{name}.")
        elif name != _NUMBER:
            yield name, value


def _meant(name: str, value: Any) -> Any:
    """What a setting comes to where nothing is said of it, or nothing that matters."""
    if value is None:
        return _DEFAULTS.get(name, _DATATYPE if name.endswith(".datatype") else None)
    if name in _DEFAULTS:
        return value
    return None if value is False or value in ({}, []) else value


def _told(value: Any) -> str:
    if value is ...:
        return "set"
    return "not set" if value is None else msgspec.json.encode(value).decode()
