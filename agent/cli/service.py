"""`snapward run`."""

import os
import sys

import click

from agent.cli.config import check_targets
from agent.settings import check_secrets, load


@click.command("run")
@click.pass_context
def run_(ctx: click.Context) -> None:
    """Guard in the foreground: watch, schedule, prove, alert. What systemd starts."""
    loaded = load(ctx.obj["config"])
    check_secrets(loaded)
    check_targets(loaded)
    # All of that took memory which an agent that sleeps for months has no use for: begin anew without it.
    verbose = ["--verbose"] if ctx.obj["verbose"] else []
    sys.stdout.flush()
    os.execv(  # noqa: S606 - our own interpreter
        sys.executable, [sys.executable, "-m", "agent.daemon", os.path.abspath(loaded.path), *verbose]
    )
