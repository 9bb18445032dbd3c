"""Restores from the command line: into the stand-in always, into a real server where there is one."""

import http.client
import json
import os
import pty
import signal
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from program import COMMAND, Program, flip, until
from standin import StandIn, nine

REAL = "SNAPWARD_TEST_QDRANT_URL"
POINTS = {name: 0 if name == "empty" else 60 for name in nine.COLLECTIONS}
FEW = ("dense", "named", "binary", "empty", "scalar")
DENSE = ("--collection", "dense")


def ask(url: str, method: str, path: str, body: Any = None) -> Any:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request(method, path, None if body is None else json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 200, f"{method} {path}: {answer.status} {text!r}"
    return json.loads(text)["result"]


def at(name: str, more: str = "") -> str:
    return f"/collections/{quote(name, safe='')}{more}"


def count(url: str, name: str) -> int:
    return int(ask(url, "POST", at(name, "/points/count"), {"exact": True})["count"])


def aliases(url: str) -> dict[str, str]:
    return {one["alias_name"]: one["collection_name"] for one in ask(url, "GET", "/aliases")["aliases"]}


def facts(url: str, name: str) -> dict[str, Any]:
    """All that a restored collection has to have as before."""
    info = ask(url, "GET", at(name))
    body = {"limit": 1000, "with_vector": True, "with_payload": True}
    points = ask(url, "POST", at(name, "/points/scroll"), body)["points"]
    for one in points:
        one.pop("shard_key", None)
    config = {key: value for key, value in info["config"].items() if key != "uuid"}
    schema = {field: {k: v for k, v in one.items() if k != "points"} for field, one in info["payload_schema"].items()}
    return {"config": config, "schema": schema, "points": sorted(points, key=lambda one: str(one["id"]))}


def uploaded(url: str, name: str) -> list[str]:
    return [one["name"] for one in ask(url, "GET", at(name, "/snapshots"))]


def configure(program: Program, url: str, engine: str = "", **other: Any) -> None:
    include = json.dumps([one.replace("[", "[[]") for one in nine.COLLECTIONS], ensure_ascii=False)
    quick = f"patience: 300ms, silence: 2s, collections: {{include: {include}}}"
    program.write(engine=f'{{kind: qdrant, url: "{url}", {quick}{engine}}}', **other)


class Backed:
    """A server with the nine collections, and an installation that has a good backup of them."""

    def __init__(self, program: Program, url: str, standin: StandIn | None = None) -> None:
        self.program, self.url, self._standin = program, url, standin
        configure(program, url)

    @property
    def server(self) -> StandIn:
        assert self._standin is not None
        return self._standin

    @property
    def backup(self) -> str:
        (found,) = (self.program.primary / "manual").iterdir()
        return found.name

    def restore(self, *words: str, expect: int = 0) -> Any:
        return self.program.json("restore", "--yes", *words, expect=expect)

    def drop(self, *names: str) -> None:
        for name in names or nine.COLLECTIONS:
            ask(self.url, "DELETE", at(name))  # one that is not there is dropped as well

    def write(self, name: str = "dense", number: int = 5) -> None:
        """More points, in a collection whose vectors have eight numbers."""
        points = [{"id": 1000 + one, "vector": [1.0, 2, 3, 4, 5, 6, 7, one], "payload": {}} for one in range(number)]
        ask(self.url, "PUT", at(name, "/points?wait=true"), {"points": points})

    def aside(self) -> list[str]:
        place = self.program.primary / "pre-restore"
        return sorted(one.name for one in place.iterdir()) if place.exists() else []


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in's storage with a few of the collections, and an installation with a backup; `dense` was drilled."""
    folder = tmp_path_factory.mktemp("origin")
    with StandIn(folder / "server") as server:
        nine.seed(server.url, names=FEW)
        _backed_up(Program(folder / "home"), server.url, FEW)
    return folder


def _backed_up(program: Program, url: str, names: Collection[str]) -> None:
    configure(program, url)
    program.run("backup", *(word for name in names for word in ("--collection", name)))
    program.run("verify")
    program.run("drill", "--light", *DENSE)


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.real_qdrant)])
def backed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backed]:
    if request.param == "stand-in":
        yield from _copied(request.getfixturevalue("origin"), tmp_path)
    else:
        yield from _real(tmp_path, FEW)


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.real_qdrant)])
def all_nine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backed]:
    if request.param == "stand-in":
        with StandIn(tmp_path / "server") as server:
            nine.seed(server.url)
            made = Backed(Program(tmp_path / "home"), server.url, server)
            _backed_up(made.program, server.url, nine.COLLECTIONS)
            yield made
    else:
        yield from _real(tmp_path, nine.COLLECTIONS)


