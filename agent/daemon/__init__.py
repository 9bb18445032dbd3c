"""The daemon: one thread that decides, fed by an inbox; workers and children only hand in what they found."""
