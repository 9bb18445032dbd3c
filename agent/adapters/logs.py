"""The log: lines for people or JSON for programs, on standard error, with every secret masked."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable

MASK = "***"
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.DEBUG: 7}


def begin(form: str, *, verbose: bool = False) -> None:
    """Send the log to standard error, as `text` or `json`; under systemd's journal lines carry no time of their own."""
    out = logging.StreamHandler(sys.stderr)
    out.setFormatter(_Masked(_json if form == "json" else _text))
    root = logging.getLogger()
    root.handlers[:] = [out]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    # These print what they are given, tokens and passwords included, and are never asked to say more.
    for name in ("apprise", "urllib3", "watchdog", "schedule", "markdown"):
        logging.getLogger(name).setLevel(logging.WARNING)


def hide(secrets: Iterable[str]) -> None:
    """Mask these texts in everything that is logged from now on, exceptions included."""
    hidden = sorted({one for one in secrets if one}, key=len, reverse=True)
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, _Masked):
            handler.formatter.hidden = hidden


def masked(text: str, secrets: Iterable[str]) -> str:
    """A text with every secret in it masked."""
    for secret in sorted({one for one in secrets if one}, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


class _Masked(logging.Formatter):
    def __init__(self, line: Callable[[logging.LogRecord, str], str]) -> None:
        super().__init__()
        self.hidden: list[str] = []
        self._line = line

    def format(self, record: logging.LogRecord) -> str:
        said = record.getMessage()
        if record.exc_info:
            said = f"{said}\n{self.formatException(record.exc_info)}"
        return self._line(record, masked(said, self.hidden))


def _text(record: logging.LogRecord, said: str) -> str:
    if "JOURNAL_STREAM" in os.environ:
        priority = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return priority + said.replace("\n", f"\n{priority}")
    at = time.strftime("%H:%M:%S", time.localtime(record.created))
    return f"{at} {record.levelname.lower():7} {said}"


def _json(record: logging.LogRecord, said: str) -> str:
    return json.dumps(
        {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "part": record.name,
            "message": said,
        }
    )
