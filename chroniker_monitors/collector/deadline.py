"""A call that is waited for only so long, and shared by those who want it at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_LEFT_BEHIND = 3
"""Threads that hang at one time; while there are so many, no further one is started."""


class DeadlineExceeded(Exception):
    """The call took longer than it may; the message says how long it may take."""


class _Attempt(threading.Thread, Generic[T]):
    """One call in a thread of its own. A daemon, so that one which hangs stops no exit."""

    def __init__(self, call: Callable[[], T], ended: Callable[[_Attempt[T]], None]) -> None:
        super().__init__(name="chroniker-scrape", daemon=True)
        self.call = call
        self.ended = ended
        self.began = time.monotonic()
        self.results: list[T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.results.append(self.call())
        except BaseException as error:
            self.error = error
        finally:
            self.ended(self)

    def wait(self, seconds: float) -> T:
        """Its result, counted from its start. Raises what it raised, or DeadlineExceeded."""
        self.join(max(0.0, self.began + seconds - time.monotonic()))
        if self.error is not None:
            raise self.error
        if not self.results:
            raise DeadlineExceeded(f"more than {seconds:g} s")
        return self.results[0]


class SharedCall(Generic[T]):
    """``function`` with a deadline: its last argument, seconds.

    Whoever calls it while a thread is at it waits for that one's result, whatever the other
    arguments; so any number of scrapes at once cost one reading.
    """

    def __init__(self, function: Callable[[str, int, float], T]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._current: _Attempt[T] | None = None
        self._left_behind: list[_Attempt[T]] = []

    def __call__(self, alias: str, max_jobs: int, seconds: float) -> T:
        """Call it in a thread. Raises DeadlineExceeded, or what the function raised."""
        with self._lock:
            attempt = self._current
            if attempt is None:
                self._left_behind = [old for old in self._left_behind if old.is_alive()]
                if len(self._left_behind) >= MAX_LEFT_BEHIND:
                    raise DeadlineExceeded(f"{MAX_LEFT_BEHIND} scrapes before it hang still")
                attempt = self._current = _Attempt(
                    lambda: self._function(alias, max_jobs, seconds), self._forget
                )
                attempt.start()
        try:
            return attempt.wait(seconds)
        except DeadlineExceeded:
            with self._lock:
                if self._current is attempt:
                    self._current = None
                    self._left_behind.append(attempt)
            raise

    def _forget(self, attempt: _Attempt[T]) -> None:
        with self._lock:
            if self._current is attempt:
                self._current = None
