"""Changes that people make with a button or an action. Each change is recorded in the admin's log.

Each transaction writes first: on SQLite, a transaction that reads first may not be able to write
afterwards, however long it waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import F, Model, Q, QuerySet, TextField, Value
from django.db.models.functions import Concat
from django.http import HttpRequest

from chroniker.alerting.maintenance import review_muted
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

UserKey = Any
"""The primary key of a user. Any: it is what the site's user model has, for example a slug."""

BATCH = 500
"""Jobs in one statement: SQLite limits the number of variables."""


def user_id(request: HttpRequest) -> UserKey:
    """The key of the user, for the admin's log."""
    pk = request.user.pk
    assert pk is not None  # admin_view admits only users who are signed in
    return pk


def request_runs(jobs: Iterable[Job], *, user_id: UserKey, args: str | None = None) -> int:
    """Request a run of each job. Returns the number of placements that changed.

    ``args``: the arguments of these runs, instead of those of the jobs.

    Creates the states of jobs that no tick has planned yet.
    """

    def request(batch: Sequence[Job]) -> int:
        changed = _current_states(batch).request_run(args=args)
        _log(user_id, batch, "Run now." if args is None else f"Run once with: {args}")
        return changed

    changed = 0
    for batch in _batches(jobs):
        _create_states(batch)
        changed += run_transaction(partial(request, batch))
    return changed


def request_stops(jobs: Iterable[Job], *, user_id: UserKey) -> int:
    """Request a stop of the running jobs. Returns the number of placements that changed."""

    def request(states: JobStateQuerySet, running: Sequence[Job]) -> int:
        changed = states.request_stop()
        _log(user_id, running, "Stop.")
        return changed

    changed = 0
    for batch in _batches(jobs):
        states = JobState.objects.filter(job__in=[job.pk for job in batch])
        running = set(states.filter(lease_token__isnull=False).values_list("job", flat=True))
        changed += run_transaction(partial(request, states, [j for j in batch if j.pk in running]))
    return changed


def request_stop_of_run(run: Run, *, user_id: UserKey) -> int:
    """Request a stop of one run. Returns 0 if it has ended or a stop was already requested."""

    def request() -> int:
        changed = JobState.objects.filter(current_run=run).request_stop()
        if changed:
            _log(user_id, [run, run.job], "Stop.")
        return changed

    return run_transaction(request)


def set_enabled(jobs: Iterable[Job], *, enabled: bool, now: datetime, user_id: UserKey) -> int:
    """Enable or disable jobs. Returns how many changed."""

    def update(batch: Sequence[Job]) -> int:
        changed = Job.objects.filter(pk__in=[job.pk for job in batch]).update(
            enabled=enabled, updated_at=now
        )
        _log(user_id, batch, "Enabled." if enabled else "Disabled.")
        return changed

    others = (job for job in jobs if job.enabled != enabled)
    return sum(run_transaction(partial(update, batch)) for batch in _batches(others))


def mute_jobs(jobs: Iterable[Job], *, hours: int, now: datetime, user_id: UserKey) -> int:
    """Create a maintenance window that mutes the jobs from now on. Returns their number."""
    chosen = list(jobs)

    def create() -> int:
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

    return run_transaction(create) if chosen else 0


def unmute_jobs(jobs: Iterable[Job], *, now: datetime, user_id: UserKey) -> int:
    """Remove the jobs from the windows that only mute them. Returns how many were removed.

    A window that pauses jobs, or covers all jobs, is not changed.
    """

    def remove(batch: Sequence[Job]) -> int:
        keys = [job.pk for job in batch]
        windows = Maintenance.objects.active(now).filter(pause=False, entries__job__in=keys)
        windows.filter(starts_at__lt=now).update(starts_at=F("starts_at"))  # write first
        removed: set[int] = set()
        for window in windows.distinct():
            entries = MaintenanceJob.objects.filter(maintenance=window)
            chosen = entries.filter(job__in=keys)
            removed |= {pk for pk in chosen.values_list("job", flat=True) if pk is not None}
            if entries.exclude(job__in=keys).exists():
                chosen.delete()
            elif window.starts_at < now:
                Maintenance.objects.filter(pk=window.pk).update(ends_at=now)
            else:
                window.delete()
        review_muted(removed, now)
        _log(user_id, [job for job in batch if job.pk in removed], "Unmuted.")
        return len(removed)

    return sum(run_transaction(partial(remove, batch)) for batch in _batches(jobs))


def acknowledge_incidents(incidents: QuerySet[Incident], *, now: datetime, user_id: UserKey) -> int:
    """Stop the reminders of open incidents. Returns how many were not acknowledged before."""

    def acknowledge() -> int:
        # One by one: the count of one update would not say whose were changed by somebody else.
        changed = [pk for pk in keys if _acknowledge_one(pk, now, user_id)]
        _log(user_id, [chosen[pk] for pk in changed], "Acknowledged.")
        return len(changed)

    chosen = {one.pk: one for one in incidents if one.is_open and one.acknowledged_at is None}
    keys = sorted(chosen)
    return run_transaction(acknowledge) if chosen else 0


