"""What people order: a run, a stop, a job on or off. Each is recorded in the admin's log.

The first statement of each transaction writes: on SQLite one that reads first may not be able to
write afterwards, however long it waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import islice

from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import Model, Q

from chroniker.models import Host, Job, JobState, Run
from chroniker.querysets import JobStateQuerySet
from chroniker.transactions import run_transaction

BATCH = 500
"""Jobs in one statement: SQLite limits the variables of one."""


def order_run(jobs: Iterable[Job], *, user_id: int) -> int:
    """Ask for a run of each; how many host slots that changed.

    A job that no tick has planned yet gets its states here.
    """

    def order(batch: Sequence[Job]) -> int:
        changed = _slots(batch).request_run()
        _log(user_id, batch, "Run now.")
        return changed

    changed = 0
    for batch in _batches(jobs):
        _make_states(batch)
        changed += run_transaction(partial(order, batch))
    return changed


def order_stop(jobs: Iterable[Job], *, user_id: int) -> int:
    """Ask that those of the jobs that run be stopped; how many host slots that changed."""

    def order(states: JobStateQuerySet, running: Sequence[Job]) -> int:
        changed = states.request_stop()
        _log(user_id, running, "Stop.")
        return changed

    changed = 0
    for batch in _batches(jobs):
        states = JobState.objects.filter(job__in=[job.pk for job in batch])
        running = set(states.filter(lease_token__isnull=False).values_list("job", flat=True))
        changed += run_transaction(partial(order, states, [j for j in batch if j.pk in running]))
    return changed


def order_stop_of_run(run: Run, *, user_id: int) -> int:
    """Ask that one run be stopped; 0 where it has ended, or was asked to stop before."""

    def order() -> int:
        changed = JobState.objects.filter(current_run=run).request_stop()
        if changed:
            _log(user_id, [run, run.job], "Stop.")
        return changed

    return run_transaction(order)


def switch(jobs: Iterable[Job], *, enabled: bool, now: datetime, user_id: int) -> int:
    """Enable or disable; how many were otherwise before."""

    def order(batch: Sequence[Job]) -> int:
        changed = Job.objects.filter(pk__in=[job.pk for job in batch]).update(
            enabled=enabled, updated_at=now
        )
        _log(user_id, batch, "Enabled." if enabled else "Disabled.")
        return changed

    rest = (job for job in jobs if job.enabled != enabled)
    return sum(run_transaction(partial(order, batch)) for batch in _batches(rest))


def _make_states(jobs: Sequence[Job]) -> None:
    everywhere = any(job.every_host for job in jobs)
    hosts = list(Host.objects.values_list("name", flat=True)) if everywhere else []
    wanted = {(job.pk, host): job for job in jobs for host in (hosts if job.every_host else [""])}
    present = set(JobState.objects.filter(job__in=jobs).values_list("job", "host"))
    for (pk, host), job in wanted.items():
        if (pk, host) not in present:
            JobState.objects.get_or_create(job=job, host=host)


def _slots(jobs: Sequence[Job]) -> JobStateQuerySet:
    """The states of the host slots that the jobs' definitions have now."""
    everywhere = [job.pk for job in jobs if job.every_host]
    once = [job.pk for job in jobs if not job.every_host]
    return JobState.objects.filter(Q(job__in=once, host="") | (Q(job__in=everywhere) & ~Q(host="")))


def _log(user_id: int, objects: Sequence[Model], message: str) -> None:
    if objects:
        LogEntry.objects.log_actions(user_id, objects, CHANGE, change_message=message)


def _batches(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    rest = iter(jobs)
    while batch := list(islice(rest, BATCH)):
        yield batch
