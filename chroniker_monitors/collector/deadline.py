"""A call with a deadline, shared by callers that need it at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_ABANDONED_THREADS = 3
"""While this many threads hang, no further thread is started."""


class DeadlineExceeded(Exception):
    """The call took longer than its deadline, or could not be started because others hang."""


class _Attempt(threading.Thread, Generic[T]):
    """One call in its own thread: a daemon, so that a hanging call does not prevent exit."""

    def __init__(self, call: Callable[[], T], ended: Callable[[_Attempt[T]], None]) -> None:
        super().__init__(name="chroniker-scrape", daemon=True)
        self.call = call
        self.ended = ended
        self.done = threading.Event()
        self.results: list[T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.results.append(self.call())
        except BaseException as error:
            self.error = error
        finally:
            self.done.set()
            self.ended(self)

    def fail(self, error: BaseException) -> None:
        """Report to the waiting callers that the thread will not be started."""
        self.error = error
        self.done.set()

    def wait(self, seconds: float) -> T:
        """Return the result. Raises what the call raised, or DeadlineExceeded."""
        if not self.done.wait(seconds):
            raise DeadlineExceeded(f"more than {seconds:g} s")
        if self.error is not None:
            raise self.error
        return self.results[0]


class SharedCall(Generic[T]):
    """Call ``function`` with a deadline, which is its last argument, in seconds.

    A caller that arrives while a thread is running waits for the next thread, which it shares
    with all other callers that arrive meanwhile, regardless of their other arguments. So any number
    of simultaneous scrapes read the database only twice, and each scrape gets data that was read
    after it arrived. The result of the running thread cannot be used: its read may have begun
    before another web worker answered the same scraper, and counters would appear to fall.
    """

    def __init__(self, function: Callable[[str, int, float], T]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._current: _Attempt[T] | None = None
        self._next: _Attempt[T] | None = None
        self._abandoned: list[_Attempt[T]] = []

    def __call__(self, alias: str, max_jobs: int, seconds: float) -> T:
        """Call the function in a thread. Raises DeadlineExceeded, or what the function raised."""
        with self._lock:
            attempt = self._next
            if attempt is None:
                attempt = _Attempt(lambda: self._function(alias, max_jobs, seconds), self._finish)
                if self._current is None:
                    self._start(attempt)
                else:
                    self._next = attempt
        try:
            return attempt.wait(seconds)
        except DeadlineExceeded:
            self._abandon(attempt)
            raise

    def _start(self, attempt: _Attempt[T]) -> None:
        self._abandoned = [old for old in self._abandoned if old.is_alive()]
        if len(self._abandoned) >= MAX_ABANDONED_THREADS:
            attempt.fail(DeadlineExceeded(f"{MAX_ABANDONED_THREADS} earlier scrapes still hang"))
        else:
            self._current = attempt
            attempt.start()

    def _start_next(self) -> None:
        self._current = None
        attempt, self._next = self._next, None
        if attempt is not None:
            self._start(attempt)

    def _finish(self, attempt: _Attempt[T]) -> None:
        with self._lock:
            if self._current is attempt:
                self._start_next()

    def _abandon(self, attempt: _Attempt[T]) -> None:
        with self._lock:
            if self._next is attempt:
                self._next = None
            elif self._current is attempt:
                self._abandoned.append(attempt)
                self._start_next()
