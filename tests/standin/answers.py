"""Answers in the shapes of a Qdrant server, and the errors that become such answers."""

import json
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from msgspec import Struct

_VARY = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"


class Answer(Struct, frozen=True):
    """What goes back over the wire."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}

    def wire(self) -> bytes:
        """The whole answer."""
        return head(self.status, {"content-length": str(len(self.body)), **self.headers}) + self.body


class Refused(Exception):
    """The request ends with an error in JSON."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Dropped(Exception):
    """The connection ends without an answer."""


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """The lines before the body."""
    varied = f"{headers['vary']}, {_VARY}" if "vary" in headers else _VARY
    said = {**headers, "vary": varied, "date": formatdate(usegmt=True)}
    lines = [f"HTTP/1.1 {status} {phrase(status)}", *(f"{name}: {value}" for name, value in said.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def phrase(status: int) -> str:
    return HTTPStatus(status).phrase


def plain(status: int, text: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, text.encode(), {"content-type": "text/plain; charset=utf-8"} if headers is None else headers)


def bare_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(status, body, {"content-type": "application/json", **(headers or {})})


def result(value: Any, seconds: float) -> Answer:
    return bare_json({"result": value, "status": "ok", "time": seconds})


def accepted(seconds: float) -> Answer:
    return bare_json({"status": "accepted", "time": seconds}, 202)


def error(status: int, text: str, seconds: float = 0.0, headers: Mapping[str, str] | None = None) -> Answer:
    return bare_json({"status": {"error": text}, "time": seconds}, status, headers)


def no_collection(name: str) -> Refused:
    return Refused(404, f"Not found: Collection `{name}` doesn't exist!")


def wrong_input(text: str) -> Refused:
    return Refused(400, f"Wrong input: {text}")


def internal(text: str) -> Refused:
    return Refused(500, f"Service internal error: {text}")
