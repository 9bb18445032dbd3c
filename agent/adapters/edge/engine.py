"""The embedded engine itself: loaded only when it is wanted, and its troubles told as ours."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from agent.errors import AgentError, CannotWrite, NoRights, TryLater, Unreachable


def version() -> str:
    """Name and version of the engine, such as "qdrant-edge-py 0.9.0".

    Raises:
        AgentError: it is not installed.
    """
    from importlib import metadata  # noqa: PLC0415 - costs 20 ms, and only this function wants it

    library()
    return f"qdrant-edge-py {metadata.version('qdrant-edge-py')}"


@contextmanager
def opened(folder: str, name: str) -> Iterator[Any]:
    """The shard in `folder`, open while the block runs; `name` is what its troubles are told of."""
    loaded = library()
    with translated(name):
        shard = loaded.EdgeShard.load(folder)
    try:
        yield shard
    finally:
        with translated(name):
            shard.close()


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Tell troubles of the engine with the collection `name` as ours, its panics too."""
    try:
        yield
    except BaseException as error:
        # A panic of the engine is no Exception, and its class cannot be imported.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise _trouble(name, error) from error


def _trouble(name: str, error: BaseException) -> AgentError:
    text = str(error)
    if "WouldBlock" in text:
        return TryLater(f"collection '{name}' is open in another process", "close it there, then back up again")
    system = re.search(r"\(os error (\d+)\)", text)
    match int(system[1]) if system else 0:
        case 1 | 13:
            return NoRights(f"collection '{name}' may not be opened: {text}", "run as the user that owns it")
        case 28 | 30 | 122:
            return CannotWrite(f"collection '{name}' cannot be opened: {text}", "opening it needs some free space")
    return Unreachable(f"the engine failed on collection '{name}': {text}", "if its files are damaged, restore it")


def library() -> ModuleType:
    """The engine's module.

    Raises:
        AgentError: it is not installed.
    """
    try:
        import qdrant_edge  # noqa: PLC0415 - optional, and 35 MB that only a few commands want
    except ImportError as error:
        raise AgentError("the embedded Qdrant engine is not installed", "pip install 'snapward[edge]'") from error
    return qdrant_edge
