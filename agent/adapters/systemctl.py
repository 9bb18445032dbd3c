"""Stop and start a unit of systemd, as an operator would."""

import os
import re
import subprocess

from agent.errors import NoRights, Refused, TryLater

# No patterns: `systemctl stop 'q*'` stops whatever fits.
_UNIT = re.compile(r"[A-Za-z0-9:_.@\\][A-Za-z0-9:_.@\\-]{0,254}")
_RULE = "/etc/polkit-1/rules.d/50-snapward.rules"
# Seconds that systemd may take to say how a unit is.
_TELLING = 30.0
_UP = frozenset({"active", "activating", "reloading", "refreshing"})
_DOWN = frozenset({"inactive", "failed"})
# systemctl's exit code, and its words, for what polkit does not allow.
_FORBIDDEN = 4
_FORBIDDING = ("access denied", "authentication required", "not authorized", "permission denied")


def active(unit: str) -> bool:
    """Whether the unit runs, or is on its way up.

    Raises:
        Refused: there is no systemd here, or no such unit.
        TryLater: systemd does not answer.
    """
    return _state(unit) in _UP


def stop(unit: str, deadline: float) -> None:
    """Stop a unit; returns when it has stopped. One that does not run is left as it is.

    Raises:
        NoRights: polkit does not let us.
        TryLater: it has not stopped after `deadline` seconds; systemd may still stop it.
        Refused: there is no systemd here, or no such unit, or it does not stop.
    """
    if _state(unit) in _DOWN:
        return
    _ask("stop", unit, deadline)
    now = _state(unit)
    if now not in _DOWN:
        raise Refused(f"{unit} was stopped, and is {now}", f"What starts it? Look at `journalctl -u {unit}`.")


def start(unit: str, deadline: float) -> None:
    """Start a unit; returns when it says that it runs. One that runs is left as it is.

    Raises:
        NoRights: polkit does not let us.
        TryLater: it does not run after `deadline` seconds; systemd may still start it.
        Refused: there is no systemd here, or no such unit, or it does not start.
    """
    if _state(unit) == "active":
        return
    _ask("start", unit, deadline)
    now = _state(unit)
    if now not in _UP:
        raise Refused(f"{unit} was started, and is {now}", f"Look at `journalctl -u {unit}`.")


def _state(unit: str) -> str:
    """What systemd calls the state of a unit, such as active or failed."""
    done = _run("show", ["--property=LoadState,ActiveState"], unit, _TELLING)
    told = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    state = told.get("ActiveState", "")
    if done.returncode or not state:
        raise Refused(f"systemd does not tell how {unit} is: {_said(done)}", "Does systemd run here?")
    if told.get("LoadState") == "not-found" and state in _DOWN:
        raise Refused(f"systemd knows no unit {unit}", "Mend engine.service: `systemctl list-units` shows them.")
    return state


def _ask(verb: str, unit: str, deadline: float) -> None:
    """Let systemd stop or start a unit, and wait until it has."""
    done = _run(verb, ["--no-ask-password"], unit, deadline)
    if not done.returncode:
        return
    told = f"systemctl {verb} {unit}: {_said(done)}"
    if done.returncode == _FORBIDDEN or any(word in told.lower() for word in _FORBIDDING):
        raise NoRights(told, f"Let the agent's user do that by {_RULE}; it is shipped in systemd/.")
    raise Refused(told, f"Look at `journalctl -u {unit}`.")


def _run(verb: str, options: list[str], unit: str, deadline: float) -> "subprocess.CompletedProcess[str]":
    if not _UNIT.fullmatch(unit):
        raise Refused(f"{unit!r} is no name of a unit", "Mend engine.service: it is one such as qdrant.service.")
    try:
        return subprocess.run(
            ["systemctl", verb, *options, "--", unit],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            encoding="utf-8",
            errors="replace",
            timeout=deadline,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TryLater(
            f"systemctl {verb} {unit} takes longer than {deadline:g} s",
            f"systemd may still be at it: `systemctl status {unit}`.",
        ) from error
    except OSError as error:
        raise Refused(f"systemctl cannot be run: {error.strerror}", "Is this machine run by systemd?") from error


def _said(done: "subprocess.CompletedProcess[str]") -> str:
    """The words of systemctl on one line, or its exit code where it says nothing."""
    return " ".join((done.stderr or done.stdout).split())[:500] or f"exit code {done.returncode}"
