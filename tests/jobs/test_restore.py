"""The parts of a restore: archives are proved again, and the server's own files put back."""

import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tars import collection, segment

from agent.adapters.shelf import read
from agent.errors import NoRights, Refused, TryLater
from agent.jobs.restore import server_files
from agent.jobs.restore.prove import Proved, prove
from agent.jobs.restore.server_files import Files
from agent.rules.archive import Reading
from agent.rules.manifest import CollectionEntry, FileEntry
from agent.rules.recovery.plan import Step
from agent.rules.recovery.scene import Wanted
from agent.rules.subjects import Piece, Spot, Subject

FILE = "articles.snapshot.gz"
LOCATIONS = ("primary", "secondary")


@pytest.fixture(scope="module")
def raw() -> bytes:
    """A whole snapshot of a collection."""
    return collection(segment())


def laid(folder: Path, data: bytes) -> Path:
    for location in LOCATIONS:
        (folder / location).mkdir()
        (folder / location / FILE).write_bytes(data)
    return folder


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def step(raw: bytes, packed: bytes, *, recorded: bool = True) -> Step:
    spots: tuple[Spot, ...] = tuple((one, "") for one in LOCATIONS)
    piece = Piece(file=FILE, spots=spots, sha256=sha256(packed), size=len(packed))
    subject = Subject(
        collection="articles", backup="x", tier="daily", taken=0.0, spots=frozenset(spots), pieces=(piece,)
    )
    more: dict[str, Any] = {"raw_size": len(raw), "raw_sha256": sha256(raw)} if recorded else {}
    entry = CollectionEntry(name="articles", file=FILE, size=len(packed), sha256=sha256(packed), **more)
    return Step(wanted=Wanted(subject=subject, target="articles", entries=(entry,), level="intact"))


def proved(
    folder: Path,
    one: Step,
    known: dict[str, Reading] | None = None,
    *,
    skip: bool = False,
    stopping: Callable[[], bool] = lambda: False,
    heard: list[int] | None = None,
) -> Proved:
    found = prove(
        [one],
        lambda spot, file: str(folder / spot[0] / file),
        known or {},
        skip=skip,
        progress=(heard if heard is not None else []).append,
        stopping=stopping,
    )
    return found["articles", FILE]


def test_a_sound_archive_is_read_to_its_end(tmp_path: Path, raw: bytes) -> None:
    packed = gzip.compress(raw)
    heard: list[int] = []
    found = proved(laid(tmp_path, packed), step(raw, packed), heard=heard)
    assert (found.location, found.raw_size, found.raw_sha256) == ("primary", len(raw), sha256(raw))
    assert (sum(heard), found.notes) == (len(packed), ())


def test_what_nobody_has_written_down_is_measured(tmp_path: Path, raw: bytes) -> None:
    packed = gzip.compress(raw)
    found = proved(laid(tmp_path, packed), step(raw, packed, recorded=False))
    assert (found.raw_size, found.raw_sha256) == (len(raw), sha256(raw))


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a flipped byte": (lambda data: data[:300] + bytes([data[300] ^ 1]) + data[301:], "corrupt: SHA-256 is"),
    "cut": (lambda data: data[:-100], "truncated"),
    "something else": (lambda _: gzip.compress(b"not this"), "truncated"),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_bad_copy_is_passed_over_and_told(tmp_path: Path, raw: bytes, how: str) -> None:
    damage, why = DAMAGES[how]
    packed = gzip.compress(raw)
    laid(tmp_path, packed)
    (tmp_path / "primary" / FILE).write_bytes(damage(packed))
    found = proved(tmp_path, step(raw, packed))
    assert found.location == "secondary"
    assert found.notes[0].startswith(f"articles is read from secondary; the copy in primary: {why}")


