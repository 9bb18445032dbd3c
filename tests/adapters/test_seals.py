"""What archives were when they were proved is remembered, also from before that was written down."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.adapters import ledger
from agent.adapters.ledger import MIGRATIONS, catalogue, connect, seals
from agent.adapters.ledger.catalogue import Folder, Key
from agent.rules.archive import Promise, Reading, Signature, State, Verdict
from agent.rules.tamper import Sealed

SEEN = Signature(7, 5, 3, 4)
GOOD = Key("primary", "daily/A", "good.snapshot")
BAD = Key("primary", "daily/A", "bad.snapshot")
MANIFEST = Key("primary", "daily/A", "manifest.json")


def test_archives_that_were_proved_by_an_older_version_are_known_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "MIGRATIONS", MIGRATIONS[:3])
        with closing(connect(str(tmp_path), create=True)) as db:
            for key, state in ((GOOD, State.GOOD), (BAD, State.CORRUPT)):
                verdict = Verdict(state, "intact", "")
                recorded(db, key, verdict)
            catalogue.record_sums(db, MANIFEST, SEEN, {"good.snapshot": Promise("manifest.json", "ab")}, "")
            db.execute(
                "INSERT INTO folder(location, folder, tier, backup, engine) VALUES('primary','daily/A','','','')"
            )
    with closing(connect(str(tmp_path))) as db:
        assert seals.sealed(db, GOOD) == Sealed(SEEN, "ab" * 32, 100.0)
        assert seals.sealed(db, BAD) is None
        assert catalogue.signature(db, MANIFEST) is None, "manifests are read again, for their SHA-256"
        assert catalogue.promises(db, GOOD) != (), "and what they promise counts until then"
        assert list(seals.sealed_folders(db)) == []


def recorded(db: sqlite3.Connection, key: Key, verdict: Verdict) -> None:
    catalogue.record(db, key, SEEN, Reading(size=5, sha256="ab" * 32), verdict, 100.0)


def test_what_is_forgotten_is_no_longer_sealed(tmp_path: Path) -> None:
    with closing(connect(str(tmp_path), create=True)) as db:
        seals.seal(db, GOOD, Sealed(SEEN, "ab", 1.0))
        seals.seal(db, GOOD, Sealed(SEEN, "cd", 2.0))
        assert seals.sealed(db, GOOD) == Sealed(SEEN, "cd", 2.0)
        catalogue.forget(db, GOOD)
        assert seals.sealed(db, GOOD) is None


def test_only_a_manifest_that_is_there_is_a_link_of_the_chain(tmp_path: Path) -> None:
    with closing(connect(str(tmp_path), create=True)) as db:
        catalogue.record_folder(db, Folder("primary", "daily/A", "daily", "A", "edge", sha256="ab", digest="cd"))
        assert list(seals.sealed_folders(db)) == []
        catalogue.record_sums(db, MANIFEST, SEEN, {}, "")
        assert [one.sha256 for one in seals.sealed_folders(db)] == ["ab"]
        catalogue.forget_sums(db, MANIFEST)
        assert list(seals.sealed_folders(db)) == []


def test_since_when_something_is_so_is_said_once(tmp_path: Path) -> None:
    with closing(connect(str(tmp_path), create=True)) as db:
        assert seals.since(db, seals.SEALING) is None
        seals.remember(db, seals.SEALING, 5.0)
        seals.remember(db, seals.SEALING, 9.0)
        assert seals.since(db, seals.SEALING) == 5.0
