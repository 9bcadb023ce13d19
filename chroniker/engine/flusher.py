"""What is stored of runs while they run: progress, output, process ids."""

from __future__ import annotations

import logging
import time
from datetime import datetime
from functools import partial

from django.db import DatabaseError

from chroniker.db.transactions import is_outage, is_row_locked, run_transaction
from chroniker.logs import log_context
from chroniker.models import JobState, Run

from .active_runs import ActiveRun, ActiveRuns, lease_tokens
from .output_store import append_output, store_progress

logger = logging.getLogger(__name__)

_FLUSH_SECONDS = 1.0
"""How often progress and stop requests are checked while something runs."""
_OUTPUT_SECONDS = 2.0
"""How often the output of a run is stored while it runs."""


class Flusher:
    """Stores progress and output of running runs, and reads stop requests."""

    def __init__(self) -> None:
        self._flushed_at = 0.0

    def start_flushing(self) -> None:
        """Count the time to the next flush from now."""
        self._flushed_at = time.monotonic()

    def flush_is_due(self, now: float) -> bool:
        """Whether it is time to flush at ``now`` (CLOCK_MONOTONIC); if so, count from now."""
        if now - self._flushed_at < _FLUSH_SECONDS:
            return False
        self._flushed_at = now
        return True

    def flush(self, active: ActiveRuns, now: datetime) -> list[int]:
        """Store what is new, and return the keys of the runs that are requested to stop.

        Raises DatabaseError in an outage. Nothing that was read of a run is lost then: it is
        stored by the next flush or with the end of the run.
        """
        clock = time.monotonic()
        locked = _locked_states(active, clock)
        for run in active.values():
            if run.claimed.state.pk in locked or run.claimed.batch:
                continue  # stored by a later flush: the others do not wait for that lock
            _store_progress(run, now)
            if not run.pid_stored:
                trace = run.claimed.run.traceparent
                Run.objects.running().filter(pk=run.handle.key).update(
                    pid=run.handle.warden_pid, **({"traceparent": trace} if trace else {})
                )
                run.pid_stored = True
            if clock - run.output_stored_at >= _OUTPUT_SECONDS:
                run.output_stored_at = clock
                _store_output(run, now)
        requested = JobState.objects.owned_by(list(lease_tokens(active))).filter(
            stop_requested_at__isnull=False
        )
        return [key for key in requested.values_list("current_run", flat=True) if key in active]


def _locked_states(active: ActiveRuns, clock: float) -> set[int]:
    """The states, of the runs that may have something to store, that another transaction locks."""
    keys = []
    for run in active.values():
        if run.claimed.batch:
            continue  # everything is stored with its end
        run.handle.read_progress()
        if run.handle.parts_changed or clock - run.output_stored_at >= _OUTPUT_SECONDS:
            keys.append(run.claimed.state.pk)
    if not keys:
        return set()
    return run_transaction(lambda: JobState.objects.lock(keys), attempts=1)


def _store_progress(run: ActiveRun, now: datetime) -> None:
    handle, claimed = run.handle, run.claimed
    if not handle.parts_changed or handle.parts is None:
        return
    handle.parts_changed = False
    try:
        run_transaction(
            partial(store_progress, claimed.state.pk, claimed.token, handle.parts, now), attempts=1
        )
    except DatabaseError as error:
        handle.parts_changed = True
        if not is_row_locked(error):
            raise


def _store_output(run: ActiveRun, now: datetime) -> None:
    batch = run.handle.recorder.take()
    if not batch.pieces and not batch.expired:
        return
    state, token = run.claimed.state.pk, run.claimed.token
    try:
        run_transaction(
            partial(append_output, state, token, run.handle.key, batch, now), attempts=2
        )
    except DatabaseError as error:
        if is_outage(error):
            run.handle.recorder.put_back(batch)
            if is_row_locked(error):
                return  # stored by a later flush
        else:
            logger.error(
                "Output of run %s cannot be stored: %s",
                run.handle.key,
                error,
                extra=log_context(job=run.claimed.job.name, run=run.handle.key),
            )
        raise
