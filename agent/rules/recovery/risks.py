"""Say what speaks against a restore, or is worth knowing before it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from agent.rules import advisories
from agent.rules.archive import ARRIVED, RESTORABLE, rank
from agent.rules.recovery.scene import Earlier, Options, Scene, There, Wanted
from agent.rules.words import count, size

_VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?")
# What is known of versions and concerns who restores.
_ABOUT_RESTORES = frozenset({"qdrant#9930", "qdrant#9575", "qdrant#9105"})
_ABOUT_CLUSTERS = frozenset({"qdrant#9537"})


class Risk(Struct, frozen=True, kw_only=True):
    """What speaks against a restore, or is worth knowing before it.

    Attributes:
        what: in words.
        collection: that it is about; empty for all of them.
        stops: the exit code with which it ends there; 0 if it does not.
        unless: the option that goes on all the same; empty if none does.
        hint: what to do about it.
        warns: whether it can do harm; else it is only good to know.
    """

    what: str
    collection: str = ""
    stops: int = 0
    unless: str = ""
    hint: str = ""
    warns: bool = True


def gate(engine: Mapping[str, Any], target: str, *, force: bool) -> Risk | None:
    """What is to be said about restoring into a server of version `target`; None if nothing is.

    Qdrant promises that an archive is read by the minor version that made it, and by the next one.

    Args:
        engine: of the manifest, which says what made the backup.
        target: what the server says it is.
        force: whether another version than these is accepted.
    """
    made = str(engine.get("version") or "")
    before, after = _numbers(made), _numbers(target)
    if engine.get("kind") != "qdrant" or before is None:
        by = f"by {engine.get('kind') or 'an unknown program'}{f' {made}' if made else ''}"
        return Risk(what=f"it was made {by}, so whether Qdrant {target} reads it is not known before it is tried")
    if after is None:
        return Risk(
            what=f"the server gives {target[:40]!r} as its version: whether it reads a backup of {made} is open"
        )
    if before[0] == after[0] and after[1] - before[1] in {0, 1}:
        if after >= before:
            return None
        return Risk(what=f"it was made by {made}, and the server is older, {target}: it may not know a newer format")
    newer = after > before
    steps = "Restore into a server of that minor version and upgrade it step by step" if newer else "Upgrade the server"
    return Risk(
        what=f"it was made by Qdrant {made}, and the server is {target}: only the same minor version and the next one"
        " are known to read it",
        stops=0 if force else 2,
        unless="--force",
        hint=f"{steps}, or go on with --force: what does not read is told, not hidden.",
    )


def proof(wanted: Wanted, options: Options, *, replaces: bool) -> list[Risk]:
    """What is proved of the archives of a collection; `replaces` is whether what is there is given up for it."""
    name, found = wanted.collection, []
    skipped = 0 if options.skip_proof else 2
    if wanted.bad:
        hint = "Take another backup: `snapward list`. If there is none, --skip-proof tries it all the same."
        found.append(Risk(what=wanted.bad, collection=name, stops=skipped, unless="--skip-proof", hint=hint))
    elif replaces and not wanted.rehearsed:
        what = "its archive was not rehearsed, and what is there would be given up for it"
        hint = "`snapward drill` rehearses it; or restore beside what is there, with --as."
        found.append(Risk(what=what, collection=name, stops=skipped, unless="--skip-proof", hint=hint))
    elif rank(wanted.level) < rank(RESTORABLE):
        what = f"its archive is proved {wanted.level}; no engine has opened it yet"
        found.append(Risk(what=what, collection=name, warns=wanted.level == ARRIVED))
    if not wanted.subject.described:
        what = "no manifest says what it is: its name is drawn from the file's, and nothing else of it is known"
        found.append(Risk(what=what, collection=name))
    if options.skip_proof:
        found.append(Risk(what="its archive is not proved again before it is sent", collection=name))
    return found


def taken(wanted: Wanted, there: There, options: Options) -> list[Risk]:
    """What it means that there is something where a collection is to go, which no earlier attempt has left there."""
    name, target = wanted.collection, wanted.target
    if there.alias_of:
        what = f"{target} is an alias on the server, of {there.alias_of}: no collection can have that name"
        return [Risk(what=what, collection=name, stops=64, hint="Restore under another name, with --as NEW.")]
    if there.empty:
        return []
    if not options.replace:
        hint = "--as NEW restores beside it, under another name; --replace over it, after a backup of what is there."
        what = f"{target} is there and {has(there)}"
        return [Risk(what=what, collection=name, stops=64, unless="--replace", hint=hint)]
    found = [Risk(what=f"{target} {has(there)}; it is backed up first, then replaced", collection=name)]
    if there.points is not None and wanted.high is not None and there.points > wanted.high:
        what = f"it has {there.points - wanted.high:,} points more than the backup: what was written since is given up"
        found.append(Risk(what=what, collection=name))
    if there.changes:
        what = f"it is removed and made anew, because its settings are others: {'; '.join(there.changes)}"
        found.append(Risk(what=what, collection=name))
    return found


def resumed(wanted: Wanted, there: There, earlier: Earlier) -> Risk:
    """What it means that an attempt broke off there."""
    kept = f"; what was there before is in backup {earlier.pre_restore}" if earlier.pre_restore else ""
    what = f"a restore of {wanted.target} broke off, which goes on; it {has(there)} now{kept}"
    return Risk(what=what, collection=wanted.collection)


def has(there: There) -> str:
    """How many points there are, in words."""
    if there.points is None:
        return f"does not tell how many points it has: {there.why}"
    return f"has {count(there.points, 'point')}"


def twice(wanted: Sequence[Wanted]) -> list[Risk]:
    """Targets that more than one collection would become."""
    targets = [one.target for one in wanted]
    hint = "Give each a name of its own with --as."
    return [
        Risk(what=f"two collections would become {one}", stops=64, hint=hint)
        for one in sorted({one for one in targets if targets.count(one) > 1})
    ]


def known(scene: Scene) -> list[Risk]:
    """What is known of the server's version that concerns who restores."""
    about = _ABOUT_RESTORES | (_ABOUT_CLUSTERS if scene.peers else frozenset())
    found = [one for one in advisories.known(scene.version) or () if one.id in about]
    told = [f"Qdrant {scene.version}: {one.why} ({one.id}, fixed in {one.fixed_in})" for one in found]
    return [Risk(what=one, warns=False) for one in told]


