"""What the jobs need, cut out of the settings: a job never sees more of the configuration than its own part."""

import grp
import os
import pwd

from agent.adapters.press import Squeeze
from agent.adapters.qdrant.address import Address
from agent.adapters.shelf.write import Permissions
from agent.errors import BadConfig
from agent.jobs.backup.engine import Order
from agent.jobs.intake.losses import Keeps
from agent.jobs.intake.survey import Place
from agent.jobs.intake.verdicts import Telling
from agent.rules import incident
from agent.rules.finding import Level
from agent.rules.keeping import Age, Policy
from agent.rules.seal import LEAST_KEY
from agent.rules.storage import Limits
from agent.rules.words import count
from agent.settings.shape import Compression, Settings, Squeezing
from agent.settings.timing import zone
from agent.settings.units import Span


def places(settings: Settings) -> dict[str, Place]:
    """The locations by name."""
    return {name: Place(name, one.path, one.mount) for name, one in settings.locations.items()}


def telling(settings: Settings) -> Telling:
    """Who is told of what, and when."""
    alerts = settings.alerts
    policy = incident.Policy(alerts.for_, alerts.group_wait, alerts.repeat_interval, alerts.send_resolved)
    severities = {name: Level[one.severity.upper()] for name, one in settings.notify.targets.items()}
    return Telling(policy, severities)


def keeps(settings: Settings) -> Keeps:
    """How long each tier keeps its backups; a tier that keeps a number of them is not in it."""
    spans = {name: one.keep for name, one in settings.tiers.items() if isinstance(one.keep, Span)}
    return Keeps({name: Age(one.amount, one.unit) for name, one in spans.items()}, zone(settings.timezone))


def seal_keys(settings: Settings) -> tuple[bytes, ...]:
    """The key that manifests are signed with, then those that were used before; none where there is no key.

    Raises:
        BadConfig: a reference leads nowhere, or a key is too short.
    """
    chosen = settings.sealing
    if chosen.key is None:
        return ()
    keys = tuple(one.reveal().encode() for one in (chosen.key, *chosen.old_keys))
    for one in keys:
        if len(one) < LEAST_KEY:
            raise BadConfig(
                f"sealing: a key has {count(len(one), 'byte')}, and {LEAST_KEY} are the least",
                "`openssl rand -hex 32` makes a good one.",
            )
    return keys


def promised(settings: Settings) -> dict[str, tuple[str, float]]:
    """The cron line of each job, backups as backup:TIER, and how many seconds after a slot it has to be done."""
    late = settings.catch_up
    found = {
        f"backup:{name}": (one.cron, late if one.grace is None else one.grace) for name, one in settings.tiers.items()
    }
    found["report"] = (settings.report.cron, late)
    # A slot may be caught up as late as that, and take as long as it may.
    found["drill"] = (settings.drills.cron, late + settings.drills.budget)
    found["cleanup"] = (settings.cleanup.cron, late)
    if settings.reread.budget:
        found["reread"] = (settings.reread.cron, late + settings.reread.budget)
    return found


def policies(settings: Settings) -> dict[str, dict[str, Policy | None]]:
    """What each location keeps of each tier; None for what stays for ever."""
    cleanup = settings.cleanup
    usual: dict[str, Span | int | None] = {name: one.keep for name, one in settings.tiers.items()}
    usual |= {"manual": cleanup.manual, "pre-restore": cleanup.pre_restore}
    return {
        name: {tier: _policy(keep, cleanup.minimum) for tier, keep in (usual | location.keep).items()}
        for name, location in settings.locations.items()
    }


def _policy(keep: Span | int | None, minimum: int) -> Policy | None:
    if keep is None:
        return None
    return Policy(Age(keep.amount, keep.unit) if isinstance(keep, Span) else keep, minimum)


def limits(settings: Settings) -> Limits:
    """When a filling disk is trouble."""
    return Limits(settings.storage.warn, settings.storage.critical, settings.storage.clear)


def permissions(settings: Settings) -> Permissions:
    """Modes and owner of what is written.

    Raises:
        BadConfig: there is no such user or group on this machine.
    """
    wanted = settings.permissions
    try:
        owner = pwd.getpwnam(wanted.owner).pw_uid if wanted.owner else None
        group = grp.getgrnam(wanted.group).gr_gid if wanted.group else None
    except KeyError as error:
        raise BadConfig(f"permissions: {error.args[0]}", "Create it, or mend the configuration.") from error
    return Permissions(wanted.files, wanted.folders, owner, group)


_AS_EVER = Squeezing()


def squeeze(compression: Compression, other: Squeezing = _AS_EVER) -> Squeeze:
    """How archives are compressed, where `other` says nothing else."""
    return Squeeze(other.format or compression.format, other.level or compression.level, compression.library)


def addresses(settings: Settings) -> list[Address]:
    """The Qdrant server, and the other peers of its cluster.

    Raises:
        BadConfig: the key's reference leads nowhere.
    """
    engine = settings.engine
    key = engine.api_key.reveal() if engine.api_key else ""
    return [
        Address(url, key, engine.patience, engine.silence, engine.ca_file) for url in (engine.url or "", *engine.peers)
    ]


def restore_addresses(settings: Settings, to: tuple[str, ...] = (), key: str | None = None) -> list[Address]:
    """The server that is restored to, and the other peers of its cluster: those configured, or those named.

    Args:
        settings: all of them.
        to: addresses that were named instead.
        key: that goes with these; None for the one that is configured.

    Raises:
        BadConfig: the key's reference leads nowhere.
    """
    engine = settings.engine
    chosen = engine.restore_api_key or engine.api_key
    told = key if key is not None else chosen.reveal() if chosen else ""
    urls = to or (*([engine.url] if engine.url else ()), *engine.peers)
    return [Address(url.rstrip("/"), told, engine.patience, engine.silence, engine.ca_file) for url in urls]


def scratch_folder(settings: Settings) -> str:
    """Where drills unpack archives."""
    return settings.drills.scratch or os.path.join(settings.state_dir, "scratch")


def drill_server(settings: Settings) -> Address:
    """The scratch server that archives are restored into.

    Raises:
        BadConfig: there is none, or the key's reference leads nowhere.
    """
    chosen, engine = settings.drills, settings.engine
    if chosen.url is None:
        raise BadConfig("drills.url is not set: there is no scratch server", "Name one, or drill with --engine edge.")
    key = chosen.api_key.reveal() if chosen.api_key else ""
    return Address(chosen.url, key, engine.patience, engine.silence, engine.ca_file)


def order(settings: Settings, tier: str, only: tuple[str, ...] = ()) -> Order:
    """What a backup of one tier is to hold; `only` are patterns that narrow the collections down."""
    engine = settings.engine
    return Order(
        tier=tier,
        locations={name: (one.path, one.mount) for name, one in settings.locations.items()},
        include=only or engine.collections.include,
        exclude=engine.collections.exclude,
        config_files=engine.config_files,
        squeeze=squeeze(settings.compression),
        squeezes=tuple(
            (pattern, squeeze(settings.compression, one)) for pattern, one in settings.compression.collections.items()
        ),
        parallel=settings.parallel,
        permissions=permissions(settings),
        deadline=engine.deadline,
        partial=bool(only),
    )
