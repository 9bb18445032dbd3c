"""Which settings of a restored collection are not as they were."""

from typing import Any

import pytest

from agent.rules.collection_config import differs

CONFIG: dict[str, Any] = {
    "params": {
        "vectors": {"title": {"size": 8, "distance": "Cosine", "hnsw_config": {"m": 8}}},
        "sparse_vectors": {"words": {"modifier": "idf"}},
        "shard_number": 2,
        "replication_factor": 1,
        "on_disk_payload": True,
    },
    "hnsw_config": {"m": 16, "on_disk": False},
    "optimizer_config": {"indexing_threshold": 10000, "max_optimization_threads": None},
    "wal_config": {"wal_capacity_mb": 32},
    "quantization_config": None,
    "metadata": {"owner": "tests", "kept": False},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The configuration with one setting that is another one, or none where the value is ...."""
    made: dict[str, Any] = {**CONFIG}
    *folders, last = path.split(".")
    at = made
    for one in folders:
        at[one] = dict(at.get(one) or {})
        at = at[one]
    at[last] = value
    if value is ...:
        del at[last]
    return made


def test_what_is_the_same_does_not_differ() -> None:
    assert differs(CONFIG, CONFIG) == []
    assert differs({}, {}) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("uuid", "5c56c793-69f3-4fbf-87e6-c4bf54c28c26"),
        ("params.sharding_method", "auto"),
        ("params.write_consistency_factor", 1),
        ("params.on_disk_payload", ...),
        ("params.replication_factor", ...),
        ("params.vectors.title.on_disk", False),
        ("params.vectors.title.datatype", "float32"),
        ("params.vectors.title.quantization_config", None),
        ("hnsw_config.payload_m", 4),  # a newer server knows more, and says so of every collection
        ("hnsw_config.inline_storage", None),
        ("optimizer_config.max_optimization_threads", ...),
        ("optimizer_config.prevent_unoptimized", True),
        ("wal_config", None),
        ("strict_mode_config", {}),
        ("quantization_config", ...),
    ],
)
def test_what_a_server_fills_in_or_leaves_out_is_no_difference(path: str, value: Any) -> None:
    assert differs(CONFIG, changed(path, value)) == []
    assert differs(changed(path, value), CONFIG) == []


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("hnsw_config.m", 32, "hnsw_config.m was 16 and is 32"),
        ("hnsw_config.on_disk", True, "hnsw_config.on_disk was false and is true"),
        ("optimizer_config.indexing_threshold", 1, "optimizer_config.indexing_threshold was 10000 and is 1"),
        (
            "optimizer_config.max_optimization_threads",
            2,
            "optimizer_config.max_optimization_threads was not set and is 2",
        ),
        ("params.on_disk_payload", False, "params.on_disk_payload was true and is false"),
        ("params.replication_factor", 2, "params.replication_factor was 1 and is 2"),
        ("params.read_fan_out_factor", 1, "params.read_fan_out_factor was not set and is 1"),
        ("params.sharding_method", "custom", 'params.sharding_method was not set and is "custom"'),
        ("params.vectors.title.hnsw_config.m", 4, "params.vectors.title.hnsw_config.m was 8 and is 4"),
        ("params.vectors.title.on_disk", True, "params.vectors.title.on_disk was not set and is true"),
        (
            "params.sparse_vectors.words.modifier",
            ...,
            'params.sparse_vectors.words.modifier was "idf" and is not set',
        ),
        ("quantization_config", {"binary": {}}, "quantization_config.binary was not set and is set"),
        ("params.sparse_vectors.names", {}, "params.sparse_vectors.names was not set and is set"),
        ("strict_mode_config", {"enabled": True}, "strict_mode_config.enabled was not set and is true"),
        (
            "metadata",
            {"owner": "tests"},
            'metadata was {"owner":"tests","kept":false} and is {"owner":"tests"}',
        ),
    ],
)
def test_what_is_set_otherwise_is_told(path: str, value: Any, told: str) -> None:
    assert differs(CONFIG, changed(path, value)) == [told]


def test_a_vector_that_is_missing_is_told_by_its_settings() -> None:
    assert differs(CONFIG, changed("params.vectors", {})) == [
        'params.vectors.title.distance was "Cosine" and is not set',
        "params.vectors.title.hnsw_config.m was 8 and is not set",
        "params.vectors.title.size was 8 and is not set",
    ]
