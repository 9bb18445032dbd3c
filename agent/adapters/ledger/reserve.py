"""A file that only holds space, so that a full disk does not silence the alert about it."""

import contextlib
import os

FILE = "ledger.reserve"
SIZE = 2 << 20


def keep(state_dir: str) -> bool:
    """Make sure that the reserve is there; False if there is no space for it."""
    path = os.path.join(state_dir, FILE)
    with contextlib.suppress(OSError):
        if os.stat(path).st_size >= SIZE:
            return True
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, SIZE)
        finally:
            os.close(fd)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(path)
        return False
    return True


def spend(state_dir: str) -> bool:
    """Free the reserve; False if it was spent already."""
    try:
        os.unlink(os.path.join(state_dir, FILE))
    except OSError:
        return False
    return True
