"""Runs in guarded processes on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from chroniker.db.connections import before_fork
from chroniker.masking import Masker
from chroniker.processes.running_child import RunRequest
from chroniker.processes.supervisor import Supervisor

from .base import RunHandle


class LocalExecutor:
    """Forks each run, and its warden, from a fork server of this process."""

    def __init__(self, masker: Masker) -> None:
        self._supervisor = Supervisor(before_fork, masker)

    def start(self, requests: Sequence[RunRequest]) -> Sequence[RunHandle]:
        """Start runs; one that cannot be started is returned by :meth:`poll`."""
        return self._supervisor.start(requests)

    def poll(self, timeout: float) -> Sequence[RunHandle]:
        """Listen for up to ``timeout`` seconds; the runs that have ended."""
        return self._supervisor.poll(timeout)

    def stop(self, key: int, reason: str) -> None:
        """End a run: SIGTERM, its grace period, SIGKILL."""
        self._supervisor.children[key].stop(reason)

    def interrupt(self, key: int, reason: str) -> None:
        """End a run because the scheduler shuts down."""
        self._supervisor.children[key].stop(reason, interrupted=True)

    def abandon(self, key: int) -> None:
        """End a run whose lease was lost."""
        self._supervisor.children[key].abandon()

    def extend(self, key: int, deadline: float) -> None:
        """Let a run continue until ``deadline`` (CLOCK_BOOTTIME, seconds)."""
        self._supervisor.children[key].extend(deadline)

    def descriptors(self) -> list[int]:
        """File descriptors that no other process may hold."""
        return self._supervisor.descriptors()

    def close(self) -> None:
        """End the runs that are left, and the fork server."""
        self._supervisor.close()
