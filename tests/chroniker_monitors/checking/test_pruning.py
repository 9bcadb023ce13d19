"""Old samples are deleted, a little at a time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from chroniker_monitors.checking.pruning import PRUNE_BATCH_SIZE, prune_samples
from chroniker_monitors.models import Monitor, MonitorState, Sample
from tests.factories import NOON, make_monitor

pytestmark = pytest.mark.django_db

BEFORE = NOON - timedelta(days=2)


def make_samples(monitor: Monitor, *, host: str = "", count: int = 1, age_days: float = 9) -> None:
    Sample.objects.bulk_create(
        Sample(job_id=monitor.pk, host=host, at=NOON - timedelta(days=age_days), severity=0)
        for _ in range(count)
    )


def test_pruning_deletes_every_old_sample_of_the_monitor_and_no_other() -> None:
    monitor, other = make_monitor(), make_monitor()
    for host in ("", "web1"):
        MonitorState.objects.create(job_id=monitor.pk, host=host)
    make_samples(monitor, count=PRUNE_BATCH_SIZE + 1)
    make_samples(monitor, host="web1", count=2)
    make_samples(monitor, age_days=2)
    make_samples(other)
    assert prune_samples(monitor, BEFORE, seconds=60) == PRUNE_BATCH_SIZE + 3
    assert Sample.objects.filter(job=monitor.pk).count() == 1
    assert Sample.objects.filter(job=other.pk).count() == 1


def test_pruning_stops_after_its_time() -> None:
    monitor = make_monitor()
    for host in ("", "web1"):
        MonitorState.objects.create(job_id=monitor.pk, host=host)
    make_samples(monitor, count=PRUNE_BATCH_SIZE + 1)
    make_samples(monitor, host="web1")
    assert prune_samples(monitor, BEFORE, seconds=0) == PRUNE_BATCH_SIZE
    assert prune_samples(monitor, BEFORE, seconds=60) == 2
