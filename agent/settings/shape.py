"""The shape of the configuration: every key, its default and what it means. Durations are float seconds."""

from typing import Annotated

from msgspec import Struct, field

from agent.settings.keys import Least, Names
from agent.settings.secret import SECRET, SECRET_URL, Secret
from agent.settings.timing import CRON, ZONE
from agent.settings.units import (
    FILE_PATTERN,
    KEEP,
    PATH,
    PERCENT,
    SIZE,
    SWITCH,
    TEXT,
    URL,
    Span,
    choice,
    duration,
    integer,
    mode,
)

Path = Annotated[str, PATH]
Text = Annotated[str, TEXT]
Variables = Names("^[A-Za-z_][A-Za-z0-9_]{0,63}$", "write the name of an environment variable")

JOBS = Names(
    "^(backup:[A-Za-z0-9][A-Za-z0-9_-]{0,63}|report|drill|cleanup|reread)$",
    "write backup:TIER, report, drill, cleanup or reread",
)
PATTERNS = Names("^.{1,255}$", "write a collection's name, or a pattern with * and ?")

# The keys that each kind of engine needs, and those it also takes.
ENGINE_NEEDS = {"qdrant": ("url",), "edge": ("path",), "command": ("argv",)}
ENGINE_TAKES = {
    "qdrant": (
        *("api_key", "restore_api_key", "ca_file", "peers", "collections", "config_files", "service"),
        *("deadline", "patience", "silence", "snapshots_path", "temp_path"),
    ),
    "edge": ("collections", "config_files", "deadline"),
    "command": ("env", "deadline"),
}
# What the agent itself calls backups that no schedule asked for.
OWN_TIERS = ("manual", "pre-restore")


class Collections(Struct, frozen=True, kw_only=True):
    """Which collections are backed up: those that match `include` and nothing of `exclude`."""

    include: Annotated[tuple[Text, ...], Least(1), "patterns of the collections to back up"] = ("*",)
    exclude: Annotated[tuple[Text, ...], "patterns of the collections to leave out"] = ()


class Engine(Struct, frozen=True, kw_only=True):
    """What makes the backups; which of the keys apply depends on `kind`."""

    kind: Annotated[
        str,
        choice("qdrant", "edge", "command"),
        "a Qdrant server, an embedded Qdrant, or a program of your own",
    ]
    url: Annotated[str | None, URL, "qdrant: the server's REST address"] = None
    api_key: Annotated[Secret | None, SECRET, "qdrant: the key it asks for, as a reference to a secret"] = None
    restore_api_key: Annotated[
        Secret | None, SECRET, "qdrant: the key for restoring, if api_key has no right to manage"
    ] = None
    service: Annotated[
        str | None, TEXT, "qdrant: its systemd unit, stopped while its own configuration files are put back"
    ] = None
    ca_file: Annotated[str | None, PATH, "qdrant: certificates (PEM) to check its own against, if not the system's"] = (
        None
    )
    peers: Annotated[
        tuple[Annotated[str, URL], ...], "qdrant: in a cluster, the REST addresses of the other peers"
    ] = ()
    patience: Annotated[
        float, duration(), "qdrant: how long it is asked again when it does not answer, or breaks off"
    ] = 120.0
    silence: Annotated[
        float, duration(0.1), "qdrant: how long the server may say nothing in the middle of an answer"
    ] = 60.0
    snapshots_path: Annotated[
        str | None, PATH, "qdrant: the server's own snapshots_path, if it is on this machine: its space is checked"
    ] = None
    temp_path: Annotated[str | None, PATH, "qdrant: the same for its temp_path, or for its storage_path"] = None
    collections: Annotated[Collections, "qdrant, edge: which collections are backed up"] = Collections()
    config_files: Annotated[
        tuple[Path, ...], "qdrant, edge: configuration files and folders that are saved beside the collections"
    ] = ()
    path: Annotated[str | None, PATH, "edge: the folder that holds one folder per collection"] = None
    argv: Annotated[tuple[Text, ...], "command: the program and its arguments; {tier} is replaced"] = ()
    env: Annotated[
        dict[str, Annotated[Secret, SECRET]], Variables, "command: environment variables for it; secrets are allowed"
    ] = {}
    deadline: Annotated[float, duration(1), "a backup that takes longer is ended and counts as failed"] = 43_200.0


