"""What the agent does, one verb a file; adapters come in as arguments."""
