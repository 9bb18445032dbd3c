"""Find what is shipped beside the code: templates, example configuration, units."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def shipped(kind: str) -> Traversable:
    """The folder `kind` (templates, config or systemd), in a wheel or in a checkout."""
    inside = files("agent").joinpath("_shipped", kind)
    return inside if inside.is_dir() else Path(__file__).resolve().parent.parent / kind
