"""The ways to start a tick: from cron, by name, as a dry run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chroniker.conf import conf
from chroniker.db.backoff import readable_database_errors
from chroniker.exceptions import HostNotReady

from .heartbeat import record_heartbeat, record_tick_duration

# The modules that run jobs are imported only when there are jobs to run.
if TYPE_CHECKING:
    from chroniker.models import Job

    from .completion import FinishedRun


def run_single_tick(
    *, only: frozenset[int] | None = None, force: bool = False, sync: bool = False
) -> None:
    """Run one tick. Raises DatabaseNotReady and HostNotReady.

    With CHRONIKER_USE_PID it waits for the previous tick on this host; if another tick is waiting
    already, it returns and leaves the work to that one.
    """
    with _exclusive_tick() if conf.USE_PID else nullcontext(True) as mine:
        if not mine:
            return
        started = time.monotonic()
        with readable_database_errors():
            pending_work = record_heartbeat(conf.HOSTNAME)
            if pending_work.idle and not force:
                record_tick_duration(conf.HOSTNAME, time.monotonic() - started)
        if pending_work.idle and not force:
            if only is None and conf.DEADMAN_URL:
                from chroniker.alerting.deadman import DeadManSwitch

                DeadManSwitch().ping().wait()
            return
        from .scheduler import Scheduler

        Scheduler(
            only=only, force=force, max_parallel=1 if sync else None, pending_work=pending_work
        ).run()


@contextmanager
def _exclusive_tick() -> Iterator[bool]:
    from chroniker.processes.locks import FileLock

    try:
        waiting, lock = FileLock(f"{conf.PID_FILE}.next"), FileLock(conf.PID_FILE)
        first = waiting.acquire(wait=False)
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


def run_jobs(jobs: list[Job], on_finished: Callable[[FinishedRun], None]) -> list[tuple[Job, str]]:
    """Run the jobs at once; returns those that were not run, with the reason."""
    from .scheduler import Scheduler

    ran: set[int] = set()

    def note(ended: FinishedRun) -> None:
        if ended.job.pk in wanted:
            ran.add(ended.job.pk)
            on_finished(ended)

    wanted = frozenset(job.pk for job in jobs)
    # A person's request is not rejected because the host is at capacity.
    Scheduler(only=wanted, force=True, max_parallel=2**31, on_finished=note).run()
    return [(job, _explain_not_run(job)) for job in jobs if job.pk not in ran]


def _explain_not_run(job: Job) -> str:
    from chroniker.models import JobState, Maintenance

    state = JobState.objects.filter(job=job).order_by("-lease_expires_at").first()
    if state is not None and state.lease_token is not None:
        return f"it is running on {state.lease_host}"
    if job.hostname not in ("", "*", conf.HOSTNAME):
        return f"it runs on {job.hostname} only, and this is {conf.HOSTNAME}"
    pausing = Maintenance.objects.active(datetime.now(UTC)).filter(pause=True).covering(job.pk)
    if (window := pausing.first()) is not None:
        return f"a maintenance window pauses it ({window})"
    return "it could not be claimed; is this host paused?"


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
