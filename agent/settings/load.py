"""The file to Settings, with the line of every value and all mistakes at once."""

import os
from collections.abc import Iterator, Mapping

from msgspec import Struct

from agent.errors import BadConfig, NoRights
from agent.settings import checks
from agent.settings.hidden import in_the_clear, secrets_in
from agent.settings.keys import leaves
from agent.settings.read import TOLD, Mistake, Reader
from agent.settings.secret import look_up
from agent.settings.shape import Settings
from agent.settings.tree import Branch

DEFAULT_PATH = "/etc/snapward/config.yaml"
_LARGEST = 262_144


class Loaded(Struct, frozen=True):
    """A configuration and where each of its values comes from.

    Attributes:
        settings: the values.
        path: the file.
        origins: dotted key to the line it is written on; None for a default.
        warnings: what is not wrong but should not stay so.
    """

    settings: Settings
    path: str
    origins: dict[str, int | None]
    warnings: list[str]

    def line(self, key: str) -> str:
        """Return `path:line` of the dotted `key`, or of what it lies in when it is not written itself."""
        while key:
            if line := self.origins.get(key):
                return f"{self.path}:{line}"
            key = key.rpartition(".")[0]
        return self.path


def load(path: str | None = None, *, environ: Mapping[str, str] = os.environ, thorough: bool = True) -> Loaded:
    """Read the configuration from `path`, else $SNAPWARD_CONFIG, else /etc/snapward/config.yaml.

    Args:
        path: the file; relative paths in it count from its folder.
        environ: the environment.
        thorough: False leaves out what is dear to check: cron lines, the time zone, folders that overlap.

    Raises:
        BadConfig: there is no such file, or something in it is wrong; the message has one mistake a line.
        NoRights: it may not be read.
    """
    from agent.settings import document  # noqa: PLC0415 - PyYAML is 15 ms that only this function needs

    path = path or environ.get("SNAPWARD_CONFIG") or DEFAULT_PATH
    text, mode = _content(path)
    reader = Reader(os.path.dirname(os.path.abspath(path)), thorough=thorough)
    root = document.parse(text, path, reader.note)
    if not isinstance(root, Branch):
        where = f"{path}:{root.line}: holds no keys" if root else f"{path} is empty"
        raise BadConfig(where, "start from: snapward config example")
    settings = reader.settings(root)
    reader.mistakes.extend(_between_values(settings, reader, thorough=thorough))
    if reader.mistakes:
        raise _all_of(path, reader.mistakes)
    origins: dict[str, int | None] = {key: None for key, _, _ in leaves(settings)}
    origins.update(reader.lines)
    warnings = list(_readable_secrets(path, mode, settings, reader.lines))
    return Loaded(settings, path, origins, warnings)


def check_secrets(loaded: Loaded, environ: Mapping[str, str] = os.environ) -> None:
    """Read every secret once.

    Raises:
        BadConfig: some cannot be read; the message has one a line, with its place in the file.
    """
    failed: dict[str, str] = {}
    for key, secret in secrets_in(loaded.settings):
        for reference in secret.references:
            try:
                look_up(reference, environ)
            except BadConfig as error:
                failed[f"{loaded.line(key)}: {key}: {error.message}"] = error.hint
    if failed:
        raise BadConfig("\n".join(failed), "; ".join(dict.fromkeys(failed.values())))


def _between_values(settings: Settings, reader: Reader, *, thorough: bool) -> Iterator[Mistake]:
    given = set(reader.lines)
    yield from (
        Mistake(reader.lines.get(key, 1), key, what)
        for key, what in (
            *checks.engine(settings, given, reader.sound),
            *checks.compression(settings, reader.sound),
            *checks.storage(settings, reader.sound),
            *checks.tiers(settings, reader.sound),
            *checks.pings(settings, reader.sound),
            *checks.fallbacks(settings, given, reader.sound),
            *(checks.places(settings, reader.sound) if thorough else ()),
        )
    )


def _all_of(path: str, mistakes: list[Mistake]) -> BadConfig:
    found = sorted(set(mistakes))
    lines = [f"{path}:{one.line}: {one.key + ': ' if one.key else ''}{one.what}" for one in found[:TOLD]]
    if len(found) > TOLD:
        lines.append(f"{path}: and {len(found) - TOLD} more")
    what = "this" if len(found) == 1 else f"these {len(found)}"
    return BadConfig("\n".join(lines), f"mend {what}, then look again with: snapward config validate")


def _readable_secrets(path: str, mode: int, settings: Settings, lines: Mapping[str, int]) -> Iterator[str]:
    clear = in_the_clear(settings) if mode & 0o004 else []
    if clear:
        shown = ", ".join(f"{key} (line {lines[key]})" for key in clear)
        yield (
            f"{path} can be read by everybody on this machine and holds secrets: {shown}; "
            f"chmod o-r {path}, or write them as ${{credential:NAME}}"
        )


def _content(path: str) -> tuple[str, int]:
    """Return the text of the file and its mode."""
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
            mode = os.fstat(file.fileno()).st_mode
    except PermissionError:
        raise NoRights(f"{path} may not be read", "run it as root or as the user of the service") from None
    except FileNotFoundError:
        raise BadConfig(f"there is no {path}", f"write one with: snapward config example > {path}") from None
    except OSError as error:
        raise BadConfig(f"{path} cannot be read: {error.strerror}", "name the file with --config") from None
    except ValueError:
        raise BadConfig(f"{path!r} is not a path", "name the file with --config") from None
    if len(content) > _LARGEST:
        raise BadConfig(f"{path} is larger than {_LARGEST} bytes", "this is hardly a snapward configuration")
    try:
        return content.decode("utf-8-sig"), mode
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadConfig(f"{path}:{line}: is not text in UTF-8", "save the file as UTF-8") from None
