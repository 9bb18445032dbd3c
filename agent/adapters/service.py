"""Talk to systemd: readiness, status line and watchdog, over the socket it names in the environment.

Source: sd_notify(3). Outside systemd every call does nothing.
"""

import contextlib
import os
import socket
from collections.abc import Mapping

_PATIENCE = 1.0


def notify(environ: Mapping[str, str], **fields: str) -> bool:
    """Send fields such as READY=1 or STATUS=text; returns whether somebody was there to hear it.

    One who is there and does not listen is waited for, but for no more than a second.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    message = "\n".join(f"{key}={value}" for key, value in fields.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.settimeout(_PATIENCE)
        out.sendto(message.encode(), address)
        return True
    return False


def watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """How often systemd wants a sign of life at the least, in seconds; None when it does not watch us."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    with contextlib.suppress(ValueError):
        return int(environ["WATCHDOG_USEC"]) / 1e6 if "WATCHDOG_USEC" in environ else None
    return None
