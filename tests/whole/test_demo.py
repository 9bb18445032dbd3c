"""The demo: what it prints is what happened."""

import re
import subprocess
import sys
import time
from pathlib import Path

from program import ENVIRONMENT


def test_the_demo_shows_everything_in_under_a_minute(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "agent", "demo", "--folder", str(home)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr + (home / "agent.log").read_text()
    assert time.monotonic() - began < 60
    said = done.stdout
    assert said.index("archive damaged") < said.index("found, and told") < said.rindex("archive damaged")
    report = re.search(r"The week's report: (.*)", said)
    assert report is not None
    page = Path(report[1]).read_text(encoding="utf-8")
    assert "articles" in page
    assert "products" in page
    assert re.search(r"articles: 3,000 points counted.* as they were", said)
    assert re.search(r"backup \w+ is proved faithful", said)
    backups = sorted(home.glob("*ary/daily/*"))
    assert backups
    for folder in backups:
        sums = subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=False)
        assert sums.returncode == 0, f"{folder} fails its own checksums"
        for name in folder.glob("*.gz"):
            listed = subprocess.run(["tar", "-tzf", name], capture_output=True, text=True, check=True)
            assert listed.stdout.splitlines()[-1] == "payload_index.json"
    assert not list(home.glob("*ary/.incoming/*"))
    leftover = subprocess.run(["pgrep", "-f", str(home)], capture_output=True, text=True, check=False)
    assert not leftover.stdout, "the agent must have ended"
