"""Backups of any age, made up on the disk as the agent leaves them: archives, their checksums, and a manifest."""

import gzip
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

DAY = 86400.0


def identity(started: float) -> str:
    """The id of a backup that was begun then."""
    return datetime.fromtimestamp(started, UTC).strftime("%Y%m%dT%H%M%SZ")


def made_up(
    root: Path,
    tier: str,
    started: float,
    *,
    names: tuple[str, ...] = ("docs",),
    failed: tuple[str, ...] = (),
    engine: str = "edge",
    size: int = 2048,
) -> Path:
    """One backup in one location; the same content wherever and whenever it is made."""
    folder = root / tier / identity(started)
    folder.mkdir(parents=True)
    entries = []
    for name in names:
        text = hashlib.shake_256(f"{tier} {folder.name} {name}".encode()).digest(size)
        data = gzip.compress(text, 0, mtime=0)
        (folder / f"{name}.tar.gz").write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        entries.append({"name": name, "file": f"{name}.tar.gz", "size": len(data), "sha256": sha256})
    sums = "".join(f"{one['sha256']}  {one['file']}\n" for one in entries)
    (folder / "SHA256SUMS").write_text(sums, encoding="ascii")
    (folder / "RESTORE.md").write_text("# Restore\n", encoding="ascii")
    at = datetime.fromtimestamp(int(started), UTC).isoformat()
    said = {
        "id": folder.name,
        "tier": tier,
        "engine": {"kind": engine},
        "started": at,
        "ended": at,
        "collections": entries,
        "failed": [{"name": name, "why": "it was locked"} for name in failed],
    }
    (folder / "manifest.json").write_text(json.dumps(said), encoding="ascii")
    return folder


def tree(root: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with what the files hold; links are not followed."""
    found: dict[str, bytes | None] = {}
    for above, folders, files in os.walk(root):
        here = Path(above)
        found |= {str((here / one).relative_to(root)): None for one in folders}
        found |= {
            str((here / one).relative_to(root)): b"-> " + os.readlink(here / one).encode()
            if (here / one).is_symlink()
            else (here / one).read_bytes()
            for one in files
        }
    return found
