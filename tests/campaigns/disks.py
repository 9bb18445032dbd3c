"""Disks that are full, read-only or not there, as file systems of our own; only root may mount them."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from program import Program, archive, flip, until
from standins import Sink

BAD = "archive_bad"


@contextlib.contextmanager
def mounted(path: Path, *options: str) -> Iterator[None]:
    """A file system at a path for as long as the block runs; without the right to mount, the test is skipped."""
    path.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, path], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a file system of our own cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=False, capture_output=True)


def fill(folder: Path) -> Path:
    """Take all the space there is, to the last byte."""
    filler = folder / "filler"
    fd = os.open(filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while os.write(fd, bytes(size)):
                    pass
    finally:
        os.close(fd)
    return filler


def bad(program: Program) -> set[str]:
    """The archives that are told to be bad."""
    return {subject for rule, subject in program.open_incidents() if rule == BAD}


def full_location(program: Program) -> None:
    """A location fills up: that is told, its backup is told to lack there, and all of it heals with the space."""
    program.write(more="storage: {sample_every: 1s}\n")
    with mounted(program.primary, "-t", "tmpfs", "-o", "size=4m", "tmpfs"), program.agent() as process:
        path = archive(program.primary / "daily", "before.snapshot")
        until(lambda: program.states().get("primary:daily/before.snapshot") == "good")
        filler = fill(program.primary)
        until(
            lambda: {("location_unwritable", "primary"), ("storage_space", "primary")} <= set(program.open_incidents())
        )
        assert "No space left" in program.open_incidents()["location_unwritable", "primary"]
        _degraded(program)
        _goes_on(program, path, "while-full")
        filler.unlink()
        _healed(program, path)
        assert process.poll() is None


def read_only_location(program: Program) -> None:
    """A location goes read-only, as the kernel does to a failing disk, and comes back."""
    program.write(more="storage: {sample_every: 1s}\n")
    with mounted(program.primary, "-t", "tmpfs", "-o", "size=4m", "tmpfs"), program.agent() as process:
        path = archive(program.primary / "daily", "before.snapshot")
        until(lambda: program.states().get("primary:daily/before.snapshot") == "good")
        subprocess.run(["mount", "-o", "remount,ro", program.primary], check=True)
        key = ("location_unwritable", "primary")
        until(lambda: key in program.open_incidents())
        assert "read-only" in program.open_incidents()[key]
        _degraded(program)
        assert program.states()["primary:daily/before.snapshot"] == "good"
        subprocess.run(["mount", "-o", "remount,rw", program.primary], check=True)
        _healed(program, path)
        assert process.poll() is None


def absent_location(program: Program) -> None:
    """A location's disk is unmounted: nothing on it has vanished, and nothing is written where it was."""
    disk = program.home / "disk"
    disk.mkdir()
    program.write(scan_every="1s")
    program.config.write_text(program.config.read_text().replace("{path: primary}", "{path: primary, mount: primary}"))
    with mounted(program.primary, "--bind", str(disk)), program.agent() as process:
        path = archive(program.primary / "daily", "before.snapshot")
        until(lambda: program.states().get("primary:daily/before.snapshot") == "good")
        subprocess.run(["umount", "--lazy", program.primary], check=True)
        _degraded(program)
        until(lambda: ("location_unavailable", "primary") in program.open_incidents())
        assert not list(program.primary.iterdir()), "something was written where the disk was"
        assert program.states()["primary:daily/before.snapshot"] == "good"
        subprocess.run(["mount", "--bind", disk, program.primary], check=True)
        _healed(program, path)
        assert process.poll() is None


