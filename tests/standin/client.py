"""A plain HTTP client that shows what went over the wire."""

import http.client
import json
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

from msgspec import Struct


class Reply(Struct, frozen=True):
    """An answer, with the names of its headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def result(self) -> Any:
        if self.status != http.HTTPStatus.OK:
            raise AssertionError(f"answered with {self.status}: {self.body[:300]!r}")
        return self.json["result"]


class Client:
    """One connection to a server, kept alive."""

    def __init__(self, url: str, api_key: str | None = None, context: ssl.SSLContext | None = None) -> None:
        self.url = url
        at = urlsplit(url)
        self.connection: http.client.HTTPConnection
        if at.scheme == "https":
            self.connection = http.client.HTTPSConnection(at.netloc, context=context, timeout=30)
        else:
            self.connection = http.client.HTTPConnection(at.netloc, timeout=30)
        self._headers = {"content-type": "application/json", **({"api-key": api_key} if api_key else {})}

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Reply:
        """Ask and read the whole answer; `body` is sent as JSON, `raw` as it is."""
        data = raw if body is None else json.dumps(body)
        try:
            self.connection.request(method, path, data, {**self._headers, **(headers or {})})
            answer = self.connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        except BaseException:
            self.close()  # so that the next question opens another one
            raise

    def upload(self, path: str, archive: bytes, name: str = "upload.snapshot", field: str = "snapshot") -> Reply:
        """Send an archive as a form with one field."""
        about = f'Content-Disposition: form-data; name="{field}"; filename="{name}"'
        form = b"\r\n".join((b"--edge", about.encode(), b"", archive, b"--edge--", b""))
        headers = {"content-type": "multipart/form-data; boundary=edge"}
        return self.ask("POST", path, headers=headers, raw=form)

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


def path_of(collection: str, more: str = "") -> str:
    """The path of a collection, whatever its name."""
    return f"/collections/{quote(collection, safe='')}{more}"


def path_of_snapshot(collection: str, name: str) -> str:
    """The path of a snapshot, whatever its name."""
    return path_of(collection, f"/snapshots/{quote(name, safe='')}")
