"""The embedded Qdrant: a source of backups, and the engine in which restores are rehearsed."""

from agent.adapters.edge.engine import version
from agent.adapters.edge.source import Source, build_sample, collections, open_collection

__all__ = ["Source", "build_sample", "collections", "open_collection", "version"]
