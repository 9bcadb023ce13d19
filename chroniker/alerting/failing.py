"""The incident of a job whose slots fail."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from django.db.models import F
from django.utils.translation import ngettext

from chroniker.db.transactions import run_transaction
from chroniker.enums import IncidentEnd, IncidentKind
from chroniker.models import Incident, Job, JobState, Run

from . import incidents


def evaluate_failures(state: int, error: str, now: datetime, *, run: Run | None = None) -> None:
    """Open, update or close the incident of a job state, by its consecutive failures.

    Call it in a transaction that has written the state, after a failure or a change of the job. The
    state and the job are read again: the job may have been changed while it ran.
    """
    current = JobState.objects.select_related("job").filter(pk=state).first()
    if current is None or not (current.job.enabled and current.job.failures_open_incidents):
        return
    job, failures = current.job, current.consecutive_failures
    if failures >= job.failures_before_alert:
        JobState.objects.filter(pk=state).update(failing_incident=True)
        incidents.open_or_update(
            job, current.host, IncidentKind.FAILING, job.alert_severity, error, now, run=run
        )
    elif current.failing_incident:
        JobState.objects.filter(pk=state).update(failing_incident=False)
        reason = ngettext(
            "The job may now fail %(limit)d time in a row, and has failed %(failures)d.",
            "The job may now fail %(limit)d times in a row, and has failed %(failures)d.",
            job.failures_before_alert - 1,
        ) % {"limit": job.failures_before_alert - 1, "failures": failures}
        incidents.resolve(
            job, current.host, IncidentKind.FAILING, reason, now, ended_by=IncidentEnd.CHANGED
        )


def review_threshold(job: Job, now: datetime) -> None:
    """Open or close the incidents of a job whose ``failures_before_alert`` may have changed."""
    states = JobState.objects.filter(job=job.pk, consecutive_failures__gt=0)
    failing = states.filter(failing_incident=True)
    failing = failing.filter(consecutive_failures__lt=job.failures_before_alert)
    due = states.filter(failing_incident=False, consecutive_failures__gte=job.failures_before_alert)
    for state in [*failing, *due]:
        run_transaction(partial(_review, state, now))


def _review(state: JobState, now: datetime) -> None:
    # A write first: it locks the row, so that no run ends in between.
    JobState.objects.filter(pk=state.pk).update(consecutive_failures=F("consecutive_failures"))
    evaluate_failures(state.pk, state.last_error, now, run=state.last_run)


def close_deleted(job: Job, now: datetime) -> None:
    """Close the incidents of a job that is about to be deleted, in its transaction."""
    for incident in Incident.objects.open().filter(job=job.pk):
        incident.job = job
        incidents.withdraw(incident, IncidentEnd.DELETED, "The job was deleted.", now)
