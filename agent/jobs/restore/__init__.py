"""Restore: bring collections of a backup back to a server, and prove that they are there."""
