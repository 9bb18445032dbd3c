"""snapward: guards the backups of a self-hosted Qdrant."""

__version__ = "0.1.0"
