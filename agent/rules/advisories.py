"""What is known of Qdrant's versions that matters to who backs them up, and their security advisories.

Read in Qdrant's repository up to 1.19.0 (the first tag that contains each fix) and in its advisories up to 1.19.2.
"""

import re
from collections.abc import Iterable

from msgspec import Struct

from agent.rules.finding import Finding, Level, ok
from agent.rules.words import count

NEWEST_READ = "1.19.2"

_VERSION = re.compile(r"\s*v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(-[\w.-]+)?(?:\+[\w.-]+)?\s*", re.ASCII)
_TOLD = 3

# Major, minor, patch, and 0 for what comes before that release, such as 1.19.1-dev.
Version = tuple[int, int, int, int]


class Advisory(Struct, frozen=True):
    """Something that is known of a range of versions.

    Attributes:
        id: GHSA or CVE, or an issue or pull request of Qdrant.
        level: how bad it is for who has backups made.
        since: first version that has it; empty for all before `fixed_in`.
        fixed_in: first version without it.
        why: what can happen.
        hint: what helps until then; empty where only an upgrade does.
    """

    id: str
    level: Level
    since: str
    fixed_in: str
    why: str
    hint: str = ""


KNOWN = (
    Advisory(
        "qdrant#9930", Level.WARNING, "1.17.0", "1.19.0",
        "right after a restore or a restart, points that were confirmed can be missing for a while",
        "Count only when the update queue is empty.",
    ),
    Advisory(
        "qdrant#9575", Level.WARNING, "", "1.19.0",
        "a restore replays the log, and points that were deleted by a filter can come back",
    ),
    Advisory(
        "qdrant#9105", Level.WARNING, "1.18.0", "1.19.0",
        "a restore can lose points that were written shortly before a named vector was deleted",
    ),
    Advisory(
        "qdrant#9537", Level.WARNING, "", "1.19.0",
        "the clocks in a snapshot can be ahead of its data: in a cluster, a restored replica can miss updates",
        "Compare the counts of all replicas after a restore.",
    ),
    Advisory(
        "GHSA-3gph-6c29-p29v", Level.WARNING, "1.18.0", "1.19.2",
        "with enforce_internal_auth, peers take a read-only key for one that may write",
        "Let nobody but the peers reach the internal port (6335).",
    ),
    Advisory(
        "GHSA-p9c2-9vq2-gxh8", Level.WARNING, "1.9.3", "1.19.0",
        "with snapshots in S3, who may use one collection can read and delete every object of the bucket",
        "Give the server a bucket of its own.",
    ),
    Advisory(
        "qdrant#9254", Level.WARNING, "", "1.18.2",
        "requests with a crafted path below /dashboard are not asked for the API key",
    ),
    Advisory(
        "qdrant#9268", Level.WARNING, "", "1.18.2",
        "a malicious snapshot makes the server read foreign memory, or crash",
        "Restore nothing from others.",
    ),
    Advisory(
        "qdrant#9239", Level.WARNING, "1.12.0", "1.18.2",
        "a streamed shard snapshot that nobody goes on reading locks the shard",
    ),
    Advisory(
        "GHSA-3v92-w72v-j994", Level.WARNING, "", "1.18.1",
        "who has the read-only key can fill the disk by uploading snapshots",
    ),
    Advisory(
        "qdrant#8341", Level.WARNING, "", "1.17.1",
        "who may restore can have any file of the server's machine read, by file://",
    ),
    Advisory(
        "qdrant#8131", Level.WARNING, "1.15.5", "1.17.0",
        "writes wait for as long as a snapshot is being made",
        "Let backups run when little is written.",
    ),
    Advisory(
        "qdrant#7674", Level.CRITICAL, "", "1.16.2",
        "the write-ahead log can corrupt data when the server restarts",
    ),
    Advisory(
        "qdrant#7551", Level.WARNING, "", "1.16.1",
        "collections made long ago may still be in RocksDB, which servers from 1.18 on cannot restore",
    ),
    Advisory(
        "GHSA-f632-vm87-2m2f", Level.WARNING, "1.9.3", "1.16.0",
        "who has the read-only key can append to any file the server can write, by /logger (CVE-2026-25628)",
        "Do not let the server write its own configuration.",
    ),
    Advisory(
        "qdrant#7298", Level.CRITICAL, "", "1.15.5",
        "making a snapshot while points are updated can corrupt these points",
        "Let backups run when nothing is written.",
    ),
    Advisory(
        "qdrant#7248", Level.WARNING, "", "1.15.5",
        "points that were just written are invisible for a moment while a snapshot is made",
    ),
    Advisory(
        "qdrant#4943", Level.WARNING, "", "1.12.0",
        "the log is archived with its empty space: 64 MiB for each shard, even an empty one",
    ),
    Advisory(
        "qdrant#4402", Level.WARNING, "1.9.0", "1.9.5",
        "making a snapshot while the optimizer runs can lock the collection for good",
        "A restart of the server frees it.",
    ),
    Advisory(
        "CVE-2024-3829", Level.CRITICAL, "", "1.9.0",
        "a snapshot with links in it makes the server read or write any file (GHSA-7m75-x27w-r52r)",
        "Restore nothing from others.",
    ),
    Advisory(
        "CVE-2024-3078", Level.WARNING, "", "1.8.3",
        "the name of a full snapshot can lead to any file of the server's machine",
    ),
    Advisory(
        "CVE-2024-2221", Level.CRITICAL, "", "1.8.0",
        "the name of an uploaded snapshot can lead to any file, which is overwritten",
    ),
    Advisory(
        "qdrant#2840", Level.WARNING, "", "1.8.0",
        "the server has no checksums of its snapshots, so a download cannot be compared with anything",
    ),
)  # fmt: skip


