"""The time limit of a probe.

In the main thread the limit is an alarm of the kernel, which also ends what looks at no clock.
It cannot end a call that never comes back from the kernel or from C, so probes hand such calls
to :func:`call_with_timeout` and give sockets and statements :func:`remaining_seconds`.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

DEFAULT_SECONDS = 10.0
"""The limit of a probe that is run by itself, outside :func:`time_limit`."""
_EARLY_FRACTION = 0.05
"""The part of the limit by which sockets and statements give up before the alarm rings: what
failed can then still be said, and closed in order."""
_ALARM_REPEAT_SECONDS = 1.0
"""How long after the alarm the next one comes, should a probe have swallowed the first."""

_deadline: ContextVar[float | None] = ContextVar("chroniker_probe_deadline", default=None)


class TimeLimitExceeded(BaseException):
    """The time limit has passed. Not an Exception: probes may catch those."""


def remaining_seconds() -> float:
    """Seconds until the time limit of the probe that runs; raises TimeoutError after it."""
    deadline = _deadline.get()
    if deadline is None:
        return DEFAULT_SECONDS
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time limit has passed")
    return left


def call_with_timeout(function: Callable[..., T], *args: Any) -> T:
    """Call a function that may never come back, such as one that asks a dead file server.

    It runs in a thread that is left behind when the time limit passes: TimeoutError.
    """
    results: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def call() -> None:
        try:
            results.put((True, function(*args)))
        except BaseException as error:
            results.put((False, error))

    threading.Thread(target=call, daemon=True, name="chroniker-probe").start()
    try:
        done, result = results.get(timeout=remaining_seconds())
    except queue.Empty:
        raise TimeoutError("the time limit has passed") from None
    if not done:
        raise result
    return result  # type: ignore[no-any-return]


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeIsUp in the block after so many seconds, where the main thread runs it."""
    token = _deadline.set(time.monotonic() + seconds * (1 - _EARLY_FRACTION))
    try:
        if threading.current_thread() is threading.main_thread():
            with _alarm(seconds):
                yield
        else:
            yield
    finally:
        _deadline.reset(token)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    armed = True

    def on_alarm(signum: int, frame: FrameType | None) -> None:
        if armed:
            raise TimeLimitExceeded

    began = time.monotonic()
    handler_before = signal.signal(signal.SIGALRM, on_alarm)
    left_before, interval_before = signal.setitimer(
        signal.ITIMER_REAL, seconds, _ALARM_REPEAT_SECONDS
    )
    try:
        try:
            yield
        finally:
            armed = False
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler_before)
        if left_before:
            # Somebody else's alarm, which would have rung by now or still has to.
            left = max(left_before - (time.monotonic() - began), 0.001)
            signal.setitimer(signal.ITIMER_REAL, left, interval_before)
