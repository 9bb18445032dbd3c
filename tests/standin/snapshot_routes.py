"""What each request about snapshots does."""

import re
from typing import TYPE_CHECKING, Any

from standin import upload
from standin.answers import Answer, Refused, accepted, plain, result
from standin.faults import Fault
from standin.request import Request
from standin.route import Route

if TYPE_CHECKING:
    from standin.server import StandIn


def _list_snapshots(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    listed = server.snapshots.list(server.store.get(collection).name)
    return result([_described(one, request.faults) for one in listed], request.elapsed)


def _full_snapshots(server: "StandIn", request: Request, *_: str) -> Answer:
    return result([], request.elapsed)


def _create_snapshot(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    wait = request.waits(default=True)
    job = server.snapshots.start(server.store.get(collection).name)
    if not wait:
        return accepted(request.elapsed)
    if "lost" in request.faults:
        return accepted(request.elapsed)  # which nobody sees
    return result(_described(job.wait(), request.faults), request.elapsed)


def _described(said: dict[str, Any], faults: dict[str, Fault]) -> dict[str, Any]:
    if faults.keys() & {"bare", "no_checksum"}:
        return {key: value for key, value in said.items() if key != "checksum"}
    if "wrong_checksum" in faults:
        return {**said, "checksum": re.sub("^.", lambda first: "1" if first[0] == "0" else "0", said["checksum"])}
    return said


def _delete_snapshot(server: "StandIn", request: Request, collection: str, name: str) -> Answer:
    wait = request.waits(default=True)
    server.snapshots.delete(server.store.get(collection).name, name)
    return result(True, request.elapsed) if wait else accepted(request.elapsed)


def _upload(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    wait = request.waits(default=True)
    kind = request.headers.get("content-type", "")
    if request.spool is None or not kind.startswith("multipart/form-data"):
        return plain(415, "ContentTypeIncompatible")
    target = server.snapshots.draft()
    name = upload.extract(request.spool, kind, target)
    if name is None:
        return plain(400, "Required field is missing: snapshot")
    job = server.restores.from_upload(collection, request.options, target, name)
    if "lost" in request.faults:
        return accepted(request.elapsed)  # which nobody sees
    return result(job.wait(), request.elapsed) if wait else accepted(request.elapsed)


def _recover(server: "StandIn", request: Request, collection: str, *_: str) -> Answer:
    wait = request.waits(default=True)
    location = request.json["location"]
    if "://" not in location:
        raise Refused(400, f'Format error in JSON body: relative URL without a base: "{location}"')
    job = server.restores.from_location(collection, request.json)
    return result(job.wait(), request.elapsed) if wait else accepted(request.elapsed)


def _download(*_: Any) -> Answer:
    raise AssertionError("a download is no single answer, see server.py")


ROUTES = (
    Route("GET", "/snapshots", "full_snapshots", "global", _full_snapshots),
    Route("GET", "/collections/{c}/snapshots", "list", "read", _list_snapshots),
    Route("POST", "/collections/{c}/snapshots", "create", "write", _create_snapshot),
    Route("POST", "/collections/{c}/snapshots/upload", "upload", "manage", _upload),
    Route("PUT", "/collections/{c}/snapshots/recover", "recover", "manage", _recover),
    Route("GET", "/collections/{c}/snapshots/{name}", "download", "read", _download),
    Route("DELETE", "/collections/{c}/snapshots/{name}", "delete", "write", _delete_snapshot),
)
