"""A wall clock that jumps under a running agent, which is served in a thread with clocks of our own."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from program import Program, archive, until

_HOUR = 3600.0
_DAY = 24 * _HOUR


class Hands:
    """A wall clock that can be set, and a machine that can sleep: only its steady clock counts that."""

    def __init__(self, wall: float) -> None:
        self.offset = wall - time.time()
        self.slept = 0.0

    def wall(self) -> float:
        return time.time() + self.offset

    def steady(self) -> float:
        return time.monotonic() + self.slept

    def sleep(self, seconds: float) -> None:
        """Let the machine sleep."""
        self.offset += seconds
        self.slept += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock."""
        self.offset += seconds


def jumps(program: Program) -> list[tuple[str, str]]:
    """Set the clock to and fro around a daily slot; returns what became of each slot, in UTC, in order.

    The site's own program is the engine, so that each backup that is made leaves a trace of its own.
    """
    script = program.home / "backup.sh"
    script.write_text(
        '#!/bin/sh\nset -e\nmkdir -p "$1/daily"\ncd "$1/daily"\nname=$(date +%s%N).snapshot\n'
        'head -c 5000 /dev/zero | tr "\\\\0" x > .part\nmv .part "$name"\nsha256sum "$name" > "$name.sha256"\n'
    )
    script.chmod(0o755)
    program.write(engine=f'{{kind: command, argv: ["{script}", "{program.primary}"]}}', scan_every="1s")
    hands = Hands(datetime(2026, 3, 10, 1, 59, 57, tzinfo=UTC).timestamp())
    with _served(program, hands):
        _made(program, 1)
        hands.jump(-2 * _HOUR)  # 02:00 comes again, and is not run again
        _told(program)
        hands.sleep(3 * _HOUR)
        _alive(program, "back")
        hands.sleep(23.5 * _HOUR)  # the next day's 02:00 is
        _made(program, 2)
        hands.jump(20 * _HOUR)  # from 02:30 to 22:30
        _alive(program, "forward")
        hands.jump(5 * _HOUR)  # over the third 02:00, which is made up for
        _made(program, 3)
        hands.jump(3 * _DAY + 14 * _HOUR)  # to 17:30 three days on: too late for any of them
        until(lambda: ("backup_missed", "daily") in program.open_incidents(), what="the missed slots")
        _told(program)
        _alive(program, "far")
        hands.sleep(1.1 * _HOUR)
        _alive(program, "calm")
        until(lambda: ("clock_jumped", "clock") not in program.open_incidents(), what="the end of it")
    rows = program.query("SELECT slot, outcome FROM run WHERE job = 'backup' ORDER BY id")
    return [(f"{datetime.fromtimestamp(slot, UTC):%m-%d %H:%M}", outcome) for slot, outcome in rows]


@contextlib.contextmanager
def _served(program: Program, hands: Hands) -> Iterator[None]:
    from agent.daemon.children import Children
    from agent.daemon.desk import Clocks, Desk
    from agent.daemon.events import Signalled
    from agent.daemon.loop import close, serve
    from agent.daemon.run import open_desk
    from agent.settings import load

    program.state.mkdir()
    desks: list[Desk] = []

    def run() -> None:
        clocks = Clocks(hands.wall, time.monotonic, hands.steady)
        desks.append(open_desk(load(str(program.config)), Children(str(program.config)), clocks))
        serve(desks[0], {})
        close(desks[0])

    thread = threading.Thread(target=run)
    before = os.environ.copy()
    os.environ.update(program.environment)
    thread.start()
    try:
        until(lambda: program.query("SELECT 1 FROM pulse"), what="the first pulse")
        yield
    finally:
        for desk in desks:
            desk.inbox.put(Signalled("stop"))
        thread.join(60)
        os.environ.clear()
        os.environ.update(before)


def _made(program: Program, number: int) -> None:
    sql = "SELECT count(*) FROM run WHERE job = 'backup' AND outcome = 'ok'"
    until(lambda: program.query(sql) == [(number,)], 40, f"backup {number}")


def _told(program: Program) -> None:
    until(lambda: ("clock_jumped", "clock") in program.open_incidents(), 40, "the word about the clock")


def _alive(program: Program, name: str) -> None:
    """An archive that comes now is proved: by then the agent has looked at its clock."""
    archive(program.secondary / "daily", f"{name}.snapshot")
    until(lambda: program.states().get(f"secondary:daily/{name}.snapshot") == "good", what=f"the verdict on {name}")
