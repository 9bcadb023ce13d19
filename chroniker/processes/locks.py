"""Kernel locks on files: they show immediately and reliably that a process has died.

The locks are flock(2). They belong to the open file, so a forked process holds the lock too, and
the kernel releases it when the last process that holds it has ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path


class FileLock:
    """A lock on a file, held until :meth:`release` or the end of all processes that hold it."""

    __slots__ = ("fd", "path")

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.fd = -1

    def acquire(self, *, wait: bool, create: bool = True) -> bool:
        """Take the lock; return False if another process holds it and ``wait`` is false."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        fd = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self.fd = fd
        return True

    def note(self, text: str) -> None:
        """Write ``text`` into the file, for people who read it."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, text.encode(), 0)

    def close(self) -> None:
        """Close the file in this process; a process that inherited the lock still holds it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def release(self, *, unlink: bool = False) -> None:
        """Release the lock; with `unlink`, also delete its file, if no other process needs it."""
        if unlink:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self.close()


class OwnerLock(FileLock):
    """The lock of a tick and of all that it forks: while it is held, one of them is alive."""

    __slots__ = ()

    def __init__(self, directory: str) -> None:
        super().__init__(Path(directory) / f"tick-{os.getpid()}-{secrets.token_hex(8)}.lock")
        self.acquire(wait=True)

    @property
    def name(self) -> str:
        """The file name, by which other processes of this host find it."""
        return self.path.name


def owner_is_dead(directory: str, name: str) -> bool:
    """Return whether the tick of that lock, and everything it has started, is dead.

    It is also False if it cannot be known: the tick of another user, or a machine that was rebooted
    since. The file stays, so that the next caller can ask again: see :func:`remove_owner_lock`.
    """
    if not _is_owner_lock(name):
        return False
    lock = FileLock(Path(directory) / name)
    try:
        if not lock.acquire(wait=False, create=False):
            return False
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False
    lock.release()
    return True


def remove_owner_lock(directory: str, name: str) -> None:
    """Remove the lock file of a dead owner, after everything that it owned has been ended.

    Without the file it can no longer be known that the owner is dead.
    """
    if _is_owner_lock(name):
        with contextlib.suppress(OSError):
            (Path(directory) / name).unlink()


def _is_owner_lock(name: str) -> bool:
    return name.startswith("tick-") and "/" not in name


def owner_is_stopped(name: str) -> bool:
    """Return whether the tick of that lock is stopped by a signal (state T of proc(5)).

    False if the process with that number does not hold the lock: the number was reused.
    """
    try:
        process = Path("/proc", str(int(name.split("-")[1])))
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        held = {os.path.basename(os.readlink(fd)) for fd in (process / "fd").iterdir()}
    except (OSError, ValueError, IndexError):
        return False
    return state in ("T", "t") and name in held