def _real(tmp_path: Path, names: Collection[str]) -> Iterator[Backed]:
    url = os.environ.get(REAL)
    if not url:
        pytest.skip(f"{REAL} names no Qdrant server")
    nine.drop(url)
    nine.seed(url, names=names)
    made = Backed(Program(tmp_path / "home"), url)
    _backed_up(made.program, url, names)
    yield made
    nine.drop(url)
    for name in ("dense-2", "named-2"):
        ask(url, "DELETE", at(name))


@pytest.fixture
def standin(origin: Path, tmp_path: Path) -> Iterator[Backed]:
    yield from _copied(origin, tmp_path)


@pytest.fixture(scope="module")
def untouched(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backed]:
    """One for all tests after which it is as before."""
    yield from _copied(origin, tmp_path_factory.mktemp("untouched"))


def _copied(origin: Path, tmp_path: Path) -> Iterator[Backed]:
    program = Program(tmp_path / "home")
    # `cp` keeps the holes, which are most of a collection's log.
    subprocess.run(["cp", "-a", f"{origin}/home/.", program.home], check=True)
    subprocess.run(["cp", "-a", origin / "server", tmp_path / "server"], check=True)
    with StandIn(tmp_path / "server") as server:
        yield Backed(program, server.url, server)


# What comes back.


def test_all_nine_collections_come_back_as_they_were(all_nine: Backed) -> None:
    before = {name: facts(all_nine.url, name) for name in nine.COLLECTIONS}
    led = {alias: to for alias, to in aliases(all_nine.url).items() if alias in nine.ALIASES}
    assert led == nine.ALIASES
    all_nine.drop()
    answer = all_nine.restore()
    assert (answer["state"], answer["backup"], answer["pre_restore"]) == ("good", all_nine.backup, None)
    assert {one["name"]: (one["state"], one["points"]) for one in answer["collections"]} == {
        name: ("good", points) for name, points in POINTS.items()
    }
    assert not [one["notes"] for one in answer["collections"] if one["notes"]]
    assert answer["aliases"] == nine.ALIASES
    assert {name: facts(all_nine.url, name) for name in nine.COLLECTIONS} == before
    assert aliases(all_nine.url).items() >= nine.ALIASES.items()
    assert not any(uploaded(all_nine.url, name) for name in nine.COLLECTIONS)
    ((outcome, subject),) = all_nine.program.query("SELECT outcome, subject FROM run WHERE job = 'restore'")
    assert (outcome, subject) == ("ok", all_nine.backup)
    noted = dict(all_nine.program.query("SELECT target, state FROM restored"))
    assert noted == dict.fromkeys(nine.COLLECTIONS, "done")


def test_one_collection_comes_back_and_the_others_are_left_alone(backed: Backed) -> None:
    backed.write("scalar")
    backed.drop("dense")
    answer = backed.restore(*DENSE)
    assert [one["target"] for one in answer["collections"]] == ["dense"]
    assert "restored 60 of 60 points; 2 of 2 probes" in answer["collections"][0]["why"]
    assert (count(backed.url, "dense"), count(backed.url, "scalar")) == (60, 65)
    assert aliases(backed.url)["current"] == "dense"


