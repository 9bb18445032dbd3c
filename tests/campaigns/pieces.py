"""Archives that are written in pieces, by a writer that keeps the file open and by one that comes back to append."""

import hashlib
import os
import threading
from pathlib import Path

from msgspec import Struct
from program import Program, until


class Pieces(Struct, frozen=True):
    """What was seen of one archive: its verdicts, and seconds from its last byte to the first verdict."""

    name: str
    verdicts: list[str]
    waited: float

    def __str__(self) -> str:
        return f"{self.name}: {', '.join(self.verdicts)}, {self.waited:.2f} s after its last byte"


def write(program: Program, name: str, pieces: int, pause: float, *, keep_open: bool) -> Pieces:
    """Write an archive in pieces with a pause after each, and see what the agent makes of it."""
    folder = program.primary / "daily"
    folder.mkdir(exist_ok=True)
    parts = [b"piece   " + os.urandom(20_000) for _ in range(pieces)]
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    (folder / f"{name}.sha256").write_text(f"{digest}  {name}\n", encoding="ascii")
    _write(folder / name, parts, pause, keep_open=keep_open)
    done = (folder / name).stat().st_mtime
    until(lambda: program.query("SELECT 1 FROM verdict WHERE name = ?", name), what=f"the verdict on {name}")
    # Another archive takes the whole way: a second verdict on this one would be there before its first.
    mark = f"after-{name}"
    (folder / f".{mark}").write_bytes(parts[0])
    (folder / f".{mark}").rename(folder / mark)
    until(lambda: program.query("SELECT 1 FROM verdict WHERE name = ?", mark), what=f"the verdict on {mark}")
    seen = program.query("SELECT state, at FROM verdict WHERE name = ? ORDER BY id", name)
    return Pieces(name, [state for state, _ in seen], seen[0][1] - done)


def _write(path: Path, parts: list[bytes], pause: float, *, keep_open: bool) -> None:
    writer = threading.Event()
    if keep_open:
        with path.open("wb", buffering=0) as file:
            for part in parts:
                file.write(part)
                writer.wait(pause)
        return
    for index, part in enumerate(parts):
        if index:
            writer.wait(pause)
        with path.open("ab", buffering=0) as file:
            file.write(part)
