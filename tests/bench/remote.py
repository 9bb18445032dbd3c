"""Backups of a Qdrant server, beside what shells do: on vectors, and on what is mostly empty."""

import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from figures import Figure, below, mebibytes, quicker, ratio, seconds, skipped
from measure import ENVIRONMENT, Cost, interleaved, peak, run
from stage import Home
from stuff import packed, sample, snapshots

from agent.adapters import press
from agent.adapters.press import Squeeze
from agent.adapters.shelf import direct
from agent.adapters.shelf.write import Permissions

_MIB = 1 << 20
_BLOCK = 2 * _MIB
_TESTS = Path(__file__).resolve().parents[1]
_NAME = "vectors"

# What the seed's script does: each step reads and writes all of it.
_SHELL = """
set -eu
name=$(curl -sf -X POST "$URL/collections/$C/snapshots" | sed 's/.*"name":"\\([^"]*\\)".*/\\1/')
curl -sf -o "$W/$C.snapshot" "$URL/collections/$C/snapshots/$name"
sha256sum "$W/$C.snapshot" > "$W/$C.raw.sha256"
gzip -6 -f "$W/$C.snapshot"
mv "$W/$C.snapshot.gz" "$A/"
(cd "$A" && sha256sum "$C.snapshot.gz" > SHA256SUMS)
cp "$A/$C.snapshot.gz" "$A/SHA256SUMS" "$B/"
sync "$A/$C.snapshot.gz" "$B/$C.snapshot.gz"
(cd "$B" && sha256sum --quiet -c SHA256SUMS)
curl -sf -o /dev/null -X DELETE "$URL/collections/$C/snapshots/$name"
"""
# The best that we know with pipes: every byte once, by the quickest tools.
_PIPES = """
set -eu
name=$(curl -sf -X POST "$URL/collections/$C/snapshots" | sed 's/.*"name":"\\([^"]*\\)".*/\\1/')
mkfifo "$W/raw" "$W/packed"
openssl dgst -sha256 < "$W/raw" > "$W/raw.sha256" & first=$!
openssl dgst -sha256 < "$W/packed" > "$A/sha256" & second=$!
curl -sf "$URL/collections/$C/snapshots/$name" | tee "$W/raw" | igzip -2 | tee "$W/packed" "$A/$C.snapshot.gz" \\
  > "$B/$C.snapshot.gz"
wait $first; wait $second
rm "$W/raw" "$W/packed"
sync "$A/$C.snapshot.gz" "$B/$C.snapshot.gz"
curl -sf -o /dev/null -X DELETE "$URL/collections/$C/snapshots/$name"
"""


def remote(home: Home, rounds: int, shards: int) -> Iterator[Figure]:
    """One collection of real segment files, beside the usual script and the best pipeline, stage by stage."""
    if missing := [name for name in ("curl", "gzip", "openssl", "igzip") if not shutil.which(name)]:
        yield skipped("backup of a server", f"no {', '.join(missing)} here")
        return
    for kind, path in snapshots(home.folder, shards).items():
        size = path.stat().st_size
        what = f"{kind}, {size / _MIB:.0f} MiB"
        with _server(home, {_NAME: path}) as url:
            ours = _ours(home, url)
            against = interleaved(rounds, ours, _shell(home, url, _SHELL))
            yield quicker(f"{what}: curl, sha256sum, gzip -6, cp ...", _walls(against), 12)
            against_pipes = interleaved(rounds, ours, _shell(home, url, _PIPES))
            yield quicker(f"{what}: curl | tee | igzip | tee, openssl", _walls(against_pipes), 2)
            costs = [mine for mine, _ in against + against_pipes]
            stages = _stages(home, url, path, rounds)
            ours()  # what it leaves is looked at next
        print("".join(f"\n    {name}: {took:.2f} s" for name, took in stages.items()), end="", flush=True)
        slowest = max(stages, key=lambda name: stages[name])
        wall = median(one.wall for one in costs)
        yield ratio(f"{what}: its slowest stage, {slowest}", [(wall, stages[slowest])], seconds, at_most=1.6)
        yield from _frugal(home, what, costs, sample(home.folder, kind))


def remote_memory(home: Home, shards: int) -> Iterator[Figure]:
    """Eight collections at once, and a small one: memory does not grow with them."""
    path = snapshots(home.folder, shards)[_NAME]
    small = snapshots(home.folder / "one", 1)[_NAME]
    for what, given, limit in (
        ("peak memory, one small collection", {_NAME: small}, 64),
        ("peak memory, one collection", {_NAME: path}, 64),
        ("peak memory, eight collections at once", {f"{_NAME}-{n}": small for n in range(8)}, 96),
    ):
        with _server(home, given) as url:
            _pointed(home, url)
            peaks = [peak(home.command("backup", "manual")) for _ in range(3)]
        yield below(what, [(one, 0) for one in peaks], mebibytes, limit * _MIB, absent="-")


def _walls(pairs: list[tuple[Cost, Cost]]) -> list[tuple[float, float]]:
    return [(mine.wall, theirs.wall) for mine, theirs in pairs]


