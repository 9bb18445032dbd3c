"""Translate the configuration of the embedded engine to a server's."""

from collections.abc import Mapping
from typing import Any


def server_config(edge: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the engine's `edge_config.json` to a server's `config.json`.

    Source: CollectionConfigInternal in Qdrant's lib/collection/src/config.rs. Values that are not set are left out, so
    that each server takes its own defaults. Placement in memory is said in both words: `memory`, and the flags that
    servers before 1.19 know.
    """
    vectors = {name: _vector(params) for name, params in edge.get("vectors", {}).items()}
    sparse = {name: _sparse(params) for name, params in edge.get("sparse_vectors", {}).items()}
    payload = edge.get("payload_memory")
    params = {
        "vectors": vectors[""] if list(vectors) == [""] else vectors,
        "sparse_vectors": sparse or None,
        "shard_number": 1,
        "replication_factor": 1,
        "write_consistency_factor": 1,
        "on_disk_payload": edge.get("on_disk_payload", True) if payload is None else payload == "cold",
    }
    hnsw = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000} | edge.get("hnsw_config", {})
    optimizer = {"default_segment_number": 0, "flush_interval_sec": 5} | _given(edge.get("optimizers", {}))
    config = {
        "params": _given(params),
        "hnsw_config": _placed(hnsw),
        "optimizer_config": optimizer,
        "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1},
        "quantization_config": _quantization(edge.get("quantization_config")),
    }
    return _given(config)


def _vector(edge: Mapping[str, Any]) -> dict[str, Any]:
    hnsw = _placed(edge.get("hnsw_config", {})) or None
    quantization = _quantization(edge.get("quantization_config"))
    return _given({**_placed(edge), "hnsw_config": hnsw, "quantization_config": quantization})


def _sparse(edge: Mapping[str, Any]) -> dict[str, Any]:
    index = {key: value for key, value in edge.items() if key != "modifier"}
    return _given({"index": _placed(index), "modifier": edge.get("modifier")})


def _quantization(edge: Mapping[str, Any] | None) -> dict[str, Any] | None:
    flags = {"pinned": True, "cold": False}
    kinds = (edge or {}).items()
    return {kind: _given({"always_ram": flags.get(params.get("memory")), **params}) for kind, params in kinds} or None


def _placed(edge: Mapping[str, Any]) -> dict[str, Any]:
    flag = {"on_disk": edge["memory"] == "cold"} if edge.get("memory") else {}
    return _given({**edge, **flag})


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
