"""The runs of one scheduler, from their start to the record of their end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from chroniker.db.backoff import Backoff
from chroniker.models import Run
from chroniker.signals import run_started

from .active_runs import ActiveRuns, lease_tokens
from .claims import ClaimedRun
from .completion import FinishedRun
from .finisher import BATCH_SECONDS, Finisher
from .flusher import Flusher
from .launch import Launcher
from .leases import Leases
from .tick_clock import TickClock

BATCH_SIZE = 500
"""The maximum number of runs that are claimed for one batch."""
MAX_BATCHED = 2 * BATCH_SIZE
"""How many runs of batches may be in progress: enough that no worker waits for a claim."""

Attempt = Callable[[Callable[[], object], Backoff | None], None]
"""Does something with the database, or postpones it if the database is not available."""


class Supervision:
    """Starts claimed runs, listens to them, renews their leases, records their ends.

    ``attempt`` runs what uses the database; ``on_finished`` is called for each run whose end was
    recorded, ``on_unrecorded`` for each whose end could not be, because the run is not ours any
    more; ``long_running``: whether the scheduler runs until it is stopped;
    ``shutdown_reason``: empty until the scheduler is asked to shut down; ``max_parallel``: instead
    of ``CHRONIKER_MAX_PARALLEL``.
    """

    def __init__(
        self,
        clock: TickClock,
        attempt: Attempt,
        on_finished: Callable[[FinishedRun], None],
        *,
        long_running: bool,
        on_unrecorded: Callable[[FinishedRun], None],
        shutdown_reason: Callable[[], str],
        max_parallel: int | None = None,
    ) -> None:
        self._clock = clock
        self._attempt = attempt
        self._shutdown_reason = shutdown_reason
        self.active: ActiveRuns = {}
        self.leases = Leases()
        self.launcher = Launcher(long_running=long_running, max_parallel=max_parallel)

        def on_recorded(finished: FinishedRun) -> None:
            on_finished(finished)
            self.keep_leases()

        self.finisher = Finisher(clock, self.leases, on_recorded, on_unrecorded)
        self._flusher = Flusher()

    @property
    def busy(self) -> bool:
        """Whether a run has not ended, or its end is not recorded."""
        return bool(self.active or self.finisher.unrecorded or self.finisher.postponed)

    @property
    def places(self) -> int:
        """How many places of this host's capacity the runs take: one for a batch."""
        batches = {run.claimed.token for run in self.active.values() if run.claimed.batch}
        return len(batches) + sum(not run.claimed.batch for run in self.active.values())

    @property
    def batch_room(self) -> int:
        """How many runs of batches may be claimed; 0 until there is room for many."""
        room = MAX_BATCHED - sum(bool(run.claimed.batch) for run in self.active.values())
        return min(room, BATCH_SIZE) if room >= BATCH_SIZE else 0

    @property
    def started(self) -> bool:
        """Whether a run was ever started."""
        return self.launcher.executor is not None

    def longest_wait(self, seconds: float) -> float:
        """How long a pass may wait: ``seconds``, or less if an end has to be written."""
        return BATCH_SECONDS if self.finisher.unrecorded else seconds

    def start(self, claimed: list[ClaimedRun], sent: float) -> None:
        """Start runs whose leases were requested at ``sent`` (CLOCK_BOOTTIME, seconds)."""
        if not self.started:
            self.leases.start_renewing()
            self._flusher.start_flushing()
        launched = self.launcher.start(claimed, sent)
        for item, reason in launched.refused:
            self.finisher.add_refused(item, reason)
        for run in launched.started:
            self.active[run.handle.key] = run
        for run in launched.started:
            run_started.send_robust(sender=Run, run=run.claimed.run, job=run.claimed.job)
            self.keep_leases()

    def poll(self, wait: float) -> bool:
        """Listen for up to ``wait`` seconds; whether there is capacity now that was not before."""
        if self.launcher.executor is None:
            return False
        ended = self.launcher.executor.poll(wait)
        if not ended:
            return False
        room, freed = self.batch_room, False
        for handle in ended:
            run = self.active.pop(handle.key)
            self.finisher.add(run, self._shutdown_reason())
            freed = freed or not run.claimed.batch or run.claimed.has_downstream
        return freed or self.batch_room > room

    def maintain(self, *, nearly_idle: bool) -> None:
        """Do what is due: write ends, store progress and output, renew leases."""
        now = time.monotonic()
        if self.finisher.should_finish(now, nearly_idle=nearly_idle):
            self._attempt(self.finisher.finish, None)
        if not self.active:
            return
        if self._flusher.flush_is_due(now):
            self._attempt(self._flush, None)
        self.keep_leases()
        self.leases.forget_all_but(lease_tokens(self.active) | self.finisher.tokens())

    def keep_leases(self) -> None:
        """Renew the leases if that is due: between the steps of everything that may take long.

        Such as receivers of the site, of which there may be many, each for hundreds of runs.
        """
        if self.active and self.leases.renewal_is_due(time.monotonic()):
            self._attempt(self._renew, self.leases.backoff)

    def stop(self, keys: Iterable[int], reason: str) -> None:
        """End runs: SIGTERM, the grace period, SIGKILL."""
        for key in keys:
            assert self.launcher.executor is not None
            self.launcher.executor.stop(key, reason)

    def interrupt_all(self, reason: str) -> None:
        """End all runs, because the scheduler shuts down."""
        for key in self.active:
            assert self.launcher.executor is not None
            self.launcher.executor.interrupt(key, reason)

    def close(self) -> None:
        """End the executor and release the lock that shows that this process is alive."""
        self.launcher.close(runs_left=bool(self.active))

    def _flush(self) -> None:
        requested = self._flusher.flush(self.active, self._clock.now())
        self.stop(requested, "Stopped on request.")

    def _renew(self) -> None:
        assert self.launcher.executor is not None
        self.leases.renew(self.active, self.finisher.tokens(), self.launcher.executor)
