"""The front door: arguments become one job, and what comes of it becomes an exit code."""

import gc
import importlib
import sys
from collections.abc import Sequence

import click

from agent import __version__
from agent.errors import FAULT, AgentError

# Command, and where it is: a command imports what it needs, and `status` needs little.
COMMANDS = {
    "run": "agent.cli.service",
    "demo": "agent.cli.demo",
    "check": "agent.cli.preflight",
    "health": "agent.cli.health",
    "status": "agent.cli.show",
    "backup": "agent.cli.backup",
    "list": "agent.cli.show",
    "show": "agent.cli.show",
    "verify": "agent.cli.verify",
    "drill": "agent.cli.drill",
    "evidence": "agent.cli.evidence",
    "restore": "agent.cli.restore",
    "expire": "agent.cli.expire",
    "keep": "agent.cli.keep",
    "release": "agent.cli.keep",
    "repair": "agent.cli.repair",
    "audit": "agent.cli.audit",
    "report": "agent.cli.report",
    "alert": "agent.cli.alert",
    "reconcile": "agent.cli.verify",
    "config": "agent.cli.config",
    "deliver": "agent.cli.alert",
    "upkeep": "agent.cli.upkeep",
    "ping": "agent.cli.ping",
}


class Front(click.Group):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own signature
        """Every command, in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command; None if there is none of that name."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        if ctx.resilient_parsing or not place:
            return super().get_command(ctx, cmd_name)
        command = getattr(importlib.import_module(place), f"{cmd_name}_")
        assert isinstance(command, click.Command)  # noqa: S101 - the table above is ours
        return command


@click.group(
    cls=Front,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 fine, 1 warning, 2 critical or failed, 3 could not tell; 64 usage, 65 configuration, "
    "69 unreachable, 70 a mistake of ours, 73 cannot write, 75 busy, 77 no rights; 130 interrupted.",
)
@click.version_option(__version__, prog_name="snapward")
@click.option("--config", metavar="FILE", help="The configuration; else $SNAPWARD_CONFIG, /etc/snapward/config.yaml.")
@click.option("-v", "--verbose", is_flag=True, help="Say more in the log.")
@click.pass_context
def front(ctx: click.Context, config: str | None, *, verbose: bool) -> None:
    """Guard the backups of a self-hosted Qdrant: take them, prove them, and say so when one would not restore."""
    ctx.obj = {"config": config, "verbose": verbose}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    # A command is over in a moment, and a fifth of that would go into looking for cycles among what it imported.
    gc.freeze()
    gc.set_threshold(20_000)
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = front.main(given, prog_name="snapward", standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except KeyboardInterrupt:
        code = 130
    except click.ClickException as error:
        error.show()
        code = 64
    except AgentError as error:
        _tell(error, as_json="--json" in given)
        code = error.exit_code
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing is left to flush into.
        sys.stdout = None  # keeps the interpreter from flushing at exit
        code = 0
    except Exception:  # noqa: BLE001 - told in full, and kept apart from a warning's exit code
        import traceback  # noqa: PLC0415 - 2 ms that only a fault is worth

        traceback.print_exc()
        click.echo("snapward: this is a mistake in the program; please report it with the lines above", err=True)
        code = FAULT
    gc.freeze()
    sys.exit(code if isinstance(code, int) else 0)


def _tell(error: AgentError, *, as_json: bool) -> None:
    from agent.cli import text  # noqa: PLC0415 - only where something is told

    if as_json:
        told = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
        text.as_json({"error": told})
        return
    click.echo(f"snapward: {error.message}", err=True)
    if error.hint:
        click.echo(f"  {error.hint}", err=True)
