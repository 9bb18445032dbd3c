"""Real segment files, made by the embedded engine and put into archives as a server puts them."""

import random
import shutil
import subprocess
from pathlib import Path

from agent.adapters import press, snapshot_tar
from agent.adapters.press import Squeeze

_POINTS, _DIMENSIONS = 28_000, 768
_BATCH = 500
_FEW = 2_000
_PIECE = 1 << 20
_STATE = {
    "replica_state.json": b'{"is_local":true,"this_peer_id":1,"peers":{"1":"Active"}}',
    "shard_config.json": b'{"type":"ReplicaSet"}',
}
_ROOT = {
    "version.info": b"0.4.2",
    "config.json": b'{"params":{"shard_number":1}}',
    "shard_key_mapping.json": b"[]",
    "payload_index.json": b'{"schema":{}}',
}


def snapshots(folder: Path, shards: int) -> dict[str, Path]:
    """Archives of so many shards each: `vectors`, and `mostly empty` as servers wrote them that knew no holes.

    The shards of one archive have the same content, which no compressor here sees: they look back 32 KiB.
    """
    folder.mkdir(exist_ok=True)
    made = {name: folder / f"{name.replace(' ', '-')}.snapshot" for name in ("vectors", "mostly empty")}
    if not made["vectors"].exists():
        full = _shard(folder / "full", _POINTS)
        _pack(full, shards, made["vectors"])
        _pack(full, 1, sample(folder, "vectors"))
        few = _shard(folder / "few", _FEW)
        dense = folder / "dense"
        subprocess.run(["cp", "-r", "--sparse=never", few, dense], check=True)
        _pack(dense, shards, made["mostly empty"])
        _pack(dense, 1, sample(folder, "mostly empty"))
        for one in (full.parent, few.parent, dense):
            shutil.rmtree(one)
    return made


def collection(folder: Path, points: int, dimensions: int) -> None:
    """A collection of the embedded engine: random vectors, without an index of them, and some payload."""
    from agent.adapters import edge

    edge.version()  # says how to install the engine where it is not
    import qdrant_edge as engine

    folder.mkdir(parents=True)
    dice = random.Random(points)  # noqa: S311 - the same each time, and no secret
    config = engine.EdgeConfig(
        vectors=engine.EdgeVectorParams(size=dimensions, distance=engine.Distance.Cosine),
        optimizers=engine.EdgeOptimizersConfig(indexing_threshold=10_000_000),
    )
    shard = engine.EdgeShard.create(str(folder), config)
    for start in range(0, points, _BATCH):
        batch = [
            engine.Point(
                number,
                [dice.random() - 0.5 for _ in range(dimensions)],
                {"number": number, "city": dice.choice(("Kyoto", "Lagos", "Lima"))},
            )
            for number in range(start, min(points, start + _BATCH))
        ]
        shard.update(engine.UpdateOperation.upsert_points(batch))
    shard.flush()
    shard.close()


def packed(path: Path) -> bytes:
    """A file, compressed as archives are by default."""
    compressor = press.compressor(Squeeze())
    data = memoryview(path.read_bytes())
    parts = [compressor.compress(data[at : at + _PIECE]) for at in range(0, len(data), _PIECE)]
    return b"".join([*parts, compressor.flush()])


def sample(folder: Path, name: str) -> Path:
    """An archive of one shard of that kind, quick enough for slow compressors."""
    return folder / f"one-{name.replace(' ', '-')}.snapshot"


def _shard(folder: Path, points: int) -> Path:
    """A shard of random vectors of length one, each with some text."""
    import qdrant_edge as engine

    path = folder / "shard"
    path.mkdir(parents=True)
    dice = random.Random(points)  # noqa: S311 - the same each time, and no secret
    config = engine.EdgeConfig(
        vectors=engine.EdgeVectorParams(size=_DIMENSIONS, distance=engine.Distance.Cosine),
        optimizers=engine.EdgeOptimizersConfig(indexing_threshold=10_000_000),
    )
    words = [f"{dice.getrandbits(40):x}" for _ in range(2000)]
    shard = engine.EdgeShard.create(str(path), config)
    for start in range(0, points, _BATCH):
        batch = [
            engine.Point(
                number,
                [dice.gauss(0, 1) for _ in range(_DIMENSIONS)],
                {"text": " ".join(dice.choices(words, k=dice.randint(20, 160))), "number": number},
            )
            for number in range(start, start + _BATCH)
        ]
        shard.update(engine.UpdateOperation.upsert_points(batch))
    shard.flush()
    shard.close()
    return path


def _pack(shard: Path, shards: int, to: Path) -> None:
    numbers = range(shards)
    plan = snapshot_tar.plan({n: str(shard) for n in numbers}, _ROOT, dict.fromkeys(numbers, _STATE))
    with to.open("wb") as file:
        for piece in plan.chunks():
            file.write(piece)
