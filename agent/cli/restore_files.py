"""The server's own files, as `snapward restore --server-files` puts them back."""

import os

from msgspec import Struct

from agent.adapters.qdrant.address import Address
from agent.cli import text
from agent.cli.restorable import Chosen
from agent.errors import Refused
from agent.jobs.restore import server_files
from agent.jobs.restore.server_files import Files
from agent.rules.manifest import FileEntry
from agent.rules.words import raw
from agent.settings import Settings

_ARCHIVE = "server-config.tar.gz"
# Seconds that the unit may take to stop or to start.
_UNIT = 300.0


class Own(Struct, frozen=True):
    """The server's own files in a backup: the archive they are read from, and the unit that is stopped for them."""

    archive: str
    files: Files
    unit: str


def find(settings: Settings, found: Chosen, only: str | None) -> Own:
    """Read them, from the first location whose copy is sound.

    Raises:
        Refused: there are none, or no unit to stop is known, or they may not be put back.
    """
    unit = settings.engine.service
    if unit is None:
        hint = "Set it to the server's systemd unit, such as qdrant.service; docs/operations.md has the rest."
        raise Refused("engine.service is not set: the server could not be stopped while its files are put back", hint)
    listed: list[FileEntry] = found.manifest.files if found.manifest else []
    entry = next((one for one in listed if one.file == _ARCHIVE), None)
    if entry is None:
        hint = "engine.config_files names what is backed up beside the collections."
        raise Refused(f"backup {found.backup.id} has no {_ARCHIVE}", hint)
    refused = None
    for name, copy in found.backup.locations.items():
        if name not in settings.locations or name != (only or name):
            continue
        path = os.path.join(settings.locations[name].path, raw(copy.path), _ARCHIVE)
        try:
            files = server_files.unpack(path, entry, settings.engine.config_files)
        except Refused as error:
            refused = error
            continue
        server_files.writable(files.other, path)
        return Own(path, files, unit)
    raise refused or Refused(f"no location has {_ARCHIVE} of backup {found.backup.id}", "`snapward show` tells.")


def show(own: Own) -> None:
    """Print what is going to happen to them."""
    text.say(f"\nthe server's own files: {server_files.told(own.files)}")
    for one in own.files.files:
        words = {"new": "is put back", "other": "is put back, and what is there is kept beside", "same": "is the same"}
        text.say(f"  {one.path} {words[one.found]}")
    for link in own.files.links:
        text.say(f"  {link} is a link, and is left as it is")
    if own.files.other:
        text.say(f"  {own.unit} is stopped for that, and started again")


def put_back(own: Own, backup: str, address: Address) -> list[str]:
    """Put them back with the unit stopped, and wait for the server; returns the paths that were written.

    Raises:
        AgentError: the unit cannot be stopped or started, or a file cannot be written, or the server does not answer.
    """
    if not own.files.other:
        return []
    from agent.adapters.qdrant.server import Server  # noqa: PLC0415 - HTTP is dear to load
    from agent.adapters.qdrant.wire import Wire  # noqa: PLC0415

    with server_files.stopped(own.unit, _UNIT):
        written = server_files.put_back(own.files.other, backup)
    Server(Wire(address)).identity(patience=address.patience)
    return written
