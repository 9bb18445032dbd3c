"""`snapward run`."""

import os
import sys

import click

from agent.cli import parts
from agent.cli.config import check_targets
from agent.files import itself
from agent.settings import check_secrets, load


@click.command("run")
@click.pass_context
def run_(ctx: click.Context) -> None:
    """Guard in the foreground: watch, schedule, prove, alert. What systemd starts."""
    loaded = load(ctx.obj["config"])
    check_secrets(loaded)
    check_targets(loaded)
    parts.own(loaded.settings)
    # All of that took memory which an agent that sleeps for months has no use for: begin anew without it.
    verbose = ["--verbose"] if ctx.obj["verbose"] else []
    sys.stdout.flush()
    command = itself("agent.daemon", os.path.abspath(loaded.path), *verbose)
    os.execv(command[0], command)  # noqa: S606 - our own interpreter
