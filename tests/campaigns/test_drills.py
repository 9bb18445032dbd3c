"""Two hundred collections that differ in all they can: no drill cries wolf, and none passes over damage."""

import contextlib
import gzip
import hashlib
import json
import os
import random
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from adapters.test_damage import NOISE, SEGMENT, UNOPENED, WRONG, Damage, cut, flip, gone, over
from campaigns.varied import Varied, build
from msgspec import Struct
from program import Program
from standin.restore import unpack

from agent.adapters import snapshot_tar

COLLECTIONS, TOGETHER, DAMAGED = 200, 20, 40
LATER, STARTED = "20991231T000000Z", "2099-12-31T00:00:00.000Z"
# Of fewer points, a file may hold nothing that counts; of more, perhaps not all are compared.
ENOUGH, ALL = 7, 1000
SEED = "SNAPWARD_TEST_SEED"

MATRIX, CHUNK = f"{SEGMENT}/vector_storage*/matrix.dat", f"{SEGMENT}/vector_storage*/vectors/chunk_0.mmap"
PAGE = f"{SEGMENT}/payload_storage/page_0.dat"
IDS = f"{SEGMENT}/id_tracker.mappings"
SPARSE = f"{SEGMENT}/vector_storage-*/store"

# Damage that does not depend on how long a collection's vectors are, or where a point of it lies.
ANYWHERE: dict[str, Damage] = {
    what: (WRONG | UNOPENED)[what][1]
    for what in (
        "no ids",
        "no version",
        "no payloads",
        "no new ids",
        "ids of nonsense",
        "links of nonsense",
        "a graph of nonsense",
        "an index of nonsense",
        "indexes of nonsense",
        "a state of nonsense",
        "a version of nonsense",
        "no state",
        "no graph",
        "no links",
        "no versions",
        "no page of payloads",
        "no places of payloads",
        "a log that begins nowhere",
        "a log of nonsense",
    )
} | {
    "zeros over payloads": over(PAGE, 0, bytes(512)),
    "payloads of nonsense": over(PAGE, 0, NOISE),
    "payloads cut off": cut(PAGE, 0),
    "ids cut off": cut(IDS, 16),
    "no sparse vectors": gone(f"{SPARSE}/page_0.dat"),
    "no places of sparse vectors": gone(f"{SPARSE}/tracker.dat"),
}
# Damage of vectors; that of the first one is only seen where that is still a point's.
VECTORS: dict[str, Damage] = {
    "a bit of a vector": flip(MATRIX, 4, 0x04),
    "a bit of a new vector": flip(CHUNK, 0, 0x04),
    "zeros over vectors": over(MATRIX, 4, bytes(64)),
    "zeros over new vectors": over(CHUNK, 0, bytes(64)),
    "nonsense over vectors": over(MATRIX, 4, NOISE[:64]),
    "nonsense over new vectors": over(CHUNK, 0, NOISE[:64]),
    "vectors cut off": cut(MATRIX, 5),
    "no vectors": gone(MATRIX),
    "no new vectors": gone(CHUNK),
    "no folder of vectors": gone(f"{SEGMENT}/vector_storage*"),
    "no number of vectors": gone(f"{SEGMENT}/vector_storage*/vectors/status.dat"),
}


class Trial(Struct, frozen=True):
    """What an installation has seen: points that were drilled, and the damage that was found."""

    points: int
    found: tuple[str, ...]


