"""How often the pipes of a run are read.

A job that prints many lines writes each of them at once, so that none is lost if it is killed.
Woken for each of them, the reader would cost more than the job. So a stream that is written again
and again in small pieces is left alone for a moment; meanwhile the pipe holds what is written.
"""

from __future__ import annotations

import selectors

PAUSE_SECONDS = 0.002
"""A job that prints as fast as it can fills a pipe of 64 KiB in about this time."""
_SOON_SECONDS = 0.005
_MANY_BYTES = 32 * 1024
"""With so much in one read, nothing is gained by waiting."""


class ReadPace:
    """Pauses the streams of a selector that are read too often."""

    def __init__(self, selector: selectors.EpollSelector) -> None:
        self._selector = selector
        self._read_at: dict[int, float] = {}
        self._paused: dict[int, tuple[float, object]] = {}
        """Descriptor to the time at which it is read again, and its data in the selector."""

    def note_read(self, fd: int, size: int, now: float) -> None:
        """Pause a stream of which ``size`` bytes were read, if it was read a moment ago."""
        if size < _MANY_BYTES and now - self._read_at.get(fd, 0.0) < _SOON_SECONDS:
            self._paused[fd] = now + PAUSE_SECONDS, self._selector.unregister(fd).data
        self._read_at[fd] = now

    def limit(self, timeout: float, now: float) -> float:
        """Read again the streams whose pause is over; return how long to wait, at most."""
        if not self._paused:
            return timeout
        for fd, (end, data) in list(self._paused.items()):
            if end <= now:
                del self._paused[fd]
                self._selector.register(fd, selectors.EVENT_READ, data)
            else:
                timeout = min(timeout, end - now)
        return timeout

    def forget(self, fd: int) -> None:
        """Remove a stream that is about to be closed."""
        self._read_at.pop(fd, None)
        if self._paused.pop(fd, None) is None:
            self._selector.unregister(fd)
