"""Maintenance windows as code. A window is recognised by its start, its end and its reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.core.exceptions import ValidationError
from django.utils.timezone import get_default_timezone, is_naive

from chroniker.models import Job, Maintenance, MaintenanceJob

from .documents import Document, Fields

_KEYS = ("reason", "starts_at", "ends_at", "pause", "jobs")


@dataclass(frozen=True, slots=True)
class Window:
    """A maintenance window as it should be."""

    starts_at: datetime
    ends_at: datetime
    reason: str
    pause: bool
    jobs: tuple[str, ...]
    """Names; empty: all jobs."""

    @property
    def key(self) -> tuple[datetime, datetime, str]:
        """What identifies it."""
        return self.starts_at, self.ends_at, self.reason

    @property
    def title(self) -> str:
        """For the plan."""
        return f"{self.reason or 'no reason'} ({self.starts_at:%Y-%m-%d %H:%M %Z})"


def parse_windows(value: object, errors: list[str]) -> list[Window]:
    """Check the windows of a file. Mistakes are added to ``errors``."""
    if value is None:
        return []
    if not isinstance(value, list):
        errors.append("maintenance: must be a list of windows.")
        return []
    windows = []
    for at, item in enumerate(value):
        path = f"maintenance[{at}]"
        if not isinstance(item, dict):
            errors.append(f"{path}: must be a mapping.")
            continue
        errors += [f"{path}.{key}: is unknown." for key in item if key not in _KEYS]
        starts_at = _moment(f"{path}.starts_at", item.get("starts_at"), errors)
        ends_at = _moment(f"{path}.ends_at", item.get("ends_at"), errors)
        reason, pause, jobs = item.get("reason", ""), item.get("pause", False), item.get("jobs")
        if not isinstance(reason, str) or not isinstance(pause, bool):
            errors.append(f"{path}: reason must be a text, and pause true or false.")
        elif jobs is not None and not (
            isinstance(jobs, list) and jobs and all(isinstance(name, str) for name in jobs)
        ):
            # An empty list would mean all jobs, which nobody expects of it.
            errors.append(f"{path}.jobs: must be a list of names; leave it out for all jobs.")
        elif starts_at and ends_at:
            if ends_at <= starts_at:
                errors.append(f"{path}: must end after its start.")
            windows.append(
                Window(starts_at, ends_at, reason, pause, tuple(sorted(set(jobs or ()))))
            )
    keys = [window.key for window in windows]
    errors += [f"maintenance: {w.title} is there twice." for w in windows if keys.count(w.key) > 1]
    return windows


def _moment(path: str, value: object, errors: list[str]) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if not isinstance(moment, datetime):
        errors.append(f"{path}: must be a time such as 2026-12-24T18:00+01:00.")
        return None
    return moment.replace(tzinfo=get_default_timezone()) if is_naive(moment) else moment


def current_windows(now: datetime) -> dict[tuple[datetime, datetime, str], Maintenance]:
    """Return the windows that have not ended."""
    rows = Maintenance.objects.filter(ends_at__gt=now).order_by("starts_at", "pk")
    return {(row.starts_at, row.ends_at, row.reason): row for row in rows}


def job_names(row: Maintenance) -> tuple[str, ...]:
    """Return the names of the jobs of a window; a deleted job is an empty text."""
    names = MaintenanceJob.objects.filter(maintenance=row).values_list("job__name", flat=True)
    return tuple(sorted(name or "" for name in names))


def save_window(window: Window, row: Maintenance | None) -> None:
    """Create or change a window. Raises ValidationError."""
    jobs = list(Job.objects.filter(name__in=window.jobs))
    missing = set(window.jobs) - {job.name for job in jobs}
    if missing:
        raise ValidationError(f"there is no job {', '.join(sorted(missing))}.")
    row = row or Maintenance(
        starts_at=window.starts_at, ends_at=window.ends_at, reason=window.reason
    )
    row.pause = window.pause
    row.full_clean()
    row.save()
    row.jobs.set(jobs)


def as_document(row: Maintenance) -> Document | None:
    """Return a window for a file; None if it lists only jobs that were deleted."""
    names = job_names(row)
    if names and not any(names):
        return None
    found: Fields = {
        "reason": row.reason,
        "starts_at": row.starts_at.isoformat(),
        "ends_at": row.ends_at.isoformat(),
    }
    if row.pause:
        found["pause"] = True
    if names:
        found["jobs"] = [name for name in names if name]
    return found