def known(version: str) -> tuple[Advisory, ...] | None:
    """What is known of a version, worst first; None if it cannot be told which version that is."""
    at = _parsed(version)
    if at is None:
        return None
    found = (one for one in KNOWN if (_parsed(one.since) or at) <= at < (_parsed(one.fixed_in) or at))
    return tuple(sorted(found, key=lambda one: -one.level))


def finding(version: str) -> Finding:
    """The finding about a server's version, as `GET /` gives it."""
    found = known(version)
    if found is None:
        return Finding(
            "server_version",
            "server",
            Level.WARNING,
            f"the server gives {version[:40]!r} as its version, so what is known of it could not be looked up",
            "See what `GET /` answers: is it a Qdrant?",
        )
    if not found:
        return ok("server_version", "server", f"nothing speaks against Qdrant {version}{_beyond(version)}")
    return Finding(
        "server_version",
        "server",
        found[0].level,
        f"Qdrant {version} has {count(len(found), 'known problem')}: {_told(found)}",
        _advice(found),
    )


def _told(found: tuple[Advisory, ...]) -> str:
    words = [f"{one.why} ({one.id}, fixed in {one.fixed_in})" for one in found[:_TOLD]]
    rest = ", ".join(one.id for one in found[_TOLD:])
    return "; ".join(words) + (f"; and {rest}" if rest else "")


def _advice(found: tuple[Advisory, ...]) -> str:
    newest = max(found, key=lambda one: _parsed(one.fixed_in) or ()).fixed_in
    upgrade = f"Upgrade to {newest} or later, one minor version at a time, and make a backup first."
    return " ".join([upgrade, *_once(one.hint for one in found[:_TOLD] if one.hint)])


def _once(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _beyond(version: str) -> str:
    """Words about a version that is newer than all that was read about."""
    if (_parsed(version) or ()) <= (_parsed(NEWEST_READ) or ()):
        return ""
    return f", but it is newer than the {NEWEST_READ} up to which Qdrant's advisories were read"


def _parsed(version: str) -> Version | None:
    found = _VERSION.fullmatch(version)
    if found is None:
        return None
    major, minor, patch, before = found.groups()
    return int(major), int(minor), int(patch or 0), 0 if before else 1
