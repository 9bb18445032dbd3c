"""Translate between a server's JSON and the objects of the embedded engine."""

import struct
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import qdrant_edge as edge

from standin.answers import Refused, wrong_input

_DATATYPES = {
    "float32": edge.VectorStorageDatatype.Float32,
    "float16": edge.VectorStorageDatatype.Float16,
    "uint8": edge.VectorStorageDatatype.Uint8,
}
_SCHEMAS = {
    "keyword": edge.PayloadSchemaType.Keyword,
    "integer": edge.PayloadSchemaType.Integer,
    "float": edge.PayloadSchemaType.Float,
    "geo": edge.PayloadSchemaType.Geo,
    "text": edge.PayloadSchemaType.Text,
    "bool": edge.PayloadSchemaType.Bool,
    "datetime": edge.PayloadSchemaType.Datetime,
    "uuid": edge.PayloadSchemaType.Uuid,
}
_PARAMS = {
    "keyword": edge.KeywordIndexParams,
    "integer": edge.IntegerIndexParams,
    "float": edge.FloatIndexParams,
    "geo": edge.GeoIndexParams,
    "text": edge.TextIndexParams,
    "bool": edge.BoolIndexParams,
    "datetime": edge.DatetimeIndexParams,
    "uuid": edge.UuidIndexParams,
}
_TOKENIZERS = {
    "prefix": edge.TokenizerType.Prefix,
    "whitespace": edge.TokenizerType.Whitespace,
    "word": edge.TokenizerType.Word,
    "multilingual": edge.TokenizerType.Multilingual,
}


def engine_config(config: Mapping[str, Any]) -> Any:
    """The engine's configuration for a collection's `config.json`."""
    params, optimizer = config["params"], config["optimizer_config"]
    hnsw = config["hnsw_config"]
    vectors = {name: _dense(one, hnsw) for name, one in dense_vectors(params).items()}
    sparse = {name: _sparse(one) for name, one in params.get("sparse_vectors", {}).items()}
    return edge.EdgeConfig(
        vectors=vectors or None,
        sparse_vectors=sparse or None,
        on_disk_payload=params["on_disk_payload"],
        hnsw_config=_hnsw(hnsw),
        quantization_config=_quantization(config["quantization_config"]),
        optimizers=edge.EdgeOptimizersConfig(
            deleted_threshold=optimizer["deleted_threshold"],
            vacuum_min_vector_number=optimizer["vacuum_min_vector_number"],
            default_segment_number=optimizer["default_segment_number"],
            max_segment_size=optimizer["max_segment_size"],
            indexing_threshold=optimizer["indexing_threshold"],
        ),
    )


def dense_vectors(params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Parameters of each dense vector; the unnamed one's name is empty."""
    vectors = params["vectors"]
    return {"": vectors} if "size" in vectors else dict(vectors)


def _dense(params: Mapping[str, Any], hnsw: Mapping[str, Any]) -> Any:
    multi = edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim) if params.get("multivector_config") else None
    return edge.EdgeVectorParams(
        size=params["size"],
        distance=getattr(edge.Distance, params["distance"]),
        on_disk=params.get("on_disk"),
        multivector_config=multi,
        datatype=_DATATYPES.get(params.get("datatype", "")),
        quantization_config=_quantization(params.get("quantization_config")),
        hnsw_config=_hnsw({**hnsw, **params["hnsw_config"]}) if params.get("hnsw_config") else None,
    )


def _sparse(params: Mapping[str, Any]) -> Any:
    index = params.get("index") or {}
    return edge.EdgeSparseVectorParams(
        full_scan_threshold=index.get("full_scan_threshold"),
        on_disk=index.get("on_disk"),
        modifier=edge.Modifier.Idf if params.get("modifier") == "idf" else None,
        datatype=_DATATYPES.get(index.get("datatype", "")),
    )


def _hnsw(params: Mapping[str, Any]) -> Any:
    known = ("m", "ef_construct", "full_scan_threshold", "max_indexing_threads", "on_disk", "payload_m")
    return edge.HnswIndexConfig(**{name: params[name] for name in known if params.get(name) is not None})


