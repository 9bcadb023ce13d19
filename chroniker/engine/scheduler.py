"""The loop of a scheduler, from the heartbeat of its host to the end of the last run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime

from django.db import DatabaseError, InterfaceError

from chroniker.alerting import outbox
from chroniker.conf import LOCAL, conf, runtime_dir
from chroniker.db.alias import database
from chroniker.db.backoff import Backoff, describe_error
from chroniker.db.connections import forget_logged_queries, without_pool
from chroniker.db.lock_timeout import short_lock_timeout
from chroniker.db.open_transactions import refuse_open_transactions
from chroniker.exceptions import DatabaseNotReady, HostNotReady, NewerSchema
from chroniker.logs import log_context
from chroniker.models import Run
from chroniker.signals import run_finished, run_missed, scheduler_ended

from .blocking import explain_blocked, explain_full_host, explain_paused_host
from .candidates import ClaimOptions
from .claimer import Claimer
from .completion import FinishedRun
from .dispatch import Dispatcher
from .due_watch import DueWatch
from .heartbeat import PendingWork, record_heartbeat, record_tick_duration
from .messenger import Messenger
from .planning import plan_changed_jobs
from .retention import prune_jobs, prune_runs
from .stop_signals import StopSignals
from .supervision import Supervision
from .tick_clock import TickClock
from .upkeep import announced_tick, review_incidents, settle_host

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
"""How long one pass of the loop waits for something to happen."""
_REMOTE_SECONDS = 55.0
"""How long a single tick watches the runs that workers execute. The next tick does the same."""
_BUSY_SECONDS = 0.1
"""The same in a loop of ticks while something runs."""


class Scheduler:
    """The loop: heartbeat, reap, plan, claim, start, supervise, finish, send.

    ``every``: tick again after this many seconds, until stopped (``cronserver``). ``only``: primary
    keys of the jobs to which it is restricted; ``force``: run those at once, due or not.
    ``max_parallel``: instead of ``CHRONIKER_MAX_PARALLEL``. ``now`` pins the time at the start,
    for tests; otherwise it is the database's. ``pending_work``: what the heartbeat of the first
    tick has shown already. ``on_finished`` is called for each run whose end was recorded,
    ``on_unrecorded`` for each whose end could not be, because its lease or its job is gone, and
    ``on_pass`` in each pass of the loop.
    """

    def __init__(
        self,
        *,
        every: float | None = None,
        only: frozenset[int] | None = None,
        force: bool = False,
        max_parallel: int | None = None,
        now: datetime | None = None,
        pending_work: PendingWork | None = None,
        on_finished: Callable[[FinishedRun], None] | None = None,
        on_unrecorded: Callable[[FinishedRun], None] = lambda finished: None,
        on_pass: Callable[[], None] | None = None,
    ) -> None:
        self.host = conf.HOSTNAME
        self.every = every
        self.only = only
        self._forced = force
        self._max_parallel = max_parallel
        self._pending_work = pending_work
        self._on_finished = on_finished
        self._on_pass = on_pass
        self._backoff = Backoff()
        self._stop = StopSignals()
        self._clock = TickClock(now)
        self._deferred_error: Exception | None = None
        self._prunable: dict[int, int] = {}
        """Jobs that have more runs than they keep, and how many they keep."""
        self._runs = Supervision(
            self._clock,
            self._attempt,
            self._announce,
            long_running=every is not None,
            on_unrecorded=on_unrecorded,
            shutdown_reason=self._shutdown_reason,
            max_parallel=max_parallel,
        )
        self._dispatcher = Dispatcher(self._note_remote_end, self._announce)
        self._ends_at = time.monotonic() + _REMOTE_SECONDS
        self._claimer = Claimer(
            self._clock, self._runs.leases, forced=force, single_tick=every is None
        )
        self._messenger = Messenger(self._clock.now, self._runs.launcher.descriptors)
        self._due_watch = None if every is None else DueWatch(self.host, self._clock.now)

    def run(self) -> None:
        """Tick, and return when everything that was started has ended.

        Raises DatabaseNotReady where the first tick fails before it has started anything,
        HostNotReady where there is no safe place for lock files, OpenTransaction, and NewerSchema.
        The last one, and what a receiver of the site raises outside of a run's end, after the runs
        that were started before have ended.
        """
        refuse_open_transactions()
        try:
            runtime_dir()
        except OSError as error:
            raise HostNotReady(str(error)) from error
        with self._stop.handlers(), without_pool(), short_lock_timeout():
            try:
                self._loop()
                if self.every and self._stop.received and not self._stop.superseded:
                    self._attempt(self._end_host)
            finally:
                self._messenger.close()
                self._dispatcher.close()
                self._runs.close()
                self._messenger.wait_for_ping()
                scheduler_ended.send_robust(sender=None)

    def _loop(self) -> None:
        next_tick = time.monotonic()
        failure = self._backoff.attempt(self.tick, log=False)
        if failure and not self._busy:
            raise DatabaseNotReady(describe_error(failure)) from failure
        while self._busy or self._more_to_force or (self.every and not self._stop.stopping):
            wait = self._runs.longest_wait(_POLL_SECONDS)
            every = None if self._stop.superseded else self.every
            if every:
                now = time.monotonic()
                wait = min(wait, next_tick + every - now, self._pause(now))
            self._poll_once(max(0.0, wait))
            forget_logged_queries()
            if self._on_pass is not None:
                self._on_pass()
            if every and time.monotonic() >= next_tick + every:
                next_tick = max(next_tick + every, time.monotonic() - every)
                self._attempt(self.tick)
            elif every and self._may_start_more():
                self._attempt(self.tick)
        if self._stop.superseded:
            raise self._stop.superseded
        if self._deferred_error is not None:
            raise self._deferred_error

    def _pause(self, now: float) -> float:
        """How long a pass may wait, at ``now`` (CLOCK_MONOTONIC), to start in time what is due."""
        watch = None if self._backoff.waiting or self._stop.stopping else self._due_watch
        if watch is None:
            return _POLL_SECONDS
        # While runs are listened to, no pass waits for the database too.
        busy = self._runs.active or self._messenger.busy
        return min(watch.pause(now), _BUSY_SECONDS if busy else _POLL_SECONDS)

    def _may_start_more(self) -> bool:
        """Whether something has become due before the next tick."""
        watch = None if self._backoff.waiting or self._stop.stopping else self._due_watch
        return watch is not None and watch.is_due()

    def _end_host(self) -> None:
        from .retirement import end_host

        end_host(self.host, self._clock.now())

    @property
    def _busy(self) -> bool:
        """Whether anything is unfinished: a run, its record, a claim, a delivery."""
        here = self._runs.busy or self._claimer.unconfirmed or self._messenger.busy
        return here or self._watches_workers

    @property
    def _watches_workers(self) -> bool:
        """Whether it waits for the ends of runs that workers execute.

        They need no scheduler, but what they make due shall not wait for the next tick.
        """
        if not self._dispatcher.outstanding:
            return False
        if self._forced:
            return True
        return not self._stop.stopping and time.monotonic() < self._ends_at

    @property
    def _more_to_force(self) -> bool:
        """Whether jobs that are to run at once wait for capacity."""
        return self._forced and not self._claimer.finished and not self._stop.stopping

    @property
    def _capacity(self) -> int:
        """How many runs this host may have at one time."""
        return conf.MAX_PARALLEL if self._max_parallel is None else self._max_parallel

    @property
    def _nearly_idle(self) -> bool:
        """Whether three quarters of the capacity are free."""
        return self._runs.places <= self._capacity // 4

    def tick(self) -> None:
        """Look at the database once and start what is due."""
        with announced_tick(self.host):
            self._tick()

    def _tick(self) -> None:
        started = time.monotonic()
        work = self._pending_work or record_heartbeat(self.host, self._clock.pinned)
        self._pending_work = None
        self._clock.set(work.clock, work.read_at)
        self._claimer.start_tick()
        lost = settle_host(work, self.host, self._clock)
        if work.stale:
            self._dispatcher.recover(self._clock.now())
        try:
            if work.unplanned:
                plan_changed_jobs(self._clock.now(), self._runs.keep_leases)
            self._claim_due(work)
        finally:
            for finished in lost:
                self._announce(finished)
                self._runs.keep_leases()
        self._defer_errors(
            lambda: review_incidents(work, self._clock.now(), self._runs.keep_leases)
        )
        if outbox.committed.test_and_clear() or work.outbox:
            self._messenger.send_notifications()
        record_tick_duration(self.host, time.monotonic() - started)
        if self._due_watch is not None:
            self._due_watch.note_tick()
        if self.only is None and conf.DEADMAN_URL:
            self._attempt(self._messenger.poll)  # fork the sender process before the thread starts
            self._messenger.ping_deadman_url()

    def _claim_due(self, work: PendingWork) -> None:
        """Claim what is due, and store why the rest does not start."""
        if not (work.due or work.unplanned or work.returned or self._claimer.forced):
            return
        if work.paused:
            explain_paused_host(self._clock.now(), self.host)
            self._claimer.finished = self._forced
            return
        self._claim()
        explain_blocked(self._clock.now(), self.host)
        self._dispatcher.explain(self._clock.now(), self.host)
        if self._runs.places >= self._capacity:
            explain_full_host(self._clock.now(), self.host, self._capacity)
        self._claimer.wanted = True

    def _claim(self) -> None:
        """Claim what is due and start it."""
        if self._stop.stopping and not self._claimer.unconfirmed:
            return
        if not self._runs.started and not self._messenger.can_fork():
            return  # the first run forks the fork server; a later pass claims
        options = ClaimOptions(
            host=self.host,
            owner=self._runs.launcher.owner_name(),
            max_parallel=self._capacity,
            batch_room=self._runs.batch_room,
            rooms=self._dispatcher.rooms(self._clock.now(), only=self.only, force=self._forced),
            only=self.only,
        )
        batch = self._claimer.claim(options)
        here = [item for item in batch.result.started if item.executor == LOCAL]
        if here:
            self._runs.start(here, batch.sent)
        self._dispatcher.publish(item for item in batch.result.started if item.executor != LOCAL)
        for run in batch.result.missed:
            run_missed.send_robust(sender=Run, run=run, job=run.job)
            self._runs.keep_leases()

    def _poll_once(self, wait: float) -> None:
        """Listen to the runs for a moment, and do what is due by then."""
        watch = self._due_watch
        if watch is not None and not (self._runs.active or self._messenger.busy):
            watch.wait(wait)
            wait = 0.0
        if self._runs.started and (self._runs.active or not self._messenger.busy):
            if self._runs.poll(wait):
                self._claimer.note_free_capacity()
        else:
            self._messenger.wait(wait)
        now = time.monotonic()
        if self._dispatcher.outstanding:
            self._attempt(self._watch_workers)
        if self._stop.must_stop_runs(now):
            if self._forced:
                self._attempt(self._dispatcher.request_stops)
            if reason := self._shutdown_reason():
                self._runs.interrupt_all(reason)
            else:
                self._runs.stop(self._runs.active, "Stopped by a signal to the command.")
        self._runs.maintain(nearly_idle=self._nearly_idle)
        if self._prunable:
            jobs, self._prunable = self._prunable, {}
            self._attempt(lambda: self._defer_errors(lambda: prune_jobs(jobs)))
        if outbox.committed.test_and_clear():
            self._messenger.send_notifications()
        if self._messenger.busy:
            self._attempt(self._messenger.poll)
        if self._backoff.waiting or self._runs.finisher.place_waits:
            return
        if self._claimer.should_claim(now, nearly_idle=self._nearly_idle):
            self._attempt(self._claim)

    def _watch_workers(self) -> None:
        """Notice the ends of runs that workers execute: something else may be due now."""
        if self._dispatcher.watch(self._clock.now()):
            self._claimer.note_free_capacity()
            if self._dispatcher.notifications_wait(self._clock.now()):
                self._messenger.send_notifications()

    def _note_remote_end(self, finished: FinishedRun) -> None:
        """A worker has recorded the end of a run."""
        if self._on_finished is not None:
            self._on_finished(finished)

    def _shutdown_reason(self) -> str:
        """Why runs are interrupted; empty while nobody has asked this scheduler to shut down.

        Also empty for runs that a person has started on a command line (``run_job``, ``cron
        --force-run``): Ctrl-C must not start them again in the background.
        """
        if self._forced or not self._stop.received:
            return ""
        return f"Interrupted: the scheduler on {self.host} was asked to shut down."

    def _announce(self, finished: FinishedRun) -> None:
        """A run's end was recorded: send the signal, delete old runs, send notifications."""
        job = finished.job
        # A receiver that raises is logged (by Django) and stops nothing.
        run_finished.send_robust(
            sender=Run, run=finished.updated_run(), job=job, batch=finished.batch
        )
        if self._on_finished is not None:
            self._on_finished(finished)
        if not job.failures_open_incidents and not finished.batch:
            self._messenger.send_notifications()  # its own process may have written some
        keep = job.max_runs_kept
        # Not at each end: deleting a tenth at a time costs a tenth.
        # Not all jobs that always run together at the same moment.
        total = finished.state.runs_total + 1 + (job.pk if finished.batch else 0)
        if keep is not None and total % max(1, keep // 10) == 0:
            if finished.batch:
                self._prunable[job.pk] = keep
            else:
                self._attempt(lambda: self._defer_errors(lambda: prune_runs(job, keep)))

    def _defer_errors(self, action: Callable[[], object]) -> None:
        """Do something that must not end the runs, whatever a receiver of the site raises.

        Except for errors of the database, it is raised when they have ended.
        """
        try:
            action()
        except (DatabaseError, InterfaceError):
            raise
        except Exception as error:
            logger.exception("The tick continues after an error", extra=log_context(host=self.host))
            self._deferred_error = error

    def _attempt(self, action: Callable[[], object], backoff: Backoff | None = None) -> None:
        """Do something with the database; if it fails, repeat it later without losing anything."""
        backoff = backoff or self._backoff
        if backoff.waiting:
            return
        try:
            failure = backoff.attempt(action)
        except NewerSchema as error:
            self._stop.superseded = error
            return
        # On SQLite no other process may record what this process owns while it is alive.
        if failure is not None and database().vendor != "sqlite":
            self._runs.finisher.give_up_lost_runs()
            self._claimer.give_up_lost_claim()