class Squeezing(Struct, frozen=True, kw_only=True):
    """How the archives of some collections are compressed; what is not given is as for the others."""

    format: Annotated[str | None, choice("gzip", "zstd", "none"), "the format"] = None
    level: Annotated[int | None, integer(1, 19), "gzip takes 1 to 9, zstd 1 to 19"] = None


class Compression(Struct, frozen=True, kw_only=True):
    """How archives are compressed."""

    format: Annotated[str, choice("gzip", "zstd", "none"), "the format"] = "gzip"
    level: Annotated[int, integer(1, 19), "1 is fastest; gzip takes 1 to 9, zstd 1 to 19"] = 6
    library: Annotated[
        str, choice("auto", "zlib"), "auto: the fastest that is nearly as small; zlib: gzip's own levels to the letter"
    ] = "auto"
    collections: Annotated[
        dict[str, Squeezing], PATTERNS, "by pattern of collections' names, the first that matches: another way"
    ] = {}


class Location(Struct, frozen=True, kw_only=True):
    """One place that holds every backup."""

    path: Annotated[str, PATH, "the folder"]
    mount: Annotated[str | None, PATH, "the mount point it must lie on; unmounted, it is an alert"] = None
    keep: Annotated[
        dict[str, Annotated[Span | int, KEEP]], "by tier: how long, or how many, it keeps here, if not as elsewhere"
    ] = {}


class Permissions(Struct, frozen=True, kw_only=True):
    """Whom the backups belong to and who may read them; null keeps the owner."""

    files: Annotated[int, mode(0o600, "640"), "mode of files"] = 0o640
    folders: Annotated[int, mode(0o700, "755"), "mode of folders"] = 0o755
    owner: Annotated[str | None, TEXT, "user that owns them"] = None
    group: Annotated[str | None, TEXT, "group that owns them"] = None


class Tier(Struct, frozen=True, kw_only=True):
    """One series of backups."""

    cron: Annotated[str, CRON, "when one is made"]
    keep: Annotated[Span | int, KEEP, "how long one is kept (30d, 12w, 24mo), or how many are"]
    grace: Annotated[
        float | None, duration(), "how late one may be before that is an alert; if not given, as long as catch_up"
    ] = None


class Slot(Struct, frozen=True, kw_only=True):
    """When a job runs."""

    cron: Annotated[str, CRON, "when it runs"]


class Cleanup(Struct, frozen=True, kw_only=True):
    """When old backups are removed, and what stays whatever the tiers say."""

    cron: Annotated[str, CRON, "when expired backups are removed"] = "0 4 * * *"
    minimum: Annotated[int, integer(1, 1000), "good backups of each tier that always stay"] = 1
    share: Annotated[float, PERCENT, "if more of a location's good backups than this were to go at once, none does"] = (
        50.0
    )
    manual: Annotated[Span | int | None, KEEP, "how long, or how many, manual backups are kept; null: for ever"] = None
    pre_restore: Annotated[Span | int | None, KEEP, "the same for what a restore puts aside; null: for ever"] = Span(
        30, "d"
    )


class Reread(Struct, frozen=True, kw_only=True):
    """How archives that were proved once are read again: disks forget."""

    cron: Annotated[str, CRON, "when those that were not read for longest are read again"] = "30 6 * * *"
    every: Annotated[float, duration(86_400), "how often each archive is read at least"] = 30 * 86_400.0
    budget: Annotated[float, duration(), "how long that may take a day; 0s for never"] = 2 * 3600.0
    volume: Annotated[int, SIZE, "how much may be read a day"] = 1 << 40
    rate: Annotated[int, SIZE, "how much may be read a second"] = 200 << 20


