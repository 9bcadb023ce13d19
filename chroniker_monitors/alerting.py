"""A monitor's change of state as an incident, which is told by mail once and resolved once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from chroniker.models import Job

from .enums import Severity
from .thresholds import Change

KIND = "monitor"


def tell(job: Job, host: str, change: Change, summary: str, now: datetime) -> None:
    """Open, change or resolve the incident of a monitor; to be called in a transaction."""
    incidents = _incidents()
    if incidents is None:
        return
    if change.recovered:
        incidents.resolve(job, host, kind=KIND, summary=summary, now=now)
    else:
        severity = Severity(change.after).name.lower()
        incidents.open_or_update(job, host, kind=KIND, severity=severity, summary=summary, now=now)


def _incidents() -> Any:
    try:
        from chroniker import incidents  # type: ignore[attr-defined,unused-ignore]
    except ImportError:
        return None
    return incidents
