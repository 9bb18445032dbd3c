"""Find what is shipped beside the code, and the code itself."""

import os
import sys
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def shipped(kind: str) -> Traversable:
    """The folder `kind` (templates, config or systemd), in a wheel or in a checkout."""
    inside = files("agent").joinpath("_shipped", kind)
    return inside if inside.is_dir() else Path(__file__).resolve().parent.parent / kind


def itself(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules with this very interpreter, whatever lies in the current folder."""
    home = str(Path(__file__).resolve().parent.parent)
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if "site-packages" not in home and home not in known:
        os.environ["PYTHONPATH"] = os.pathsep.join([home, *filter(None, known)])
    return [sys.executable, "-P", "-m", module, *arguments]
