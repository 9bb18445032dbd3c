"""What a manifest says that a backup came to: what is compared with the backups after it."""

from collections.abc import Mapping

from msgspec import Struct

from agent.rules.anomaly import Measured
from agent.rules.manifest import CollectionEntry, Manifest

MANUAL, SET_ASIDE = "manual", "pre-restore"


class Made(Struct, frozen=True, kw_only=True):
    """One backup as its manifest describes it.

    Attributes:
        tier: its tier.
        backup: its id.
        started: when it was begun, epoch seconds.
        whole: whether it was to hold every collection. Others say nothing about what is usual.
        size: bytes of all its files.
        failed: collections that it should hold, and does not or not all of it.
        aliases: alias to collection.
        figures: what each other collection came to.
    """

    tier: str
    backup: str
    started: float
    whole: bool
    size: int
    failed: tuple[str, ...] = ()
    aliases: Mapping[str, str] = {}
    figures: Mapping[str, Measured] = {}


def made(tier: str, backup: str, started: float, manifest: Manifest) -> Made:
    """What a manifest says of its backup."""
    failed = tuple(sorted({one.name for one in manifest.failed}))
    parts: dict[str, list[CollectionEntry]] = {}
    for entry in manifest.collections:
        if entry.name not in failed:
            parts.setdefault(entry.name, []).append(entry)
    return Made(
        tier=tier,
        backup=backup,
        started=started,
        whole=_whole(tier, manifest),
        size=sum(one.size for one in manifest.collections) + sum(one.size for one in manifest.files),
        failed=failed,
        aliases=manifest.aliases,
        figures={name: _measured(backup, started, its) for name, its in parts.items()},
    )


def _whole(tier: str, manifest: Manifest) -> bool:
    """Of a manual backup that does not say so, nobody knows whether it was to hold all."""
    return manifest.partial is False if tier == MANUAL else not manifest.partial and tier != SET_ASIDE


def _measured(backup: str, started: float, parts: list[CollectionEntry]) -> Measured:
    """The archives of a collection together; each of them has the points of the whole collection."""
    after = [one.points_after if one.points_after is not None else one.points_before for one in parts]
    raw = [one.raw_size for one in parts]
    seconds = [one.seconds for one in parts]
    return Measured(
        backup=backup,
        at=started,
        points=max((one for one in after if one is not None), default=None),
        raw_size=None if None in raw else sum(one for one in raw if one is not None),
        stored_size=sum(one.size for one in parts),
        seconds=None if None in seconds else sum(one for one in seconds if one is not None),
    )
