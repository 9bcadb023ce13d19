"""Open, update and resolve the incident of a monitor when its severity changes."""

from __future__ import annotations

from datetime import datetime

from chroniker.alerting import incidents
from chroniker.enums import IncidentKind
from chroniker.enums import Severity as IncidentSeverity
from chroniker.models import Incident, Job, Run
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, Probe
from chroniker_monitors.thresholds import SeverityChange, rank

from .measurement import Measurement

SEVERITIES = {
    Severity.WARNING: IncidentSeverity.WARNING,
    Severity.CRITICAL: IncidentSeverity.CRITICAL,
    # A person has to look, but it is not certain that anything is wrong.
    Severity.UNKNOWN: IncidentSeverity.WARNING,
}
"""The severity of the incident. A warning opens one, too: a threshold was set on purpose."""
MAX_SUMMARY_LENGTH = 2000
"""The maximum length of a summary in characters; it may contain the stderr of a command."""


def update_incident(
    job: Job,
    probe: Probe,
    host: str,
    change: SeverityChange,
    measurement: Measurement,
    now: datetime,
    run_id: int | None = None,
) -> None:
    """Open, update or resolve the incident of a monitor. Call it in a transaction.

    No incident is opened for a disabled monitor, which can still be pinged or checked by hand,
    nor for a job whose probe has been deleted in the meantime.
    """
    if not change.is_recovery and not Monitor.objects.filter(pk=job.pk, enabled=True).exists():
        return
    run = Run.objects.filter(pk=run_id, job=job.pk).first() if run_id else None
    summary = summarize_change(probe, change, measurement)
    kind = IncidentKind.CONDITION
    if change.is_recovery:
        incidents.resolve(job, host, kind=kind, summary=summary, now=now, run=run)
    else:
        severity = SEVERITIES[change.after]
        incidents.open_or_update(
            job, host, kind=kind, severity=severity, summary=summary, now=now, run=run
        )


def unreported_change(
    job: Job, host: str, severity_now: Severity, measured: Severity
) -> SeverityChange | None:
    """The change from OK to the current severity, if that is confirmed and has no open incident.

    This happens when a monitor was disabled, which withdraws its incident, and enabled again: its
    severity is still bad, so it does not change, and no incident would be opened.
    """
    if severity_now is Severity.OK or rank(measured) < rank(severity_now):
        return None
    if Incident.objects.of_placement(job.pk, host, IncidentKind.CONDITION).open().exists():
        return None
    return SeverityChange(Severity.OK, severity_now)


def summarize_change(probe: Probe, change: SeverityChange, measurement: Measurement) -> str:
    """Summarize a change for people: ``critical, 95 V (> 90): on battery``."""
    words = [change.after.name.lower()]
    if measurement.value is not None:
        words.append(f"{measurement.value:.6g} {probe.unit or measurement.unit}".strip())
    bound = {Severity.WARNING: probe.warning, Severity.CRITICAL: probe.critical}.get(change.after)
    head = ", ".join(words) + (f" ({probe.operator} {bound:g})" if bound is not None else "")
    detail = measurement.error or measurement.message
    return (f"{head}: {detail}" if detail else head)[:MAX_SUMMARY_LENGTH]
