"""Locks between processes: flock, so that the kernel frees them whatever becomes of the holder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from agent.errors import CannotWrite, TryLater


@contextlib.contextmanager
def held(state_dir: str, name: str) -> Iterator[None]:
    """Hold the lock `name` for as long as the block runs.

    Raises:
        TryLater: another process holds it; the message says which.
        CannotWrite: the lock file cannot be made.
    """
    folder = os.path.join(state_dir, "locks")
    path = os.path.join(folder, f"{name}.lock")
    try:
        os.makedirs(folder, mode=0o750, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    except OSError as error:
        raise CannotWrite(f"{path}: {error.strerror}", "May the agent's user write in state_dir?") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise TryLater(
                f"another snapward is busy with this: {name}, process {holder}",
                "Wait for it to end; `snapward status` shows what runs.",
            ) from None
        with contextlib.suppress(OSError):  # a full disk: the lock is held all the same, by "unknown"
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)
