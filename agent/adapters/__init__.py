"""The only ways out: one outside thing a file, and no decisions."""
