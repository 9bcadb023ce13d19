"""Measurements are recorded as states and samples."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils.timezone import now as utc_now

from chroniker_monitors.checking.recorder import SAMPLES_BETWEEN_PRUNES
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import MonitorState, Sample
from tests.factories import make_gauge_monitor, monitor_state, set_gauge
from tests.support.runs import run_check_monitor

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("outside_a_run")]


def test_state_and_sample_agree(tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path, "95 hot")
    run_check_monitor(monitor.name)
    state, sample = monitor_state(monitor), Sample.objects.get()
    assert (state.value, state.severity, state.message, state.unit) == (95, 2, "hot", "V")
    assert (sample.value, sample.severity, sample.message, sample.host) == (95, 2, "hot", "")
    assert state.last_sample_at == sample.at == state.since
    assert state.latency_seconds is not None
    assert state.recent_values == [[95.0, 2]]
    assert state.samples_total == 1


def test_state_persists_between_processes(tmp_path: Path) -> None:
    """FFFF-S with three in a row gives one change and one recovery; FF-S gives none."""
    monitor = make_gauge_monitor(tmp_path, consecutive=3)
    seen = []
    for letter in "FFSFFFFS":
        set_gauge(tmp_path, 95 if letter == "F" else 50)
        run_check_monitor(monitor.name)
        seen.append(Severity(monitor_state(monitor).severity).name[0])
    assert "".join(seen) == "OOOOOCCO"


def test_since_is_when_the_severity_was_reached(tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path, 95)
    run_check_monitor(monitor.name)
    first = monitor_state(monitor).since
    run_check_monitor(monitor.name)
    assert monitor_state(monitor).since == first
    set_gauge(tmp_path, 50)
    run_check_monitor(monitor.name)
    assert monitor_state(monitor).since == monitor_state(monitor).last_sample_at


def test_secret_of_the_site_is_masked(tmp_path: Path, settings: Any) -> None:
    settings.BROKER_PASSWORD = "hunter2hunter2"
    monitor = make_gauge_monitor(tmp_path, "raise amqp://me:hunter2hunter2@queue refused")
    _, line = run_check_monitor(monitor.name)
    assert "hunter2" not in line
    assert "refused" in line
    assert "hunter2" not in monitor_state(monitor).error + Sample.objects.get().error


def test_long_message_is_truncated(tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path, "95 " + "ä" * 5000)
    assert run_check_monitor(monitor.name)[0] == 2
    assert len(monitor_state(monitor).message) == 500


def test_old_samples_are_deleted(tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path, sample_days=2)
    now = utc_now()
    Sample.objects.bulk_create(
        Sample(job_id=monitor.pk, at=now - timedelta(hours=hours), severity=0)
        for hours in range(1, 96)
    )
    MonitorState.objects.create(job_id=monitor.pk, samples_total=SAMPLES_BETWEEN_PRUNES - 1)
    MonitorState.objects.create(job_id=monitor.pk, host="gone")
    Sample.objects.create(job_id=monitor.pk, host="gone", at=now - timedelta(days=9), severity=0)
    run_check_monitor(monitor.name)
    oldest = Sample.objects.order_by("at").first()
    assert oldest is not None
    assert now - oldest.at < timedelta(days=2, minutes=1)
    assert Sample.objects.count() == 48  # 47 whole hours and the new one


def test_recording_needs_few_queries(tmp_path: Path, django_assert_max_num_queries: Any) -> None:
    monitor = make_gauge_monitor(tmp_path)
    run_check_monitor(monitor.name)
    with django_assert_max_num_queries(8):  # with the savepoint around them in a test
        run_check_monitor(monitor.name)
