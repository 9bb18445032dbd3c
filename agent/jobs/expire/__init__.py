"""Remove the backups that a plan has no use for: written down before it is done, and finished after a kill."""
