"""Recurring maintenance windows.

Each window of a series is a row of its own. When one starts, the next is created, and takes over
the repetition: so past windows are not lost, and a change of the current one is for today only.
"""

from __future__ import annotations

import logging
from datetime import datetime
from functools import partial

from chroniker.db.transactions import run_transaction
from chroniker.exceptions import ScheduleError
from chroniker.logs import log_context
from chroniker.models import Maintenance, MaintenanceJob
from chroniker.schedules import parse

logger = logging.getLogger(__name__)

_BATCH = 100


def repeat_windows(now: datetime) -> None:
    """Create the windows that follow those that have started."""
    started = Maintenance.objects.recurring().filter(starts_at__lte=now).order_by("pk")
    for window in started[:_BATCH]:
        run_transaction(partial(_repeat, window, now))


def next_window(window: Maintenance, now: datetime) -> tuple[datetime, datetime] | None:
    """The next start and end: the first window after this one that has not ended by ``now``.

    None if there is none. Raises ScheduleError.
    """
    length = window.ends_at - window.starts_at
    schedule = parse(window.recurrence, zone=window.timezone)
    starts_at = schedule.next(max(window.starts_at, now - length))
    return None if starts_at is None else (starts_at, starts_at + length)


def _repeat(window: Maintenance, now: datetime) -> None:
    # Conditional: if two ticks find it, one of them continues the series.
    mine = Maintenance.objects.filter(pk=window.pk, recurrence=window.recurrence)
    if not mine.update(recurrence=""):
        return
    try:
        times = next_window(window, now)
    except ScheduleError as error:
        logger.error("Maintenance %s is not repeated: %s", window, error, extra=log_context())
        return
    if times is None:
        return
    following = Maintenance.objects.create(
        starts_at=times[0],
        ends_at=times[1],
        pause=window.pause,
        recurrence=window.recurrence,
        timezone=window.timezone,
        reason=window.reason,
        created_by_id=window.created_by_id,
    )
    entries = list(MaintenanceJob.objects.filter(maintenance=window))
    jobs = {entry.job_id for entry in entries}
    # Entries of deleted jobs as well: without any, the window would apply to all jobs.
    MaintenanceJob.objects.bulk_create(
        MaintenanceJob(maintenance=following, job_id=job) for job in jobs
    )
