"""docs/recovery.md, line by line: every command in it is run, in its order, on a day on which things are lost."""

import http.client
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from program import COMMAND, Program
from standin import StandIn, nine

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "recovery.md").read_text(encoding="utf-8")
NEEDED = ("bash", "curl", "gunzip", "jq", "sha256sum")
POINTS = 60
# systemctl and the server's unit are the machine's own; that they are asked, and in which order, is what counts here.
SYSTEMCTL = """\
#!/bin/sh
echo "$*" >> "$SYSTEMCTL_LOG"
case "$1" in
  stop) touch "$SYSTEMCTL_LOG.stopped" ;;
  start) rm -f "$SYSTEMCTL_LOG.stopped" ;;
  show) [ -e "$SYSTEMCTL_LOG.stopped" ] && state=inactive || state=active
    printf 'LoadState=loaded\\nActiveState=%s\\n' "$state" ;;
esac
"""

# What these say of a server that is empty, and of an agent that does not run.
CODES = {"snapward check": {1}, "snapward status": {3}}

pytestmark = pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason=f"needs {', '.join(NEEDED)}")


def blocks() -> list[tuple[str, str]]:
    """The page's shell blocks, each with the heading it stands below."""
    found, heading = [], ""
    for part in re.split(r"^(#+ .+|```\w*)$", PAGE, flags=re.MULTILINE):
        if part.startswith("#"):
            heading = part.lstrip("# ")
        elif found and found[-1] == ("", "sh"):
            found[-1] = (heading, part)
        elif part == "```sh":
            found.append(("", "sh"))
    return found


def ask(url: str, method: str, path: str, body: Any = None) -> Any:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request(method, path, None if body is None else json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 200, f"{method} {path}: {answer.status} {text!r}"
    return json.loads(text)["result"]


def points(url: str, name: str) -> int:
    return int(ask(url, "POST", f"/collections/{quote(name, safe='')}/points/count", {"exact": True})["count"])


def aliases(url: str) -> dict[str, str]:
    return {one["alias_name"]: one["collection_name"] for one in ask(url, "GET", "/aliases")["aliases"]}


class Day:
    """A machine with snapward, a server, another server, and what the page's words mean here."""

    def __init__(self, program: Program, url: str, other: str) -> None:
        self.program, self.url, self.other = program, url, other
        self.ran: list[str] = []
        tools, files = program.home / "tools", program.home / "qdrant-config"
        for folder in (tools, files, program.home / "tmp"):
            folder.mkdir()
        self.server_file = files / "config.yaml"
        self.server_file.write_text("log_level: INFO\n", encoding="ascii")
        words = [*COMMAND, "--config", str(program.config)]
        (tools / "snapward").write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n', encoding="ascii")
        (tools / "systemctl").write_text(SYSTEMCTL, encoding="ascii")
        for tool in tools.iterdir():
            tool.chmod(0o755)
        log = program.home / "systemctl.log"
        program.environment |= {"PATH": f"{tools}:{os.environ['PATH']}", "SYSTEMCTL_LOG": str(log)}
        program.write(
            engine=f'{{kind: qdrant, url: "{url}", service: qdrant.service, config_files: ["{files}"]}}',
            more="drills: {after_backup: 0s}\n",
        )

    def script(self, text: str) -> str:
        """A block of the page, with this machine's names in the place of the page's."""
        backup = self.program.json("list", "--tier", "daily")["backups"][-1]
        moment = backup["ended"]
        for theirs, ours in (
            ("/opt/qdrant/secondary/backups", str(self.program.secondary)),
            ("20261123T020000Z", backup["id"]),
            ("http://127.0.0.1:6333", self.url),
            ("http://127.0.0.1:7333", self.other),
            ("2026-11-22T18:00:00Z", moment),
            ("/var/tmp/", f"{self.program.home}/tmp/"),
        ):
            text = text.replace(theirs, ours)
        return text

    def run(self, heading: str) -> list[str]:
        """Run all blocks below a heading; returns what each one said."""
        said = []
        for text in (text for where, text in blocks() if where == heading):
            done = subprocess.run(
                ["bash", "-eu", "-o", "pipefail", "-c", self.script(text)],
                env=self.program.environment,
                capture_output=True,
                text=True,
                check=False,
                stdin=subprocess.DEVNULL,
            )
            assert done.returncode in CODES.get(text.strip(), {0}), (
                f"{heading}:\n{text}\n{done.returncode}: {done.stdout}{done.stderr}"
            )
            said.append(done.stdout)
            self.ran.append(text)
        assert said, f"there is no block below {heading}"
        return said


@pytest.mark.timeout(120)
def test_every_command_of_the_worst_day_does_what_the_page_says(program: Program, tmp_path: Path) -> None:
    with StandIn(tmp_path / "server") as server, StandIn(tmp_path / "other") as other:
        nine.seed(server.url, names=["dense"])
        # The page speaks of articles.
        ask(server.url, "PUT", "/collections/articles", nine.COLLECTIONS["dense"])
        body = {"limit": POINTS, "with_vector": True, "with_payload": True}
        there = ask(server.url, "POST", "/collections/dense/points/scroll", body)["points"]
        ask(server.url, "PUT", "/collections/articles/points?wait=true", {"points": there})
        ask(server.url, "DELETE", "/collections/dense")
        made = [{"create_alias": {"alias_name": "current", "collection_name": "articles"}}]
        ask(server.url, "POST", "/collections/aliases", {"actions": made})
        day = Day(program, server.url, other.url)
        program.run("backup", "daily")
        program.run("verify", "latest")

        listed, drilled = day.run("Before you touch anything")
        assert "daily" in listed
        assert "articles" in listed
        assert "would restore: 1 of 1 collection" in drilled
        (kept,) = program.json("list", "--tier", "daily")["backups"]
        assert {copy["level"] for copy in kept["locations"].values()} == {"faithful"}

        ask(server.url, "POST", "/collections/articles/points/delete?wait=true", {"points": [1, 2, 3]})
        plan, *_ = day.run("One collection")
        assert "articles-restored" in plan
        assert points(server.url, "articles-restored") == POINTS
        assert points(server.url, "articles") == POINTS, "replaced in place"
        assert aliases(server.url) == {"current": "articles-restored-2"}

        day.run("An earlier time")
        assert points(server.url, "articles-before") == POINTS

        for name in ("articles", "articles-restored", "articles-restored-2", "articles-before"):
            ask(server.url, "DELETE", f"/collections/{name}")
        before = day.server_file.read_bytes()
        day.server_file.write_text("log_level: TRACE\n", encoding="ascii")
        day.run("Everything")
        assert day.server_file.read_bytes() == before
        for url in (server.url, other.url):
            assert points(url, "articles") == POINTS
            assert aliases(url) == {"current": "articles"}
        log = (program.home / "systemctl.log").read_text(encoding="ascii")
        asked = [line.split()[0] for line in log.splitlines() if line.endswith("qdrant.service")]
        assert [verb for verb in asked if verb != "show"] == ["stop", "start"]

        (aside,) = day.run("When a restore fails")
        assert "pre-restore" in aside
        day.run("The ledger is gone")
        sums, _, compared = day.run("Without snapward")
        assert all(line.endswith(": OK") for line in sums.splitlines())
        count, recorded, answers, expected = compared.splitlines()
        assert count == recorded == str(POINTS)
        assert [one["id"] for one in json.loads(answers)] == [one["id"] for one in json.loads(expected)]
        day.run("Afterwards")
        assert sorted(day.ran) == sorted(text for _, text in blocks()), "a block of the page was not run"
