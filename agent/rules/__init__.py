"""Pure decisions: no I/O, no clock, no globals; the time is an argument."""
