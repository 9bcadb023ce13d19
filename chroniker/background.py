"""Short-lived threads of a scheduler.

A fork of a process with threads may inherit a lock that is never released. So what forks asks
:func:`busy` first and waits for a later pass.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

_threads: dict[str, threading.Thread] = {}


def run_in_background(action: Callable[[], None], *, name: str) -> bool:
    """Run ``action`` in a thread; False if one of that ``name`` is running, or none can start."""
    running = _threads.get(name)
    if running is not None and running.is_alive():
        return False
    thread = threading.Thread(target=action, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the limit of threads is reached, or Python is exiting
        return False
    _threads[name] = thread
    return True


def busy() -> bool:
    """Whether such a thread is running, so that nothing may be forked now."""
    return any(thread.is_alive() for thread in _threads.values())


def wait(name: str, seconds: float) -> None:
    """Wait for a thread."""
    thread = _threads.get(name)
    if thread is not None:
        thread.join(seconds)
