"""`snapward evidence`: what drills have shown, for whoever has to believe it."""

from typing import Any

import click

from agent.adapters.ledger import drills
from agent.adapters.ledger.drills import Drill
from agent.cli import parts, sheet, text
from agent.cli.drilled import shown
from agent.rules.alert import plain
from agent.rules.drilling import PASSED
from agent.rules.words import count, rfc3339

_DAY = 86_400.0


@click.command("evidence")
@click.option(
    "--since", type=click.FloatRange(0), default=90.0, show_default=True, metavar="DAYS", help="How far back."
)
@click.option("--csv", "csv_", is_flag=True, help="As CSV, a line for each drill.")
@parts.JSON
@click.pass_context
def evidence_(ctx: click.Context, since: float, *, csv_: bool, json_: bool) -> int:
    """Show every rehearsed restore: of what, when, by which engine, and what it proved.

    Archives are named by SHA-256, so that each of them can be compared with what was drilled.
    """
    settings = parts.configuration(ctx).settings
    now = parts.now()
    with parts.reader(settings) as db:
        found = drills.between(db, now - since * _DAY, now + _DAY)
    rows = [_told(one) for one in found]
    if json_:
        text.as_json({"since": rfc3339(now - since * _DAY), "until": rfc3339(now), "drills": rows})
    elif csv_:
        click.echo(_csv(rows), nl=False)
    else:
        _print(rows)
    return 0


def _told(one: Drill) -> dict[str, Any]:
    row = shown(one)
    return {
        "at": rfc3339(one.at),
        "backup": row.pop("backup"),
        "tier": one.tier,
        "collection": row.pop("name"),
        "depth": one.depth,
        "engine": one.engine,
        **row,
        "raw_bytes": one.raw_bytes,
        "archives": [{"file": file, "sha256": sha256} for sha256, file in one.archives.items()],
        "evidence": {name: value for name, value in one.evidence.items() if name not in _ELSEWHERE},
    }


_ELSEWHERE = ("compared", "same", "notes")
_HEADS = (
    *("at", "backup", "tier", "collection", "location", "depth", "level", "state", "points", "low", "high"),
    *("asked", "matched", "compared", "same", "seconds", "raw_bytes", "engine", "archives", "why"),
)


def _csv(rows: list[dict[str, Any]]) -> str:
    flat = [{**row, **row["probes"], **row["content"]} for row in rows]
    for one in flat:
        one["low"], one["high"] = one["expected"]
        one["archives"] = " ".join(f"{archive['sha256']}:{archive['file']}" for archive in one["archives"])
    return sheet.written(_HEADS, [[one[name] for name in _HEADS] for one in flat])


def _print(rows: list[dict[str, Any]]) -> None:
    if not rows:
        text.say("nothing was drilled in this time; `snapward drill` rehearses the latest backup")
        return
    heads = ("WHEN", "STATE", "LEVEL", "COLLECTION", "BACKUP", "POINTS", "SECONDS", "ENGINE", "WHY")
    text.table(
        heads,
        [
            (
                row["at"][:19].replace("T", " "),
                text.state(row["state"]),
                row["level"],
                plain(row["collection"]),
                plain(row["backup"]),
                "-" if row["points"] is None else f"{row['points']:,}",
                f"{row['seconds']:.1f}",
                row["engine"],
                plain(row["why"], 1000),
            )
            for row in rows
        ],
    )
    passed = sum(1 for row in rows if row["state"] == PASSED)
    text.say(f"{count(len(rows), 'drill')}, {passed:,} of them passed; --json and --csv have the archives' SHA-256")