def test_under_a_new_name_what_is_there_stays_and_aliases_are_left(backed: Backed) -> None:
    backed.write()
    answer = backed.restore(*DENSE, "--as", "dense-2", "--collection", "named", "--as", "named-2")
    assert [(one["name"], one["target"], one["points"]) for one in answer["collections"]] == [
        ("dense", "dense-2", 60),
        ("named", "named-2", 60),
    ]
    assert (answer["aliases"], answer["pre_restore"]) == ({}, None)
    assert (count(backed.url, "dense"), count(backed.url, "dense-2")) == (65, 60)
    assert aliases(backed.url)["current"] == "dense"
    assert facts(backed.url, "named-2") == facts(backed.url, "named")


def test_aliases_are_switched_once_the_copy_was_proved(backed: Backed) -> None:
    ask(
        backed.url,
        "POST",
        "/collections/aliases",
        {"actions": [{"create_alias": {"alias_name": "since then", "collection_name": "dense"}}]},
    )
    answer = backed.restore(*DENSE, "--as", "dense-2", "--switch-alias")
    assert answer["aliases"] == {"current": "dense-2", "since then": "dense-2"}
    assert aliases(backed.url).items() >= answer["aliases"].items()
    assert count(backed.url, "dense") == 60


def test_a_time_in_the_past_brings_back_what_there_was_then(backed: Backed) -> None:
    first = backed.backup
    told = json.loads((backed.program.primary / "manual" / first / "manifest.json").read_bytes())
    backed.write()
    later = backed.program.json("backup", *DENSE)["id"]
    backed.program.run("verify", later)
    answer = backed.restore("--at", told["ended"], *DENSE, "--as", "dense-2")
    assert (answer["backup"], count(backed.url, "dense-2")) == (first, 60)
    assert backed.program.json("restore", "--dry-run", *DENSE, "--as", "dense-3")["backup"] == later
    done = backed.program.run("restore", "--dry-run", "--at", "2001-01-01 12:00", expect=64)
    assert "no backup that was over by 2001-01-01T12:00:00.000Z is known to be good" in done.stderr


def test_in_place_what_is_there_is_put_aside_first_and_can_be_brought_back(backed: Backed) -> None:
    backed.write()
    refused = backed.restore(*DENSE, expect=64)
    assert refused["state"] == "refused"
    assert "dense is there and has 65 points" in refused["collections"][0]["why"]
    assert backed.aside() == []
    answer = backed.restore(*DENSE, "--replace")
    assert (answer["state"], count(backed.url, "dense")) == ("good", 60)
    assert backed.aside() == [answer["pre_restore"]]
    assert aliases(backed.url)["current"] == "dense"
    again = backed.restore(answer["pre_restore"], *DENSE, "--replace", "--skip-proof")
    assert (again["backup"], count(backed.url, "dense")) == (answer["pre_restore"], 65)


def test_settings_that_were_changed_since_come_back_too(backed: Backed) -> None:
    before = facts(backed.url, "dense")
    backed.drop("dense")
    ask(backed.url, "PUT", at("dense"), {"vectors": {"size": 8, "distance": "Cosine"}, "hnsw_config": {"m": 5}})
    backed.write()
    answer = backed.restore(*DENSE, "--replace")
    assert any("hnsw_config.m was 16 and is 5" in one["what"] for one in answer["risks"])
    assert facts(backed.url, "dense") == before


# What it says, and whom it asks.


def test_a_dry_run_says_all_and_changes_nothing(standin: Backed) -> None:
    standin.write()
    said = standin.program.run("restore", "--dry-run", expect=2).stdout
    assert f"restore of backup {standin.backup} (manual) into {standin.url}, Qdrant 1.18.3" in said
    assert "dense is there and has 65 points" in said
    assert "--as NEW restores beside it" in said
    assert "faithful" in said
    assert "alias current → dense" in said
    answer = standin.program.json("restore", "--dry-run", *DENSE, "--as", "dense-2")
    assert (answer["state"], answer["dry_run"]) == ("planned", True)
    assert answer["collections"][0]["expected"] == [60, 60]
    assert [one.path for one in standin.server.requests if "upload" in one.path or one.method == "PUT"][1:] == []
    assert standin.program.query("SELECT * FROM restored") == []
    assert standin.program.query("SELECT * FROM run WHERE job = 'restore'") == []


