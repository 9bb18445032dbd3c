"""Proof and restore, beside what shells do: a checksum alone, and `sha256sum; gunzip; curl -F`."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from figures import Figure, below, mebibytes, quicker, seconds, skipped
from measure import ENVIRONMENT, interleaved, read_into_cache, run
from stage import Home
from stuff import collection, packed, snapshots

from agent.errors import AgentError

_MIB = 1 << 20
_HERE = Path(__file__).resolve().parent

# What a runbook without us says: each step reads all of it, and the second one writes it.
_SHELL = """
set -eu
sha256sum --quiet -c "$A.sha256"
gunzip -c "$A" > "$W/restore.snapshot"
curl -sf -o /dev/null -X POST "$URL/collections/c/snapshots/upload?wait=true&priority=snapshot" \\
  -F snapshot=@"$W/restore.snapshot"
rm "$W/restore.snapshot"
"""


def drill(home: Home, rounds: int, points: int) -> Iterator[Figure]:
    """All five levels of one collection, beside the checksum of its archive alone."""
    what = f"drill of {points:,} points x 384"
    try:
        collection(home.qdrant / "articles", points, 384)
    except AgentError as error:
        yield skipped(what, error.message)
        return
    run(home.command("backup", "manual"))
    archive = next(home.primary.rglob("*.snapshot.gz"))
    told = subprocess.run(
        home.command("drill", "--json"), env=ENVIRONMENT, capture_output=True, text=True, check=True
    ).stdout
    answer = json.loads(told)
    if answer["level"] != "faithful":
        raise RuntimeError(f"the drill proved {answer['level']} only: {told}")
    pairs = interleaved(
        rounds,
        lambda: run(home.command("drill")),
        lambda: run(["sha256sum", str(archive)]),
        lambda: read_into_cache([archive]),
    )
    yield below(
        f"{what}, every point read: sha256sum of the archive",
        [(ours.wall, theirs.wall) for ours, theirs in pairs],
        seconds,
        10.0 * points / 100_000,
    )
    yield below(f"{what}: memory beside mapped files", [(answer["peak_bytes"], 0)], mebibytes, 512 * _MIB, absent="-")


def restore(home: Home, rounds: int, shards: int) -> Iterator[Figure]:
    """Proof and upload of one archive to a server that takes it and does nothing, without a temporary file."""
    if missing := [name for name in ("curl", "gunzip", "sha256sum") if not shutil.which(name)]:
        yield skipped("restore", f"no {', '.join(missing)} here")
        return
    raw = snapshots(home.folder, shards)["vectors"]
    archive = home.folder / "vectors.snapshot.gz"
    archive.write_bytes(packed(raw))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    (home.folder / f"{archive.name}.sha256").write_text(f"{digest}  {archive}\n", encoding="utf-8")
    size, inside = raw.stat().st_size, hashlib.sha256(raw.read_bytes()).hexdigest()
    raw.unlink()
    with _sink() as url:
        ours = [sys.executable, str(_HERE / "restore_once.py"), url, str(archive), digest, str(size), inside]
        words = [f"URL={url}", f"A={archive}", f"W={home.folder}"]
        pairs = interleaved(
            rounds,
            lambda: run(ours),
            lambda: run(["env", *words, "bash", "-c", _SHELL]),
            lambda: read_into_cache([archive]),
        )
    what = f"restore of vectors, {size / _MIB:.0f} MiB"
    yield quicker(f"{what}: sha256sum; gunzip; curl -F", [(mine.wall, theirs.wall) for mine, theirs in pairs], 2.5)
    written = [(float(mine.written), float(theirs.written)) for mine, theirs in pairs]
    yield below(f"{what}: bytes written to disk", written, mebibytes, _MIB)


@contextmanager
def _sink() -> Iterator[str]:
    """A server that takes every upload and says that all went well."""
    argv = [sys.executable, str(_HERE / "sink.py")]
    with subprocess.Popen(argv, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
