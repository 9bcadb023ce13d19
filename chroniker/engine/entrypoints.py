"""The ways to start a tick: from cron, by name, as a dry run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chroniker.conf import conf, remote_executors
from chroniker.db.backoff import readable_database_errors
from chroniker.db.connections import without_pool
from chroniker.db.lock_timeout import short_row_lock_timeout
from chroniker.db.open_transactions import refuse_open_transactions
from chroniker.exceptions import HostNotReady

from .heartbeat import record_heartbeat, record_tick_duration

# The modules that run jobs are imported only when there are jobs to run.
if TYPE_CHECKING:
    from chroniker.models import Job, JobState

    from .completion import FinishedRun


NotRun = list[tuple["Job", str]]
"""Jobs that were to run and did not, each with the reason."""


def run_single_tick(*, only: frozenset[int] | None = None, sync: bool = False) -> None:
    """Run one tick. Raises DatabaseNotReady, HostNotReady and OpenTransaction.

    With CHRONIKER_USE_PID it waits for the previous tick on this host; if another tick is waiting
    already, it returns and leaves the work to that one.
    """
    refuse_open_transactions()
    with _exclusive_tick() if conf.USE_PID else nullcontext(True) as mine:
        if not mine:
            return
        started = time.monotonic()
        with readable_database_errors(), without_pool(), short_row_lock_timeout():
            pending_work = record_heartbeat(conf.HOSTNAME)
            if pending_work.idle:
                record_tick_duration(conf.HOSTNAME, time.monotonic() - started)
        if pending_work.idle:
            if only is None and conf.DEADMAN_URL:
                from chroniker.alerting.deadman import DeadManSwitch

                DeadManSwitch().ping().wait()
            return
        from .scheduler import Scheduler

        Scheduler(only=only, max_parallel=1 if sync else None, pending_work=pending_work).run()


@contextmanager
def _exclusive_tick(*, queue: bool = False) -> Iterator[bool]:
    """Hold the PID file; False if another tick is waiting for it. ``queue``: wait for that, too."""
    from chroniker.processes.locks import FileLock

    try:
        waiting, lock = FileLock(f"{conf.PID_FILE}.next"), FileLock(conf.PID_FILE)
        first = waiting.acquire(wait=queue)
    except OSError as error:
        raise HostNotReady(f"CHRONIKER_PID_FILE cannot be locked: {error}") from error
    if not first:
        yield False
        return
    try:
        try:
            lock.acquire(wait=True)
        except OSError as error:
            raise HostNotReady(f"CHRONIKER_PID_FILE cannot be locked: {error}") from error
        waiting.release()
        lock.note(f"{os.getpid()}\n")
        yield True
    finally:
        waiting.close()
        lock.release()


def force_jobs(jobs: list[Job], *, sync: bool = False) -> NotRun:
    """Run the jobs, due or not, as many at a time as CHRONIKER_MAX_PARALLEL allows.

    Returns those that were not run. Raises DatabaseNotReady, HostNotReady and OpenTransaction.
    """
    refuse_open_transactions()
    with _exclusive_tick(queue=True) if conf.USE_PID else nullcontext():
        return _run_now(jobs, lambda ended: None, max_parallel=1 if sync else None)


def run_jobs(jobs: list[Job], on_finished: Callable[[FinishedRun], None]) -> NotRun:
    """Run the jobs at once; returns those that were not run.

    ``on_finished`` is called for each run that has ended, also if its end could not be recorded:
    then ``unrecorded_reason`` says why. Raises DatabaseNotReady, HostNotReady and OpenTransaction.
    """
    refuse_open_transactions()
    # A person's request is not refused because the host is at capacity.
    return _run_now(jobs, on_finished, max_parallel=2**31)


def _run_now(
    jobs: list[Job], on_finished: Callable[[FinishedRun], None], *, max_parallel: int | None
) -> NotRun:
    from .scheduler import Scheduler

    ran: set[int] = set()
    wanted = {job.pk: job for job in jobs}

    def note(ended: FinishedRun) -> None:
        key = ended.run.job_id
        if key in wanted:
            ran.add(key)
            on_finished(ended)

    Scheduler(
        only=frozenset(wanted),
        force=True,
        max_parallel=max_parallel,
        on_finished=note,
        on_unrecorded=note,
    ).run()
    return [(job, _explain_not_run(job)) for key, job in wanted.items() if key not in ran]


def _explain_not_run(job: Job) -> str:
    from chroniker.models import Host, Job, JobState, Maintenance

    if not Job.objects.filter(pk=job.pk).exists():
        return "it was deleted before it could start"
    state = JobState.objects.filter(job=job).order_by("-lease_expires_at").first()
    if state is not None and state.is_queued:
        return f"it waits for a worker of the queue {job.effective_queue}"
    if state is not None and state.lease_token is not None:
        return f"it is running on {state.lease_host}"
    if job.hostname not in ("", "*", conf.HOSTNAME):
        return f"it runs on {job.hostname} only, and this is {conf.HOSTNAME}"
    pausing = Maintenance.objects.active(datetime.now(UTC)).filter(pause=True).covering(job.pk)
    if (window := pausing.first()) is not None:
        return f"a maintenance window pauses it ({window})"
    if Host.objects.filter(name=conf.HOSTNAME, paused=True).exists():
        return f"this host, {conf.HOSTNAME}, is paused; resume it in the admin"
    if job.effective_executor in remote_executors():
        return _explain_not_published(job, state)
    return "it could not be claimed; try again, and see the log for the reason"


def _explain_not_published(job: Job, state: JobState | None) -> str:
    from .queues import Queue, no_worker, worker_capacities

    queue = Queue(job.effective_executor, job.effective_queue)
    reason = "no worker took it" if worker_capacities()[queue] else no_worker(queue)
    if state is not None and state.blocked_detail:
        reason = state.blocked_detail
    if state is not None and state.run_requested_at is not None:
        return f"{reason} Its run stays requested, and starts when a worker can take it."
    return reason


def due_jobs(only: frozenset[int] | None, *, force: bool) -> list[str]:
    """What a tick would start now, one line per job, upstream jobs first.

    Raises DatabaseNotReady.
    """
    from chroniker.models import JobDependency, JobState
    from chroniker.schedules.dependencies import topological_order

    from .planning import plan_changed_jobs

    now = datetime.now(UTC)
    with readable_database_errors():
        plan_changed_jobs(now)
        states = JobState.objects.for_host(conf.HOSTNAME).unpaused(now).select_related("job")
        if not force:
            states = states.due(now)
        if only is not None:
            states = states.filter(job__in=only)
        found = {state.job_id: state for state in states.order_by("-job__priority", "due_at")}
        edges = JobDependency.objects.filter(downstream__in=list(found)).values_list(
            "downstream_id", "upstream_id"
        )
        return [
            f"{found[key].job.name} (due {found[key].due_at or now:%Y-%m-%d %H:%M:%S}Z)"
            for key in topological_order(found, edges)
        ]