def _frugal(home: Home, what: str, costs: list[Cost], sample: Path) -> Iterator[Figure]:
    files = [file for location in (home.primary, home.secondary) for file in location.rglob("*.snapshot.gz")]
    final = sum(file.stat().st_size for file in files)
    yield ratio(f"{what}: bytes written, the files", [(one.written, final) for one in costs], mebibytes, at_most=1.01)
    if shutil.which("fincore"):
        told = subprocess.run(["fincore", "-b", "-n", "-o", "RES", *files], capture_output=True, text=True, check=True)
        left = sum(map(int, told.stdout.split()))
        yield below(f"{what}: page cache left behind", [(left, 0)], mebibytes, 5_000_000, absent="-")
    gzipped = subprocess.run(["gzip", "-6", "--stdout", str(sample)], capture_output=True, check=True).stdout
    yield ratio(f"{what}: size, gzip -6", [(len(packed(sample)), len(gzipped))], mebibytes, at_most=1.01)


@contextmanager
def _server(home: Home, collections: dict[str, Path]) -> Iterator[str]:
    """A stand-in for a Qdrant server, which hands out these archives as new snapshots."""
    folder = home.folder / f"server-{time.monotonic_ns()}"
    given = [word for name, path in collections.items() for word in ("--premade", f"{name}={path}")]
    argv = [sys.executable, "-m", "standin", str(folder), *given]
    with ExitStack() as stack:
        process = subprocess.Popen(
            argv, cwd=_TESTS, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    shutil.rmtree(folder)


def _pointed(home: Home, url: str) -> None:
    """Let the configuration name this server."""
    config = home.folder / "config.yaml"
    text = config.read_text(encoding="ascii").splitlines()
    engine = f'engine: {{kind: qdrant, url: "{url}"}}'
    config.write_text("\n".join(engine if line.startswith("engine:") else line for line in text), encoding="ascii")


def _ours(home: Home, url: str) -> Callable[[], Cost]:
    _pointed(home, url)

    def once() -> Cost:
        _emptied(home)
        return run(home.command("backup", "manual"))

    return once


def _shell(home: Home, url: str, script: str) -> Callable[[], Cost]:
    def once() -> Cost:
        _emptied(home)
        folders = {"A": home.primary / "theirs", "B": home.secondary / "theirs", "W": home.folder / "work"}
        for folder in folders.values():
            folder.mkdir()
        words = [f"{name}={folder}" for name, folder in folders.items()]
        return run(["env", f"URL={url}", f"C={_NAME}", *words, "bash", "-c", script])

    return once


def _emptied(home: Home) -> None:
    for folder in (home.primary, home.secondary, home.folder / "work"):
        shutil.rmtree(folder, ignore_errors=True)
    home.primary.mkdir()
    home.secondary.mkdir()
    os.sync()


def _stages(home: Home, url: str, path: Path, rounds: int) -> dict[str, float]:
    """What each stage takes alone, in this process, in seconds."""
    data = path.read_bytes()
    pieces = [memoryview(data)[at : at + _MIB] for at in range(0, len(data), _MIB)]
    content = packed(path)
    blocks = _laid(content)
    stages = {
        "download": lambda: _download(url),
        "SHA-256 of the snapshot": lambda: _each(pieces, hashlib.sha256().update),
        "compression": lambda: _each(pieces, press.compressor(Squeeze()).compress),
        "SHA-256 of the archive": lambda: hashlib.sha256(content),
        "writing, syncing and reading back": lambda: _written(home, blocks),
    }
    return {name: median(_took(work) for _ in range(rounds)) for name, work in stages.items()}


def _took(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _each(pieces: list[memoryview], work: Callable[[memoryview], object]) -> None:
    for piece in pieces:
        work(piece)


def _download(url: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    path = f"/collections/{_NAME}/snapshots"
    connection.request("POST", path)
    name = json.loads(connection.getresponse().read())["result"]["name"]
    connection.request("GET", f"{path}/{name}")
    answer, buffer = connection.getresponse(), memoryview(bytearray(_MIB))
    while answer.readinto(buffer):
        pass
    connection.request("DELETE", f"{path}/{name}")
    connection.getresponse().read()
    connection.close()


def _laid(content: bytes) -> list[memoryview]:
    """An archive as blocks that disks can be given without a copy."""
    blocks = direct.memory(-(-len(content) // _BLOCK), _BLOCK)
    for number, block in enumerate(blocks):
        part = content[number * _BLOCK : (number + 1) * _BLOCK]
        block[: len(part)] = part
        blocks[number] = block[: len(part)]
    return blocks


def _written(home: Home, blocks: list[memoryview]) -> None:
    """Both files at the same time, and nothing else."""
    _emptied(home)
    crc32 = direct.checksum()

    def keep(folder: Path) -> None:
        with direct.new_file(str(folder / "stage.gz"), Permissions(), direct.memory(1, _MIB)[0]) as file:
            for block in blocks:
                file.append(block, crc32(block, 0))
                file.look_back()

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(keep, one) for one in (home.primary, home.secondary)]:
            done.result()
