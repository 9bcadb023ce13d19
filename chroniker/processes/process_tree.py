"""Find the processes below another one, and send them signals."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable

# psutil is imported when it is needed: most wardens end without it.


def descendants(pid: int) -> list[int]:
    """Return the processes below `pid` without zombies, the youngest generation last."""
    import psutil

    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    alive = []
    for child in children:
        with contextlib.suppress(psutil.Error):
            if child.status() != psutil.STATUS_ZOMBIE:
                alive.append(child.pid)
    return alive


def signal_processes(pids: Iterable[int], number: int) -> bool:
    """Send a signal to each process; return whether at least one of them received it.

    A process that has ended, or that belongs to another user, is skipped.
    """
    reached = False
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
            reached = True
    return reached


def session_id(pid: int) -> int:
    """Return the session of a process (getsid(2)), or 0 if the process has ended."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def is_outside(pid: int, roots: Collection[int]) -> bool:
    """Return whether a living process is neither one of `roots` nor below one of them."""
    import psutil

    try:
        return pid not in roots and not {
            parent.pid for parent in psutil.Process(pid).parents()
        }.intersection(roots)
    except psutil.Error:
        return False
