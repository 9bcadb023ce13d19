"""The ends of runs: collected, written in groups, given up when their lease is lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

from django.db import DatabaseError

from chroniker.conf import conf
from chroniker.db.transactions import is_outage, is_row_locked, run_transaction
from chroniker.enums import RunStatus
from chroniker.logs import log_context
from chroniker.models import JobState, Run
from chroniker.processes.output import OutputBatch
from chroniker.processes.running_child import Outcome

from .active_runs import ActiveRun
from .claims import ClaimedRun
from .completion import FinishedRun, is_recorded, release
from .joint_completion import end_runs
from .leases import Leases
from .tick_clock import TickClock

logger = logging.getLogger(__name__)

BATCH_SECONDS = 0.03
"""How long an end waits for others before it is written."""
_TOGETHER_SECONDS = 0.2
"""The same for an end of a run of a batch, unless there are many."""
_MAX_TOGETHER = 500
"""How many ends are written in one transaction."""
_POSTPONE_SECONDS = 0.5
"""How long an end waits that another transaction's lock has kept from being written."""
_MAX_REJECTIONS = 3


class Finisher:
    """Writes the ends of runs, several in one transaction.

    ``on_recorded`` is called for each run whose end is in the database, ``on_unrecorded`` for each
    whose end was refused because this process does not own the run any more.
    """

    def __init__(
        self,
        clock: TickClock,
        leases: Leases,
        on_recorded: Callable[[FinishedRun], None],
        on_unrecorded: Callable[[FinishedRun], None] = lambda finished: None,
    ) -> None:
        self._clock = clock
        self._leases = leases
        self._on_recorded = on_recorded
        self._on_unrecorded = on_unrecorded
        self._first_end_at = 0.0
        self.unrecorded: list[FinishedRun] = []
        """Runs that have ended and whose end is not yet in the database."""
        self.postponed: list[FinishedRun] = []
        """The same, but another transaction has locked a row that the end changes."""
        self._postponed_until = 0.0

    def add(self, run: ActiveRun, shutdown_reason: str = "") -> None:
        """Take over a run whose execution has ended.

        ``shutdown_reason``: as for :meth:`RunHandle.outcome`.
        """
        if not self.unrecorded:
            self._first_end_at = time.monotonic()
        handle = run.handle
        finished = self._build(run.claimed, handle.outcome(shutdown_reason))
        finished.output = handle.recorder.take(final=True)
        finished.written = dict(handle.written)
        finished.parts = handle.parts
        finished.pid = handle.warden_pid
        finished.payload = handle.payload
        self.unrecorded.append(finished)

    def add_refused(
        self, claimed: ClaimedRun, reason: str, status: RunStatus = RunStatus.FAILED
    ) -> None:
        """Take over a run that could not, or shall not, be started."""
        self.unrecorded.append(self._build(claimed, Outcome(status, reason)))

    def tokens(self) -> set[str]:
        """The tokens of the leases that are held until the ends are written."""
        return {finished.token for finished in self.unrecorded + self.postponed}

    @property
    def place_waits(self) -> bool:
        """Whether an end is not yet written after which something may start.

        Its run had a process, and so a place, of its own, or another job waits for it.
        """
        return any(not ended.batch or ended.has_downstream for ended in self.unrecorded)

    def should_finish(self, now: float, *, nearly_idle: bool) -> bool:
        """Whether to write at ``now`` (CLOCK_MONOTONIC). Ends are written in groups."""
        if self.postponed and now >= self._postponed_until:
            return True
        if not self.unrecorded:
            return False
        if self.place_waits:
            return nearly_idle or now - self._first_end_at >= BATCH_SECONDS
        if len(self.unrecorded) >= _MAX_TOGETHER // 2:
            return True
        return now - self._first_end_at >= _TOGETHER_SECONDS

    def finish(self) -> None:
        """Write the ends in one transaction or, if one of them is rejected, each in its own.

        An end that would have to wait for the lock of another transaction is postponed. Raises
        DatabaseError in an outage; what was not written stays in ``unrecorded``.
        """
        if self.postponed and time.monotonic() >= self._postponed_until:
            self.unrecorded, self.postponed = self.unrecorded + self.postponed, []
        waiting, later = self.unrecorded[:_MAX_TOGETHER], self.unrecorded[_MAX_TOGETHER:]
        try:
            written = run_transaction(lambda: end_runs(waiting))
        except Exception as error:  # also of the site: a receiver of its models' signals
            if is_outage(error) and not is_row_locked(error):
                raise
            self._finish_individually(waiting, later)
            return
        self.unrecorded = later
        for finished, done in zip(waiting, written, strict=True):
            self._confirm(finished, done=done)

    def give_up_lost_runs(self) -> None:
        """Drop ends whose lease ran out long ago: another host has recorded those runs as lost."""
        for finished in self.unrecorded + self.postponed:
            if self._leases.lost_for_long(finished.token):
                logger.error(
                    "Run %s of job %s ended as %s, but the database could not be reached, or its "
                    "state was locked; it will be recorded as lost",
                    finished.run.pk,
                    finished.job.name,
                    finished.outcome.status,
                    extra=log_context(job=finished.job.name, run=finished.run.pk),
                )
                self.unrecorded = [other for other in self.unrecorded if other is not finished]
                self.postponed = [other for other in self.postponed if other is not finished]

    def _build(self, claimed: ClaimedRun, outcome: Outcome) -> FinishedRun:
        return FinishedRun(
            state=claimed.state,
            job=claimed.job,
            run=claimed.run,
            token=claimed.token,
            outcome=outcome,
            ended_at=self._clock.now(),
            has_downstream=claimed.has_downstream,
            batch=claimed.batch,
        )

    def _finish_individually(self, waiting: list[FinishedRun], later: list[FinishedRun]) -> None:
        self.unrecorded = later
        give_up_at = time.monotonic() + conf.LEASE_SECONDS / 6
        for position, finished in enumerate(waiting):
            if time.monotonic() > give_up_at:
                self.unrecorded += waiting[position:]
                return  # a later pass writes the others: there are leases to renew
            try:
                (done,) = run_transaction(partial(end_runs, [finished]), attempts=2)
            except Exception as error:
                if is_row_locked(error):
                    self._postpone(finished)
                elif is_outage(error):
                    self.unrecorded += waiting[position:]
                    raise
                else:
                    self._retry_rejected(finished, error)
            else:
                self._confirm(finished, done=done)

    def _postpone(self, finished: FinishedRun) -> None:
        """Write the end later: another transaction has locked a row that it changes."""
        self.postponed.append(finished)
        self._postponed_until = time.monotonic() + _POSTPONE_SECONDS
        self.give_up_lost_runs()

    def _confirm(self, finished: FinishedRun, *, done: bool | None) -> None:
        if done is None:
            self._postpone(finished)
            return
        # Not done: the reply to an earlier commit may have been lost.
        if done or is_recorded(finished):
            self._on_recorded(finished)
            return
        if JobState.objects.filter(pk=finished.state.pk).exists():
            finished.unrecorded_reason = "its lease was lost."
            message = "Run %s of job %s lost its lease; its end was not recorded"
        else:
            finished.unrecorded_reason = "its job was deleted while it ran."
            message = "Run %s of job %s ended, but its job was deleted; its end was not recorded"
        logger.warning(
            message,
            finished.run.pk,
            finished.job.name,
            extra=log_context(job=finished.job.name, run=finished.run.pk),
        )
        self._on_unrecorded(finished)

    def _retry_rejected(self, finished: FinishedRun, error: Exception) -> None:
        """The database rejects this end: try again with less, because some end must be written.

        Or a receiver of the site raises, of the signals of models.
        """
        rejected = isinstance(error, DatabaseError)
        logger.error(
            "The database rejected the end of run %s: %s" if rejected
            else "The end of run %s cannot be written: %r",
            finished.run.pk,
            error,
            exc_info=not rejected,
            extra=log_context(job=finished.job.name, run=finished.run.pk),
        )  # fmt: skip
        finished.rejections += 1
        finished.output = OutputBatch()
        finished.run_deleted = not Run.objects.filter(pk=finished.run.pk).exists()
        if finished.rejections == _MAX_REJECTIONS:
            release(finished)
            return
        if finished.rejections == _MAX_REJECTIONS - 1:
            why = f"the database rejected its result: {error}"
            if not rejected:
                why = f"its result cannot be written: {error!r}"
            reason = f"The run ended as {finished.outcome.status}, but {why}"
            finished.outcome = Outcome(RunStatus.LOST, reason)
            finished.parts, finished.pid, finished.written = None, None, {}
        self.unrecorded.append(finished)
