"""`snapward restore`: bring collections of a backup back to a server, and prove that they are there."""

import os
from collections.abc import Sequence

import click

from agent.adapters import locks, logs
from agent.adapters.qdrant.address import Address
from agent.cli import parts
from agent.cli.restoring import Asked, restore
from agent.errors import BadUsage
from agent.rules.recovery import choice
from agent.rules.recovery.scene import Options
from agent.rules.words import count
from agent.settings import Settings, secrets_of, zone
from agent.settings.parts import restore_addresses
from agent.settings.units import URL


@click.command("restore")
@click.argument("backup", required=False)
@click.option(
    "--at", metavar="TIME", help="The newest good backup that was over by then: 2026-11-22 18:00, or RFC 3339."
)
@click.option("--collection", "only", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
@click.option("--as", "names", multiple=True, metavar="NEW", help="Under this name; one for each --collection.")
@click.option("--all", "everything", is_flag=True, help="Every collection, as without --collection.")
@click.option("--to", multiple=True, metavar="URL", help="Into another server; repeated, the peers of its cluster.")
@click.option("--to-key-env", metavar="NAME", help="The environment variable with the key for --to.")
@click.option("--switch-alias", is_flag=True, help="With --as: let the aliases lead to the new one, once it is proved.")
@click.option("--replace", is_flag=True, help="Over collections that are there, after a backup of them.")
@click.option("--skip-proof", is_flag=True, help="Do not prove the archives first, and take bad ones too.")
@click.option("--force", is_flag=True, help="Also into a version, or a disk, that may not take it.")
@click.option("--server-files", is_flag=True, help="Put back the server's own files; alone, or with --all.")
@click.option("--location", metavar="NAME", help="Read from this location only.")
@click.option("--dry-run", is_flag=True, help="Say what would happen, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@parts.JSON
@click.pass_context
def restore_(
    ctx: click.Context,
    backup: str | None,
    at: str | None,
    only: tuple[str, ...],
    names: tuple[str, ...],
    to: tuple[str, ...],
    to_key_env: str | None,
    location: str | None,
    *,
    everything: bool,
    switch_alias: bool,
    replace: bool,
    skip_proof: bool,
    force: bool,
    server_files: bool,
    dry_run: bool,
    yes: bool,
    json_: bool,
) -> int:
    """Restore BACKUP (an id, a path, latest, latest-good, oldest) into the server; else the newest good one.

    What is going to happen is printed first, with everything that speaks against it. Each archive is proved again
    before a byte of any is sent; nothing that is there is replaced without --replace, and then it is backed up first;
    afterwards the points are counted, and compared with what was recorded. A restore that broke off goes on when the
    same command is run again. Exit code 2 if a collection did not come back as it was, 3 if that could not be told.
    """
    settings = parts.configuration(ctx).settings
    options = Options(replace=replace, force=force, skip_proof=skip_proof, switch_alias=switch_alias)
    asked = Asked(
        backup=backup,
        at=_moment(settings, backup, at),
        pairs=_pairs(only, names, everything=everything),
        renamed=names[0] if names and not only else None,
        options=options,
        addresses=_addresses(settings, to, to_key_env),
        elsewhere=bool(to),
        location=location,
        files=server_files,
        collections=everything or bool(only) or not server_files,
        dry_run=dry_run,
        yes=yes,
        json=json_,
    )
    _check(settings, asked, names)
    parts.own(settings)
    logs.hide(secrets_of(settings))
    with parts.writer(settings, create=True) as db, parts.finishing() as stopping:
        if dry_run:
            return restore(db, settings, asked, stopping)
        # Held all the time: a backup of a server that is half restored would count as a good one.
        with locks.held(settings.state_dir, "backup"):
            return restore(db, settings, asked, stopping)


def _moment(settings: Settings, backup: str | None, at: str | None) -> float | None:
    if at is None:
        return None
    if backup is not None:
        raise BadUsage("name either BACKUP or --at", "--at takes the newest good backup that was over by then.")
    found = choice.moment(at, zone(settings.timezone))
    if found is None:
        hint = "Write it like 2026-11-22 18:00, which is in the configured zone, or like 2026-11-22T18:00:00Z."
        raise BadUsage(f"--at {at!r} is no time", hint)
    return found


def _pairs(only: Sequence[str], names: Sequence[str], *, everything: bool) -> tuple[tuple[str, str], ...]:
    if everything and (only or names):
        raise BadUsage("--all goes with neither --collection nor --as", "Leave --all out, or the others.")
    if only and names and len(only) != len(names):
        hint = "Write one behind each --collection; where a name stays, write it again."
        raise BadUsage(f"there are {count(len(names), '--as', '--as')} for {count(len(only), '--collection')}", hint)
    if not only and len(names) > 1:
        raise BadUsage("--as goes with a --collection", "Write one behind each --collection.")
    return tuple(zip(only, names or only, strict=True)) if only else ()


def _addresses(settings: Settings, to: Sequence[str], key_env: str | None) -> tuple[Address, ...]:
    for one in to:
        try:
            URL.read(one)
        except ValueError as error:
            raise BadUsage(f"--to {one!r} is no address of a server", URL.hint) from error
    if key_env is not None and (not to or key_env not in os.environ):
        hint = "It names an environment variable that has the key for the server of --to."
        raise BadUsage(f"--to-key-env {key_env}: {'that is not set' if to else 'there is no --to'}", hint)
    key = os.environ[key_env] if key_env is not None else None
    found = restore_addresses(settings, tuple(to), key)
    if not found:
        kind = settings.engine.kind
        raise BadUsage(f"engine.kind: {kind} has no server to restore into", "Name one with --to URL.")
    return tuple(found)


def _check(settings: Settings, asked: Asked, names: Sequence[str]) -> None:
    if asked.options.switch_alias and not names:
        raise BadUsage("--switch-alias goes with --as", "In place, the aliases come back by themselves.")
    if asked.location is not None and asked.location not in settings.locations:
        known = ", ".join(settings.locations)
        raise BadUsage(f"there is no location {asked.location!r}", f"Known: {known}.")
    if asked.files and asked.elsewhere:
        raise BadUsage("--server-files goes with the configured server, and not with --to", "Leave one of them out.")
    if asked.json and not (asked.yes or asked.dry_run):
        raise BadUsage("with --json nobody can be asked", "Add --dry-run to see the plan, or --yes to carry it out.")
