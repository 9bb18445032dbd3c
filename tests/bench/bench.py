"""`make bench`: what snapward takes, beside the tools people use for the same today.

Everything is measured side by side in one run, in turns, and told as the median of the rounds' ratios: these carry
from one machine to another, milliseconds do not. Nothing but a temporary folder is written, and no network is used.
Ends with 1 when a goal is not met.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import Figure, table
from items import FULL, ITEMS, QUICK, Scale
from stage import Home


def main() -> int:
    """Measure what was asked for, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="little data and three rounds: to try it, not to judge")
    parser.add_argument("--only", action="append", choices=list(ITEMS), metavar="NAME", help=", ".join(ITEMS))
    asked = parser.parse_args()
    began = time.monotonic()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {_load()}", flush=True)
    found: list[Figure] = []
    for name in asked.only or ITEMS:
        print(f"  {name} ...", end="", flush=True)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="snapward-bench-") as folder:
            found += _measured(name, Path(folder), QUICK if asked.quick else FULL)
        print(f" {time.monotonic() - started:.0f} s, {_load()}", flush=True)
    print(f"\n{table(found)}\n\nall of it took {time.monotonic() - began:.0f} s")
    return 1 if any(one.met is False for one in found) else 0


def _measured(name: str, folder: Path, scale: Scale) -> list[Figure]:
    """The figures of one item; one that fails does not take the others with it."""
    try:
        return list(ITEMS[name](Home(folder), scale))
    except (RuntimeError, subprocess.SubprocessError) as error:
        print(f"\n{error}", file=sys.stderr)
        return [Figure(name, "failed", met=False)]


def _load() -> str:
    return f"load {os.getloadavg()[0]:.2f}"


if __name__ == "__main__":
    sys.exit(main())
