"""Sudden deaths of restores in place, at twenty-five moments, on two servers."""

import json
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from campaigns.restore_kills import Breaks, kills
from program import Program
from standin import StandIn, nine

KILLS = 25
SEED = "SNAPWARD_TEST_SEED"


@pytest.mark.timeout(600)
def test_a_restore_that_is_killed_loses_nothing_and_the_same_command_finishes(
    tmp_path: Path, say: Callable[[object], None]
) -> None:
    seed = int(os.environ.get(SEED) or secrets.randbelow(10**6))
    say(f"{SEED}={seed}")

    def killed(number: int) -> Breaks:
        folder = tmp_path / str(number)
        with StandIn(folder / "server") as standin:
            nine.seed(standin.url)
            for name, seconds in {"dense": 0.2, "multi": 0.1, nine.AWKWARD: 0.2}.items():
                standin.faults.add("linger", on="upload", collection=name, seconds=seconds)
            standin.faults.add("linger", on="create", collection="indexed", seconds=0.2)
            program = Program(folder / "home")
            configure(program, standin.url)
            return kills(program, standin, (KILLS + number) // 2, seed + number)

    with ThreadPoolExecutor(2) as servers:
        for seen in servers.map(killed, range(2)):
            say(seen)


def configure(program: Program, url: str) -> None:
    include = json.dumps([name.replace("[", "[[]") for name in nine.COLLECTIONS], ensure_ascii=False)
    quick = f"patience: 300ms, silence: 2s, collections: {{include: {include}}}"
    program.write(engine=f'{{kind: qdrant, url: "{url}", {quick}}}', more="parallel: 4\n")