class Repair(Struct, frozen=True, kw_only=True):
    """How the locations are kept equal."""

    automatic: Annotated[
        bool, SWITCH, "whether copies that a location never had, or never had whole, are made by themselves"
    ] = True
    quarantine: Annotated[bool, SWITCH, "whether a repair moves a bad copy aside; else it stays where it is"] = True


class Sealing(Struct, frozen=True, kw_only=True):
    """Signatures of manifests; without a key there are none."""

    key: Annotated[Secret | None, SECRET, "the key, 16 bytes or more, kept off the volumes of the backups"] = None
    old_keys: Annotated[
        tuple[Annotated[Secret, SECRET], ...], "keys that were used before, by which older manifests are checked"
    ] = ()


class Pings(Struct, frozen=True, kw_only=True):
    """Signs of life for a watcher outside, such as healthchecks.io: it speaks up when they stay away."""

    agent: Annotated[Secret | None, SECRET_URL, "the check's URL for the agent itself"] = None
    every: Annotated[float, duration(10), "how often the agent shows that it is alive"] = 60.0
    jobs: Annotated[
        dict[str, Annotated[Secret, SECRET_URL]],
        JOBS,
        "by job (backup:daily, report, drill, cleanup, reread): the check's URL, told of its starts and ends",
    ] = {}


class Drills(Struct, frozen=True, kw_only=True):
    """When and how a restore is rehearsed."""

    cron: Annotated[str, CRON, "when collections are drilled in full, those first that were not for longest"] = (
        "0 6 * * 6"
    )
    budget: Annotated[float, duration(), "how long that may take, all together"] = 6 * 3600.0
    after_backup: Annotated[float, duration(), "how long the quick drill after each backup may take; 0s for none"] = (
        600.0
    )
    every: Annotated[float, duration(3600), "a collection that was not drilled for so long is an alert"] = 31 * 86_400.0
    deadline: Annotated[float, duration(1), "how long one collection may take"] = 3600.0
    memory: Annotated[int, SIZE, "memory the engine may take for one, beside the files it maps"] = 4 << 30
    scratch: Annotated[str | None, PATH, "the folder that archives are unpacked in; if not given, in state_dir"] = None
    url: Annotated[str | None, URL, "a scratch Qdrant server, into which archives are restored and deleted again"] = (
        None
    )
    api_key: Annotated[Secret | None, SECRET, "the key of the scratch server, as a reference to a secret"] = None


class Watch(Struct, frozen=True, kw_only=True):
    """What counts as an archive, and when it counts as arrived."""

    patterns: Annotated[tuple[Annotated[str, FILE_PATTERN], ...], Least(1), "file names that are archives"] = (
        "*.snapshot",
        "*.snapshot.gz",
        "*.snapshot.zst",
        "*.tar.gz",
        "*.tgz",
    )
    settle: Annotated[float, duration(), "a file unchanged for so long is complete"] = 2.0
    scan_every: Annotated[float, duration(1), "how often the folders are compared with the ledger"] = 60.0
    minimum_size: Annotated[int, SIZE, "a smaller archive is suspicious"] = 1024


class Storage(Struct, frozen=True, kw_only=True):
    """When a filling disk is trouble. Percentages, 0 to 100."""

    warn: Annotated[float, PERCENT, "used space that is a warning"] = 80.0
    critical: Annotated[float, PERCENT, "used space that is critical"] = 90.0
    clear: Annotated[float, PERCENT, "how far below the mark it must fall before that counts as over"] = 2.0
    sample_every: Annotated[float, duration(1), "how often it is measured"] = 300.0


class Health(Struct, frozen=True, kw_only=True):
    """The look at the engine between backups."""

    every: Annotated[float, duration(1), "how often the engine is asked whether it is well"] = 60.0


