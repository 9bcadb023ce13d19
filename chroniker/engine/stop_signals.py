"""What asks a scheduler to stop: SIGTERM, SIGINT, and a newer version of Chroniker."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from chroniker.conf import conf
from chroniker.exceptions import NewerSchema


class StopSignals:
    """Counts stop requests: after the first the runs may finish, after the second they may not."""

    def __init__(self) -> None:
        self._received = 0
        self.superseded: NewerSchema | None = None
        """Set when a newer version has migrated the database: this one starts nothing more, and
        ends when its runs have ended."""
        self._deadline: float | None = None

    @property
    def received(self) -> bool:
        """Whether the scheduler was asked to stop."""
        return self._received > 0

    @property
    def stopping(self) -> bool:
        """Whether the scheduler starts nothing more."""
        return self.received or self.superseded is not None

    def request_once(self) -> None:
        """Count one request to stop, unless there was one before."""
        self._received = max(self._received, 1)

    def must_stop_runs(self, now: float) -> bool:
        """Whether running runs are to be stopped at ``now`` (CLOCK_MONOTONIC).

        The grace time starts at the first call after the first signal.
        """
        if not self._received:
            return False
        if self._deadline is None:
            self._deadline = now + conf.KILL_GRACE_SECONDS
        return now >= self._deadline or self._received > 1

    @contextmanager
    def handlers(self) -> Iterator[None]:
        """Record stop requests instead of ending the process, if this is the main thread."""

        def record_stop(_signal: int, _frame: FrameType | None) -> None:
            self._received += 1

        previous = {}
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                previous[number] = signal.signal(number, record_stop)
        except ValueError:  # not the main thread
            pass
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
