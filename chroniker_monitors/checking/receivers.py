"""What the scheduler tells and monitors listen to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.management import load_command_class
from django.db.models import Q
from django.utils.timezone import now as utc_now

from chroniker.enums import IncidentKind, RunStatus
from chroniker.models import Incident, Job, Run
from chroniker_monitors.enums import COMMAND

_MISSING_MEASUREMENT_REASONS = {
    RunStatus.SUCCEEDED: "The check ended without a sample: its probe ended the process.",
    RunStatus.FAILED: "The check failed before anything was measured.",
    RunStatus.TIMED_OUT: "The check was ended because it took too long.",
    RunStatus.LOST: "The check was lost with the process that watched it.",
}
"""Endings that say something about what is measured. A person who stops a check says nothing."""


def preload(sender: object, jobs: Sequence[Job], long_running: bool, **kwargs: Any) -> None:
    """Import once what every check would import anew in a process of its own."""
    if not long_running and not any(job.command == COMMAND for job in jobs):
        return
    from chroniker_monitors.models import Probe

    kinds = list(Probe.objects.order_by().values_list("kind", flat=True).distinct())
    if kinds:
        from chroniker_monitors import probes

        load_command_class("chroniker_monitors", COMMAND)
        probes.preload(kinds)


def record_missing_measurement(sender: object, run: Run, job: Job, **kwargs: Any) -> None:
    """Record an unknown for a check that ended without a sample: its probe was killed, or lied."""
    if job.command != COMMAND or run.status not in _MISSING_MEASUREMENT_REASONS:
        return
    # Here: a tick that has nothing to run has no use for probes.
    from chroniker_monitors.models import MonitorState, Probe

    from .measurement import unknown_measurement
    from .recorder import mask_measurement, record_measurement

    # A ping, or a check by hand, may have come since.
    run_started_at = run.started_at or run.scheduled_for
    already_recorded = Q(last_run_id=run.pk) | Q(host=run.host, last_sample_at__gte=run_started_at)
    if MonitorState.objects.filter(already_recorded, job=job.pk).exists():
        return
    probe = Probe.objects.filter(job=job.pk).first()
    if probe is None:
        return
    reason = _MISSING_MEASUREMENT_REASONS[RunStatus(run.status)]
    measurement = mask_measurement(
        unknown_measurement(f"{reason} {run.error}".strip(), run.duration_seconds).sanitized()
    )
    host = "" if probe.passive else run.host
    assert run.ended_at is not None
    record_measurement(job, probe, host, lambda state: measurement, now=run.ended_at, run_id=run.pk)


def withdraw_incidents(sender: object, instance: Any, origin: object = None, **kwargs: Any) -> None:
    """End the incidents of what is no monitor any more; a job that goes takes its own along."""
    if getattr(origin, "model", type(origin)) is not sender:
        return
    from chroniker.alerting import incidents

    monitors = Incident.objects.open().filter(job=instance.pk, kind=IncidentKind.MONITOR)
    for incident in monitors.select_related("job"):
        incidents.withdraw(incident, "The job is no monitor any more.", utc_now())
