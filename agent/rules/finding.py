"""The one currency of trouble: one check's outcome about one subject at one moment."""

import enum

from msgspec import Struct


class Level(enum.IntEnum):
    """How bad a finding is; ordered, so that the worst is the maximum."""

    OK = 0
    WARNING = 1
    CRITICAL = 2

    @property
    def word(self) -> str:
        """The level as people and JSON read it: ok, warning, critical."""
        return self.name.lower()


class Finding(Struct, frozen=True):
    """What one check found about one subject, and what to do about it.

    `rule` names the check (docs/alerts.md lists them all), `subject` what was looked at.
    """

    rule: str
    subject: str
    level: Level
    why: str
    hint: str = ""


def ok(rule: str, subject: str, why: str = "") -> Finding:
    """The finding that ends an incident about `subject`."""
    return Finding(rule, subject, Level.OK, why)
