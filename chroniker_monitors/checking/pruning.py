"""Deletion of old samples: a little at a time, because whoever records has other things to do."""

from __future__ import annotations

import logging
import time
from datetime import datetime

from django.db import DatabaseError

from chroniker.models import Job
from chroniker_monitors.models import MonitorState, Sample
from chroniker_monitors.models.state import SampleQuerySet

logger = logging.getLogger(__name__)

SAMPLES_BETWEEN_PRUNES = 100
"""Old samples are deleted each time this many new ones have been recorded."""
PRUNE_BATCH_SIZE = 500
"""Samples deleted by one statement."""
PRUNE_SECONDS = 0.5
"""How long old samples are deleted at one time. What is left is deleted the next time."""


def delete_samples(job: int, host: str) -> None:
    """Delete the samples of a placement that is gone."""
    _delete(Sample.objects.for_placement(job, host), float("inf"))


def prune_samples(job: Job, before: datetime, seconds: float = PRUNE_SECONDS) -> int:
    """Delete samples older than ``before`` in small transactions and return their number.

    This covers every placement that the monitor ever had, including hosts that no longer exist. It
    stops after ``seconds``.
    """
    give_up_at = time.monotonic() + seconds
    deleted = 0
    for host in MonitorState.objects.filter(job=job).values_list("host", flat=True):
        old = Sample.objects.for_placement(job.pk, host).older_than(before).order_by("at")
        number, finished = _delete(old, give_up_at)
        deleted += number
        if not finished:
            break
    return deleted


class Backlog:
    """Placements whose old samples are to be deleted."""

    def __init__(self) -> None:
        self._before: dict[tuple[int, str], datetime] = {}

    def __bool__(self) -> bool:
        return bool(self._before)

    def add(self, job: int, host: str, before: datetime) -> None:
        """Note that the samples of a placement that are older than ``before`` are to be deleted."""
        self._before[job, host] = before.replace(second=0, microsecond=0)

    def prune(self) -> None:
        """Delete samples for :data:`PRUNE_SECONDS`; keep in mind what is left."""
        give_up_at = time.monotonic() + PRUNE_SECONDS
        groups: dict[tuple[str, datetime], list[int]] = {}
        for (job, host), before in self._before.items():
            groups.setdefault((host, before), []).append(job)
        try:
            for (host, before), jobs in groups.items():
                samples = Sample.objects.filter(job__in=jobs, host=host)
                _, finished = _delete(samples.older_than(before).order_by(), give_up_at)
                if not finished:
                    return
                for job in jobs:
                    del self._before[job, host]
        except DatabaseError:  # the new samples are recorded; the next time deletes the old ones
            logger.exception("Old samples could not be deleted")
            self._before.clear()


backlog = Backlog()
"""Of this process."""


def _delete(samples: SampleQuerySet, give_up_at: float) -> tuple[int, bool]:
    """Delete samples until ``give_up_at`` (CLOCK_MONOTONIC), but at least one batch.

    Returns their number, and whether they were all.
    """
    deleted = 0
    while keys := list(samples.values_list("pk", flat=True)[:PRUNE_BATCH_SIZE]):
        Sample.objects.filter(pk__in=keys).delete()
        deleted += len(keys)
        if len(keys) < PRUNE_BATCH_SIZE:
            break
        if time.monotonic() >= give_up_at:
            return deleted, False
    return deleted, True
