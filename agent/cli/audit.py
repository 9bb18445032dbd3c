"""`snapward audit`: every change that was made to backups, by whom, when and why."""

from typing import Any

import click

from agent.adapters.ledger import deeds
from agent.adapters.ledger.deeds import KINDS, Deed
from agent.cli import parts, sheet, text
from agent.rules.alert import plain
from agent.rules.words import count, rfc3339

_DAY = 86_400.0
_HEADS = ("at", "who", "kind", "location", "path", "why", "ended", "outcome")


@click.command("audit")
@click.option("--since", type=click.FloatRange(0), default=7.0, show_default=True, metavar="DAYS", help="How far back.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only these; may be given again.")
@click.option("--path", metavar="TEXT", default="", help="Only what was done to paths that hold this text.")
@click.option("--csv", "csv_", is_flag=True, help="As CSV, a line for each change.")
@parts.JSON
@click.pass_context
def audit_(ctx: click.Context, since: float, kinds: tuple[str, ...], path: str, *, csv_: bool, json_: bool) -> int:
    """Show what was done to backups: who, when, why, and what came of it.

    Each change is written down before it is made. The trail is kept as long as logs.keep says; what took a backup
    away, for good.
    """
    settings = parts.configuration(ctx).settings
    now = parts.now()
    with parts.reader(settings) as db:
        every = deeds.since(db, now - since * _DAY)
        found = [one for one in every if (not kinds or one.kind in kinds) and path in one.path]
    rows = [_told(one) for one in found]
    if json_:
        text.as_json({"since": rfc3339(now - since * _DAY), "until": rfc3339(now), "deeds": rows})
    elif csv_:
        click.echo(sheet.written(_HEADS, [[row[name] for name in _HEADS] for row in rows]), nl=False)
    else:
        _print(rows)
    return 0


def _told(one: Deed) -> dict[str, Any]:
    return {
        "id": one.id,
        "at": rfc3339(one.at),
        "who": one.who,
        "kind": one.kind,
        "location": one.location or None,
        "path": one.path,
        "why": one.why,
        "ended": None if one.ended is None else rfc3339(one.ended),
        "outcome": one.outcome,
    }


def _print(rows: list[dict[str, Any]]) -> None:
    if not rows:
        text.say("nothing was done to backups in this time; --since looks further back")
        return
    text.table(
        ("WHEN", "WHO", "WHAT", "WHERE", "WHY", "OUTCOME"),
        [
            (
                row["at"][:19].replace("T", " "),
                plain(row["who"]),
                row["kind"],
                plain(f"{row['location']}:{row['path']}" if row["location"] else row["path"]),
                plain(row["why"], 1000),
                plain(row["outcome"], 1000) if row["ended"] else "not ended",
            )
            for row in rows
        ],
    )
    text.say(f"{count(len(rows), 'change')}; --json and --csv have each of them with its end")
