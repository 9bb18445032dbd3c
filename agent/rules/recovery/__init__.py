"""Decide how backups are brought back: which one, where to, what speaks against it, and whether it worked."""