def missing(failed: Mapping[str, str], options: Options) -> list[Risk]:
    """Collections that the backup should have and has not."""
    hint = "Name those that you want with --collection, or take what there is with --skip-proof."
    stops = 0 if options.skip_proof else 2
    return [
        Risk(
            what=f"the backup is incomplete, {name} is not in it: {why}", stops=stops, unless="--skip-proof", hint=hint
        )
        for name, why in failed.items()
    ]


def silent(scene: Scene) -> list[Risk]:
    """Peers that take no part."""
    return [Risk(what=one, hint="Name every peer in engine.url and engine.peers.") for one in scene.silent]


def room(largest: int, scene: Scene, options: Options) -> list[Risk]:
    """Whether the server's disks have room for the largest collection's archive, and for what it unpacks of it."""
    if not largest:
        return []
    if not scene.rooms:
        what = f"the server needs about {size(2 * largest)} of free space; its disks are not seen from here"
        return [Risk(what=what, warns=False)]
    stops = 0 if options.force else 2
    return [
        Risk(
            what=f"{folder} has {size(free)} free, and the largest collection needs {size(largest)} there",
            stops=stops,
            unless="--force",
            hint="Free space there first.",
        )
        for folder, free in scene.rooms.items()
        if free < largest
    ]


def _numbers(version: str) -> tuple[int, int, int] | None:
    found = _VERSION.match(version.strip())
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None
