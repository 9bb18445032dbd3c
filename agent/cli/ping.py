"""`snapward ping`: tell the watchers outside; a child of the daemon, which decides when."""

import socket
import time

import click
from msgspec.structs import replace

from agent.adapters import healthchecks, locks, logs
from agent.cli import parts
from agent.errors import BadConfig
from agent.jobs import ping
from agent.rules.pings import Ping
from agent.settings import secrets_of
from agent.settings.parts import telling
from agent.settings.secret import Secret


@click.command("ping", hidden=True)
@click.option("--beat", metavar="WORDS", help="Show that the agent is alive, with these words.")
@click.pass_context
def ping_(ctx: click.Context, beat: str | None) -> int:
    """Tell the watchers outside what they are still to be told of jobs."""
    settings = parts.configuration(ctx).settings
    logs.begin(settings.logs.format, verbose=ctx.obj["verbose"])
    told = telling(settings)
    lock = "heartbeat" if beat is not None else "ping"
    secrets = secrets_of(settings)
    logs.hide(secrets)

    def send(one: Ping) -> str:
        # What came of a run may repeat what it was given; a watcher is not to know that.
        return healthchecks.send(replace(one, body=logs.masked(one.body.decode(), secrets).encode()), time.sleep)

    with locks.held(settings.state_dir, lock), parts.writer(settings) as db:
        if beat is None:
            ping.tell(
                db,
                {job: _address(secret) for job, secret in settings.pings.jobs.items()},
                socket.gethostname(),
                send,
                parts.now,
                told.policy,
                told.severities,
            )
        elif settings.pings.agent is not None:
            ping.beat(db, _address(settings.pings.agent), beat, send, parts.now, told.policy, told.severities)
    return 0


def _address(secret: Secret) -> str:
    """The address of a check; empty, which cannot be pinged and is told so, if its reference leads nowhere."""
    try:
        return secret.reveal()
    except BadConfig:
        return ""
