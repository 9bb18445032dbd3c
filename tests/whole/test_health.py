"""The look at a Qdrant server between backups: what is wrong is told once, and its end as well."""

from pathlib import Path

import pytest
from program import Program, until
from standin import StandIn, nine

FEW = ("dense", "sparse", "empty")


def configure(program: Program, url: str, more: str = "") -> None:
    program.write(
        engine=f'{{kind: qdrant, url: "{url}", patience: 0s, silence: 1s}}', more=f"health: {{every: 1s}}\n{more}"
    )


def test_what_is_wrong_with_a_server_is_told_and_ends_by_itself(program: Program, tmp_path: Path) -> None:
    with StandIn(tmp_path / "server", version="1.19.2") as standin:
        nine.seed(standin.url, names=FEW)
        configure(program, standin.url)
        standin.faults.add("status", collection="dense", state="red", text="disk full")
        with program.agent():
            until(lambda: ("collection_red", "dense") in program.open_incidents(), what="the red collection")
            assert "disk full" in program.open_incidents()["optimizer_failed", "dense"]
            standin.faults.clear()
            until(lambda: ("collection_red", "dense") not in program.open_incidents(), what="its end")
            assert ("optimizer_failed", "dense") not in program.open_incidents()
            standin.restart(down_for=None)
            until(lambda: ("server_unreachable", "server") in program.open_incidents(), what="the silence")
            standin.start()
            until(lambda: ("server_unreachable", "server") not in program.open_incidents(), what="the answer")
        assert program.open_incidents() == {}


def test_a_snapshot_that_is_being_made_is_no_trouble(program: Program, tmp_path: Path) -> None:
    with StandIn(tmp_path / "server", version="1.19.2") as standin:
        nine.seed(standin.url, names=FEW)
        configure(program, standin.url)
        standin.faults.add("status", state="yellow")
        found = program.json("health")
    assert (found["state"], found["version"]) == ("ok", "1.19.2")
    assert {one["level"] for one in found["findings"]} == {"ok"}


@pytest.mark.parametrize(("given", "rule", "level"), [("", "server_denied", 2), ("some", "server_denied", 1)])
def test_a_key_that_is_refused_or_sees_too_little_is_told(
    program: Program, tmp_path: Path, given: str, rule: str, level: int
) -> None:
    keys = {"some": ["dense"]}
    with StandIn(tmp_path / "server", version="1.19.2", api_key="secret-1", collection_keys=keys) as standin:
        nine.seed(standin.url, "secret-1", names=FEW)
        key = f', api_key: "{given}"' if given else ""
        program.write(engine=f'{{kind: qdrant, url: "{standin.url}", patience: 0s{key}}}')
        program.run("health", expect=level)
    assert [one for one, _ in program.open_incidents()] == [rule]


def test_a_version_with_a_known_fault_is_told(program: Program, tmp_path: Path) -> None:
    with StandIn(tmp_path / "server", version="1.16.1") as standin:
        nine.seed(standin.url, names=FEW)
        configure(program, standin.url)
        assert program.json("health", expect=2)["state"] == "critical"
        assert "1.16.1" in program.open_incidents()["server_version", "server"]
        done = program.run("check", expect=2)
        assert "server_version" in done.stdout
        assert "3 collections" in done.stdout


def test_incidents_about_a_server_end_when_another_engine_is_configured(program: Program) -> None:
    configure(program, "http://127.0.0.1:9")
    program.run("health", expect=2)
    assert ("server_unreachable", "server") in program.open_incidents()
    program.write()
    with program.agent():
        until(lambda: program.open_incidents() == {}, what="the end of what is about no server any more")