def _acknowledge_one(incident: int, now: datetime, user_id: UserKey) -> bool:
    """Acknowledge an incident; False if somebody else was first, or it has ended."""
    mine = Incident.objects.open().filter(pk=incident, acknowledged_at=None)
    return bool(mine.update(acknowledged_at=now, acknowledged_by=user_id))


class NoteChange(StrEnum):
    """What happened to the note of an incident."""

    NONE = "none"
    """It is what the user posted already."""
    SAVED = "saved"
    """It is what the user posted now."""
    ADDED = "added"
    """Somebody else changed it meanwhile; what the user posted was added."""
    KEPT = "kept"
    """Somebody else changed it meanwhile, so it was not emptied."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What became of an acknowledgement."""

    is_first: bool
    """Whether the incident was not acknowledged before."""
    note: NoteChange


def acknowledge_with_note(
    incident: Incident, *, note: str, shown: str, now: datetime, user_id: UserKey
) -> Acknowledgement | None:
    """Acknowledge an open incident and write its note. Returns None if it has ended.

    ``shown``: the note as the user saw it. What somebody else has written since is not replaced.
    """

    def acknowledge() -> Acknowledgement | None:
        is_first = _acknowledge_one(incident.pk, now, user_id)
        mine = Incident.objects.open().filter(pk=incident.pk)
        if not mine.exists():
            return None
        change = _change_note(mine, note, shown)
        if is_first:
            _log(user_id, [incident], f"Acknowledged: {note}" if note else "Acknowledged.")
        elif change in (NoteChange.SAVED, NoteChange.ADDED):
            _log(user_id, [incident], f"Note: {note}")
        return Acknowledgement(is_first, change)

    return run_transaction(acknowledge)


def _change_note(mine: QuerySet[Incident], note: str, shown: str) -> NoteChange:
    if note in (shown, mine.values_list("note", flat=True).get()):
        return NoteChange.NONE
    if mine.filter(note=shown).update(note=note):
        return NoteChange.SAVED
    if not note:
        return NoteChange.KEPT
    mine.update(note=Concat("note", Value(f"\n{note}"), output_field=TextField()))
    return NoteChange.ADDED


def retry_notifications(
    notifications: QuerySet[Notification], *, now: datetime, user_id: UserKey
) -> int:
    """Let the next tick send notifications that are waiting or dropped. Returns their number.

    A notification that is being sent at this moment, or was sent, is not changed.
    """

    def retry() -> int:
        unsent = Notification.objects.filter(pk__in=[one.pk for one in chosen], sent_at=None)
        changed = unsent.filter(Q(claim_token="") | Q(next_attempt_at__lte=now)).update(
            next_attempt_at=now, dropped_at=None, claim_token=""
        )
        _log(user_id, chosen, "Retry now.")
        return changed

    chosen = [one for one in notifications if one.sent_at is None]
    return run_transaction(retry) if chosen else 0


def retire_host_by_hand(host: Host, *, now: datetime, user_id: UserKey) -> bool:
    """Retire a host. Returns False if it was retired before. Raises HostBusy."""
    from chroniker.engine.retirement import retire_host

    retired = retire_host(host.name, now)
    if retired:
        _log(user_id, [host], "Retired.")
    return retired


def _create_states(jobs: Sequence[Job]) -> None:
    everywhere = any(job.every_host for job in jobs)
    hosts = list(Host.objects.active().values_list("name", flat=True)) if everywhere else []
    wanted = {(job.pk, host): job for job in jobs for host in (hosts if job.every_host else [""])}
    present = set(JobState.objects.filter(job__in=jobs).values_list("job", "host"))
    for (pk, host), job in wanted.items():
        if (pk, host) not in present:
            JobState.objects.get_or_create(job=job, host=host)


def _current_states(jobs: Sequence[Job]) -> JobStateQuerySet:
    """The states on the placements of the jobs' current definitions."""
    everywhere = [job.pk for job in jobs if job.every_host]
    once = [job.pk for job in jobs if not job.every_host]
    placed = Q(job__in=once, host="") | (Q(job__in=everywhere) & ~Q(host=""))
    return JobState.objects.filter(placed, host_retired=False)


def _log(user_id: UserKey, objects: Sequence[Model], message: str) -> None:
    if objects:
        LogEntry.objects.log_actions(user_id, objects, CHANGE, change_message=message)


def _batches(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    rest = iter(jobs)
    while batch := list(islice(rest, BATCH)):
        yield batch
