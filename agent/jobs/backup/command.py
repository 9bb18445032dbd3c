"""Let a site's own program make the backup, and note what it did and what arrived."""

import os
import re
import time
from collections.abc import Callable, Mapping

from msgspec import Struct

from agent.adapters import command
from agent.adapters.shelf import look
from agent.rules.words import count, span


class Triggered(Struct, frozen=True):
    """How the program ended and which archives arrived while it ran, as location:folder/name with sizes in bytes."""

    ok: bool
    why: str
    exit_code: int
    output: str
    arrived: dict[str, int]
    seconds: float


def trigger(
    argv: tuple[str, ...],
    environment: Mapping[str, str],
    tier: str,
    deadline: float,
    locations: Mapping[str, str],
    names: re.Pattern[str],
    *,
    stopping: Callable[[], bool] = lambda: False,
) -> Triggered:
    """Run the program for one tier; `{tier}` in its arguments becomes the tier's name.

    An exit code of 0 is believed only when an archive arrived.

    Raises:
        BadConfig: there is no such program.
        NoRights: it may not be run.
    """
    began = time.time_ns()
    given = {"SNAPWARD_TIER": tier, **environment}
    finished = command.run([one.replace("{tier}", tier) for one in argv], given, deadline, stopping)
    arrived = _arrived(locations, names, began)
    if finished.timed_out:
        why = f"{argv[0]} was ended: it had not finished within {span(deadline)}"
    elif finished.stopped:
        why = f"{argv[0]} was ended because the agent was asked to stop"
    elif finished.exit_code < 0:
        why = f"{argv[0]} was ended by signal {-finished.exit_code}"
    elif finished.exit_code:
        why = f"{argv[0]} ended with exit code {finished.exit_code}"
    elif not arrived:
        why = f"{argv[0]} ended with exit code 0, but no archive arrived in any location"
    else:
        why = f"{count(len(arrived), 'archive')} arrived"
    good = finished.exit_code == 0 and bool(arrived) and not finished.timed_out and not finished.stopped
    return Triggered(good, why, finished.exit_code, finished.output, arrived, finished.seconds)


def _arrived(locations: Mapping[str, str], names: re.Pattern[str], since_ns: int) -> dict[str, int]:
    """Archives whose inode changed since the program began, whatever modification time they claim."""
    slack = 10_000_000  # a file system's clock ticks coarser than ours
    found = {}
    for location, path in locations.items():
        for folder, listing in look.walk(os.path.realpath(path)):
            for name, _, size, _, ctime_ns in listing.files:
                if ctime_ns >= since_ns - slack and names.match(name) and not name.startswith("."):
                    found[f"{location}:{folder}/{name}" if folder else f"{location}:{name}"] = size
    return found
