"""A monitor's change of state as an incident, which is told by mail once and resolved once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

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
    # Somebody has to look at it; but nobody knows that anything is wrong.
    Severity.UNKNOWN: IncidentSeverity.WARNING,
}
"""How bad the incident is. Each is one: whoever sets a threshold wants to be told."""
MAX_SUMMARY_LENGTH = 2000
"""Characters of what an incident is told, such as the stderr of a command."""


def update_incident(
    job: Job,
    probe: Probe,
    host: str,
    change: SeverityChange,
    measurement: Measurement,
    now: datetime,
    run_id: int | None = None,
) -> None:
    """Open, change or resolve the incident of a monitor; to be called in a transaction.

    None is opened of a disabled one, which may be pinged or checked by hand all the same, nor of
    one that has become a mere job meanwhile.
    """
    if not change.is_recovery and not Monitor.objects.filter(pk=job.pk, enabled=True).exists():
        return
    run = Run.objects.filter(pk=run_id, job=job.pk).first() if run_id else None
    incident_fields: dict[str, Any] = {
        "kind": IncidentKind.MONITOR,
        "summary": summary(probe, change, measurement),
        "now": now,
    }
    if change.is_recovery:
        incidents.resolve(job, host, run=run, **incident_fields)
    else:
        severity = SEVERITIES[change.after]
        incidents.open_or_update(job, host, severity=severity, run=run, **incident_fields)


def unreported_change(
    job: Job, host: str, severity_now: Severity, measured: Severity
) -> SeverityChange | None:
    """The change to where a monitor stands, if it measured so again and no incident says it.

    Such as after it was disabled, which ended its incident, and enabled again: what is bad still
    has not changed since.
    """
    if severity_now is Severity.OK or rank(measured) < rank(severity_now):
        return None
    if Incident.objects.of_placement(job.pk, host, IncidentKind.MONITOR).open().exists():
        return None
    return SeverityChange(Severity.OK, severity_now)


def summary(probe: Probe, change: SeverityChange, measurement: Measurement) -> str:
    """``critical, 95 V (> 90): on battery``: what a person has to know, the short first."""
    words = [change.after.name.lower()]
    if measurement.value is not None:
        words.append(f"{measurement.value:.6g} {probe.unit or measurement.unit}".strip())
    bound = {Severity.WARNING: probe.warning, Severity.CRITICAL: probe.critical}.get(change.after)
    head = ", ".join(words) + (f" ({probe.operator} {bound:g})" if bound is not None else "")
    detail = measurement.error or measurement.message
    return (f"{head}: {detail}" if detail else head)[:MAX_SUMMARY_LENGTH]
