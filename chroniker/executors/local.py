"""Runs in guarded processes on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from chroniker.conf import conf
from chroniker.db.clock import boottime
from chroniker.db.connections import before_fork
from chroniker.masking import Masker
from chroniker.processes.batch_spec import MAX_ITEMS
from chroniker.processes.running_batch import BatchedRun, RunningBatch
from chroniker.processes.running_child import RunRequest
from chroniker.processes.supervisor import Supervisor

from .base import RunHandle

_LEASES_SECONDS = 1.0
"""How often runs of batches are looked for whose lease was not extended."""


class LocalExecutor:
    """Forks each run, and its warden, from a fork server of this process.

    Runs of one batch runner that have the same limits share a process. ``max_workers``: how many of
    them it executes at one time; None: ``CHRONIKER_MAX_PARALLEL``.
    """

    def __init__(self, masker: Masker, max_workers: int | None = None) -> None:
        self._masker = masker
        self._max_workers = max_workers
        self._supervisor = Supervisor(before_fork, masker)
        self._batches: dict[int, RunningBatch] = {}
        """By the key of the run whose process executes the batch."""
        self._members: dict[int, tuple[BatchedRun, RunningBatch]] = {}
        """By the key of the run."""
        self._leases_at = 0.0

    def start(self, requests: Sequence[RunRequest]) -> Sequence[RunHandle]:
        """Start runs; one that cannot be started is returned by :meth:`poll`."""
        handles: list[RunHandle] = []
        handles += self._supervisor.start(each for each in requests if each.batch is None)
        batches: dict[object, list[BatchedRun]] = {}
        for request in requests:
            if request.batch is not None:
                limits = request.start_request.limits
                shared = (request.batch.runner, limits.memory_limit_bytes, limits.nice)
                batches.setdefault(shared, []).append(BatchedRun(request, self._masker))
        for runs in batches.values():
            for at in range(0, len(runs), MAX_ITEMS):
                self._start_batch(runs[at : at + MAX_ITEMS])
            handles += runs
        return handles

    def _start_batch(self, runs: Sequence[BatchedRun]) -> None:
        workers = conf.MAX_PARALLEL if self._max_workers is None else self._max_workers
        batch = RunningBatch(runs, self._masker, workers)
        self._batches[batch.key] = batch
        for run in runs:
            self._members[run.key] = (run, batch)
        self._supervisor.add(batch)

    def poll(self, timeout: float) -> Sequence[RunHandle]:
        """Listen for up to ``timeout`` seconds; the runs that have ended."""
        ended: list[RunHandle] = []
        for child in self._supervisor.poll(timeout):
            batch = self._batches.pop(child.key, None)
            if batch is None:
                ended.append(child)
            else:
                ended += self._forget(batch.take_ended())
                ended += self._end_batch(batch)
        for batch in self._batches.values():
            ended += self._forget(batch.take_ended())
        now = time.monotonic()
        if self._batches and now - self._leases_at >= _LEASES_SECONDS:
            self._leases_at = now
            for batch in self._batches.values():
                batch.end_overdue(boottime())
        return ended

    def _end_batch(self, batch: RunningBatch) -> Iterable[BatchedRun]:
        """Execute again what a dead process has left; return what has failed with it."""
        groups = batch.split()
        again = {run.key for runs in groups for run in runs}
        for runs in groups:
            self._start_batch(runs)
        return self._forget(run for run in batch.unfinished() if run.key not in again)

    def _forget(self, runs: Iterable[BatchedRun]) -> Iterable[BatchedRun]:
        ended = list(runs)
        for run in ended:
            del self._members[run.key]
        return ended

    def stop(self, key: int, reason: str) -> None:
        """End a run: SIGTERM, its grace period, SIGKILL."""
        if key in self._members:
            run, batch = self._members[key]
            batch.stop_run(run, reason)
        else:
            self._supervisor.children[key].stop(reason)

    def interrupt(self, key: int, reason: str) -> None:
        """End a run because the scheduler shuts down; the runs of a batch end together."""
        if key in self._members:
            self._members[key][1].stop(reason, interrupted=True)
        else:
            self._supervisor.children[key].stop(reason, interrupted=True)

    def abandon(self, key: int) -> None:
        """End a run whose lease was lost."""
        if key in self._members:
            run, batch = self._members[key]
            batch.stop_run(run)
        else:
            self._supervisor.children[key].abandon()

    def extend(self, key: int, deadline: float) -> None:
        """Let a run continue until ``deadline`` (CLOCK_BOOTTIME, seconds)."""
        if key in self._members:
            run, batch = self._members[key]
            batch.extend_run(run, deadline)
        else:
            self._supervisor.children[key].extend(deadline)

    def descriptors(self) -> list[int]:
        """File descriptors that no other process may hold."""
        return self._supervisor.descriptors()

    def close(self) -> None:
        """End the runs that are left, and the fork server."""
        self._supervisor.close()