def _quantization(params: Mapping[str, Any] | None) -> Any:
    match params:
        case {"scalar": one}:
            return edge.ScalarQuantizationConfig(edge.ScalarType.Int8, one.get("quantile"), one.get("always_ram"))
        case {"product": one}:
            return edge.ProductQuantizationConfig(
                getattr(edge.CompressionRatio, one["compression"].upper()), one.get("always_ram")
            )
        case {"binary": one}:
            return edge.BinaryQuantizationConfig(one.get("always_ram"))
    return None


def index_schema(schema: Any) -> Any:
    """The engine's schema of a payload index for "keyword" or `{"type": "keyword", ...}`."""
    if isinstance(schema, str):
        return _SCHEMAS[schema]
    given = {key: value for key, value in schema.items() if key != "type" and value is not None}
    if "tokenizer" in given:
        given["tokenizer"] = _TOKENIZERS[given["tokenizer"]]
    return _PARAMS[schema["type"]](**given)


def point(given: Mapping[str, Any]) -> Any:
    """A point of the engine."""
    vectors = given.get("vector", {})
    if isinstance(vectors, dict):
        vectors = {name: vector(one) for name, one in vectors.items()}
    return edge.Point(point_id(given["id"]), vectors, given.get("payload") or {})


def point_id(given: int | str) -> int | UUID:
    if isinstance(given, int):
        return given
    try:
        return UUID(given)
    except ValueError as bad:
        text = f"value {given} is not a valid point ID, valid values are either an unsigned integer or a UUID"
        raise Refused(400, f"Format error in JSON body: {text}") from bad


def vector(given: Any) -> Any:
    """A vector of the engine: dense and multi are lists, sparse is an object."""
    return edge.SparseVector(given["indices"], given["values"]) if isinstance(given, dict) else given


def query(given: Any, using: str) -> Any:
    """The engine's query: random points, or nearest to a vector."""
    match given:
        case None:
            return None
        case {"sample": "random"}:
            return edge.Sample.Random
        case {"nearest": near}:
            return edge.Query.Nearest(vector(near), using)
        case list() | {"indices": _, "values": _}:
            return edge.Query.Nearest(vector(given), using)
    raise wrong_input("the stand-in knows nearest and sample queries only")


def conditions(given: Mapping[str, Any] | None) -> Any:
    """The engine's filter."""
    if not given:
        return None
    parts: dict[str, Any] = {}
    for name in ("must", "should", "must_not"):
        listed = given.get(name) or []
        parts[name] = [_condition(one) for one in (listed if isinstance(listed, list) else [listed])] or None
    return edge.Filter(**parts)


def _condition(given: Mapping[str, Any]) -> Any:
    match given:
        case {"has_id": ids}:
            return edge.HasIdCondition({point_id(one) for one in ids})
        case {"key": key, "match": {"value": value}}:
            return edge.FieldCondition(key, match=edge.MatchValue(value))
        case {"key": key, "match": {"any": values}}:
            return edge.FieldCondition(key, match=edge.MatchAny(values))
        case {"key": key, "match": {"text": text}}:
            return edge.FieldCondition(key, match=edge.MatchText(text))
        case {"key": key, "range": limits}:
            return edge.FieldCondition(key, range=edge.RangeFloat(**limits))
        case {"must": _} | {"should": _} | {"must_not": _}:
            return conditions(given)
    raise wrong_input(f"the stand-in does not know the condition {given}")


def record(found: Any, *, scored: bool = False) -> dict[str, Any]:
    """A point as a server answers with it."""
    said: dict[str, Any] = {"id": found.id if isinstance(found.id, int) else str(found.id)}
    if scored:
        said |= {"version": found.version, "score": short(found.score)}
    if found.payload is not None:
        said["payload"] = found.payload
    if found.vector is not None:
        said["vector"] = _shown(found.vector)
    return said


def _shown(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: _shown(one) for name, one in found.items()}
    if isinstance(found, list):
        return [_shown(one) for one in found]
    if isinstance(found, float | int):
        return short(found)
    return {"indices": list(found.indices), "values": [short(one) for one in found.values]}


def short(value: float) -> float:
    """The shortest number that is the same one in 32 bits, as the server writes it."""
    single = struct.pack("f", value)
    for digits in (6, 7, 8):
        shorter = float(f"{value:.{digits}g}")
        if struct.pack("f", shorter) == single:
            return shorter
    return float(f"{value:.9g}")
