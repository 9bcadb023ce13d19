"""The worker's side of a remote executor: take a run, guard it, record its end.

A process of a worker calls :func:`execute_order` with what the executor has delivered. It does what
a scheduler does for a local run, with the same warden, output, limits, lease and record of the end.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import partial

from django.db import DatabaseError, InterfaceError

from chroniker.db.alias import database
from chroniker.db.backoff import Backoff
from chroniker.db.clock import boottime
from chroniker.db.connections import forget_logged_queries, without_pool
from chroniker.db.lock_timeout import short_lock_timeout
from chroniker.db.transactions import run_transaction
from chroniker.enums import RunStatus
from chroniker.executors.base import RunOrder
from chroniker.logs import log_context
from chroniker.models import Run
from chroniker.signals import run_finished

from .claims import ClaimedRun, new_token
from .completion import FinishedRun
from .orders import Taker, take
from .retention import prune_runs
from .stop_signals import StopSignals
from .supervision import Supervision
from .tick_clock import TickClock
from .upkeep import announced_tick

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_TAKE_ATTEMPTS = 5


def execute_order(
    order: RunOrder, worker: str, *, shutting_down: Callable[[], bool] = lambda: False
) -> str:
    """Execute a run to its end in this process; return its status.

    Returns "" if there is nothing to do: the order was taken before, or was withdrawn. Call it in
    the main thread of a process that executes one order at a time.

    Parameters:
        order: what :meth:`~chroniker.executors.base.RemoteExecutor.start` published
        worker: the unique name of the worker, which the run gets as ``ran_on``
        shutting_down: whether the worker shuts down. The run is then interrupted after
            CHRONIKER_KILL_GRACE_SECONDS, and its slot is due again. So it is by SIGTERM.

    Raises DatabaseError or InterfaceError if the database cannot be reached; the order stays valid.
    """
    global _guard
    if _guard is None or _guard.pid != os.getpid():
        _guard = RunGuard()
    return _guard.execute(order, worker, shutting_down)


_guard: RunGuard | None = None


def release_worker() -> None:
    """End the fork server of this process, and remove its lock. Call it before the process ends."""
    global _guard
    if _guard is not None and _guard.pid == os.getpid():
        _guard.close()
    _guard = None


class RunGuard:
    """Executes orders, one after the other. It keeps its fork server between them."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._clock = TickClock()
        self._backoff = Backoff()
        self._stop = StopSignals()
        self._worker = ""
        self._status = ""
        self._runs = Supervision(
            self._clock,
            self._attempt,
            self._announce,
            long_running=True,
            on_unrecorded=self._note_unrecorded,
            shutdown_reason=self._shutdown_reason,
        )

    def execute(self, order: RunOrder, worker: str, shutting_down: Callable[[], bool]) -> str:
        """Execute a run to its end; return its status, or "" if there is nothing to do."""
        self._worker, self._status, self._stop = worker, "", StopSignals()
        with self._stop.handlers(), without_pool(), short_lock_timeout():
            sent = boottime()
            claimed = self._take(order)
            if claimed is None:
                logger.info("Nothing to do for run %s: it was taken before, or withdrawn",
                            order.run, extra=log_context(run=order.run))  # fmt: skip
                return ""
            with announced_tick(worker):
                self._guard(claimed, sent, shutting_down)
        return self._status

    def _take(self, order: RunOrder) -> ClaimedRun | None:
        """Become the owner of the run. The same token in each attempt: one may be committed."""
        token = new_token()
        taker = Taker(self._worker, self._runs.launcher.owner_name())
        for attempt in range(1, _TAKE_ATTEMPTS + 1):
            try:
                taken = run_transaction(partial(take, order, token, taker))
                break
            except (DatabaseError, InterfaceError):
                if attempt == _TAKE_ATTEMPTS:
                    raise
                time.sleep(0.2 * 2**attempt)
        if taken is None:
            return None
        claimed, now = taken
        self._clock.set(now, boottime())
        return claimed

    def _guard(self, claimed: ClaimedRun, sent: float, shutting_down: Callable[[], bool]) -> None:
        runs = self._runs
        runs.leases.acquire(claimed.token, sent)
        if claimed.state.stop_requested_at is not None:
            runs.finisher.add_refused(claimed, "Stopped on request.", RunStatus.STOPPED)
        else:
            runs.start([claimed], sent)
        while runs.busy:
            if runs.active:
                runs.poll(runs.longest_wait(_POLL_SECONDS))
            else:
                time.sleep(0.05 if self._backoff.waiting else 0.0)
            if shutting_down():
                self._stop.request_once()
            if self._stop.must_stop_runs(time.monotonic()):
                runs.interrupt_all(self._shutdown_reason())
            runs.maintain(nearly_idle=True)
        forget_logged_queries()

    def _shutdown_reason(self) -> str:
        if not self._stop.received:
            return ""
        return f"Interrupted: the worker {self._worker} was asked to shut down."

    def _attempt(self, action: Callable[[], object], backoff: Backoff | None = None) -> None:
        """Do something with the database; if it fails, repeat it later."""
        backoff = backoff or self._backoff
        if backoff.waiting:
            return
        failure = backoff.attempt(action)
        if failure is not None and database().vendor != "sqlite":
            self._runs.finisher.give_up_lost_runs()

    def _announce(self, finished: FinishedRun) -> None:
        """The end was recorded: send the signal, delete old runs."""
        job = finished.job
        self._status = finished.outcome.status.value
        run_finished.send_robust(sender=Run, run=finished.updated_run(), job=job, batch="")
        keep = job.max_runs_kept
        if keep is not None and (finished.state.runs_total + 1) % max(1, keep // 10) == 0:
            self._attempt(lambda: prune_runs(job, keep))

    def _note_unrecorded(self, finished: FinishedRun) -> None:
        self._status = RunStatus.LOST.value

    def close(self) -> None:
        """End what is left, and the fork server."""
        self._runs.close()
