"""Open, update and resolve the incident of a monitor when its severity changes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from chroniker.alerting import incidents
from chroniker.enums import IncidentKind
from chroniker.enums import Severity as IncidentSeverity
from chroniker.models import Incident, Job, Run
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, Probe
from chroniker_monitors.series import SeriesState, bad_series, visible
from chroniker_monitors.thresholds import SeverityChange, Thresholds, rank

from .measurement import Measurement

SEVERITIES = {
    Severity.WARNING: IncidentSeverity.WARNING,
    Severity.CRITICAL: IncidentSeverity.CRITICAL,
    # A person has to look, but it is not certain that anything is wrong.
    Severity.UNKNOWN: IncidentSeverity.WARNING,
}
"""The severity of the incident. A warning opens one, too: a threshold was set on purpose."""
MAX_SERIES_LISTED = 10
"""The maximum number of groups in a summary."""
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
    series: Sequence[SeriesState] = (),
) -> None:
    """Open, update or resolve the incident of a monitor. Call it in a transaction.

    No incident is opened for a disabled monitor, which can still be pinged or checked by hand,
    nor for a job whose probe has been deleted in the meantime.
    """
    if not change.is_recovery and not Monitor.objects.filter(pk=job.pk, enabled=True).exists():
        return
    run = Run.objects.filter(pk=run_id, job=job.pk).first() if run_id else None
    summary = summarize_change(probe, change, measurement, series)
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


def summarize_change(
    probe: Probe,
    change: SeverityChange,
    measurement: Measurement,
    series: Sequence[SeriesState] = (),
) -> str:
    """Summarize a change for people: ``95 V (> 90): on battery``.

    The severity is said beside it, unless there is no value. The value is omitted if it is not what
    is wrong: a heartbeat whose job reported a failure has
    an age within its limit. Groups are listed, worst first.
    """
    unit = probe.unit or measurement.unit
    bad = bad_series(series, probe.thresholds)
    if change.is_recovery and measurement.series is not None:
        return f"ok: none of {len(measurement.series)} groups is bad"
    if bad and not measurement.error:
        return _summarize_series(probe, change, bad, len(visible(series, probe.thresholds)), unit)
    severity = head = change.after.name.lower()
    bound = {Severity.WARNING: probe.warning, Severity.CRITICAL: probe.critical}.get(change.after)
    if measurement.value is not None and measurement.series is None:
        value = format_value(measurement.value, unit)
        if change.is_recovery:
            head = f"{severity}, {value}"
        elif probe.thresholds.learns or bound is None:
            head = value
        elif Thresholds(probe.operator, bound).evaluate(measurement.value) is not Severity.OK:
            head = f"{value} ({probe.operator} {bound:g})"
    detail = measurement.error or measurement.message
    return (f"{head}: {detail}" if detail else head)[:MAX_SUMMARY_LENGTH]


def _summarize_series(
    probe: Probe, change: SeverityChange, bad: Sequence[SeriesState], number: int, unit: str
) -> str:
    """List the bad groups: ``2 of 7 groups: eu 310 rows (> 90), us 95 rows (> 90)``."""
    parts = [_summarize_one(probe, each, unit) for each in bad[:MAX_SERIES_LISTED]]
    if len(bad) > MAX_SERIES_LISTED:
        parts.append(f"and {len(bad) - MAX_SERIES_LISTED} more")
    head = f"{len(bad)} of {number} groups"
    return f"{head}: {', '.join(parts)}"[:MAX_SUMMARY_LENGTH]


def _summarize_one(probe: Probe, series: SeriesState, unit: str) -> str:
    bound = {Severity.WARNING: probe.warning, Severity.CRITICAL: probe.critical}.get(
        series.severity
    )
    if series.value is None:
        return f"{series.name} ({series.severity.name.lower()})"
    head = f"{series.name} {format_value(series.value, unit)}"
    if series.band is not None:
        return f"{head} (usually {series.band.low:.4g} to {series.band.high:.4g})"
    if bound is None or probe.thresholds.learns:
        return f"{head} ({series.severity.name.lower()})"
    if Thresholds(probe.operator, bound).evaluate(series.value) is Severity.OK:
        return f"{head} ({series.severity.name.lower()}, no longer {probe.operator} {bound:g})"
    return f"{head} ({probe.operator} {bound:g})"


def format_value(value: float, unit: str) -> str:
    """Format a value for a line of text."""
    return f"{value:.6g} {unit}".strip()
