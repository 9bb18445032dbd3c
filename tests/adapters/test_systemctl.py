"""Units are stopped and started through `systemctl`, here a program of that name with one unit that it remembers."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from agent.adapters import systemctl
from agent.errors import AgentError, NoRights, Refused, TryLater
from agent.files import shipped

UNIT = "qdrant.service"
# Words and exit codes are those of systemd 252.
FAKE = r"""#!/bin/sh
cd "$(dirname "$0")" && echo "$*" >> asked
for unit; do :; done
. ./how
case "$1" in
show)
  [ -z "$show_fails" ] || { echo "$show_fails" >&2; exit 1; }
  [ "$unit" = qdrant.service ] || { echo LoadState=not-found; echo ActiveState=inactive; exit 0; }
  echo LoadState=loaded; echo "ActiveState=$(cat state)" ;;
stop|start)
  [ -z "$hangs" ] || exec sleep 30
  [ -z "$says" ] || { echo "$says" >&2; exit "$code"; }
  case "$1" in stop) echo "$stopped" > state ;; start) echo "$started" > state ;; esac ;;
esac
"""


class Systemd:
    """What a fake systemd does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "systemctl").write_text(FAKE)
        (folder / "systemctl").chmod(0o755)
        self.state = "active"
        self.does()

    def does(self, **how: Any) -> None:
        settings = {"stopped": "inactive", "started": "active", "says": "", "code": 1, "hangs": "", "show_fails": ""}
        lines = [f"{name}='{value}'\n" for name, value in (settings | how).items()]
        (self._folder / "how").write_text("".join(lines))

    @property
    def state(self) -> str:
        return (self._folder / "state").read_text().strip()

    @state.setter
    def state(self, state: str) -> None:
        (self._folder / "state").write_text(state)

    @property
    def asked(self) -> list[str]:
        path = self._folder / "asked"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Systemd(tmp_path)


@pytest.mark.parametrize("state", ["active", "activating", "reloading", "inactive", "failed", "deactivating"])
def test_a_unit_runs_or_not(systemd: Systemd, state: str) -> None:
    systemd.state = state
    assert systemctl.active(UNIT) == (state in {"active", "activating", "reloading"})
    assert systemd.asked == ["show --property=LoadState,ActiveState -- qdrant.service"]


def test_a_unit_is_stopped_and_started(systemd: Systemd) -> None:
    systemctl.stop(UNIT, 10)
    assert systemd.state == "inactive"
    systemctl.start(UNIT, 10)
    assert systemd.state == "active"
    changes = [line for line in systemd.asked if not line.startswith("show")]
    assert changes == ["stop --no-ask-password -- qdrant.service", "start --no-ask-password -- qdrant.service"]


def test_what_is_so_already_is_left_as_it_is(systemd: Systemd) -> None:
    systemctl.start(UNIT, 10)
    systemd.state = "failed"
    systemctl.stop(UNIT, 10)
    assert {line.split()[0] for line in systemd.asked} == {"show"}


@pytest.mark.parametrize("verb", ["stop", "start"])
@pytest.mark.parametrize(
    ("says", "code"),
    [
        ("Failed to stop qdrant.service: Interactive authentication required.", 1),
        ("Failed to start qdrant.service: Access denied", 4),
        ("Failed to stop qdrant.service: Permission denied", 1),
        ("Anything else", 4),
    ],
)
def test_what_polkit_does_not_allow_is_told_with_the_file_that_would(
    systemd: Systemd, verb: str, says: str, code: int
) -> None:
    systemd.state = "active" if verb == "stop" else "inactive"
    systemd.does(says=says, code=code)
    with pytest.raises(NoRights, match=f"systemctl {verb} qdrant.service: {says}") as caught:
        getattr(systemctl, verb)(UNIT, 10)
    assert "/etc/polkit-1/rules.d/50-snapward.rules" in caught.value.hint
    assert (Path(shipped("systemd")) / "50-snapward.rules").exists()


def test_a_unit_that_fails_to_start_is_told_with_its_words(systemd: Systemd) -> None:
    systemd.state = "inactive"
    systemd.does(says="Job for qdrant.service failed because the control process exited with error code.")
    with pytest.raises(Refused, match="the control process exited with error code") as caught:
        systemctl.start(UNIT, 10)
    assert "journalctl -u qdrant.service" in caught.value.hint


