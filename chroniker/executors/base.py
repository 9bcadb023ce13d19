"""The seam between the scheduler and what executes its runs.

The scheduler claims runs, renews their leases and records their ends. An executor starts what was
claimed, listens to it, and stops it. It does not use the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from chroniker.batches import Payload
from chroniker.processes.output import Recorder
from chroniker.processes.running_child import Outcome, RunRequest


class RunHandle(Protocol):
    """A run that an executor has started."""

    @property
    def key(self) -> int:
        """The primary key of the run."""

    @property
    def recorder(self) -> Recorder:
        """Output that was read and is not yet stored."""

    @property
    def written(self) -> dict[str, int]:
        """Stream name to the number of bytes that the run wrote to it."""

    @property
    def warden_pid(self) -> int:
        """Process id of the run's guard; 0 if it has none on this host."""

    @property
    def parts(self) -> tuple[int, int] | None:
        """Progress as last reported: ``(total, done)``."""

    @property
    def payload(self) -> Payload | None:
        """What the run of a batch gave; None for any other run."""

    parts_changed: bool
    """Whether ``parts`` differs from what was stored. The scheduler clears it."""

    def read_progress(self) -> None:
        """Bring ``parts`` up to date."""

    def outcome(self, shutdown_reason: str = "") -> Outcome:
        """How the run ended. Only valid once :meth:`Executor.poll` has returned it.

        ``shutdown_reason``: the scheduler has been asked to shut down, so a run that a signal has
        ended without a person's request is ``interrupted``, for this reason.
        """


class Executor(Protocol):
    """Executes claimed runs.

    Requests with a ``batch`` may share processes; an executor that has no such processes executes
    each by its command.

    Every handle that :meth:`start` returns is returned by :meth:`poll` exactly once, after the
    run and all that it started is dead; so is a run that could not be started, with an outcome
    that says why. ``key`` is the primary key of a run that :meth:`poll` has not yet returned.
    """

    def start(self, requests: Sequence[RunRequest]) -> Iterable[RunHandle]:
        """Start runs. Does not raise for a run that cannot be started."""

    def poll(self, timeout: float) -> Sequence[RunHandle]:
        """Wait up to ``timeout`` seconds for something to happen; the runs that have ended."""

    def stop(self, key: int, reason: str) -> None:
        """End a run: SIGTERM, the grace period, SIGKILL. Its outcome is ``stopped``."""

    def interrupt(self, key: int, reason: str) -> None:
        """End a run because the scheduler shuts down. Its outcome is ``interrupted``."""

    def abandon(self, key: int) -> None:
        """End a run whose lease was lost. Nothing that it did is recorded."""

    def extend(self, key: int, deadline: float) -> None:
        """Let a run continue until ``deadline`` (CLOCK_BOOTTIME, seconds)."""

    def descriptors(self) -> list[int]:
        """File descriptors that no other process may hold."""

    def close(self) -> None:
        """End the runs that are left, and release all resources."""
