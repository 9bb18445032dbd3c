"""Collections of the embedded engine that differ in all that a snapshot may hold, each drawn from a number."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import qdrant_edge as edge
from msgspec import Struct

_BATCH = 100
_SIZES = (1, 2, 4, 8, 16, 64, 256)
_POINTS = (0, 1, 2, 3, 7, 50, 200, 300, 700, 1500)
_STYLES = ("usual", "usual", "usual", "zero", "same", "missing", "huge", "tiny")
_SCALES = {"huge": 3e4, "tiny": 1e-4}
_DENSE = (("",), ("",), ("a",), ("a", "b b"), ("", "x"), ())
_SPARSE = ((), (), ("w",), ("w", "ünï"))
_NAMES = ("notes", "two words", "ünï", "-v1.2 (a&b)", "日本")
_DISTANCES = (edge.Distance.Cosine, edge.Distance.Dot, edge.Distance.Euclid, edge.Distance.Manhattan)
_TYPES = edge.VectorStorageDatatype
_DATATYPES = (None, None, _TYPES.Float16, _TYPES.Uint8, _TYPES.Float32)
_PLACES = (None, None, edge.Memory.Cold, edge.Memory.Cached, edge.Memory.Pinned)
_FIELDS = ("Bool", "Datetime", "Float", "Geo", "Integer", "Keyword", "Text", "Uuid")
_MAX_SIGNED, _MAX_UNSIGNED = 2**63, 2**64


class Dense(Struct, frozen=True):
    """A vector that every point may have, or several of it."""

    size: int
    multi: bool
    datatype: Any


class Varied(Struct, frozen=True):
    """A collection as it was made.

    Attributes:
        seed: it was drawn from.
        name: of its folder.
        points: how many it has.
        style: of its vectors.
        dense, sparse: how many kinds of vectors it has.
        calm: whether each of its points was written once, and none deleted.
        optimised: whether the engine has had time to build its segments anew.
    """

    seed: int
    name: str
    points: int
    style: str
    dense: int
    sparse: int
    calm: bool
    optimised: bool


def build(home: Path, seed: int) -> Varied:
    """Make the collection of this number in a folder of its own below `home`."""
    return _Draft(seed).build(home)


class _Draft:
    """A collection that is being drawn; what it is made of is drawn first."""

    def __init__(self, seed: int) -> None:
        dice = self.dice = random.Random(seed)  # noqa: S311 - has to be the same on every run, not secret
        self.seed, self.name = seed, f"{dice.choice(_NAMES)} {seed}"
        self.style, self.points = dice.choice(_STYLES), dice.choice(_POINTS)
        self.dense = {name: self._dense() for name in dice.choice(_DENSE)}
        self.sparse = dice.choice(_SPARSE) if self.dense else ("w",)
        self.ids: set[int | UUID | str] = set()  # the engine's own words for an id

    def build(self, home: Path) -> Varied:
        dice, folder = self.dice, home / self.name
        folder.mkdir()
        shard = edge.EdgeShard.create(str(folder), self._config())
        self._upsert(shard, range(self.points))
        for field in dice.sample(("city", "f0", "f1"), dice.randrange(3)):
            shard.update(edge.UpdateOperation.create_field_index(field, self._index(field)))
        if optimised := dice.random() < 0.6:
            shard.optimize()
        if not (calm := dice.random() < 0.65):
            self._churn(shard)
        shard.flush()
        shard.close()
        return Varied(
            seed=self.seed,
            name=self.name,
            points=len(self.ids),
            style=self.style,
            dense=len(self.dense),
            sparse=len(self.sparse),
            calm=calm,
            optimised=optimised,
        )

    # What it is made of

    def _config(self) -> Any:
        dice = self.dice
        optimizers = edge.EdgeOptimizersConfig(
            indexing_threshold=dice.choice((1, 20, 10**6)), default_segment_number=dice.choice((1, 2, 4))
        )
        return edge.EdgeConfig(
            vectors={name: self._vector_params(one) for name, one in self.dense.items()} or None,
            sparse_vectors={name: self._sparse_params() for name in self.sparse} or None,
            optimizers=optimizers,
            on_disk_payload=dice.choice((None, True, False)),
        )

    def _dense(self) -> Dense:
        return Dense(self.dice.choice(_SIZES), self.dice.random() < 0.2, self.dice.choice(_DATATYPES))

    def _vector_params(self, one: Dense) -> Any:
        dice = self.dice
        several = edge.MultiVectorConfig(comparator=edge.MultiVectorComparator.MaxSim) if one.multi else None
        return edge.EdgeVectorParams(
            size=one.size,
            distance=dice.choice(_DISTANCES),
            datatype=one.datatype,
            multivector_config=several,
            quantization_config=self._quantization(one.size) if one.datatype is None else None,
            hnsw_config=dice.choice((None, None, edge.HnswIndexConfig(m=8, ef_construct=32, full_scan_threshold=10))),
            memory=dice.choice(_PLACES),
        )

    def _quantization(self, size: int) -> Any:
        kinds: list[Any] = [
            None,
            edge.ScalarQuantizationConfig(type=edge.ScalarType.Int8, quantile=0.99),
            edge.BinaryQuantizationConfig(),
            edge.TurboQuantQuantizationConfig(),
        ]
        if size % 4 == 0:
            kinds.append(edge.ProductQuantizationConfig(compression=edge.CompressionRatio.X4))
        return self.dice.choice(kinds)

    def _sparse_params(self) -> Any:
        return edge.EdgeSparseVectorParams(
            modifier=self.dice.choice((None, edge.Modifier.Idf)),
            on_disk=self.dice.choice((None, True)),
            datatype=self.dice.choice((None, _TYPES.Float16, _TYPES.Float32)),
        )

    def _index(self, field: str) -> Any:
        kind = "Keyword" if field == "city" else self.dice.choice(_FIELDS)
        return getattr(edge.PayloadSchemaType, kind)

    # What is done to it

    def _upsert(self, shard: Any, numbers: range) -> None:
        for start in range(numbers.start, numbers.stop, _BATCH):
            points = [self._point(self._id(one)) for one in range(start, min(numbers.stop, start + _BATCH))]
            shard.update(edge.UpdateOperation.upsert_points(points))

    def _churn(self, shard: Any) -> None:
        """Delete, write over and write anew, as it is with what is in use."""
        gone = [one for one in sorted(self.ids, key=str) if self.dice.random() < 0.3]
        self.ids.difference_update(gone)
        shard.update(edge.UpdateOperation.delete_points(gone))
        if self.dice.random() < 0.5:
            self._upsert(shard, range(self.points, self.points + 10))
        if self.dice.random() < 0.5:
            again = [self._point(one) for one in sorted(self.ids, key=str)[:20]]
            shard.update(edge.UpdateOperation.upsert_points(again))
        if self.dice.random() < 0.4:
            some = sorted(self.ids, key=str)[10:40]
            shard.update(edge.UpdateOperation.set_payload(some, {"f0": self._value()}))
        if self.dice.random() < 0.4:
            shard.optimize()

    # Points

    def _id(self, number: int) -> int | UUID | str:
        made: int | UUID = number if self.dice.random() < 0.7 else UUID(int=self.dice.getrandbits(128))
        self.ids.add(made)
        return made

    def _point(self, ident: int | UUID | str) -> Any:
        vectors = {name: self._several(one) for name, one in self.dense.items() if self._has()}
        vectors |= {name: self._terms() for name in self.sparse if self._has()}
        bare: Any = vectors[""] if list(vectors) == [""] and self.style != "missing" else vectors
        payload = {f"f{number}": self._value() for number in range(self.dice.randrange(5))}
        return edge.Point(ident, bare, payload | {"city": f"c{self.dice.randrange(5)}"})

    def _has(self) -> bool:
        return self.style != "missing" or self.dice.random() < 0.6

    def _several(self, one: Dense) -> Any:
        return [self._vector(one) for _ in range(self.dice.randint(1, 5))] if one.multi else self._vector(one)

    def _vector(self, one: Dense) -> list[float]:
        if self.style == "zero" and self.dice.random() < 0.7:
            return [0.0] * one.size
        if self.style == "same":
            return [1.0] * one.size
        if one.datatype == _TYPES.Uint8:
            return [float(self.dice.randrange(256)) for _ in range(one.size)]
        scale = _SCALES.get(self.style, 1.0)
        return [self.dice.uniform(-scale, scale) for _ in range(one.size)]

    def _terms(self) -> Any:
        dice = self.dice
        indices = sorted(dice.sample(range(dice.choice((50, 2**32 - 1))), dice.randrange(self.style != "missing", 12)))
        return edge.SparseVector(indices, [0.0 if self.style == "zero" else dice.uniform(-1, 2) for _ in indices])

    def _value(self, depth: int = 0) -> Any:
        """Whatever JSON can say, and the engine keeps."""
        dice = self.dice
        plain: list[Callable[[], Any]] = [
            lambda: None,
            lambda: True,
            lambda: dice.randrange(-_MAX_SIGNED, _MAX_SIGNED),
            lambda: dice.randrange(_MAX_SIGNED, _MAX_UNSIGNED),
            lambda: dice.random() * 10.0 ** dice.randint(-20, 20),
            lambda: "s ☃\0"[: dice.randrange(5)] + str(dice.random()),
            lambda: "",
            lambda: -0.0,
            lambda: {"lon": dice.uniform(-180, 180), "lat": dice.uniform(-90, 90)},
            lambda: f"2026-01-{dice.randint(1, 28):02}T10:00:00Z",
        ]
        nested: list[Callable[[], Any]] = [
            lambda: [self._value(depth + 1) for _ in range(dice.randrange(4))],
            lambda: {f"k{number}": self._value(depth + 1) for number in range(dice.randrange(4))},
        ]
        return dice.choice(plain if depth == 2 else plain + nested)()
