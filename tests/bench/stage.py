"""Installations to be measured: a configuration, two locations, archives, and a ledger that knows them."""

import hashlib
import os
import time
from contextlib import closing
from pathlib import Path

from measure import SNAPWARD, run

from agent.adapters import ledger
from agent.adapters.ledger import catalogue
from agent.adapters.ledger.catalogue import Key
from agent.adapters.shelf import look
from agent.errors import AgentError
from agent.rules.archive import INTACT, Reading, State, Verdict

# No slot falls into a measurement: these come on the 29th of February only.
_CONFIG = """\
state_dir: state
timezone: UTC
engine: {kind: edge, path: qdrant}
locations: {primary: {path: primary}, secondary: {path: secondary}}
tiers: {daily: {cron: "0 0 29 2 *", keep: 30d}}
report: {cron: "0 0 29 2 *"}
"""


class Home:
    """One installation in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.primary, self.secondary = folder / "primary", folder / "secondary"
        self.state, self.qdrant = folder / "state", folder / "qdrant"
        for one in (self.primary, self.secondary, self.state, self.qdrant):
            one.mkdir()
        (folder / "config.yaml").write_text(_CONFIG, encoding="ascii")

    def command(self, *arguments: str) -> list[str]:
        """The words of a command of snapward on this installation."""
        return [*SNAPWARD, "--config", str(self.folder / "config.yaml"), *arguments]

    def reconcile(self) -> None:
        """Let the ledger know everything that lies here."""
        run(self.command("reconcile"))

    def known(self) -> int:
        """How many archives the ledger knows; 0 when there is none yet."""
        try:
            with closing(ledger.connect_reader(str(self.state))) as db:
                return sum(catalogue.present(db, name) for name in ("primary", "secondary"))
        except AgentError:
            return 0


def archives(folder: Path, number: int, size: int) -> list[Path]:
    """Make archives that cannot be compressed, and the SHA256SUMS that promises them."""
    folder.mkdir(parents=True, exist_ok=True)
    made, lines = [], []
    for n in range(number):
        path = folder / f"collection-{n:04}.snapshot"
        block = os.urandom(min(size, 16 << 20))
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for offset in range(0, size, len(block)):
                part = block[: size - offset]
                digest.update(part)
                file.write(part)
        lines.append(f"{digest.hexdigest()}  {path.name}\n")
        made.append(path)
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="ascii")
    return made


def thousand(home: Home) -> None:
    """A thousand small archives: five backups of a hundred in each of two locations."""
    for location in (home.primary, home.secondary):
        for n in range(5):
            archives(location / "daily" / f"backup-{n}", 100, 4096)


def known_files(home: Home, folders: int, each: int) -> None:
    """Empty files in many folders, each entered in the ledger as an archive that was read and found good."""
    db = ledger.connect(str(home.state), create=True)
    reading, verdict = Reading(4096, "0" * 64), Verdict(State.GOOD, INTACT, "size and SHA-256 equal SHA256SUMS")
    now = time.time()
    with closing(db), ledger.writing(db):
        for n in range(folders):
            inside = f"daily/backup-{n:04}"
            (home.primary / inside).mkdir(parents=True)
            for m in range(each):
                path = home.primary / inside / f"collection-{m:04}.snapshot"
                path.touch()
                key = Key("primary", inside, path.name)
                catalogue.record(db, key, look.signature_of(path.stat()), reading, verdict, now)
