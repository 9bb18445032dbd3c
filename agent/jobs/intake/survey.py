"""Find how a location differs from the catalogue, without reading a file."""

import os
import re
import sqlite3
import time

from msgspec import Struct, field
from msgspec.structs import replace

from agent.adapters import host
from agent.adapters.ledger import catalogue
from agent.adapters.ledger.catalogue import Key
from agent.adapters.shelf import look
from agent.rules import checksums, settle
from agent.rules.archive import Signature
from agent.rules.storage import Root
from agent.rules.words import raw


class Place(Struct, frozen=True):
    """One location: its name, its folder, and the mount it is expected on."""

    name: str
    path: str
    mount: str | None = None


class Survey(Struct, frozen=True):
    """How one look at a location differs from the catalogue. Nothing in it has been read yet.

    `odd` maps what is named like an archive to what it is instead, `unread` folders to why they
    could not be listed. `whole` is whether every folder was looked at.
    """

    place: Place
    root: Root
    whole: bool
    changed: list[tuple[Key, Signature]] = field(default_factory=list)
    gone: list[Key] = field(default_factory=list)
    odd: dict[Key, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    files: int = 0
    seconds: float = 0.0


def survey(db: sqlite3.Connection, place: Place, names: re.Pattern[str], only: set[str] | None = None) -> Survey:
    """Compare a location, or just the folders `only` and what is below them, with the catalogue.

    Reads no file. `db` may be a reader's connection. Where the root cannot be used the survey says so in
    `root`, and nothing is reported as gone; nor is it where the root became another one meanwhile.
    """
    began = time.perf_counter()
    root = host.root(place.path, place.mount)
    if root.trouble:
        return Survey(place, root, only is None, seconds=time.perf_counter() - began)
    found = Survey(place, root, only is None)
    real = os.path.realpath(place.path)
    seen: set[str] = set()
    files = 0
    for folder, listing in look.walk(real, only):
        seen.add(folder)
        if listing.error and not listing.gone:
            found.unread[folder] = listing.error
            continue
        files += len(listing.files)
        _compare(db, found, folder, listing, names, real)
    for folder in _forgotten(db, place.name, seen, only):
        if not any(folder.startswith(f"{one}/") or not one for one in found.unread):
            _compare(db, found, folder, look.Listing(), names, real)
    after = host.root(place.path, place.mount)
    if replace(after, read_only=root.read_only) != root:
        return Survey(place, after, whole=False, seconds=time.perf_counter() - began)
    return Survey(
        place,
        root,
        only is None,
        found.changed,
        found.gone,
        found.odd,
        found.unread,
        files,
        time.perf_counter() - began,
    )


def _compare(
    db: sqlite3.Connection, found: Survey, folder: str, listing: look.Listing, names: re.Pattern[str], root: str
) -> None:
    location = found.place.name
    known = catalogue.known(db, location, folder)
    new = {
        name: Signature(*signature)
        for name, *signature in listing.files - known
        if not name.startswith(".") and (names.match(name) or checksums.is_checksum_file(name))
    }
    if new:
        new |= _came_meanwhile(folder, listing, [name for name in new if names.match(name)], root)
    found.changed.extend((Key(location, folder, name), signature) for name, signature in new.items())
    odd = {**listing.odd, **dict.fromkeys(listing.folders, "a folder")}
    other = known - listing.files
    here = {one[0] for one in listing.files} if other else set()
    for name, *_ in other:
        if name not in here and (name in odd or not look.exists(root, folder, name)):
            found.gone.append(Key(location, folder, name))
    for name, kind in odd.items():
        if names.match(name):
            found.odd[Key(location, folder, name)] = kind


def _came_meanwhile(folder: str, listing: look.Listing, archives: list[str], root: str) -> dict[str, Signature]:
    """Checksum files of new archives that the listing does not have.

    A folder is not listed in one moment: of a checksum file and its archive that come one after the other, it may
    have only the archive, which would then be judged as if nothing were promised.
    """
    listed = {one[0] for one in listing.files} | listing.odd.keys() | set(listing.folders)
    wanted = {one for name in archives for one in settle.promisers(name)} - listed
    seen = {name: look.signature(os.path.join(root, raw(folder), raw(name))) for name in wanted}
    return {name: signature for name, signature in seen.items() if signature is not None}


def _forgotten(db: sqlite3.Connection, location: str, seen: set[str], only: set[str] | None) -> set[str]:
    """Known folders that the walk did not come past: they are gone, with all that was in them."""
    known = catalogue.folders(db, location) - seen
    if only is None:
        return known
    return {one for one in known if any(one == top or one.startswith(f"{top}/") or not top for top in only)}