class Alerts(Struct, frozen=True, kw_only=True, rename={"for_": "for"}):
    """When trouble is told."""

    for_: Annotated[float, duration(), "how long trouble must last before it is told"] = 0.0
    group_wait: Annotated[float, duration(), "how long to wait for more of it, to tell it together"] = 10.0
    repeat_interval: Annotated[float, duration(60), "how often trouble that stays is told again"] = 14_400.0
    send_resolved: Annotated[bool, SWITCH, "whether its end is told too"] = True


class Target(Struct, frozen=True, kw_only=True):
    """One place where people are told."""

    url: Annotated[Secret, SECRET_URL, "an apprise URL, or console:// for the terminal; secrets are allowed"]
    severity: Annotated[str, choice("warning", "critical"), "the least severity that is sent here"] = "warning"
    reports: Annotated[bool, SWITCH, "whether the weekly report is sent here"] = False
    fallback: Annotated[str | None, TEXT, "the target that is told when this one cannot be"] = None


class Notify(Struct, frozen=True, kw_only=True):
    """Who is told."""

    targets: Annotated[dict[str, Target], "by a name of your choice; without any, nobody is told"] = {}


class Logs(Struct, frozen=True, kw_only=True):
    """What the agent writes down about itself."""

    format: Annotated[str, choice("text", "json"), "how a line looks"] = "text"
    keep: Annotated[float, duration(1), "how long logs and history are kept"] = 180 * 86_400.0


def _tiers() -> dict[str, Tier]:
    return {
        "daily": Tier(cron="0 2 * * *", keep=Span(30, "d")),
        "weekly": Tier(cron="0 1 * * 0", keep=Span(12, "w")),
        "monthly": Tier(cron="0 0 1 * *", keep=Span(24, "mo")),
    }


class Settings(Struct, frozen=True, kw_only=True):
    """The whole configuration."""

    state_dir: Annotated[str, PATH, "where the agent keeps its ledger"] = "/var/lib/snapward"
    timezone: Annotated[str, ZONE, "the zone of every time here: local, or an IANA name"] = "local"
    engine: Annotated[Engine, "what makes the backups"]
    compression: Annotated[Compression, "how archives are compressed"] = Compression()
    parallel: Annotated[int, integer(1, 64), "collections backed up at the same time, at most"] = 8
    locations: Annotated[dict[str, Location], Least(1), "where backups lie, each holding all of them"]
    permissions: Annotated[Permissions, "rights on what is written"] = Permissions()
    tiers: Annotated[dict[str, Tier], "series of backups, by name; given, it replaces the shipped three"] = field(
        default_factory=_tiers
    )
    cleanup: Annotated[Cleanup, "when old backups are removed"] = Cleanup()
    reread: Annotated[Reread, "how archives that were proved once are read again"] = Reread()
    repair: Annotated[Repair, "how the locations are kept equal"] = Repair()
    sealing: Annotated[Sealing, "signatures of manifests"] = Sealing()
    pings: Annotated[Pings, "signs of life for a watcher outside"] = Pings()
    drills: Annotated[Drills, "when and how a restore is rehearsed"] = Drills()
    report: Annotated[Slot, "when the weekly report is sent"] = Slot(cron="0 5 * * 1")
    catch_up: Annotated[float, duration(), "a slot missed for longer is reported, not run"] = 43_200.0
    jitter: Annotated[float, duration(), "backups start up to so much later, at random"] = 0.0
    watch: Annotated[Watch, "what counts as an archive"] = Watch()
    storage: Annotated[Storage, "when a filling disk is trouble"] = Storage()
    health: Annotated[Health, "the look at the engine between backups"] = Health()
    alerts: Annotated[Alerts, "when trouble is told"] = Alerts()
    notify: Annotated[Notify, "who is told"] = Notify()
    logs: Annotated[Logs, "what the agent writes down about itself"] = Logs()
    templates: Annotated[str | None, PATH, "a folder of templates that replace the shipped ones by file name"] = None