def full_state(program: Program, sink: Sink, number: int) -> None:
    """The agent's own disk fills up while `number` bad archives arrive, and again when its reserve is used up."""
    program.write(
        targets=f'{{ops: {{url: "{sink.url()}"}}}}',
        more="storage: {sample_every: 1s}\n",
    )
    with mounted(program.state, "-t", "tmpfs", "-o", "size=16m", "tmpfs"), program.agent() as process:
        fill(program.state)
        first = _drop_bad(program, "first", number)
        until(lambda: any(rule == "state_dir_full" for rule, _ in program.open_incidents()), what="the incident")
        until(lambda: _delivered(program, "state_dir_full") and sink.arrived, what="the alert")
        until(lambda: bad(program) >= first, 60, "the verdicts that the reserve made room for")
        fill(program.state)
        second = _drop_bad(program, "second", number)
        until(lambda: "database or disk is full" in program.lines(), what="the log's word")
        third = _drop_bad(program, "third", number)
        assert process.poll() is None
        (program.state / "filler").unlink()
        until(lambda: bad(program) >= first | second | third, 60, "the verdicts that had waited")
        until(lambda: {rule for rule, _ in program.open_incidents()} == {BAD}, what="the end of the incident")
        archive(program.primary / "daily", "after.snapshot")
        until(lambda: program.states().get("primary:daily/after.snapshot") == "good", what="life after it")
        until(lambda: not program.query("SELECT 1 FROM notice WHERE state != 'delivered'"), 60, "the messages")
        assert process.poll() is None
        assert program.query("PRAGMA quick_check") == [("ok",)]
    twice = program.query("SELECT name FROM verdict GROUP BY name HAVING count(*) > 1")
    assert not twice, f"judged more than once: {twice}"


def start_on_full_state(program: Program) -> None:
    """The agent starts although there is no space left for its ledger, says so, and guards."""
    program.write(more="storage: {sample_every: 1s}\n")
    with mounted(program.state, "-t", "tmpfs", "-o", "size=16m", "tmpfs"):
        with program.agent():
            pass
        filler = fill(program.state)
        with program.agent() as process:
            until(lambda: any(rule == "state_dir_full" for rule, _ in program.open_incidents()), what="the incident")
            archive(program.primary / "daily", "while-full.snapshot")
            until(lambda: program.states().get("primary:daily/while-full.snapshot") == "good")
            filler.unlink()
            until(lambda: not program.open_incidents(), what="the end of it")
            assert process.poll() is None


def _delivered(program: Program, rule: str) -> bool:
    sql = (
        "SELECT 1 FROM news JOIN incident ON incident.id = news.incident JOIN notice ON notice.id = news.notice"
        " WHERE rule = ? AND state = 'delivered'"
    )
    return bool(program.query(sql, rule))


def _drop_bad(program: Program, name: str, number: int) -> set[str]:
    names = [f"{name}-{index:03}.snapshot" for index in range(number)]
    for one in names:
        path = archive(program.primary / "daily", one, b"snapshot" + os.urandom(4088), promise=False)
        (path.parent / f"{one}.sha256").write_text(f"{'0' * 64}  {one}\n", encoding="ascii")
    return {f"primary:daily/{one}" for one in names}


def _degraded(program: Program) -> None:
    """A backup is made where it can be, and it is told where not."""
    _sample(program)
    answer = program.json("backup", "daily", expect=1)
    assert answer["locations"] == ["secondary"]
    assert "primary" in answer["failed_locations"]
    until(lambda: ("backup_degraded", "daily") in program.open_incidents())
    incoming = program.primary / ".incoming"
    assert not incoming.exists() or not list(incoming.iterdir())


def _goes_on(program: Program, path: Path, name: str) -> None:
    """What comes elsewhere is proved, and damage is found."""
    archive(program.secondary / "daily", f"{name}.snapshot")
    until(lambda: program.states().get(f"secondary:daily/{name}.snapshot") == "good")
    flip(path, 99)
    until(lambda: f"primary:daily/{path.name}" in bad(program))
    flip(path, 99)


def _healed(program: Program, path: Path) -> None:
    """Everything that was told ends, and the next backup is whole again."""
    until(lambda: ("location_unwritable", "primary") not in program.open_incidents(), what="the end of it")
    _goes_on(program, path, "after")
    assert program.json("backup", "daily")["locations"] == ["primary", "secondary"]
    until(lambda: not program.open_incidents(), what=f"the end of {program.open_incidents()}")
    states = set(program.states().values())
    assert states == {"good"}, states


def _sample(program: Program) -> None:
    from agent.adapters import edge

    if not list((program.home / "qdrant").iterdir()):
        edge.build_sample(str(program.home / "qdrant"), "articles", 50, 4)
