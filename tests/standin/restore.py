"""Restoring a collection from an archive: uploaded, in the snapshots folder, or at another server."""

import hashlib
import json
import re
import shutil
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from standin.answers import Refused, internal, wrong_input
from standin.faults import Fault, Faults
from standin.jobs import Job, Jobs
from standin.snapshots import Snapshots
from standin.store import Store, check_name

if TYPE_CHECKING:
    from standin.collection import Collection

_PRIORITIES = ("no_sync", "snapshot", "replica")


class Restores:
    """What restores the collections of one server."""

    def __init__(
        self, snapshots: Snapshots, store: Store, peer: int, faults: Faults, restart: Callable[[float | None], None]
    ) -> None:
        self._snapshots, self._store, self._peer, self._faults = snapshots, store, peer, faults
        self._restart = restart
        self.jobs = Jobs(faults)

    def from_upload(self, collection: str, options: Mapping[str, str], upload: Path, name: str) -> Job:
        """Restore from a file, which then stays in the folder of the collection's snapshots."""
        check_name(collection)
        _check(options)
        return self.jobs.start(collection, partial(self._uploaded, options, upload, name))

    def from_location(self, collection: str, asked: Mapping[str, Any]) -> Job:
        """Restore from a URL, `http://` or `file://`."""
        check_name(collection)
        return self.jobs.start(collection, partial(self._located, asked))

    def _uploaded(self, options: Mapping[str, str], upload: Path, name: str, job: Job) -> bool:
        checksum = _checksum(upload)
        if options.get("checksum", checksum).lower() != checksum:
            upload.unlink()
            # The real server swaps the two as well.
            raise Refused(400, f"Checksum mismatch: expected {checksum}, actual {options['checksum']}")
        kept = self._snapshots.folder / job.collection / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(upload, kept)
        return self._restore("upload", job, kept)

    def _located(self, asked: Mapping[str, Any], job: Job) -> bool:
        at = urlsplit(asked["location"])
        if at.scheme == "file":
            archive = Path(unquote(at.path))
            home = self._snapshots.folder.resolve()
            if not archive.exists():
                raise Refused(400, f'Bad request: Snapshot file "{archive}" does not exist')
            if not archive.resolve().is_relative_to(home):
                raise Refused(403, f'Forbidden: Snapshot file path must be inside the snapshots directory "{home}"')
            return self._checked(asked, job, archive)
        if at.scheme not in {"http", "https"}:
            raise Refused(400, f"Bad request: URL {asked['location']} with scheme {at.scheme} is not supported")
        archive = self._snapshots.draft()
        try:
            _download(asked["location"], asked.get("api_key"), archive)
            return self._checked(asked, job, archive)
        finally:
            archive.unlink(missing_ok=True)

    def _checked(self, asked: Mapping[str, Any], job: Job, archive: Path) -> bool:
        checksum = _checksum(archive)
        if (wanted := asked.get("checksum") or checksum) != checksum:
            raise wrong_input(f"Snapshot checksum mismatch: expected {wanted}, got {checksum}")
        return self._restore("recover", job, archive)

    def _restore(self, operation: str, job: Job, archive: Path) -> bool:
        how = self._faults.take(operation, job.collection, "linger", "hollow", "partial", "die")
        if "linger" in how:
            self._faults.pause(how["linger"].seconds, job.lost)
        folder = self._snapshots.draft()
        try:
            unpack(archive, folder)
            config = json.loads((folder / "config.json").read_bytes())
            schema = json.loads((folder / "payload_index.json").read_bytes())["schema"]
            shards = {int(one.name): one for one in folder.iterdir() if one.name.isdigit()}
            held = {number: one for number, one in shards.items() if (one / "segments").is_dir()}
            missing = sorted(shards.keys() - held.keys())
            if missing and not self._store.distributed:
                text = f"Can't restore snapshot in local mode with missing data at shard: {shards[missing[0]]}"
                raise internal(text)
            collection = self._store.take_over(job.collection, config)
            if "die" in how:
                self._die(how["die"], job, collection)
            if not job.lost.is_set() and "hollow" not in how:
                collection.restore(self._peer, held, schema)
            if "partial" in how:
                _keep(collection, self._peer, how["partial"].after)
        except (tarfile.TarError, ValueError) as bad:
            raise internal("File IO error: Malformed tar archive, reached unknown entry") from bad
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return True

    def _die(self, how: Fault, job: Job, collection: "Collection") -> None:
        """Let the server die, from a thread of its own: this one would wait for itself."""
        if how.at == "half":
            collection.broken |= {(number, peer) for number, peers in collection.placement.items() for peer in peers}
        threading.Thread(target=self._restart, args=(how.seconds,)).start()
        job.lost.wait()


def _keep(collection: "Collection", peer: int, most: int) -> None:
    """Lose all points but so many."""
    kept = [one["id"] for one in collection.scroll(peer, {"limit": most})[0]] if most else []
    collection.delete({"filter": {"must_not": [{"has_id": kept}]}})


def unpack(archive: Path, folder: Path) -> None:
    """Extract an archive to folders of shards as the engine wants them."""
    with tarfile.open(archive) as outer:
        for entry in outer:
            match = re.fullmatch(r"(\d+/segments/[^/]+)\.tar", entry.name)
            if match is None:
                outer.extract(entry, folder, filter="data")
                continue
            with tarfile.open(fileobj=outer.extractfile(entry)) as inner:
                for file in inner:
                    file.name = file.name.removeprefix("snapshot/files/")
                    inner.extract(file, folder / match[1], filter="data")


def _check(options: Mapping[str, str]) -> None:
    priority = options.get("priority", "snapshot")
    if priority not in _PRIORITIES:
        known = ", ".join(f"`{one}`" for one in _PRIORITIES)
        raise Refused(
            400, f"Deserialize error in query parameters: unknown variant `{priority}`, expected one of {known}"
        )
    given = options.get("checksum", "0" * 64)
    if len(given) != 64:
        facts = f'{{"length": Number({len(given)}), "expected_length": Number(64), "value": String("{given}")}}'
        text = f"[checksum: Validation error: invalid_sha256_hash [{facts}]]"
        raise Refused(422, f"Validation error in query parameters: {text}")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str, api_key: str | None, target: Path) -> None:
    request = urllib.request.Request(url, headers={"api-key": api_key} if api_key else {})  # noqa: S310 - only http
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request) as answer, target.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except urllib.error.HTTPError as bad:
        bad.close()
        raise wrong_input(f"Failed to download tar from {url}: status - {bad.code} {bad.reason}") from bad
    except OSError as bad:
        raise internal(f"Http request error: error sending request for url ({url})") from bad
