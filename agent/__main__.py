"""Run `python -m agent` as `snapward`."""

from agent.cli import main

main()
