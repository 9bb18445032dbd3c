"""What becomes of each location, as `snapward status` and the weekly report tell it: from the ledger alone."""

import sqlite3
from datetime import tzinfo
from typing import Any

import msgspec

from agent.jobs import outlook
from agent.jobs.outlook import Plan
from agent.rules.outlook import Prospect, prospect
from agent.rules.words import rfc3339
from agent.settings import Settings
from agent.settings.parts import limits, policies


def prospects(db: sqlite3.Connection, settings: Settings, zone: tzinfo, now: float) -> list[Prospect]:
    """How each location stands."""
    return [prospect(plan.location, outlook.view(db, plan, zone, now)) for plan in plans(settings)]


def plans(settings: Settings) -> list[Plan]:
    """What decides how each location fills."""
    crons = {name: one.cron for name, one in settings.tiers.items()}
    return [
        Plan(location=name, policies=kept, crons=crons, cleanup=settings.cleanup.cron, limits=limits(settings))
        for name, kept in policies(settings).items()
    ]


def told(one: Prospect) -> dict[str, Any]:
    """A location's forecast as `snapward status --json` has it."""
    shown: dict[str, Any] = msgspec.to_builtins(one)
    if one.full is not None:
        shown["full"] = {name: rfc3339(at) for name, at in shown["full"].items()}
    return {name: value for name, value in shown.items() if name not in {"location", "weeks"}}
