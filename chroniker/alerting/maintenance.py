"""Which incidents a maintenance window mutes.

``incidents`` opens a muted incident without a notification; ``review`` sends it when the window
ends and the incident is still open.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import Max

from chroniker.models import Incident, Job, Maintenance

_REVIEW_INTERVAL = timedelta(minutes=5)
"""How often a muted incident is reviewed, in case its window is shortened."""


def maintenance_ends_at(job: Job | None, now: datetime) -> datetime | None:
    """The end of the last window that mutes the job now; None if no window does.

    What is of no job, such as a silent host, is muted by windows for all jobs only.
    """
    covering = Maintenance.objects.active(now).covering(job.pk if job else None)
    end: datetime | None = covering.aggregate(end=Max("ends_at"))["end"]
    return end


def next_muted_review(ends_at: datetime, now: datetime) -> datetime:
    """When to review an incident that is muted by a window with this end."""
    return min(ends_at, now + _REVIEW_INTERVAL)


def review_muted(jobs: Iterable[int] | None, now: datetime) -> None:
    """Let the next tick review the muted incidents of these jobs; None means all jobs.

    Call it when a window was ended or changed.
    """
    muted = Incident.objects.open().filter(next_review_at__isnull=False)
    if jobs is not None:
        muted = muted.filter(job__in=jobs)
    muted.filter(muted=True).update(next_review_at=now)