def test_without_a_sound_copy_all_is_refused_with_every_reason(tmp_path: Path, raw: bytes) -> None:
    packed = gzip.compress(raw)
    laid(tmp_path, packed)
    (tmp_path / "primary" / FILE).unlink()
    (tmp_path / "secondary" / FILE).write_bytes(packed[:-1])
    with pytest.raises(Refused, match=r"no copy of articles.snapshot.gz is sound: primary: is gone.*secondary: trunc"):
        proved(tmp_path, step(raw, packed))


@pytest.mark.parametrize("content", [b"no tar at all" * 100, b""])
def test_what_is_no_snapshot_is_refused_though_its_bytes_are_right(tmp_path: Path, content: bytes) -> None:
    packed = gzip.compress(content)
    with pytest.raises(Refused, match=r"no Qdrant snapshot|malformed"):
        proved(laid(tmp_path, packed), step(content, packed))


def test_a_snapshot_that_is_not_whole_is_refused_though_its_bytes_are_right(tmp_path: Path, raw: bytes) -> None:
    cut = raw[: len(raw) // 2 // 512 * 512]
    packed = gzip.compress(cut)
    with pytest.raises(Refused, match="malformed"):
        proved(laid(tmp_path, packed), step(cut, packed))


def test_content_that_was_looked_through_before_is_only_hashed(tmp_path: Path, raw: bytes) -> None:
    packed = gzip.compress(raw)
    laid(tmp_path, packed)
    reading, _ = read.read(str(tmp_path / "primary" / FILE), None)
    assert reading.proved
    known = {sha256(packed): reading}
    assert proved(tmp_path, step(raw, packed), known).location == "primary"
    other = gzip.compress(raw + b"\0" * 512)
    (tmp_path / "primary" / FILE).write_bytes(other[: len(packed)].ljust(len(packed), b"\0"))
    assert proved(tmp_path, step(raw, packed), known).location == "secondary", "other bytes are other content"


def test_without_proof_the_first_copy_is_taken_as_it_is(tmp_path: Path, raw: bytes) -> None:
    packed = gzip.compress(raw)
    laid(tmp_path, packed[:-5])
    heard: list[int] = []
    found = proved(tmp_path, step(raw, packed), skip=True, heard=heard)
    assert (found.location, found.raw_size, heard) == ("primary", len(raw), [])


def test_asked_to_stop_it_stops_while_it_proves(tmp_path: Path, raw: bytes) -> None:
    packed = gzip.compress(raw)
    with pytest.raises(TryLater, match="nothing was changed"):
        proved(laid(tmp_path, packed), step(raw, packed), stopping=lambda: True)


# The server's own files.


def packed_files(folder: Path, members: dict[str, tarfile.TarInfo | bytes]) -> tuple[str, FileEntry]:
    """An archive of these members, and what a manifest says of it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as out:
        for name, one in members.items():
            info = one if isinstance(one, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            content = one if isinstance(one, bytes) else b""
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    path = folder / "server-config.tar.gz"
    path.write_bytes(data.getvalue())
    return str(path), FileEntry(file=path.name, size=len(data.getvalue()), sha256=sha256(data.getvalue()))


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "qdrant").mkdir()
    (tmp_path / "outside").mkdir()
    return tmp_path


def unpacked(home: Path, members: dict[str, tarfile.TarInfo | bytes]) -> Files:
    path, promised = packed_files(home, members)
    return server_files.unpack(path, promised, [f"{home}/qdrant"])


def name(home: Path, inside: str) -> str:
    return f"{home}/{inside}".lstrip("/")


def test_a_file_keeps_its_rights_and_the_old_one_lies_beside(home: Path) -> None:
    here = home / "qdrant" / "config.yaml"
    here.write_text("new and wrong")
    here.chmod(0o640)
    found = unpacked(home, {name(home, "qdrant/config.yaml"): b"right", name(home, "qdrant/sub/more.yaml"): b"more"})
    assert [one.found for one in found.files] == ["other", "new"]
    assert len(server_files.put_back(found.files, "20261122T020000Z")) == 2
    assert (here.read_text(), stat.S_IMODE(here.stat().st_mode)) == ("right", 0o640)
    assert (home / "qdrant" / "config.yaml.before-20261122T020000Z").read_text() == "new and wrong"
    assert (home / "qdrant" / "sub" / "more.yaml").read_text() == "more"
    again = unpacked(home, {name(home, "qdrant/config.yaml"): b"right"})
    assert again.other == ()


def test_of_two_attempts_the_oldest_file_is_kept(home: Path) -> None:
    here = home / "qdrant" / "config.yaml"
    for text in ("first", "second"):
        here.write_text(text)
        server_files.put_back(unpacked(home, {name(home, "qdrant/config.yaml"): b"right"}).files, "x")
    assert (home / "qdrant" / "config.yaml.before-x").read_text() == "first"


HOSTILE: dict[str, dict[str, tarfile.TarInfo | bytes]] = {
    "outside": {"{home}/outside/x": b"evil"},
    "up": {"{home}/qdrant/../outside/x": b"evil"},
    "root": {"etc/cron.d/x": b"evil"},
    "device": {"{home}/qdrant/null": special(tarfile.CHRTYPE)},
    "fifo": {"{home}/qdrant/pipe": special(tarfile.FIFOTYPE)},
    "through a link": {"{home}/qdrant/away/x": b"evil"},
    "over a link": {"{home}/qdrant/link": b"evil"},
    "over a folder": {"{home}/qdrant/folder": b"evil"},
    "twice": {"{home}/qdrant/x": b"good", "{home}/qdrant/./x": b"evil"},
}


@pytest.mark.parametrize("how", HOSTILE)
def test_what_would_lead_out_or_is_no_file_is_refused_with_all_the_rest(home: Path, how: str) -> None:
    (home / "qdrant" / "away").symlink_to(home / "outside")
    (home / "qdrant" / "link").symlink_to(home / "outside" / "x")
    (home / "qdrant" / "folder").mkdir()
    members = {one.format(home=str(home).lstrip("/")): content for one, content in HOSTILE[how].items()}
    with pytest.raises(Refused, match="not put back"):
        unpacked(home, {name(home, "qdrant/fine.yaml"): b"fine", **members})
    assert list((home / "outside").iterdir()) == []


def test_links_are_left_as_they_are(home: Path) -> None:
    found = unpacked(home, {name(home, "qdrant/link"): special(tarfile.SYMTYPE, "/etc/shadow")})
    assert (found.files, found.links) == ((), (f"{home}/qdrant/link",))


@pytest.mark.parametrize("kept", [slice(0, -1), slice(1, None), slice(0)], ids=["cut", "beheaded", "empty"])
def test_an_archive_of_files_that_is_not_what_was_promised_is_refused(home: Path, kept: slice) -> None:
    path, promised = packed_files(home, {name(home, "qdrant/x"): b"fine"})
    Path(path).write_bytes(Path(path).read_bytes()[kept])
    with pytest.raises(Refused, match="another SHA-256"):
        server_files.unpack(path, promised, [f"{home}/qdrant"])


def test_what_is_no_archive_is_refused_though_its_bytes_are_right(home: Path) -> None:
    path = home / "server-config.tar.gz"
    for data in (b"no gzip", gzip.compress(b"no tar" * 1000)):
        path.write_bytes(data)
        promised = FileEntry(file=path.name, size=len(data), sha256=sha256(data))
        with pytest.raises(Refused, match="is no archive of files"):
            server_files.unpack(str(path), promised, [f"{home}/qdrant"])


def test_who_may_not_write_is_told_before_anything_is_stopped(home: Path) -> None:
    found = unpacked(home, {name(home, "qdrant/config.yaml"): b"right"})
    (home / "qdrant").chmod(0o500)
    before = os.geteuid()
    try:
        if before == 0:
            os.seteuid(65534)  # root may write everything
        with pytest.raises(NoRights, match="cannot be put back by this user"):
            server_files.writable(found.other, "server-config.tar.gz")
    finally:
        os.seteuid(before)
        (home / "qdrant").chmod(0o700)