def test_a_unit_that_starts_and_dies_at_once_is_told(systemd: Systemd) -> None:
    systemd.state = "inactive"
    systemd.does(started="failed")
    with pytest.raises(Refused, match="was started, and is failed"):
        systemctl.start(UNIT, 10)


def test_a_unit_that_somebody_else_starts_again_is_told(systemd: Systemd) -> None:
    systemd.does(stopped="activating")
    with pytest.raises(Refused, match="was stopped, and is activating"):
        systemctl.stop(UNIT, 10)


@pytest.mark.parametrize("verb", ["active", "stop", "start"])
def test_a_unit_that_does_not_exist_is_told(systemd: Systemd, verb: str) -> None:
    with pytest.raises(Refused, match=r"systemd knows no unit nothing\.service"):
        getattr(systemctl, verb)("nothing.service", *([10] if verb != "active" else []))


def test_a_unit_that_takes_too_long_is_told(systemd: Systemd) -> None:
    systemd.does(hangs="yes")
    began = time.monotonic()
    with pytest.raises(TryLater, match=r"systemctl stop qdrant\.service takes longer than 0\.3 s") as caught:
        systemctl.stop(UNIT, 0.3)
    assert time.monotonic() - began < 5
    assert "systemctl status" in caught.value.hint


def test_a_machine_without_systemd_is_told(systemd: Systemd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    systemd.does(show_fails="System has not been booted with systemd as init system (PID 1).")
    with pytest.raises(Refused, match="has not been booted with systemd"):
        systemctl.active(UNIT)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(Refused, match="systemctl cannot be run: No such file"):
        systemctl.active(UNIT)


@pytest.mark.parametrize("unit", ["", "-H", "--root=/", "q*", "a b", "a;b", "ä", "x" * 256, "q?", "[a]", "a\n"])
def test_a_name_that_is_none_is_never_run(systemd: Systemd, unit: str) -> None:
    with pytest.raises(Refused, match="is no name of a unit"):
        systemctl.stop(unit, 10)
    assert systemd.asked == []


def test_the_real_systemctl_is_understood_whatever_it_says_here() -> None:
    if not shutil.which("systemctl"):
        pytest.skip("there is no systemctl")
    with pytest.raises(AgentError, match=r"knows no unit snapward-tests-none\.service|systemd does not tell how"):
        systemctl.active("snapward-tests-none.service")


# The rule for polkit.


def decided(action: str, unit: str, verb: str, user: str) -> str:
    """What the shipped rule says, by the JavaScript that is there."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node")
    rule = (Path(shipped("systemd")) / "50-snapward.rules").read_text()
    asked = json.dumps({"id": action, "unit": unit, "verb": verb, "user": user})
    script = f"""
    const polkit = {{Result: {{YES: "yes", NOT_HANDLED: "not handled"}}, addRule: (rule) => {{ added = rule; }}}};
    let added;
    {rule}
    const asked = {asked};
    console.log(added({{id: asked.id, lookup: (name) => asked[name]}}, {{user: asked.user}}));
    """
    return subprocess.run([node, "-e", script], capture_output=True, text=True, check=True).stdout.strip()


MANAGE = "org.freedesktop.systemd1.manage-units"


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ((MANAGE, UNIT, "stop", "snapward"), "yes"),
        ((MANAGE, UNIT, "start", "snapward"), "yes"),
        ((MANAGE, UNIT, "restart", "snapward"), "not handled"),
        ((MANAGE, UNIT, "set-property", "snapward"), "not handled"),
        ((MANAGE, "sshd.service", "stop", "snapward"), "not handled"),
        ((MANAGE, "qdrant.service.d", "stop", "snapward"), "not handled"),
        ((MANAGE, UNIT, "stop", "somebody"), "not handled"),
        (("org.freedesktop.systemd1.manage-unit-files", UNIT, "stop", "snapward"), "not handled"),
    ],
)
def test_the_rule_lets_one_user_stop_and_start_one_unit(asked: tuple[str, str, str, str], answer: str) -> None:
    assert decided(*asked) == answer
