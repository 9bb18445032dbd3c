"""Backup: make one backup with an engine of ours (`take`), or let a site's own program make it (`command`)."""
