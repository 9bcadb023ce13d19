"""The time limit of a probe.

In the main thread the limit is enforced by an alarm signal, which also interrupts code that does
not check the time. A signal cannot interrupt a call that blocks in the kernel or in C. Probes make
such calls through :func:`call_with_timeout`, and set :func:`remaining_seconds` as the timeout of
sockets and statements.
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
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_SECONDS = 10.0
"""The time limit of a probe that runs outside :func:`time_limit`."""
_EARLY_FRACTION = 0.05
"""The fraction of the limit by which sockets and statements time out before the alarm, so that
the probe can still report what failed and close its connections."""
_ALARM_REPEAT_SECONDS = 1.0
"""The alarm is repeated after this time, in case the probe swallowed the first exception."""

_deadline: ContextVar[float | None] = ContextVar("chroniker_probe_deadline", default=None)


class TimeLimitExceeded(BaseException):
    """The time limit has passed. Not an ``Exception``, because probes may catch those."""


def remaining_seconds() -> float:
    """Return the seconds until the running probe's time limit. Raises TimeoutError after it."""
    deadline = _deadline.get()
    if deadline is None:
        return DEFAULT_SECONDS
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time limit has passed")
    return left


def call_with_timeout(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that may never return, such as one that asks a file server that hangs.

    It runs in a thread, which is abandoned when the time limit passes. Raises TimeoutError then,
    or what the function raised.
    """
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def call() -> None:
        try:
            results.put((function(*args, **kwargs), None))
        except BaseException as error:
            results.put((None, error))

    threading.Thread(target=call, daemon=True, name="chroniker-probe").start()
    try:
        result, error = results.get(timeout=remaining_seconds())
    except queue.Empty:
        raise TimeoutError("the time limit has passed") from None
    if error is not None:
        raise error
    return cast(T, result)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeLimitExceeded inside the block after the limit, if the main thread runs it."""
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
            # An alarm that was set before, which may be due already.
            left = max(left_before - (time.monotonic() - began), 0.001)
            signal.setitimer(signal.ITIMER_REAL, left, interval_before)
