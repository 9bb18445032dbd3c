"""What is measured, each beside the tool people use for it today."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
from figures import Figure, below, milliseconds, rate, ratio, seconds, skipped
from idle import idle as idle_beside_monit
from measure import Cost, interleaved, read_into_cache, run
from msgspec import Struct
from recovery import drill, restore
from remote import remote, remote_memory
from stage import Home, archives, known_files, thousand

from agent.errors import AgentError

_MIB = 1 << 20
_OPENSSL = ["openssl", "dgst", "-sha256"]


class Scale(Struct, frozen=True):
    """How much is measured: rounds, sizes in bytes, and counts."""

    rounds: int = 5
    window: float = 60.0
    large: tuple[int, int] = (4, 1024 * _MIB)
    many: tuple[int, int] = (32, 64 * _MIB)
    folders: int = 1000
    points: int = 20_000
    shards: int = 5
    rehearsed: int = 100_000


FULL = Scale()
QUICK = Scale(
    rounds=3,
    window=15.0,
    large=(4, 128 * _MIB),
    many=(8, 32 * _MIB),
    folders=200,
    points=4000,
    shards=2,
    rehearsed=10_000,
)


def idle(home: Home, scale: Scale) -> Iterator[Figure]:
    """An agent that has nothing to do, beside monit."""
    return idle_beside_monit(home, scale.window)


def verify_large(home: Home, scale: Scale) -> Iterator[Figure]:
    """A few large archives that are known already, beside openssl, which uses the processor's SHA instructions."""
    number, size = scale.large
    what = f"verify {number} x {size // _MIB} MiB"
    if trouble := _no_room(home.folder, number * size) or ("" if shutil.which("openssl") else "no openssl here"):
        yield skipped(what, trouble)
        return
    files = archives(home.primary / "daily" / "backup", number, size)
    home.reconcile()
    theirs = [*_OPENSSL, *map(str, files)]
    pairs = interleaved(
        scale.rounds,
        lambda: run(home.command("verify", "--all")),
        lambda: run(theirs),
        lambda: read_into_cache(files),
    )
    total = number * size
    yield ratio(
        f"{what}: per second of processor, openssl dgst",
        [(total / ours.cpu, total / other.cpu) for ours, other in pairs],
        rate,
        at_least=0.95,
    )
    yield ratio(f"{what}: per second", [(total / ours.wall, total / other.wall) for ours, other in pairs], rate)


def verify_many(home: Home, scale: Scale) -> Iterator[Figure]:
    """Many archives, beside `sha256sum -c`; how much faster depends on whether that uses the SHA instructions."""
    number, size = scale.many
    what = f"verify {number} x {size // _MIB} MiB: sha256sum -c"
    if trouble := _no_room(home.folder, number * size):
        yield skipped(what, trouble)
        return
    folder = home.primary / "daily" / "backup"
    files = archives(folder, number, size)
    home.reconcile()
    theirs = ["sha256sum", "--quiet", "-c", "SHA256SUMS"]
    pairs = interleaved(
        scale.rounds,
        lambda: run(home.command("verify", "--all")),
        lambda: run(theirs, cwd=folder),
        lambda: read_into_cache(files),
    )
    total = number * size
    slow = _without_sha_instructions(files[0])
    yield ratio(
        f"{what}{' (without SHA-NI)' if slow else ''}",
        [(total / ours.wall, total / other.wall) for ours, other in pairs],
        rate,
        at_least=5 if slow else 1.5,
    )


def _without_sha_instructions(file: Path) -> bool:
    """Whether sha256sum takes more than twice the time of openssl."""
    if not shutil.which("openssl"):
        return False
    read_into_cache([file])
    plain, fast = (min(run([*argv, str(file)]).cpu for _ in range(3)) for argv in (["sha256sum"], _OPENSSL))
    return plain > 2 * fast


def _no_room(folder: Path, size: int) -> str:
    """Why so many bytes cannot be held on the disk and in the page cache; an empty text if they can."""
    if shutil.disk_usage(folder).free < 2 * size:
        return "too little space in the temporary folder"
    if psutil.virtual_memory().available < 2 * size:
        return "too little memory to keep the files in the page cache"
    return ""


def scan(home: Home, scale: Scale) -> Iterator[Figure]:
    """A survey of a location in which all is known, beside find; ours without the start of the interpreter."""
    each = 100
    files = scale.folders * each
    known_files(home, scale.folders, each)
    ours = [sys.executable, str(Path(__file__).with_name("survey_once.py")), str(home.state), str(home.primary)]
    theirs = ["find", str(home.primary), "-type", "f", "-printf", r"%p %i %s %T@ %C@\n"]

    def survey() -> Cost:
        done = subprocess.run([*ours, str(files)], capture_output=True, text=True, check=True)
        wall, cpu = map(float, done.stdout.split())
        return Cost(wall, cpu)

    pairs = interleaved(scale.rounds, survey, lambda: run(theirs))
    yield ratio(
        f"scan {files:,} known in {scale.folders:,} folders: find",
        [(mine.wall, other.wall) for mine, other in pairs],
        milliseconds,
        at_most=2.5,
    )


def answers(home: Home, scale: Scale) -> Iterator[Figure]:
    """The processor time of `status` and `list` with a thousand archives, beside an interpreter that does nothing."""
    thousand(home)
    home.reconcile()
    rounds = 4 * scale.rounds
    for name, codes in (("status", frozenset({0, 1, 2, 3})), ("list", frozenset({0}))):
        argv = home.command(name)
        pairs = interleaved(
            rounds, lambda argv=argv, codes=codes: run(argv, codes=codes), lambda: run([sys.executable, "-c", "pass"])
        )
        yield below(
            f"{name}: processor time, python -c pass",
            [(ours.cpu, other.cpu) for ours, other in pairs],
            milliseconds,
            0.1,
        )


def backup(home: Home, scale: Scale) -> Iterator[Figure]:
    """A backup of the embedded engine into two locations, beside the usual script."""
    what = f"backup of {scale.points:,} points: tar | gzip -6 | tee"
    try:
        from agent.adapters import edge

        edge.build_sample(str(home.qdrant), "articles", scale.points, 256)
    except AgentError as error:
        yield skipped(what, error.message)
        return
    script = (
        f"cd {home.folder} && tar -C qdrant -cf - articles | gzip -6 | tee a.gz > b.gz"
        " && sha256sum a.gz > SHA256SUMS && cmp a.gz b.gz && sync a.gz b.gz"
    )

    def ours() -> Cost:
        return run(home.command("backup", "manual"))

    pairs = interleaved(scale.rounds, ours, lambda: run(["sh", "-c", script]))
    yield ratio(what, [(mine.wall, other.wall) for mine, other in pairs], seconds)


ITEMS = {
    "idle": idle,
    "verify-large": verify_large,
    "verify-many": verify_many,
    "scan": scan,
    "answers": answers,
    "backup": backup,
    "remote": lambda home, scale: remote(home, scale.rounds, scale.shards),
    "remote-memory": lambda home, scale: remote_memory(home, scale.shards),
    "drill": lambda home, scale: drill(home, scale.rounds, scale.rehearsed),
    "restore": lambda home, scale: restore(home, scale.rounds, scale.shards),
}
