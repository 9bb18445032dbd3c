"""`snapward run`."""

import os

import click


@click.command("run")
@click.pass_context
def run_(ctx: click.Context) -> int:
    """Guard in the foreground: watch, schedule, prove, alert. What systemd starts."""
    from agent.daemon.run import run  # noqa: PLC0415 - only this command needs the daemon

    return run(ctx.obj["config"], os.environ, verbose=ctx.obj["verbose"])
