"""Three weeks of one machine, as facts: all fine, much is wrong, and the first days."""

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from agent.rules.archive import State
from agent.rules.facts import Archive, Drilled, Facts, Folder, Run, Sample, Sent
from agent.rules.finding import Level
from agent.rules.forecast import When
from agent.rules.incident import Incident
from agent.rules.manifest import CollectionEntry, Failure, FileEntry, Manifest
from agent.rules.outlook import Mark, Prospect
from agent.rules.summary import week_of
from agent.rules.words import rfc3339

BERLIN: tzinfo = ZoneInfo("Europe/Berlin")
MIB, GIB = 2**20, 2**30
HOUR, DAY = 3600.0, 86400.0
NAMES = (
    "alpha",
    "catalogue-embeddings",
    "customers",
    "documents-en",
    "documents-de",
    "images",
    "logs",
    "products",
    "städte",
)
LOCATIONS = {"primary": "/opt/qdrant/snapshots/backups", "secondary": "/opt/qdrant/secondary/backups"}


def local(text: str, zone: tzinfo = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


NOW = local("2026-11-23 05:00:00")
WEEK = week_of("2026-W47", NOW, BERLIN)


def entry(name: str, number: int, at: float) -> CollectionEntry:
    points = 12_000 * number + int((at - WEEK.start) / DAY) * 43 * number
    size = (180 * number + 7) * MIB + points * 300
    return CollectionEntry(
        name=name,
        file=f"{name}.snapshot.gz",
        size=size,
        sha256=f"{number:064x}",
        raw_size=size * 2,
        raw_sha256=f"{number + 1000:064x}",
        points_before=points,
        points_after=points,
        config={"params": {"vectors": {"size": 384}}},
    )


def backup(
    at: float, tier: str, names: tuple[str, ...] = NAMES, version: str = "1.18.2", failed: tuple[Failure, ...] = ()
) -> tuple[list[Folder], list[Archive]]:
    """One backup in both locations."""
    stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
    manifest = Manifest(
        id=stamp,
        tier=tier,
        engine={"kind": "qdrant", "version": version},
        agent={"version": "0.1.0"},
        host="db1",
        started=rfc3339(at) or "",
        collections=[entry(name, number, at) for number, name in enumerate(names, 1)],
        failed=list(failed),
        files=[FileEntry(file="server-config.tar.gz", size=4096, sha256="f" * 64)],
    )
    folders, archives = [], []
    for location in LOCATIONS:
        folder = f"{tier}/{stamp}"
        folders.append(Folder(location, folder, tier, stamp, at, manifest))
        files = [(one.file, one.size) for one in manifest.collections] + [("server-config.tar.gz", 4096)]
        archives += [archive(location, folder, file, size, at) for file, size in files]
    return folders, archives


def archive(
    location: str, folder: str, name: str, size: int, at: float, state: State = State.GOOD, why: str = ""
) -> Archive:
    return Archive(
        location,
        folder,
        name,
        size,
        state,
        "intact" if state is State.GOOD else "arrived",
        why or "size and SHA-256 equal manifest.json and SHA256SUMS; gzip read to its end",
        at + 300,
        size / (500 * MIB),
        at + 320,
        at + 340,
        None,
    )


def history(
    without: str = "", since: float = 0.0, skipped: tuple[float, ...] = ()
) -> tuple[list[Folder], list[Archive]]:
    """Half a year of backups up to the report: 30 daily, 12 weekly and 6 monthly ones; `since` then `without` one."""
    plan = [(WEEK.end + 2 * HOUR - DAY * day, "daily") for day in range(30)]
    plan += [(WEEK.end - DAY + HOUR - 7 * DAY * week, "weekly") for week in range(12)]
    plan += [(local(f"2026-{month:02}-01 00:00:00"), "monthly") for month in range(6, 12)]
    folders: list[Folder] = []
    archives: list[Archive] = []
    for at, tier in [one for one in plan if one[0] not in skipped]:
        names = tuple(one for one in NAMES if at < since or one != without)
        more = backup(at, tier, names, "1.18.2" if at < WEEK.start + 3 * DAY else "1.19.0")
        folders += more[0]
        archives += more[1]
    return folders, archives


def samples(fill: dict[str, tuple[float, float]], every: float = 900.0) -> list[Sample]:
    """Readings from the week's start to now; fill levels go straight from the first value to the second."""
    found = []
    total = 500 * GIB
    for location, (first, last) in fill.items():
        number = int((NOW - WEEK.start) / every)
        for step in range(number):
            used = first + (last - first) * step / number + (step % 96) / 96
            state = "critical" if used >= 90 else "warning" if used >= 80 else "ok"
            found.append(
                Sample(location, WEEK.start + step * every, total, int(total * (100 - used) / 100), used, state)
            )
    return found


def prospect(location: str, used: float, per_week: float, *, fits: bool = True) -> Prospect:
    """How a location will go on: by so many percent a week, if it grows at all."""
    ahead = range(-6, 8 if per_week else 1)
    full = NOW + (100 - used) / per_week * 7 * DAY if per_week else None
    told = "grows by 21.4 GiB a day: 80 % around 14 Dec 2026, 90 % around 29 Dec 2026, full around 12 Jan 2027"
    return Prospect(
        location=location,
        outlook=told if full else "cannot tell: no trend is clear",
        per_day=round(per_week / 700 * 500 * GIB) if full else None,
        full=When(full, full - 2 * DAY, full + 3 * DAY) if full else None,
        why=told if full else "cannot tell: no trend is clear",
        fits=fits,
        next_backup_bytes=11 * GIB,
        plan_needs_bytes=402 * GIB,
        plan_room_bytes=441 * GIB,
        freed_this_week_bytes=77 * GIB,
        weeks=tuple(Mark(NOW + n * 7 * DAY, min(round(used + n * per_week, 1), 100.0), n > 0) for n in ahead),
    )


def runs() -> list[Run]:
    found = [Run("backup", "daily", WEEK.start + DAY * day + 2 * HOUR, None, "ok", "") for day in range(7)]
    found += [Run("backup", "weekly", WEEK.end - DAY + HOUR, None, "ok", "")]
    found += [Run("cleanup", "", WEEK.start + DAY * day + 4 * HOUR, None, "ok", "") for day in range(7)]
    return [Run(one.job, one.subject, one.started, one.started + 340, one.outcome, one.why) for one in found]


def drills(failed: tuple[str, ...] = (), unknown: tuple[str, ...] = ()) -> list[Drilled]:
    """Saturday's drill of every collection."""
    found = []
    for number, name in enumerate(NAMES, 1):
        state = "failed" if name in failed else "inconclusive" if name in unknown else "passed"
        level = "faithful" if state == "passed" else "well-formed"
        at = WEEK.end - 2 * DAY + 6 * HOUR + 90 * number
        found.append(Drilled(at, 11.0 * number, name, state, level, "qdrant-edge-py 0.9.0", 360 * number * MIB))
    return found


def facts(**changes: object) -> Facts:
    values: dict[str, object] = {
        "week": WEEK,
        "now": NOW,
        "zone": BERLIN,
        "host": "db1",
        "agent": "0.1.0",
        "locations": LOCATIONS,
        "tiers": ("daily", "weekly", "monthly"),
        "targets": ("ops-chat", "ops-mail"),
        "sample_every": 900.0,
        "next_runs": {
            "cleanup": local("2026-11-24 04:00:00"),
            "daily": local("2026-11-24 02:00:00"),
            "weekly": local("2026-11-29 01:00:00"),
            "monthly": local("2026-12-01 00:00:00"),
        },
        "json_path": "/var/lib/snapward/reports/2026-W47.json",
    }
    return Facts(**{**values, **changes})  # type: ignore[arg-type] # a test's shorthand


def empty() -> Facts:
    """Installed yesterday evening; nothing has happened yet."""
    first = NOW - 9 * HOUR
    found = [one for one in samples({"primary": (31.2, 31.3), "secondary": (12.0, 12.0)}) if one.at >= first]
    return facts(targets=(), samples=tuple(found))


def fine() -> Facts:
    folders, archives = history()
    newest = max(one.started or 0.0 for one in folders)
    drilled = {(one.location, one.folder) for one in folders if one.started == newest}
    archives = [replace(one, level="faithful") if (one.location, one.folder) in drilled else one for one in archives]
    verdicts = tuple((one.checked, one.state) for one in archives if one.checked and WEEK.start <= one.checked)
    sent = (Sent("ops-mail", "report", "2026-W46", "delivered", WEEK.start + 5 * HOUR, 1, WEEK.start + 18011, ""),)
    return facts(
        folders=tuple(folders),
        archives=tuple(archives),
        verdicts=verdicts,
        runs=tuple(runs()),
        sent=sent,
        samples=tuple(samples({"primary": (58.1, 60.2), "secondary": (40.5, 41.9)})),
        outlook=(prospect("primary", 60.2, 2.1), prospect("secondary", 41.9, 0.0)),
        drills=tuple(drills()),
        drilled=NAMES,
    )


def critical() -> Facts:
    """A damaged copy, a missing one, loose archives, a failing collection, a full disk, an outage, dead targets."""
    jobs = runs()
    folders, archives = history("logs", WEEK.end - DAY, (jobs[2].started, jobs[4].started))
    newest, lost = WEEK.end + 2 * HOUR, "primary:daily/20261123T010000Z/alpha.snapshot.gz"
    stamp = "daily/20261123T010000Z"
    refused = (Failure(name="telemetry-2026", why="the server answered 500: shard 3 is not available"),)
    folders = [one for one in folders if one.folder != stamp]
    archives = [one for one in archives if one.folder != stamp]
    more = backup(newest, "daily", (*(one for one in NAMES if one != "logs"), "invoices"), "1.19.0", refused)
    folders += more[0]
    corrupt = "SHA-256 is 3f1c0a77b2d4e591…, but manifest.json promises 000000000000000a…"
    for one in more[1]:
        if (one.location, one.name) == ("primary", "alpha.snapshot.gz"):
            archives.append(archive(one.location, one.folder, one.name, one.size, newest, State.CORRUPT, why=corrupt))
        elif (one.location, one.name) != ("secondary", "images.snapshot.gz"):
            archives.append(one)
    bare = "nothing promises its SHA-256, so it could not be compared; gzip read to its end"
    for day in range(7):
        name = f"legacy-export-2026-11-{16 + day}.tar.gz"
        at = WEEK.start + day * DAY + 3 * HOUR
        archives.append(archive("primary", "daily", name, 2 * GIB + day * MIB, at, State.NO_CHECKSUM, bare))
    down = (WEEK.start + 2 * DAY + 3 * HOUR, WEEK.start + 2 * DAY + 7.5 * HOUR)
    incidents = (
        Incident("archive_bad", lost, Level.CRITICAL, f"corrupt: {corrupt}", DAMAGED, newest + 340, newest + 340),
        Incident("storage_space", "primary", Level.CRITICAL, SPACE, FREE, NOW - DAY, NOW - DAY, NOW - HOUR),
        Incident("checksum_missing", "primary:daily", Level.WARNING, BARE, SUMS, WEEK.start + HOUR, WEEK.start + HOUR),
        Incident("target_failing", "ops-chat", Level.WARNING, REFUSED, MEND, NOW - 5 * HOUR, NOW - 5 * HOUR),
        Incident(
            "location_unavailable", "secondary", Level.CRITICAL, "is not mounted", "", down[0], down[0], None, down[1]
        ),
    )
    sent = (
        Sent("ops-mail", "alert", "", "delivered", down[0], 1, down[0] + 11, ""),
        Sent("ops-mail", "alert", "", "delivered", newest + 350, 1, newest + 364, ""),
        Sent("ops-chat", "alert", "", "dropped", down[0], 9, None, "no answer within 20 s"),
        Sent("ops-chat", "alert", "", "waiting", newest + 350, 6, None, "HTTP 404: no_service"),
    )
    jobs[2] = Run("backup", "daily", jobs[2].started, jobs[2].started + 31, "failed", "the server did not answer")
    jobs[4] = Run("backup", "daily", jobs[4].started, jobs[4].started, "missed", "the machine was off at 02:00")
    quiet = (WEEK.start + 4 * DAY + HOUR, WEEK.start + 4 * DAY + 6 * HOUR)
    fill = samples({"primary": (84.0, 93.6), "secondary": (40.5, 41.9)})
    return facts(
        folders=tuple(folders),
        archives=tuple(archives),
        verdicts=tuple((one.checked, one.state) for one in archives if one.checked and WEEK.start <= one.checked),
        runs=tuple(jobs),
        incidents=incidents,
        sent=sent,
        samples=tuple(one for one in fill if not quiet[0] < one.at < quiet[1]),
        outlook=(prospect("primary", 93.6, 3.0, fits=False), prospect("secondary", 41.9, 0.0)),
        drills=tuple(drills(failed=("alpha",), unknown=("images", "logs"))),
        drilled=[one for one in NAMES if one not in {"images", "logs"}],
    )


DAMAGED = "Do not restore from it. Compare the other location's copy, and take a new backup."
SPACE = "93.6 % of 500 GiB used, 32 GiB free (limits 80 % and 90 %)"
FREE = "Free space on /opt/qdrant/snapshots, or keep fewer backups; `snapward list` shows what lies there."
BARE = "7 archives could be read, but not compared: nothing promises the SHA-256"
SUMS = "Let the program that writes them run `sha256sum FILE > FILE.sha256` when it is done."
REFUSED = "ops-chat did not take a message: HTTP 404: no_service; 6 attempts, next try in 16 min"
MEND = "Mend it, then try it with `snapward alert test`."