def test_the_time_is_estimated_from_what_was_measured(untouched: Backed) -> None:
    answer = untouched.program.json("restore", "--dry-run", *DENSE, "--as", "dense-2")
    assert (answer["estimate_seconds"], answer["estimate"].split(":")[0]) == (None, "unknown")


REFUSALS: dict[str, tuple[list[str], int, str]] = {
    "no such backup": (["20010101T000000Z"], 64, "there is no backup '20010101T000000Z'"),
    "no such collection": (["--collection", "denser"], 64, "no backup has a collection 'denser'"),
    "no such collection in it": (["latest", "--collection", "denser"], 64, "no backup has a collection 'denser'"),
    "no such time": (["--at", "yesterday"], 64, "--at 'yesterday' is no time"),
    "two ways to name one": (["latest", "--at", "2026-01-01 12:00"], 64, "name either BACKUP or --at"),
    "names that do not pair": ([*DENSE, "--collection", "named", "--as", "x"], 64, "1 --as for 2 --collection"),
    "two of one name": (
        [*DENSE, "--as", "x", "--collection", "named", "--as", "x"],
        64,
        "two collections would become",
    ),
    "all and one": (["--all", *DENSE], 64, "--all goes with neither"),
    "one name for five": (["--as", "x"], 64, "has 5 collections: --as goes with one"),
    "a switch without a name": ([*DENSE, "--switch-alias"], 64, "--switch-alias goes with --as"),
    "the name of an alias": ([*DENSE, "--as", "current"], 64, "current is an alias on the server, of dense"),
    "no such location": (["--location", "third"], 64, "there is no location 'third'"),
    "no address": (["--to", "qdrant"], 64, "--to 'qdrant' is no address"),
    "no such variable": (["--to", "http://127.0.0.1:9", "--to-key-env", "NOBODY_HAS_SET_IT"], 64, "that is not set"),
    "nobody there": (["--to", "http://127.0.0.1:9"], 69, "cannot be reached"),
    "never rehearsed": (["--collection", "named", "--replace"], 2, "its archive was not rehearsed"),
    "no service": (["--server-files"], 2, "engine.service is not set"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_cannot_be_or_should_not_be_is_refused(untouched: Backed, what: str) -> None:
    words, code, why = REFUSALS[what]
    done = untouched.program.run("restore", "--yes", *words, expect=code)
    assert why in done.stderr
    assert count(untouched.url, "dense") == 60
    assert untouched.program.query("SELECT * FROM restored") == []


@pytest.mark.parametrize(("version", "expect"), [("1.18.9", 0), ("1.19.2", 0), ("1.20.0", 2), ("1.17.1", 2)])
def test_only_the_same_minor_version_and_the_next_take_it_unless_forced(
    standin: Backed, version: str, expect: int
) -> None:
    standin.server.version = version
    standin.drop("dense")
    done = standin.program.run("restore", "--yes", *DENSE, expect=expect)
    if expect:
        assert "only the same minor version and the next one" in done.stderr
        assert standin.restore(*DENSE, "--force")["state"] == "good"
    assert count(standin.url, "dense") == 60


def test_nobody_to_ask_is_no_agreement(standin: Backed) -> None:
    standin.drop("dense")
    done = standin.program.run("restore", *DENSE, expect=64)
    assert "nobody is there to agree" in done.stderr
    assert "is made" in done.stdout, "the plan is printed all the same"


def typed(program: Program, words: list[str], answer: str) -> tuple[int, str]:
    """Run a command on a terminal, and type something."""
    master, slave = pty.openpty()
    command = [*COMMAND, "--config", str(program.config), *words]
    running = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=program.environment)
    os.close(slave)
    os.write(master, f"{answer}\n".encode())
    said = b""
    try:
        while piece := os.read(master, 4096):
            said += piece
    except OSError:
        pass  # that is how a terminal ends
    os.close(master)
    return running.wait(30), said.decode()


def test_what_is_replaced_has_to_be_agreed_to_by_the_backups_id(standin: Backed) -> None:
    words = ["restore", *DENSE, "--replace"]
    code, said = typed(standin.program, words, "y")
    assert (code, "nothing was changed" in said) == (2, True)
    assert standin.aside() == []
    code, said = typed(standin.program, words, standin.backup)
    assert (code, "restored 60 of 60 points" in said) == (0, True)


def test_what_is_only_made_is_agreed_to_by_a_y(standin: Backed) -> None:
    standin.drop("dense")
    assert typed(standin.program, ["restore", *DENSE], "n")[0] == 2
    assert typed(standin.program, ["restore", *DENSE], "y")[0] == 0
    assert count(standin.url, "dense") == 60


# Archives that are not what they were.


def archive(backed: Backed, location: str = "primary", name: str = "dense.snapshot.gz") -> Path:
    found: Path = getattr(backed.program, location) / "manual" / backed.backup / name
    return found


def test_the_other_locations_copy_is_taken_where_one_is_bad_and_it_is_said(standin: Backed) -> None:
    flip(archive(standin), 5000)
    standin.drop("dense")
    answer = standin.restore(*DENSE)
    assert answer["state"] == "good"
    (note,) = answer["collections"][0]["notes"]
    assert "dense is read from secondary; the copy in primary: corrupt: SHA-256 is" in note


def test_without_a_sound_copy_nothing_is_sent(standin: Backed) -> None:
    for location in ("primary", "secondary"):
        flip(archive(standin, location), 5000)
    done = standin.program.run("restore", "--yes", *DENSE, "--replace", expect=2)
    assert "no copy of dense.snapshot.gz is sound: primary: corrupt" in done.stderr
    assert not any("upload" in one.path for one in standin.server.requests)
    assert standin.aside() == []


def test_what_is_sent_without_proof_is_still_compared(standin: Backed) -> None:
    for location in ("primary", "secondary"):
        flip(archive(standin, location), 5000)
    standin.drop("dense")
    answer = standin.restore(*DENSE, "--skip-proof", expect=2)
    assert answer["collections"][0]["state"] == "bad"
    assert "promised" in answer["collections"][0]["why"] or "to its end" in answer["collections"][0]["why"]
    assert "dense" not in {one["name"] for one in ask(standin.url, "GET", "/collections")["collections"]}


def test_an_incomplete_backup_is_restored_by_name(standin: Backed) -> None:
    standin.server.faults.add("refuse", on="create", collection="named", status=507, text="quota")
    made = standin.program.json("backup", expect=2)["id"]
    standin.server.faults.clear()
    standin.drop("dense")
    done = standin.program.run("restore", "--yes", made, expect=2)
    assert "the backup is incomplete, named is not in it" in done.stdout
    assert "507" in standin.program.run("restore", "--yes", made, "--collection", "named", expect=64).stderr
    assert standin.restore(made, *DENSE)["state"] == "good"


# Servers that do not do what they say.


def test_a_server_that_says_yes_and_restores_nothing_is_found_out(standin: Backed) -> None:
    standin.drop("dense")
    standin.server.faults.add("hollow", collection="dense")
    answer = standin.restore(*DENSE, expect=2)
    (one,) = answer["collections"]
    assert (one["state"], one["points"]) == ("bad", 0)
    assert one["why"].startswith("restored 0 of 60 points")
    assert "restored 0 of 60 points" in standin.program.open_incidents()["restore_failed", "dense"]
    assert "current" not in aliases(standin.url), "no alias leads to what is not there"
    standin.server.faults.clear()
    assert standin.restore(*DENSE)["state"] == "good", "it is our own ruin that is replaced"
    assert ("restore_failed", "dense") not in standin.program.open_incidents()
    assert aliases(standin.url)["current"] == "dense"


def test_a_server_that_keeps_only_some_points_is_found_out(standin: Backed) -> None:
    standin.server.faults.add("partial", collection="dense-2", after=7)
    answer = standin.restore(*DENSE, "--as", "dense-2", "--switch-alias", expect=2)
    assert answer["collections"][0]["why"].startswith("restored 7 of 60 points")
    assert aliases(standin.url)["current"] == "dense"


def test_after_one_that_failed_nothing_more_is_replaced(standin: Backed) -> None:
    standin.server.faults.add("refuse", on="upload", collection="dense", status=500, text="no more")
    standin.drop("binary")
    words = ["--collection", "dense", "--collection", "binary", "--collection", "named"]
    answer = standin.restore(*words, "--replace", "--skip-proof", expect=2)
    states = {one["name"]: one["state"] for one in answer["collections"]}
    assert states == {"dense": "bad", "binary": "good", "named": "left"}
    assert "not begun, because dense failed" in answer["collections"][2]["why"]


def test_a_failed_restore_in_place_names_the_way_back_and_it_works(standin: Backed) -> None:
    standin.write()
    standin.server.faults.add("partial", collection="dense", after=3)
    answer = standin.restore(*DENSE, "--replace", expect=2)
    aside = answer["pre_restore"]
    assert f"`snapward restore {aside} --collection dense`" in answer["collections"][0]["why"]
    assert aside in standin.program.open_incidents()["restore_failed", "dense"]
    standin.server.faults.clear()
    back = standin.restore(aside, *DENSE)
    assert (back["state"], count(standin.url, "dense")) == ("good", 65)


def test_what_is_replaced_and_cannot_be_put_aside_is_left_unless_forced(standin: Backed) -> None:
    standin.server.faults.add("refuse", on="create", collection="dense", status=500, text="No snapshot for you")
    done = standin.program.run("restore", "--yes", *DENSE, "--replace", expect=2)
    assert "could not be backed up before it is replaced" in done.stderr
    assert not any("upload" in one.path for one in standin.server.requests)
    assert standin.restore(*DENSE, "--replace", "--force")["pre_restore"] is not None


# What broke off.


def killed(backed: Backed, *words: str, number: signal.Signals = signal.SIGKILL) -> int:
    """End a restore while the server is at work on it."""
    backed.server.faults.add("linger", on="upload", collection="dense", times=1)
    command = [*COMMAND, "--config", str(backed.program.config), "restore", "--yes", *words]
    running = subprocess.Popen(command, env=backed.program.environment, stdout=subprocess.DEVNULL)
    until(lambda: any(backed.server.restores.jobs.running("dense") for _ in "x"), 20, "the upload")
    running.send_signal(number)
    return running.wait(20)


def test_killed_in_the_middle_it_goes_on_where_it_was(standin: Backed) -> None:
    standin.drop()
    words = ("--collection", "binary", *DENSE, "--collection", "named")
    killed(standin, *words)
    assert dict(standin.program.query("SELECT target, state FROM restored")) == {"binary": "done", "dense": "begun"}
    standin.server.faults.release(waiting=1)
    before = len(standin.server.requests)
    answer = standin.restore(*words)
    assert [(one["name"], one["action"]) for one in answer["collections"]][::2] == [
        ("binary", "compare"),
        ("named", "create"),
    ]
    assert answer["state"] == "good"
    sent = [one.path for one in standin.server.requests[before:] if "upload" in one.path]
    assert not any("binary" in path for path in sent), "what is done is not sent again"


def test_what_was_done_and_then_written_to_is_left_to_who_did(standin: Backed) -> None:
    standin.drop()
    words = ("--collection", "scalar", *DENSE)
    killed(standin, *words)
    standin.server.faults.release(waiting=1)
    standin.write("scalar")
    answer = standin.restore(*words, expect=2)
    assert [(one["state"], one["action"]) for one in answer["collections"]] == [("bad", "compare"), ("good", "resume")]
    assert "so it is left as it is: restored 65 of 60 points" in answer["collections"][0]["why"]
    assert count(standin.url, "scalar") == 65
    standin.restore(*words[:2], expect=64)
    again = standin.restore(*words[:2], "--replace", "--skip-proof")
    assert (again["state"], count(standin.url, "scalar")) == ("good", 60)
    assert again["pre_restore"]


def test_a_backup_of_what_broke_off_is_not_what_it_goes_on_with(standin: Backed) -> None:
    standin.drop()
    first = standin.backup
    killed(standin)
    standin.server.faults.release(waiting=1)
    later = standin.program.json("backup", "--collection", "binary")["id"]
    standin.program.run("verify", later)
    answer = standin.restore()
    assert (answer["backup"], answer["state"]) == (first, "good")
    assert standin.program.json("restore", "--dry-run", "--collection", "binary", "--as", "b")["backup"] == later


def test_killed_in_place_nothing_is_lost_and_the_same_command_finishes(standin: Backed) -> None:
    standin.write()
    killed(standin, *DENSE, "--replace")
    (aside,) = standin.aside()
    standin.server.faults.release(waiting=1)
    answer = standin.restore(*DENSE)
    assert (answer["state"], count(standin.url, "dense")) == ("good", 60)
    assert answer["collections"][0]["pre_restore"] == aside
    assert standin.aside() == [aside], "what broke off is not put aside"


def test_a_server_that_dies_leaves_what_the_next_attempt_mends(standin: Backed) -> None:
    standin.write()
    standin.server.faults.add("die", collection="dense", seconds=None, at="half", times=1)
    answer = standin.restore(*DENSE, "--replace", expect=2)
    (aside,) = standin.aside()
    assert answer["collections"][0]["state"] == "bad"
    assert f"snapward restore {aside}" in answer["collections"][0]["why"]
    standin.server.start()
    assert standin.restore(*DENSE)["state"] == "good"
    assert (count(standin.url, "dense"), standin.aside()) == (60, [aside])


def test_asked_to_stop_it_leaves_off_and_says_how_to_go_on(standin: Backed) -> None:
    standin.drop("dense")
    assert killed(standin, *DENSE, number=signal.SIGTERM) == 130
    ((outcome,),) = standin.program.query("SELECT outcome FROM run WHERE job = 'restore'")
    assert outcome == "interrupted"
    standin.server.faults.release(waiting=1)
    assert standin.restore(*DENSE)["state"] == "good"


# Another server, and its own files.


def test_into_another_server_with_a_key_of_its_own(standin: Backed, tmp_path: Path) -> None:
    with StandIn(tmp_path / "other", api_key="other-key") as other:
        standin.program.environment["OTHER_KEY"] = "other-key"
        words = [*DENSE, "--to", other.url, "--to-key-env", "OTHER_KEY"]
        answer = standin.restore(*words)
        assert (answer["url"], answer["state"]) == (other.url, "good")
        assert standin.program.query("SELECT url, state FROM restored") == [(other.url, "done")]
        assert "OTHER_KEY" not in json.dumps(answer)
        done = standin.program.run("restore", "--yes", *DENSE, "--to", other.url, expect=77)
        assert "other-key" not in done.stdout + done.stderr


def test_a_key_that_may_only_read_is_told_before_anything_is_done(standin: Backed, tmp_path: Path) -> None:
    with StandIn(tmp_path / "other", api_key="all", read_only_key="few") as other:
        configure(standin.program, other.url, ", api_key: few")
        done = standin.program.run("restore", "--yes", *DENSE, expect=77)
        assert "may not restore" in done.stderr
        configure(standin.program, other.url, ", api_key: few, restore_api_key: all")
        assert standin.restore(*DENSE)["state"] == "good"


# What `systemctl` is asked for goes into a file; $STOPPING is run when it is to stop the unit.
FAKE = """#!/bin/sh
verb=$1
if [ "$verb" = show ]; then printf 'LoadState=loaded\\nActiveState=%s\\n' "$(cat $HOME_OF_IT/state)"; exit; fi
echo "$verb" >> "$HOME_OF_IT/log"
[ "$verb" = stop ] && eval "$STOPPING" && echo inactive > "$HOME_OF_IT/state"
[ "$verb" = start ] && echo active > "$HOME_OF_IT/state"
exit 0
"""


class Unit:
    """A server's own files, in a backup; and a unit that can be stopped and started."""

    def __init__(self, backed: Backed, folder: Path) -> None:
        self.folder = folder
        self.files = folder / "etc" / "qdrant"
        (self.files / "more").mkdir(parents=True)
        (self.files / "config.yaml").write_text("log_level: INFO\n")
        (self.files / "config.yaml").chmod(0o600)
        (self.files / "more" / "keys.yaml").write_text("api_key: none\n")
        (self.files / "large.yaml").write_text(f"# {os.urandom(2000).hex()}\n")
        (self.files / "link").symlink_to("config.yaml")
        (folder / "systemctl").write_text(FAKE)
        (folder / "systemctl").chmod(0o755)
        (folder / "state").write_text("active")
        environment = backed.program.environment
        environment |= {"PATH": f"{folder}:{os.environ['PATH']}", "HOME_OF_IT": str(folder), "STOPPING": "true"}
        configure(backed.program, backed.url, f", config_files: [{self.files}], service: qdrant.service")
        self.backup = backed.program.json("backup", "--collection", "dense")["id"]
        backed.program.run("verify", self.backup)

    @property
    def asked(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text().split() if log.exists() else []

    def change(self) -> None:
        (self.files / "config.yaml").write_text("log_level: DEBUG\n")
        (self.files / "more" / "keys.yaml").unlink()


@pytest.fixture
def unit(standin: Backed, tmp_path: Path) -> Unit:
    return Unit(standin, tmp_path / "unit")


def test_the_servers_own_files_go_back_and_old_ones_are_kept_beside(standin: Backed, unit: Unit) -> None:
    unit.change()
    standin.drop("dense")
    said = standin.program.run("restore", unit.backup, "--server-files", "--dry-run").stdout
    assert f"{unit.files}/config.yaml is put back, and what is there is kept beside" in said
    assert f"{unit.files}/link is a link, and is left as it is" in said
    assert (unit.asked, (unit.files / "config.yaml").read_text()) == ([], "log_level: DEBUG\n")
    answer = standin.restore(unit.backup, "--server-files", "--all")
    assert unit.asked == ["stop", "start"]
    assert {Path(one["path"]).name: one["state"] for one in answer["server_files"]} == {
        "config.yaml": "put back",
        "keys.yaml": "put back",
        "large.yaml": "same",
    }
    assert (unit.files / "config.yaml").read_text() == "log_level: INFO\n"
    assert (unit.files / f"config.yaml.before-{unit.backup}").read_text() == "log_level: DEBUG\n"
    assert (unit.files / "config.yaml").stat().st_mode & 0o777 == 0o600
    assert (unit.files / "more" / "keys.yaml").read_text() == "api_key: none\n"
    assert not list(unit.files.rglob("*.part"))
    assert (answer["state"], count(standin.url, "dense")) == ("good", 60)
    again = standin.restore(unit.backup, "--server-files")
    assert (again["collections"], unit.asked) == ([], ["stop", "start"]), "nothing is left to be put back"


def test_whatever_happens_the_server_is_started_again(standin: Backed, unit: Unit) -> None:
    unit.change()
    (unit.files / "more").rmdir()
    (unit.files / "more").write_text("in the way")
    done = standin.program.run("restore", "--yes", unit.backup, "--server-files", expect=None)
    assert done.returncode in {2, 73}, done.stderr
    assert unit.asked in ([], ["stop", "start"])
    (unit.files / "more").unlink()
    (unit.files / "config.yaml.part").mkdir()
    standin.program.run("restore", "--yes", unit.backup, "--server-files", expect=73)
    assert unit.asked[-2:] == ["stop", "start"]
    assert (unit.folder / "state").read_text().strip() == "active"


def test_a_signal_waits_until_the_server_runs_again(standin: Backed, unit: Unit) -> None:
    unit.change()
    standin.drop("dense")
    standin.program.environment["STOPPING"] = "kill -TERM $PPID; kill -INT $PPID"
    answer = standin.restore(unit.backup, "--server-files", "--all", expect=130)
    assert answer["collections"][0]["why"] == "not begun, because it was asked to stop"
    assert unit.asked == ["stop", "start"]
    assert (unit.files / "config.yaml").read_text() == "log_level: INFO\n"
