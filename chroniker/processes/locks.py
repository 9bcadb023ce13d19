"""Kernel locks on files: they say at once, and without fail, that a process has died.

The locks are flock(2): they belong to the open file, so a forked process holds the lock too, and
the kernel releases it when the last of them is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path


class FileLock:
    """A lock on a file; held until :meth:`release` or the death of all that inherited it."""

    __slots__ = ("fd", "path")

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.fd = -1

    def acquire(self, *, wait: bool, create: bool = True) -> bool:
        """Take the lock; False where somebody else has it and ``wait`` is false."""
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
        """Write ``text`` into the file, for people who look at it."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, text.encode(), 0)

    def close(self) -> None:
        """Close this process's end; a process that inherited it holds on."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def release(self, *, unlink: bool = False) -> None:
        """Give the lock up, with its file where no other process will look for it."""
        if unlink:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self.close()


class OwnerLock(FileLock):
    """What a tick holds, and all that it forks: while it is held, one of them is alive."""

    __slots__ = ()

    def __init__(self, directory: str) -> None:
        super().__init__(Path(directory) / f"tick-{os.getpid()}-{secrets.token_hex(8)}.lock")
        self.acquire(wait=True)

    @property
    def name(self) -> str:
        """What other processes of this host find it by."""
        return self.path.name


def owner_is_dead(directory: str, name: str) -> bool:
    """Whether the tick of that lock and everything it has started are dead.

    False also where it cannot be known: another user's tick, a machine that was booted since. The
    file stays, for whoever asks next: see :func:`forget_owner`.
    """
    if not _is_owner_lock(name):
        return False
    lock = FileLock(Path(directory) / name)
    try:
        if not lock.acquire(wait=False, create=False):
            return False
    except (OSError, ValueError):  # ValueError: a NUL, which no name of a file has
        return False
    lock.release()
    return True


def remove_owner_lock(directory: str, name: str) -> None:
    """Remove the lock file of a dead owner; not before all that it owned has been ended.

    Without the file nobody can tell any more that the owner is dead.
    """
    if _is_owner_lock(name):
        with contextlib.suppress(OSError):
            (Path(directory) / name).unlink()


def _is_owner_lock(name: str) -> bool:
    return name.startswith("tick-") and "/" not in name


def owner_is_stopped(name: str) -> bool:
    """Whether the tick of that lock is stopped by a signal (state T of proc(5)).

    False where the process of that number does not hold the lock: it is another one by now.
    """
    try:
        process = Path("/proc", str(int(name.split("-")[1])))
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        held = {os.path.basename(os.readlink(fd)) for fd in (process / "fd").iterdir()}
    except (OSError, ValueError, IndexError):
        return False
    return state in ("T", "t") and name in held
