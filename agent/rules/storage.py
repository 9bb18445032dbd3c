"""Judge what a location's storage looks like: space, inodes, mount, and whether it takes data."""

from collections.abc import Sequence

from msgspec import Struct

from agent.rules.finding import Finding, Level
from agent.rules.words import size, span

PATROL_RULES = ("location_unavailable", "location_unwritable", "storage_space", "storage_inodes")


class Root(Struct, frozen=True):
    """What a location's folder is at this moment. `trouble` is empty when it can be used."""

    trouble: str = ""
    hint: str = ""
    device: int = 0
    inode: int = 0
    mount_id: int = 0
    read_only: bool = False


class Space(Struct, frozen=True):
    """Bytes as df shows them (`used_percent` leaves the reserve out), and inodes where there are any."""

    total: int
    used: int
    free: int
    used_percent: float
    inodes_percent: float | None


class Limits(Struct, frozen=True):
    """`storage` of the configuration, in percent; `clear` is how far below a limit an alert ends."""

    warn: float = 80.0
    critical: float = 90.0
    clear: float = 2.0


class Patrol(Struct, frozen=True):
    """One round past one location. `probe` is why a small file could not be written, or empty."""

    location: str
    path: str
    root: Root
    space: Space | None = None
    probe: str = ""
    seconds: float = 0.0


def level(percent: float, before: Level, limits: Limits) -> Level:
    """How bad a fill level is, given how bad it was: an alert ends `clear` percent below where it began."""
    if percent >= limits.critical or (before is Level.CRITICAL and percent > limits.critical - limits.clear):
        return Level.CRITICAL
    if percent >= limits.warn or (before >= Level.WARNING and percent > limits.warn - limits.clear):
        return Level.WARNING
    return Level.OK


def judge(patrol: Patrol, limits: Limits, before: dict[str, Level]) -> list[Finding]:
    """Every finding of one round; `before` is the level each rule stands at now for this location."""
    name = patrol.location
    if patrol.root.trouble:
        # What lies on a location that is not there says nothing about space or rights.
        return [
            Finding(
                "location_unavailable",
                name,
                Level.CRITICAL,
                f"{patrol.path} {patrol.root.trouble}",
                patrol.root.hint,
            )
        ]
    found = [Finding("location_unavailable", name, Level.OK, f"{patrol.path} is there"), _writable(patrol)]
    if patrol.space is not None:
        found.append(_space(patrol, patrol.space, limits, before.get("storage_space", Level.OK)))
        found.append(_inodes(patrol, patrol.space, limits, before.get("storage_inodes", Level.OK)))
    return found


def _writable(patrol: Patrol) -> Finding:
    if patrol.root.read_only:
        return Finding(
            "location_unwritable",
            patrol.location,
            Level.CRITICAL,
            f"{patrol.path} is mounted read-only: no backup can be written",
            "Look in dmesg for why, then remount it for writing.",
        )
    if patrol.probe:
        return Finding(
            "location_unwritable",
            patrol.location,
            Level.CRITICAL,
            f"a test file could not be written to {patrol.path}: {patrol.probe}",
            "Free space, or give the agent's user the right to write there.",
        )
    return Finding("location_unwritable", patrol.location, Level.OK, "a test file could be written")


def _space(patrol: Patrol, space: Space, limits: Limits, before: Level) -> Finding:
    return Finding(
        "storage_space",
        patrol.location,
        level(space.used_percent, before, limits),
        f"{space.used_percent:.1f} % of {size(space.total)} used, {size(space.free)} free"
        f" (limits {limits.warn:g} % and {limits.critical:g} %)",
        f"Free space on {patrol.path}, or keep fewer backups; `snapward list` shows what lies there.",
    )


def _inodes(patrol: Patrol, space: Space, limits: Limits, before: Level) -> Finding:
    if space.inodes_percent is None:
        return Finding("storage_inodes", patrol.location, Level.OK, "this file system has no inode limit")
    return Finding(
        "storage_inodes",
        patrol.location,
        level(space.inodes_percent, before, limits),
        f"{space.inodes_percent:.1f} % of the inodes used; without inodes no file can be made, however much"
        " space there is",
        "Remove small files, or make the file system anew with more inodes.",
    )


def hung(location: str, path: str, seconds: float) -> Finding:
    """The finding about a location that does not answer at all."""
    return Finding(
        "location_hung",
        location,
        Level.CRITICAL,
        f"{path} has not answered for {span(seconds)}",
        "A network file system whose server is gone, or a failing disk: look at `dmesg` and `mount`.",
    )


def worst(findings: Sequence[Finding]) -> Finding:
    """The worst of several findings, the first among equals."""
    return max(findings, key=lambda one: one.level)