@pytest.mark.timeout(600)
def test_no_whole_collection_fails_its_drill_and_no_damaged_one_passes(
    tmp_path: Path, say: Callable[[object], None]
) -> None:
    seed = int(os.environ.get(SEED) or secrets.randbelow(10**6))
    say(f"{SEED}={seed}")
    kinds = list(chain(ANYWHERE.items(), VECTORS.items()))
    dice = random.Random(seed)  # noqa: S311 - a choice that can be made again, not a secret
    dice.shuffle(kinds)

    def tried(number: int) -> Trial:
        first = number * len(kinds) * TOGETHER // COLLECTIONS
        start = seed + number * TOGETHER
        depth = "--light" if number % 2 else "--full"
        return trial(
            Program(tmp_path / str(number)), range(start, start + TOGETHER), depth, kinds[first:] + kinds[:first]
        )

    with ThreadPoolExecutor(2) as installations:
        seen = list(installations.map(tried, range(COLLECTIONS // TOGETHER)))
    found = Counter(what for one in seen for what in one.found)
    points, listed = sum(one.points for one in seen), ", ".join(f"{times} x {what}" for what, times in found.items())
    say(f"{COLLECTIONS} collections of {points:,} points are faithful; {found.total()} damaged ones are not: {listed}")
    assert found.total() >= DAMAGED


def trial(program: Program, seeds: Iterable[int], depth: str, kinds: list[tuple[str, Damage]]) -> Trial:
    """Back up collections and drill them; then damage some in their archives, and drill these."""
    program.write()
    made = {one.name: one for one in (build(program.home / "qdrant", seed) for seed in seeds)}
    backup = program.json("backup")
    assert (backup["state"], backup["failed"]) == ("good", [])
    whole = drill(program, depth, expect=0)
    assert (whole["backup"], whole["state"], whole["level"]) == (backup["id"], "passed", "faithful")
    assert {one["name"]: one["points"] for one in whole["collections"]} == {
        name: one.points for name, one in made.items()
    }
    for one in whole["collections"]:
        told = one["state"], one["level"], one["expected"], one["notes"]
        assert told == ("passed", "faithful", [one["points"]] * 2, []), f"{made[one['name']]}: {one}"
        assert one["content"]["same"] == one["content"]["compared"] > 0 or not one["points"]
    damaged = damage(program, backup["id"], made.values(), kinds)
    found = drill(program, depth, expect=2)["collections"] if damaged else []
    assert {one["name"] for one in found} == damaged.keys()
    for one in found:
        what = f"{damaged[one['name']]} in {made[one['name']]}: {one}"
        assert one["state"] == "failed", what
        assert one["level"] in {"well-formed", "restorable"} or "malformed" in one["why"], what
        assert one["why"], what
    shutil.rmtree(program.home)  # nobody needs it any more
    return Trial(sum(one.points for one in made.values()), tuple(damaged.values()))


def drill(program: Program, *words: str, expect: int) -> dict[str, Any]:
    """Drill the newest backup."""
    answer: dict[str, Any] = program.json("drill", *words, expect=expect)
    assert answer["left"] == answer["notes"] == []
    assert list((program.state / "scratch").iterdir()) == []
    return answer


def damage(program: Program, backup: str, made: Iterable[Varied], kinds: list[tuple[str, Damage]]) -> dict[str, str]:
    """Make a newer backup, whose archives were damaged before its checksums were made; returns each one's damage."""
    damaged: dict[str, str] = {}
    source, target = (program.primary / "manual" / name for name in (backup, LATER))
    target.mkdir()
    said = json.loads((source / "manifest.json").read_bytes())
    entries = {one["name"]: one for one in said["collections"]}
    for one in made:
        if not one.calm or not ENOUGH <= one.points <= ALL:
            continue
        shards, entry = program.home / "unpacked" / str(one.seed), entries[one.name]
        raw = program.home / "raw"
        raw.write_bytes(gzip.decompress((source / entry["file"]).read_bytes()))
        unpack(raw, shards)
        damaged[one.name] = spoil(shards / "0", one, kinds)
        entry |= packed(shards, target / entry["file"])
    said |= {"id": LATER, "started": STARTED, "ended": STARTED, "collections": [entries[name] for name in damaged]}
    (target / "manifest.json").write_text(json.dumps(said))
    return damaged


def spoil(shard: Path, one: Varied, kinds: list[tuple[str, Damage]]) -> str:
    """Damage a shard in the next way that there is something for; returns which it was."""
    for number, (what, apply) in enumerate(kinds):
        if what in VECTORS and (not one.dense or one.style not in {"usual", "huge", "tiny"}):
            continue
        with contextlib.suppress(ValueError, IndexError):  # it has no such file, or nothing in it
            apply(shard)
            del kinds[number]
            return what
    raise AssertionError(f"nothing can be damaged in {one}")


def packed(shards: Path, archive: Path) -> dict[str, str | int]:
    """Archive a collection's shards; returns what the manifest has to say of that."""
    local = {name: (shards / "0" / name).read_bytes() for name in ("replica_state.json", "shard_config.json")}
    root = {name: (shards / name).read_bytes() for name in snapshot_tar.ROOT_FILES}
    raw = b"".join(snapshot_tar.plan({0: str(shards / "0")}, root, {0: local}).chunks())
    data = gzip.compress(raw, 1)
    archive.write_bytes(data)
    return {
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "raw_size": len(raw),
        "raw_sha256": hashlib.sha256(raw).hexdigest(),
    }
