"""What each request of the REST API does."""

from typing import TYPE_CHECKING, Any

from standin import cluster_routes, metrics, overview, snapshot_routes
from standin.answers import Answer, Refused, bare_json, error, plain, result
from standin.request import Request
from standin.route import Match, Route
from standin.store import check_path

if TYPE_CHECKING:
    from standin.server import StandIn

KINDS = ("bare", "no_checksum", "wrong_checksum", "lost")
COMMIT = "db8fa43fcb6aedec1e739487e17a99731b74590a"


def find(method: str, segments: tuple[str, ...]) -> Match | None:
    """The route of a request, or None where the server has none."""
    for route in ROUTES:
        parts = [part for part in route.path.split("/") if part]
        if route.method != method or len(parts) != len(segments):
            continue
        if all(part[0] == "{" or part == given for part, given in zip(parts, segments, strict=True)):
            said = dict(zip(parts, segments, strict=True))
            return Match(route, said.get("{c}", ""), said.get("{name}", ""))
    return None


def allow(match: Match, request: Request) -> None:
    """Refuse a name that cannot be, and what the key does not allow."""
    if match.collection:
        check_path(match.collection)
    request.access.require(match.route.need, match.collection)


def perform(server: "StandIn", match: Match, request: Request) -> Answer:
    """Do it, or answer with the error."""
    try:
        allow(match, request)
        return match.route.do(server, request, match.collection, match.name)
    except Refused as refused:
        return error(refused.status, refused.text, request.elapsed)


def _root(server: "StandIn", request: Request, *_: str) -> Answer:
    return bare_json({"title": "qdrant - vector search engine", "version": server.version, "commit": COMMIT})


def _healthy(*_: Any) -> Answer:
    return plain(200, "healthz check passed")


def _ready(*_: Any) -> Answer:
    return plain(200, "all shards are ready")


def _metrics(server: "StandIn", request: Request, *_: str) -> Answer:
    return plain(200, metrics.text(server))


def _telemetry(server: "StandIn", request: Request, *_: str) -> Answer:
    return result(metrics.telemetry(server, request.access), request.elapsed)


def _collections(server: "StandIn", request: Request, *_: str) -> Answer:
    names = sorted(name for name in server.store.collections if request.access.sees(name))
    return result({"collections": [{"name": name} for name in names]}, request.elapsed)


def _info(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    return result(overview.info(server, collection), request.elapsed)


def _exists(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    known = collection in server.store.collections or collection in server.store.aliases
    return result({"exists": known}, request.elapsed)


def _create(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    server.store.create(collection, request.json)
    return result(True, request.elapsed)


def _update(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    server.store.update(collection, request.json)
    return result(True, request.elapsed)


def _drop(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    return result(server.store.drop(collection), request.elapsed)


def _aliases(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    if collection:
        server.store.get(collection)
    listed = [
        {"alias_name": alias, "collection_name": name}
        for alias, name in sorted(server.store.aliases.items())
        if collection in {"", name} and request.access.sees(name) and request.access.sees(alias)
    ]
    return result({"aliases": listed}, request.elapsed)


def _change_aliases(server: "StandIn", request: Request, *_: str) -> Answer:
    server.store.change_aliases(request.json["actions"])
    return result(True, request.elapsed)


def _written(operation: int, request: Request) -> Answer:
    status = "completed" if request.waits(default=False) else "acknowledged"
    return result({"operation_id": operation, "status": status}, request.elapsed)


def _index(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    asked = request.json
    return _written(server.store.get(collection).index(asked["field_name"], asked["field_schema"]), request)


def _upsert(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    asked = request.json
    return _written(server.store.get(collection).upsert(_points(asked), asked.get("shard_key")), request)


def _points(asked: dict[str, Any]) -> list[dict[str, Any]]:
    if "points" in asked:
        points: list[dict[str, Any]] = asked["points"]
        return points
    batch = asked["batch"]
    payloads = batch.get("payloads") or [None] * len(batch["ids"])
    vectors = batch["vectors"]
    if isinstance(vectors, dict):
        vectors = [dict(zip(vectors, each, strict=True)) for each in zip(*vectors.values(), strict=True)]
    return [
        {"id": one, "vector": vector, "payload": payload}
        for one, vector, payload in zip(batch["ids"], vectors, payloads, strict=True)
    ]


def _delete_points(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    return _written(server.store.get(collection).delete(request.json), request)


def _count(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    count = server.store.get(collection).count(server.peer_id, request.json)
    return result({"count": count}, request.elapsed)


def _query(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    found = server.store.get(collection).query(server.peer_id, request.json)
    return result({"points": found}, request.elapsed)


def _scroll(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    found, offset = server.store.get(collection).scroll(server.peer_id, request.json)
    return result({"points": found, "next_page_offset": offset}, request.elapsed)


def _retrieve(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    return result(server.store.get(collection).retrieve(server.peer_id, request.json), request.elapsed)


ROUTES = (
    Route("GET", "/", "root", "open", _root),
    Route("GET", "/healthz", "health", "open", _healthy),
    Route("GET", "/livez", "health", "open", _healthy),
    Route("GET", "/readyz", "health", "open", _ready),
    Route("GET", "/metrics", "metrics", "global", _metrics),
    Route("GET", "/telemetry", "telemetry", "read", _telemetry),
    Route("GET", "/aliases", "aliases", "read", _aliases),
    Route("GET", "/collections", "collections", "read", _collections),
    Route("POST", "/collections/aliases", "change_aliases", "manage", _change_aliases),
    Route("GET", "/collections/{c}", "info", "read", _info),
    Route("PUT", "/collections/{c}", "create_collection", "manage", _create),
    Route("PATCH", "/collections/{c}", "update_collection", "manage", _update),
    Route("DELETE", "/collections/{c}", "drop_collection", "manage", _drop),
    Route("GET", "/collections/{c}/exists", "exists", "read", _exists),
    Route("GET", "/collections/{c}/aliases", "aliases", "read", _aliases),
    Route("PUT", "/collections/{c}/index", "index", "write", _index),
    Route("PUT", "/collections/{c}/points", "upsert", "write", _upsert),
    Route("POST", "/collections/{c}/points", "retrieve", "read", _retrieve),
    Route("POST", "/collections/{c}/points/delete", "delete_points", "write", _delete_points),
    Route("POST", "/collections/{c}/points/count", "count", "read", _count),
    Route("POST", "/collections/{c}/points/query", "query", "read", _query),
    Route("POST", "/collections/{c}/points/scroll", "scroll", "read", _scroll),
    *cluster_routes.ROUTES,
    *snapshot_routes.ROUTES,
)
