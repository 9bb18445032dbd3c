"""Backups of a Qdrant server, from the command line: of the stand-in always, of a real one where there is one."""

import contextlib
import gzip
import hashlib
import http.client
import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from program import COMMAND, Program, until
from small_disk import small_disk
from standin import StandIn, nine

from agent.rules.names import file_stem

FEW = ("dense", "sparse", "empty")
REAL = "SNAPWARD_TEST_QDRANT_URL"


def ask(url: str, method: str, path: str, body: Any = None) -> Any:
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.netloc, timeout=30)
    payload = None if body is None else json.dumps(body)
    connection.request(method, path, payload, {"content-type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 200, f"{method} {path}: {answer.status} {text!r}"
    return json.loads(text)["result"]


def snapshots(url: str) -> dict[str, list[str]]:
    """What lies on the server, by collection."""
    there_now = {one["name"] for one in ask(url, "GET", "/collections")["collections"]}
    names = there_now & nine.COLLECTIONS.keys()  # a real server may have others
    there = {
        name: [one["name"] for one in ask(url, "GET", f"/collections/{quote(name, safe='')}/snapshots")]
        for name in names
    }
    return {name: found for name, found in there.items() if found}


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.real_qdrant)])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a server with the nine collections and nothing else that matches their names."""
    if request.param == "stand-in":
        with StandIn(tmp_path / "server") as standin:
            nine.seed(standin.url)
            yield standin.url
        return
    url = os.environ.get(REAL)
    if not url:
        pytest.skip(f"{REAL} names no Qdrant server")
    nine.drop(url)
    nine.seed(url)
    yield url
    nine.drop(url)


def include(names: Any = nine.COLLECTIONS) -> str:
    return json.dumps([one.replace("[", "[[]") for one in names], ensure_ascii=False)


def configure(program: Program, url: str, engine: str = "", **other: Any) -> None:
    quick = "patience: 300ms, silence: 500ms"
    program.write(engine=f'{{kind: qdrant, url: "{url}", {quick}{engine}}}', **other)


def folder(program: Program, location: str = "primary") -> Path:
    """The only backup in a location."""
    (found,) = (getattr(program, location) / "manual").iterdir()
    return Path(found)


def is_sound(at: Path) -> dict[str, Any]:
    """The manifest of a published folder, in which everything holds what it says."""
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=at, check=True)
    told: dict[str, Any] = json.loads((at / "manifest.json").read_bytes())
    for one in told["collections"]:
        raw = gzip.decompress((at / one["file"]).read_bytes())
        assert (len(raw), hashlib.sha256(raw).hexdigest()) == (one["raw_size"], one["raw_sha256"])
        assert one["server_sha256"] in {one["raw_sha256"], None}
    listed = {one["file"] for one in [*told["collections"], *told["files"]]}
    assert {one.name for one in at.iterdir()} == listed | {"manifest.json", "SHA256SUMS", "RESTORE.md"}
    return told


def test_nine_collections_become_nine_archives_in_both_locations_and_nothing_stays_on_the_server(
    program: Program, server: str
) -> None:
    points = {name: 0 if name == "empty" else 60 for name in nine.COLLECTIONS}
    configure(program, server, f", collections: {{include: {include()}}}")
    answer = program.json("backup")
    assert (answer["state"], answer["locations"]) == ("good", ["primary", "secondary"])
    for location in ("primary", "secondary"):
        told = is_sound(folder(program, location))
        assert {one["name"]: one["points_after"] for one in told["collections"]} == points
        assert told["aliases"] == nine.ALIASES
        assert (told["engine"]["kind"], told["engine"]["url"]) == ("qdrant", server)
        assert told["engine"]["version"].count(".") == 2
        by_name = {one["name"]: one for one in told["collections"]}
        assert set(by_name["indexed"]["payload_schema"]) == set(nine.INDEXES)
        assert by_name[nine.AWKWARD]["file"] == f"{file_stem(nine.AWKWARD)}.snapshot.gz"
        assert by_name[nine.AWKWARD]["shards"] == [0, 1]
        probes = {(name, one["vector"], one["kind"]) for name, entry in by_name.items() for one in entry["probes"]}
        assert probes >= {
            ("dense", "", "dense"),
            ("multi", "", "multi"),
            ("sparse", "terms", "sparse"),
            ("named", "title", "dense"),
            ("named", "image", "dense"),
            ("named", "words", "sparse"),
        }
        assert by_name["empty"]["probes"] == []
        assert not any(one["probes_why"] for one in told["collections"])
    assert snapshots(server) == {}
    assert program.json("verify", "--all")["bad"] == 0
    ((outcome, figures),) = program.query("SELECT outcome, figures FROM run WHERE job = 'backup'")
    assert outcome == "ok"
    assert json.loads(figures)["stored_bytes"] == answer["stored_bytes"]


def test_what_a_probe_recorded_is_what_the_server_still_answers(program: Program, server: str) -> None:
    configure(program, server, f", collections: {{include: {include()}}}")
    program.run("backup")
    for one in is_sound(folder(program))["collections"]:
        for probe in one["probes"]:
            path = f"/collections/{quote(one['name'], safe='')}/points/query"
            found = ask(server, "POST", path, probe["query"])["points"]
            assert [(hit["id"], pytest.approx(hit["score"])) for hit in found] == [
                (hit["id"], hit["score"]) for hit in probe["answers"]
            ]


def test_a_snapshot_of_somebody_else_is_never_touched(program: Program, server: str) -> None:
    foreign = ask(server, "POST", "/collections/dense/snapshots")["name"]
    configure(program, server, ', collections: {include: ["dense"]}')
    program.run("backup")
    assert snapshots(server).get("dense") == [foreign]


def test_a_collection_that_is_named_and_not_there_makes_the_backup_incomplete(program: Program, server: str) -> None:
    configure(program, server, ', collections: {include: ["dense", "no such one"]}')
    answer = program.json("backup", expect=2)
    assert answer["state"] == "incomplete"
    assert answer["failed"] == [{"name": "no such one", "why": "there is no such collection"}]
    assert [one["name"] for one in is_sound(folder(program))["collections"]] == ["dense"]


@pytest.mark.parametrize(("form", "suffix"), [("zstd", ".zst"), ("none", "")])
def test_other_compressions_are_read_by_their_own_tools(program: Program, server: str, form: str, suffix: str) -> None:
    configure(
        program,
        server,
        ', collections: {include: ["dense", "sparse"]}',
        more=f'compression: {{collections: {{"de*": {{format: {form}}}}}}}\n',
    )
    assert program.json("backup")["state"] == "good"
    told = json.loads((folder(program) / "manifest.json").read_bytes())
    dense, sparse = told["collections"]
    assert (dense["file"], sparse["file"]) == (f"dense.snapshot{suffix}", "sparse.snapshot.gz")
    assert dense["compression"]["format"] == form
    unpack = ["zstd", "-dc"] if form == "zstd" else ["cat"]
    raw = subprocess.run([*unpack, dense["file"]], cwd=folder(program), capture_output=True, check=True).stdout
    assert hashlib.sha256(raw).hexdigest() == dense["raw_sha256"]
    assert program.json("verify", "--all")["bad"] == 0


# A server that misbehaves.


FULL = "Service internal error: No space left on device (os error 28)"
PASSING: dict[str, Mapping[str, Any]] = {
    "is slow": {"kind": "slow", "rate": 300_000},
    "breaks off in the middle, twice": {"kind": "drop", "after": 10_000, "times": 2},
    "sends a wrong byte, once": {"kind": "corrupt", "after": 5_000, "times": 1},
    "says it is whole when it is cut, once": {"kind": "cut", "at": "entry", "times": 1},
    "is limited for a moment": {
        "kind": "refuse",
        "on": "create",
        "status": 429,
        "headers": {"Retry-After": "0"},
        "times": 1,
    },
    "fails once": {"kind": "refuse", "on": "create", "status": 500, "text": "try again", "times": 1},
    "is behind a proxy that is at a loss, once": {"kind": "refuse", "on": "list", "status": 502, "times": 1},
    "loses the answer to create": {"kind": "lost", "on": "create", "times": 1},
    "stalls once": {"kind": "stall", "after": 9_000, "times": 1},
    "keeps no checksums, lengths and ranges": {"kind": "bare"},
    "has a snapshot made by somebody else": {"kind": "foreign", "times": 1},
}


@pytest.mark.parametrize("how", PASSING)
def test_what_passes_costs_nothing(program: Program, tmp_path: Path, how: str) -> None:
    with StandIn(tmp_path / "server") as standin:
        nine.seed(standin.url, names=FEW)
        configure(program, standin.url)
        standin.faults.add(**{"collection": "dense", **PASSING[how]})
        assert program.json("backup")["state"] == "good"
        assert len(is_sound(folder(program))["collections"]) == len(FEW)
        left = snapshots(standin.url)
    assert (set(left), program.query("SELECT * FROM asked")) == ({"dense"} if "somebody else" in how else set(), [])


STAYING: dict[str, tuple[Mapping[str, Any], str]] = {
    "sends a wrong byte every time": ({"kind": "corrupt", "after": 5_000}, "SHA-256 is"),
    "is cut at an entry every time": ({"kind": "cut", "at": "entry"}, "bytes came of the"),
    "is cut in the middle every time, without a length": (
        {"kind": "cut", "at": "middle", "chunked": True},
        "bytes came of the",
    ),
    "says a wrong checksum": ({"kind": "wrong_checksum"}, "but the server says"),
    "has no space": ({"kind": "refuse", "on": "create", "status": 500, "text": FULL}, "No space left"),
    "has no quota": ({"kind": "refuse", "on": "create", "status": 507, "text": "quota"}, "507"),
    "forbids it": ({"kind": "refuse", "on": "create", "status": 403, "text": "Forbidden"}, "403"),
    "hangs when it is asked to send": ({"kind": "hang", "on": "download"}, "silent"),
    "hangs in the middle": ({"kind": "stall", "after": 0}, "0 B of"),
    "does not have it any more": ({"kind": "refuse", "on": "download", "status": 404}, "404"),
    "changes it all the time": ({"kind": "etag", "drop": True}, "another one"),
    "talks nonsense": ({"kind": "garbage", "on": "create"}, "not Qdrant's"),
}


@pytest.mark.parametrize("how", STAYING)
def test_what_stays_costs_one_collection_and_says_why(program: Program, tmp_path: Path, how: str) -> None:
    fault, why = dict(STAYING[how][0]), STAYING[how][1]
    with StandIn(tmp_path / "server") as standin:
        nine.seed(standin.url, names=FEW)
        configure(program, standin.url)
        if fault.pop("drop", False):
            standin.faults.add("drop", after=9_000, collection="dense")
        standin.faults.add(**{"collection": "dense", **fault})
        answer = program.json("backup", expect=2)
        assert answer["state"] == "incomplete"
        assert [one["name"] for one in answer["failed"]] == ["dense"]
        assert why in answer["failed"][0]["why"]
        for location in ("primary", "secondary"):
            assert len(is_sound(folder(program, location))["collections"]) == len(FEW) - 1
        assert why in program.open_incidents()["backup_failed", "manual"]
        assert snapshots(standin.url) == {}
    assert program.query("SELECT * FROM asked") == []


def test_a_server_that_keeps_a_snapshot_is_told_of_and_tidied_later(program: Program, tmp_path: Path) -> None:
    with StandIn(tmp_path / "server") as standin:
        nine.seed(standin.url, names=FEW)
        configure(program, standin.url)
        standin.faults.add("refuse", on="delete", collection="dense", status=500, text="busy")
        answer = program.json("backup", expect=1)
        assert answer["state"] == "good"
        left = snapshots(standin.url)
        assert set(left) == {"dense"}
        assert left["dense"][0] in program.open_incidents()["snapshots_forgotten", "dense"]
        standin.faults.clear()
        done = program.run("backup", "--collection", "sparse")
        assert left["dense"][0] in done.stderr
        assert snapshots(standin.url) == {}
        assert ("snapshots_forgotten", "dense") not in program.open_incidents()


@pytest.mark.parametrize(
    ("keys", "given", "expect", "why"),
    [
        ({"api_key": "secret-1"}, "", 77, "Must provide an API key"),
        ({"api_key": "secret-1"}, "wrong-key", 77, "Invalid API key"),
        ({"api_key": "secret-1", "read_only_key": "ro"}, "ro", 77, "not make snapshots"),
        ({"api_key": "secret-1", "collection_keys": {"some": ["dense"]}}, "some", 77, "does not see the whole server"),
        ({"api_key": "secret-1"}, "secret-1", 0, ""),
        (
            {"api_key": "secret-1", "collection_keys": {"some": ["dense"]}},
            "some, collections: {include: [dense]}",
            0,
            "",
        ),
    ],
)
def test_a_key_that_may_too_little_is_told_before_anything_is_made(
    program: Program, tmp_path: Path, keys: Any, given: str, expect: int, why: str
) -> None:
    with StandIn(tmp_path / "server", **keys) as standin:
        nine.seed(standin.url, "secret-1", names=FEW)
        configure(program, standin.url, f", api_key: {given}" if given else "")
        done = program.run("backup", expect=expect)
        assert why in done.stderr
        assert "secret-1" not in done.stdout + done.stderr
        assert expect == 0 or not any(one.method == "POST" and "snapshots" in one.path for one in standin.requests)


def test_a_server_that_is_not_there_is_unreachable(program: Program) -> None:
    configure(program, "http://127.0.0.1:9")
    done = program.run("backup", expect=69)
    assert "cannot be reached" in done.stderr
    assert not list(program.primary.rglob("*.gz"))


def test_a_server_that_restarts_is_waited_for(program: Program, tmp_path: Path) -> None:
    with StandIn(tmp_path / "server") as standin:
        nine.seed(standin.url, names=FEW)
        program.write(engine=f'{{kind: qdrant, url: "{standin.url}", patience: 20s, silence: 2s}}')
        standin.faults.add("linger", collection="dense", times=1)
        running = start(program, "--json", stdout=subprocess.PIPE)
        until_making(standin.url, "dense")
        standin.restart(down_for=1.0)
        answer = json.loads(running.communicate(timeout=50)[0])
        assert (answer["state"], running.returncode) == ("good", 0)
        assert snapshots(standin.url) == {}


def until_making(url: str, collection: str) -> None:
    def making() -> bool:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return f'snapshot_creation_running{{id="{collection}"}} 1' in text

    until(making, what=f"the request for a snapshot of {collection}")


# Locations without room.


@pytest.mark.parametrize("full", [("primary",), ("secondary",), ("primary", "secondary")], ids="+".join)
def test_a_full_location_costs_its_copy_and_two_cost_the_backup_before_anything_is_made(
    program: Program, tmp_path: Path, full: tuple[str, ...]
) -> None:
    with contextlib.ExitStack() as mounts:
        for name in full:
            at = getattr(program, name)
            mounts.enter_context(small_disk(at))
            with pytest.raises(OSError, match="No space left"):
                (at / "filling").write_bytes(bytes(1 << 20))
        with StandIn(tmp_path / "server") as standin:
            nine.seed(standin.url, names=FEW)
            configure(program, standin.url)
            if len(full) == 2:
                done = program.run("backup", expect=73)
                assert "No space left" in done.stderr
                assert not any(one.method == "POST" and "snapshots" in one.path for one in standin.requests)
            else:
                answer = program.json("backup", expect=1)
                assert (answer["state"], list(answer["failed_locations"])) == ("degraded", list(full))
                other = "secondary" if full == ("primary",) else "primary"
                assert len(is_sound(folder(program, other))["collections"]) == len(FEW)
                assert "No space left" in program.open_incidents()["backup_degraded", "manual"]
            assert snapshots(standin.url) == {}


# People who wait, and people who do not.


def start(program: Program, *arguments: str, **more: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*COMMAND, "--config", str(program.config), "backup", *arguments], env=program.environment, **more
    )


def test_a_terminal_shows_how_each_collection_gets_on(program: Program, tmp_path: Path) -> None:
    with StandIn(tmp_path / "server") as standin:
        nine.seed(standin.url, names=FEW)
        configure(program, standin.url)
        standin.faults.add("slow", collection="dense", rate=60_000)
        ours, theirs = pty.openpty()
        process = start(program, stdout=subprocess.DEVNULL, stderr=theirs)
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how the end of a terminal looks
            while piece := os.read(ours, 4096):
                shown += piece
        os.close(ours)
        assert process.wait(30) == 0
    text = shown.decode()
    assert re.search(r"backup  2 done  .* of .*/s  .* left  dense \d+%", text)
    assert re.search(r"  sparse: [\d.]+ KiB in .*/s", text)
    assert text.endswith("\x1b[K"), "the line is taken away"


def test_who_stops_a_backup_while_the_server_is_at_work_leaves_nothing_that_is_not_tidied(
    program: Program, tmp_path: Path
) -> None:
    with StandIn(tmp_path / "server") as standin:
        nine.seed(standin.url, names=FEW)
        configure(program, standin.url)
        standin.faults.add("linger", collection="dense", times=1)
        process = start(program)
        until_making(standin.url, "dense")
        process.terminate()
        assert process.wait(20) == 130
        assert not list(program.primary.glob("manual/*"))
        assert not list(program.primary.glob(".incoming/*"))
        standin.faults.clear()
        until(lambda: snapshots(standin.url).keys() == {"dense"}, what="the snapshot that was under way")
        assert "left by this agent" in program.run("health", expect=None).stdout
        assert "deleted" in program.run("backup").stderr
        assert snapshots(standin.url) == {}
