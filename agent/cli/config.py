"""`snapward config`: validate, show, schema, example."""

import json
from typing import Any

import click

from agent.adapters import notify
from agent.cli import parts, text
from agent.errors import BadConfig
from agent.settings import Loaded, check_secrets, example, load, rows, schema


@click.group("config")
def config_() -> None:
    """Look at the configuration."""


@config_.command("validate")
@parts.JSON
@click.pass_context
def validate(ctx: click.Context, *, json_: bool) -> int:
    """Check all of it: keys, values, cron lines, folders, secrets, and whether each target can be used."""
    loaded = load(ctx.obj["config"])
    check_secrets(loaded)
    check_targets(loaded)
    if json_:
        text.as_json(
            {"state": "warning" if loaded.warnings else "ok", "path": loaded.path, "warnings": loaded.warnings}
        )
        return 1 if loaded.warnings else 0
    for warning in loaded.warnings:
        text.note(f"{text.state('warning')} {warning}")
    text.say(f"{loaded.path} is valid")
    return 1 if loaded.warnings else 0


def check_targets(loaded: Loaded) -> None:
    """Let apprise load every target's URL, without sending anything.

    Raises:
        BadConfig: some cannot be loaded; one line each, with file and line.
    """
    wrong = []
    for name, one in loaded.settings.notify.targets.items():
        why = notify.unusable(one.url.reveal())
        if why:
            key = f"notify.targets.{name}.url"
            wrong.append(f"{loaded.line(key)}: {key}: {why}")
    if wrong:
        raise BadConfig("\n".join(wrong), "The forms of every service's URL are in apprise's documentation.")


@config_.command("show")
@parts.JSON
@click.pass_context
def show(ctx: click.Context, *, json_: bool) -> int:
    """Show every value and where it comes from; secrets are masked."""
    loaded = parts.configuration(ctx)
    found = rows(loaded)
    if json_:
        values = {key: {"value": value, "origin": origin} for key, value, origin in found}
        text.as_json({"path": loaded.path, "values": values})
        return 0
    text.table(("KEY", "FROM", "VALUE"), [(key, text.dim(origin), str(value)) for key, value, origin in found])
    return 0


@config_.command("schema")
def schema_() -> int:
    """Print the JSON Schema of the configuration, for editors and tests."""
    described: dict[str, Any] = schema()
    text.say(json.dumps(described, indent=2, ensure_ascii=False))
    return 0


@config_.command("example")
def example_() -> int:
    """Print an example with every key, its default and what it means."""
    click.echo(example(), nl=False)
    return 0
