"""The configuration: one YAML file, read once at the door into frozen typed values."""

from agent.settings.hidden import secrets_of
from agent.settings.load import DEFAULT_PATH, Loaded, check_secrets, load
from agent.settings.schema import schema
from agent.settings.secret import Secret, masked_url
from agent.settings.shape import (
    Alerts,
    Collections,
    Compression,
    Engine,
    Health,
    Location,
    Logs,
    Notify,
    Permissions,
    Settings,
    Slot,
    Storage,
    Target,
    Tier,
    Watch,
)
from agent.settings.show import example, rows
from agent.settings.timing import zone
from agent.settings.units import Span

__all__ = [
    "DEFAULT_PATH",
    "Alerts",
    "Collections",
    "Compression",
    "Engine",
    "Health",
    "Loaded",
    "Location",
    "Logs",
    "Notify",
    "Permissions",
    "Secret",
    "Settings",
    "Slot",
    "Span",
    "Storage",
    "Target",
    "Tier",
    "Watch",
    "check_secrets",
    "example",
    "load",
    "masked_url",
    "rows",
    "schema",
    "secrets_of",
    "zone",
]
