"""A monitor's change of state as an incident, which is told by mail once and resolved once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from chroniker import incidents
from chroniker.enums import IncidentKind
from chroniker.enums import Severity as IncidentSeverity
from chroniker.models import Incident, Job, Run

from .enums import Severity
from .models import Monitor, Probe
from .taken import Taken
from .thresholds import Change, rank

SEVERITIES = {
    Severity.WARNING: IncidentSeverity.WARNING,
    Severity.CRITICAL: IncidentSeverity.CRITICAL,
    # Somebody has to look at it; but nobody knows that anything is wrong.
    Severity.UNKNOWN: IncidentSeverity.WARNING,
}
"""How bad the incident is. Each is one: whoever sets a threshold wants to be told."""
SUMMARY_KEPT = 2000
"""Characters of what an incident is told, such as the stderr of a command."""


def tell(
    job: Job,
    probe: Probe,
    host: str,
    change: Change,
    taken: Taken,
    now: datetime,
    run_id: int | None = None,
) -> None:
    """Open, change or resolve the incident of a monitor; to be called in a transaction.

    None is opened of a disabled one, which may be pinged or checked by hand all the same, nor of
    one that has become a mere job meanwhile.
    """
    if not change.recovered and not Monitor.objects.filter(pk=job.pk, enabled=True).exists():
        return
    run = Run.objects.filter(pk=run_id, job=job.pk).first() if run_id else None
    about: dict[str, Any] = {
        "kind": IncidentKind.MONITOR,
        "summary": summary(probe, change, taken),
        "now": now,
    }
    if change.recovered:
        incidents.resolve(job, host, run=run, **about)
    else:
        severity = SEVERITIES[change.after]
        incidents.open_or_update(job, host, severity=severity, run=run, **about)


def untold(job: Job, host: str, standing: Severity, measured: Severity) -> Change | None:
    """The change to where a monitor stands, if it measured so again and no incident says it.

    Such as after it was disabled, which ended its incident, and enabled again: what is bad still
    has not changed since.
    """
    if standing is Severity.OK or rank(measured) < rank(standing):
        return None
    if Incident.objects.of_slot(job.pk, host, IncidentKind.MONITOR).open().exists():
        return None
    return Change(Severity.OK, standing)


def summary(probe: Probe, change: Change, taken: Taken) -> str:
    """``critical, 95 V (> 90): on battery``: what a person has to know, the short first."""
    words = [change.after.name.lower()]
    if taken.value is not None:
        words.append(f"{taken.value:.6g} {probe.unit or taken.unit}".strip())
    bound = {Severity.WARNING: probe.warning, Severity.CRITICAL: probe.critical}.get(change.after)
    head = ", ".join(words) + (f" ({probe.operator} {bound:g})" if bound is not None else "")
    said = taken.error or taken.message
    return (f"{head}: {said}" if said else head)[:SUMMARY_KEPT]
