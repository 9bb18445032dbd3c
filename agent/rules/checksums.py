r"""Read what checksum files promise: coreutils' formats, in text, binary and BSD style.

Source: coreutils' sha256sum(1). A line is `HEX  name`, `HEX *name` or `SHA256 (name) = HEX`; a line that
begins with a backslash has `\n`, `\r` and `\\` escaped in its name.
"""

import re

from msgspec import Struct

from agent.rules.archive import Promise
from agent.rules.words import printable

SUMS = "SHA256SUMS"
MANIFEST = "manifest.json"

_LINE = re.compile(rb"(?P<escaped>\\?)(?P<hex>[0-9a-fA-F]{64})(?: [ *](?P<name>[^\0]+))?$")
_TAGGED = re.compile(rb"(?P<escaped>\\?)SHA256 \((?P<name>[^\0]+)\) = (?P<hex>[0-9a-fA-F]{64})$")
# So many unreadable lines are told; a file may consist of millions of them.
_TOLD = 10
_ESCAPES = {b"\\n": b"\n", b"\\r": b"\r", b"\\\\": b"\\"}


class Sums(Struct, frozen=True):
    """What one checksum file says: lower-case SHA-256 by file name, and the first lines nobody can read."""

    promised: dict[str, str]
    problems: tuple[str, ...] = ()


def is_checksum_file(name: str) -> bool:
    """Whether a file of this name promises something about its neighbours."""
    return name.endswith(".sha256") or name in (SUMS, MANIFEST)


def parse(data: bytes, source: str) -> Sums:
    """Read the checksum file `source`; a name-less hash is filed under the empty name."""
    promised: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(data.split(b"\n"), 1):
        text = line.rstrip(b"\r")
        if not text or text.startswith(b"#"):
            continue
        match = _LINE.match(text) or _TAGGED.match(text)
        if not match:
            if len(problems) < _TOLD:
                problems.append(f"{source} line {number} is no checksum line")
            continue
        name = match["name"] or b""
        if match["escaped"]:
            name = re.sub(rb"\\[nr\\]", lambda found: _ESCAPES[found[0]], name)
        promised[name.removeprefix(b"./").decode("utf-8", "surrogateescape")] = match["hex"].decode().lower()
    return Sums(promised, tuple(problems))


def promises_of(data: bytes, source: str) -> tuple[dict[str, Promise], tuple[str, ...]]:
    """What SHA256SUMS or `<file>.sha256` promises, by the neighbour's file name, and what is wrong with it.

    A `<file>.sha256` speaks of `<file>` whatever path its writer put in the line, as long as the
    last part of that path is the file's name, or there is no name at all. File names are raw, the
    source of a promise is printable.
    """
    shown = printable(source)
    sums = parse(data, shown)
    if source == SUMS:
        here = {name: Promise(shown, sha) for name, sha in sums.promised.items() if name and "/" not in name}
        nameless = (f"{shown} has a checksum without a name",) if "" in sums.promised else ()
        return here, sums.problems + nameless
    target = source.removesuffix(".sha256")
    for name, sha in sums.promised.items():
        if not name or name.rsplit("/", 1)[-1] == target:
            return {target: Promise(shown, sha)}, sums.problems
    return {}, (*sums.problems, f"{shown} promises nothing about {printable(target)}")


def line(sha256: str, name: str) -> bytes:
    """One line of SHA256SUMS as `sha256sum` itself writes it, escaped where the name needs it."""
    encoded = name.encode("utf-8", "surrogateescape")
    escaped = encoded.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"\\" if escaped != encoded else b""
    return mark + sha256.encode() + b"  " + escaped + b"\n"
