"""What people order: a run, a stop, a job on or off. Each is recorded in the admin's log.

The first statement of each transaction writes: on SQLite one that reads first may not be able to
write afterwards, however long it waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import F, Model, Q, QuerySet

from chroniker.alerting.incidents import unmute
from chroniker.db.transactions import run_transaction
from chroniker.models import (
    Host,
    Incident,
    Job,
    JobState,
    Maintenance,
    MaintenanceJob,
    Notification,
    Run,
)
from chroniker.models.state import JobStateQuerySet

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


def mute(jobs: Iterable[Job], *, hours: int, now: datetime, user_id: int) -> int:
    """A window that mutes them from now on; how many they are."""
    chosen = list(jobs)

    def order() -> int:
        window = Maintenance.objects.create(
            starts_at=now,
            ends_at=now + timedelta(hours=hours),
            reason=f"Muted for {hours} h",
            created_by_id=user_id,
        )
        MaintenanceJob.objects.bulk_create(
            (MaintenanceJob(maintenance=window, job=job) for job in chosen), batch_size=BATCH
        )
        _log(user_id, chosen, f"Muted for {hours} h.")
        return len(chosen)

    return run_transaction(order) if chosen else 0


def end_mute(jobs: Iterable[Job], *, now: datetime, user_id: int) -> int:
    """Take the jobs out of the windows that mute them and no more; how many that were.

    A window that pauses jobs, or is for all of them, stays as it is.
    """

    def order(batch: Sequence[Job]) -> int:
        keys = [job.pk for job in batch]
        windows = Maintenance.objects.active(now).filter(pause=False, entries__job__in=keys)
        windows.filter(starts_at__lt=now).update(starts_at=F("starts_at"))  # a write comes first
        freed: set[int] = set()
        for window in windows.distinct():
            entries = MaintenanceJob.objects.filter(maintenance=window)
            mine = entries.filter(job__in=keys)
            freed |= {pk for pk in mine.values_list("job", flat=True) if pk is not None}
            if entries.exclude(job__in=keys).exists():
                mine.delete()
            elif window.starts_at < now:
                Maintenance.objects.filter(pk=window.pk).update(ends_at=now)
            else:
                window.delete()
        unmute(freed, now)
        _log(user_id, [job for job in batch if job.pk in freed], "Unmuted.")
        return len(freed)

    return sum(run_transaction(partial(order, batch)) for batch in _batches(jobs))


def acknowledge(incidents: QuerySet[Incident], *, now: datetime, user_id: int) -> int:
    """Somebody looks after them: no more reminders. How many were not acknowledged before."""

    def order() -> int:
        open_ones = Incident.objects.open().filter(
            pk__in=[incident.pk for incident in chosen], acknowledged_at=None
        )
        changed = open_ones.update(acknowledged_at=now, acknowledged_by=user_id)
        _log(user_id, chosen, "Acknowledged.")
        return changed

    chosen = [one for one in incidents if one.is_open and one.acknowledged_at is None]
    return run_transaction(order) if chosen else 0


def send_again(notifications: QuerySet[Notification], *, now: datetime, user_id: int) -> int:
    """Let the next tick try what waits or was given up; how many.

    What somebody is sending this moment is left alone, and what was sent is not sent again.
    """

    def order() -> int:
        unsent = Notification.objects.filter(pk__in=[one.pk for one in chosen], sent_at=None)
        changed = unsent.filter(Q(claim_token="") | Q(next_attempt_at__lte=now)).update(
            next_attempt_at=now, dropped_at=None, claim_token=""
        )
        _log(user_id, chosen, "Retry now.")
        return changed

    chosen = [one for one in notifications if one.sent_at is None]
    return run_transaction(order) if chosen else 0


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
