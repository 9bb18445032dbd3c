"""Cron lines and time zones: how they are written, and what they mean on this machine."""

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, available_timezones

from agent.errors import BadConfig
from agent.settings.units import Unit, plain

_ALIASES = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}
_FIELDS = {
    "second": "0-59",
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, a day that the month has",
    "month": "1-12",
    "day-of-week": "0-7, Sunday is 0",
}


def _read_cron(text: str) -> str:
    line = _ALIASES.get(text.strip().lower(), " ".join(text.split()))
    if line.startswith("@"):
        raise ValueError(f"{text!r} is not known; write {', '.join(_ALIASES)} or five fields")
    count = len(line.split())
    if count not in {5, 6} or len(line) > 200:
        raise ValueError(f"{text!r} has {count} fields; write five: minute hour day-of-month month day-of-week")
    return line


def _check_cron(line: str) -> None:
    from cronsim import CronSim, CronSimError  # noqa: PLC0415 - 15 ms that a look at the status saves

    try:
        next(CronSim(line, datetime(2026, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        names = list(_FIELDS)
        name = str(error).removeprefix("Bad ")
        part = line.split()[names.index(name) - 6]
        raise ValueError(f"{part!r} is not a {name} in '{line}'; write {_FIELDS[name]}") from None
    except StopIteration:
        raise ValueError(f"'{line}' never comes") from None


CRON = Unit(
    "a cron line",
    'write five fields such as "0 2 * * *" or @daily',
    _read_cron,
    lambda line: line,
    {"type": "string", "pattern": r"^\s*(@(hourly|daily|weekly|monthly)|\S+(\s+\S+){4,5})\s*$"},
    check=_check_cron,
)


def _read_zone(text: str) -> str:
    if not re.fullmatch(r"[\w+/-]{1,64}", plain(text), re.ASCII):
        raise ValueError
    return text


def _check_zone(name: str) -> None:
    try:
        zone(name)
    except BadConfig as error:
        raise ValueError(error.message) from None


ZONE = Unit(
    "a time zone",
    "write local or a name such as Europe/Berlin",
    _read_zone,
    lambda name: name,
    {"type": "string", "pattern": "^[A-Za-z0-9_+/-]{1,64}$"},
    check=_check_zone,
)


def zone(name: str, environ: Mapping[str, str] = os.environ, root: str = "/") -> tzinfo:
    """Return the zone called `name`, an IANA name or `local`.

    `local` is $TZ, else what `root`/etc/localtime or `root`/etc/timezone names, else the bare rules in
    /etc/localtime, else UTC.

    Raises:
        BadConfig: there is no such zone; the message names the nearest.
    """
    if name == "local":
        return _local(environ, root)
    found = _named(name)
    if found is None:
        raise BadConfig(f"{name!r} is not a time zone{_nearest(name)}")
    return found


def _named(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def _from_file(path: str) -> tzinfo | None:
    try:
        with open(path, "rb") as file:
            return ZoneInfo.from_file(file, key=path)
    except (ValueError, OSError):
        return None


def _local(environ: Mapping[str, str], root: str) -> tzinfo:
    if "TZ" in environ:
        wanted = environ["TZ"].removeprefix(":")
        found = UTC if not wanted else _from_file(wanted) if wanted.startswith("/") else _named(wanted)
        if found is None:
            raise BadConfig(
                f"TZ={wanted!r} is not a time zone that can be read{_nearest(wanted)}",
                "write the zone into the configuration, for example timezone: Europe/Berlin",
            )
        return found
    localtime = os.path.join(root, "etc/localtime")
    _, linked, name = os.path.realpath(localtime).rpartition("/zoneinfo/")
    # right/ counts leap seconds, which no clock of this program does.
    names = [name.removeprefix("posix/").removeprefix("right/")] if linked else []
    try:
        with open(os.path.join(root, "etc/timezone"), encoding="ascii") as file:
            names.append(file.read(100).strip())
    except (OSError, ValueError):
        pass
    found = next((zone for name in names if name and (zone := _named(name))), None)
    return found or _from_file(localtime) or UTC


def _nearest(name: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only a mistake needs it

    known = {zone.lower(): zone for zone in sorted(available_timezones())}
    if not known:
        return "; this machine knows none: install tzdata"
    city = "/" + name.lower().rpartition("/")[2]
    near = [low for low in known if low.endswith(city)] or get_close_matches(name.lower(), known, 3, 0.5)
    return f"; did you mean {' or '.join(known[low] for low in near[:3])}?" if near else ""
