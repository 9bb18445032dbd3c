"""The configuration for people: each value with its origin, secrets masked, and an example to start from."""

import os
from typing import Any

from agent.settings.keys import leaves, written
from agent.settings.load import Loaded
from agent.settings.shape import ENGINE_NEEDS, ENGINE_TAKES


def rows(loaded: Loaded) -> list[tuple[str, str, str]]:
    """Return (dotted key, value as the file would hold it, `config.yaml:12` or `default`) for every value in use."""
    kind = loaded.settings.engine.kind
    used = {f"engine.{name}" for name in ("kind", *ENGINE_NEEDS[kind], *ENGINE_TAKES[kind])}
    return [
        (dotted, _shown(written(key, value)), _origin(loaded, dotted))
        for dotted, key, value in leaves(loaded.settings)
        if not dotted.startswith("engine.") or ".".join(dotted.split(".")[:2]) in used
    ]


def example() -> str:
    """Return the example configuration that is shipped."""
    from agent.files import shipped  # noqa: PLC0415 - 8 ms that only this function needs

    return shipped("config").joinpath("snapward.example.yaml").read_text(encoding="utf-8")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_shown(item) for item in value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _origin(loaded: Loaded, dotted: str) -> str:
    line = loaded.origins[dotted]
    return f"{os.path.basename(loaded.path)}:{line}" if line else "default"
