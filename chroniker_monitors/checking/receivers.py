"""Receivers of the signals of the scheduler and of deleted probes.

A tick imports this module, so models and probes are imported only when they are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from django.core.management import load_command_class
from django.db.models import Q
from django.utils.timezone import now as utc_now

from chroniker.enums import IncidentEnd, IncidentKind, RunStatus
from chroniker.models import Host, Incident, Job, Run
from chroniker_monitors.enums import COMMAND

if TYPE_CHECKING:
    from chroniker_monitors.models import Probe

MISSING_MEASUREMENT_REASONS = {
    RunStatus.SUCCEEDED: "The check ended without a sample: the probe ended the process.",
    RunStatus.FAILED: "The check failed before it measured anything.",
    RunStatus.TIMED_OUT: "The check exceeded its timeout and was ended.",
    RunStatus.LOST: "The check was lost: the process that supervised it died.",
}
"""The endings that make a monitor unknown. A check that a person stops, or a shutdown, does not."""


def preload(sender: object, jobs: Sequence[Job], long_running: bool, **kwargs: object) -> None:
    """Import before the fork what each check would otherwise import in its own process."""
    if not long_running and not any(not job.failures_open_incidents for job in jobs):
        return
    from chroniker_monitors.models import Probe

    kinds = list(Probe.objects.order_by().values_list("kind", flat=True).distinct())
    if kinds:
        from chroniker_monitors import probes

        load_command_class("chroniker_monitors", COMMAND)
        probes.preload(kinds)


def record_missing_measurement(
    sender: object, run: Run, job: Job, batch: str = "", **kwargs: object
) -> None:
    """Record an unknown measurement for a check that ended without recording a sample.

    A check in a batch has been recorded with its end, whatever that was.
    """
    if batch or job.failures_open_incidents or run.status not in MISSING_MEASUREMENT_REASONS:
        return
    from chroniker_monitors.models import MonitorState, Probe

    from .recorder import missing_measurement, record_measurement

    # A ping or a check by hand may have been recorded since.
    run_started_at = run.started_at or run.scheduled_for
    already_recorded = Q(last_run_id=run.pk) | Q(host=run.host, last_sample_at__gte=run_started_at)
    if MonitorState.objects.filter(already_recorded, job=job.pk).exists():
        return
    probe = Probe.objects.filter(job=job.pk).first()
    if probe is None:
        return
    reason = MISSING_MEASUREMENT_REASONS[RunStatus(run.status)]
    measurement = missing_measurement(reason, run.error, run.duration_seconds)
    host = "" if probe.passive else run.host
    assert run.ended_at is not None
    record_measurement(job, probe, host, lambda state: measurement, now=run.ended_at, run_id=run.pk)


def delete_measurements(sender: object, instance: Host, **kwargs: object) -> None:
    """Delete what was measured on a deleted host."""
    from chroniker_monitors.models import MonitorState

    from .pruning import delete_samples

    for state in MonitorState.objects.filter(host=instance.name):
        delete_samples(state.job_id, state.host)
        state.delete()


def withdraw_incidents(
    sender: object, instance: Probe, origin: object = None, **kwargs: object
) -> None:
    """Withdraw the incidents of a deleted probe. Those of a deleted job are closed with it.

    What the job does now is executed, and opens incidents, like that of any other.
    """
    if getattr(origin, "model", type(origin)) is not sender:
        return
    from chroniker.alerting import incidents

    Job.objects.filter(pk=instance.pk).update(batch="", failures_open_incidents=True)

    monitors = Incident.objects.open().filter(job=instance.pk, kind=IncidentKind.CONDITION)
    for incident in monitors.select_related("job"):
        reason = "The job is no longer a monitor."
        incidents.close(incident, IncidentEnd.CHANGED, reason, utc_now())
