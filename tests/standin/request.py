"""A request as its route sees it."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from standin.answers import Refused
from standin.faults import Fault
from standin.keys import Access


class Request(Struct, frozen=True):
    """A request as its route sees it.

    Attributes:
        headers: by name in lower case.
        options: what follows the question mark.
        body: all of it, unless it lies in the file `spool`.
        began: by `time.perf_counter`.
        access: what the key allows.
        faults: what is to go wrong with the answer.
    """

    headers: Mapping[str, str]
    options: Mapping[str, str]
    body: bytes
    began: float
    spool: Path | None = None
    access: Access = Access()
    faults: dict[str, Fault] = {}

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.began

    @property
    def json(self) -> "_Body":
        try:
            return _Body(json.loads(self.body))
        except ValueError as bad:
            raise Refused(400, f"Format error in JSON body: {bad}") from bad

    def waits(self, *, default: bool) -> bool:
        wait = self.options.get("wait", str(default).lower())
        if wait not in {"true", "false"}:
            text = "Deserialize error in query parameters: provided string was not `true` or `false`"
            raise Refused(400, text)
        return wait == "true"


class _Body(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        raise Refused(400, f"Format error in JSON body: missing field `{name}`")
