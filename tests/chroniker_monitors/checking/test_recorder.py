"""Measurements are recorded as states and samples."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import DataError
from django.utils.timezone import now as utc_now

from chroniker.models import Incident
from chroniker_monitors.checking.measurement import Measurement
from chroniker_monitors.checking.pruning import SAMPLES_BETWEEN_PRUNES
from chroniker_monitors.checking.recorder import (
    RecordedSample,
    lock_state,
    measure_and_record,
    measure_only,
    record_measurement,
)
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, MonitorState, Sample
from chroniker_monitors.models.state import MAX_RECENT_VALUES
from chroniker_monitors.thresholds import SeverityChange
from tests.factories import (
    NOON,
    make_gauge_monitor,
    make_heartbeat_monitor,
    make_monitor,
    monitor_state,
    set_gauge,
)
from tests.support.outage import failing_statements
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


def record(
    monitor: Monitor, value: float | None = 50, *, now: datetime = NOON, **options: Any
) -> RecordedSample:
    """Record a value of the gauge, or a failed measurement (None)."""
    if value is None:
        measurement = Measurement(Severity.UNKNOWN, error="refused")
    else:
        measurement = Measurement(monitor.probe.thresholds.evaluate(value), value)
    fields = {"host": "", "measure_state": lambda state: measurement} | options
    return record_measurement(monitor, monitor.probe, now=now, **fields)


def test_forty_recent_values_are_kept_the_latest_last() -> None:
    monitor = make_monitor()
    values = [[float(number), 0] for number in range(MAX_RECENT_VALUES + 1)]
    for value, _ in values[:-1]:
        record(monitor, value)
    assert monitor_state(monitor).recent_values == values[:40]
    record(monitor, values[-1][0])
    assert monitor_state(monitor).recent_values == values[1:41]


def test_failed_measurement_is_a_recent_value_without_a_number() -> None:
    monitor = make_monitor()
    record(monitor, 95)
    record(monitor, None)
    state, sample = monitor_state(monitor), Sample.objects.latest("pk")
    assert state.recent_values == [[95.0, 2], [None, 3]]
    assert (state.value, state.error, state.message) == (None, "refused", "")
    assert (sample.value, sample.severity, sample.error) == (None, 3, "refused")


def test_state_has_the_severity_and_the_sample_what_was_measured() -> None:
    monitor = make_monitor(consecutive=3)
    recorded = record(monitor, 95)
    state, sample = monitor_state(monitor), Sample.objects.get()
    assert (state.severity, state.measured_severity, sample.severity) == (0, 2, 2)
    assert (state.warning_streak, state.unknown_streak, state.critical_streak) == (1, 1, 1)
    assert recorded.severity_state == state.severity_state
    assert recorded.change is None
    record(monitor, 85)
    state = monitor_state(monitor)
    assert (state.warning_streak, state.unknown_streak, state.critical_streak) == (2, 0, 0)


def test_recovery_needs_as_many_good_samples_as_the_probe_says() -> None:
    monitor = make_monitor(recovery=2)
    change = SeverityChange(Severity.OK, Severity.CRITICAL)
    assert record(monitor, 95).change == change
    assert record(monitor, 50).change is None
    assert record(monitor, 50).change == SeverityChange(Severity.CRITICAL, Severity.OK)


def test_immediate_sample_decides_alone() -> None:
    monitor = make_monitor(consecutive=3, recovery=3)
    assert record(monitor, 95, immediate=True).severity_state.severity is Severity.CRITICAL
    assert record(monitor, 50, immediate=True).severity_state.severity is Severity.OK


def test_passive_probe_decides_with_each_sample() -> None:
    """Its value is computed from pings: a second look at the same pings is no second sample."""
    monitor = make_heartbeat_monitor(period=60, grace=0, consecutive=3, recovery=3)
    late = monitor.created_at + timedelta(seconds=61)
    recorded = measure_and_record(monitor, monitor.probe, "", now=late)
    assert recorded.severity_state.severity is Severity.CRITICAL


def test_heartbeat_of_every_host_has_one_state() -> None:
    monitor = make_heartbeat_monitor()
    measure_and_record(monitor, monitor.probe, "web1", now=NOON)
    assert MonitorState.objects.get().host == ""


def test_columns_of_the_state_are_the_sample_and_its_run(tmp_path: Path) -> None:
    monitor = make_monitor()
    record(monitor, 95, run_id=7)
    record(monitor, 95, now=NOON + timedelta(minutes=1), run_id=8, host="")
    state = monitor_state(monitor)
    assert (state.since, state.last_sample_at) == (NOON, NOON + timedelta(minutes=1))
    assert (state.last_run_id, state.samples_total) == (8, 2)
    assert [sample.at for sample in Sample.objects.order_by("at")] == [
        NOON, NOON + timedelta(minutes=1),
    ]  # fmt: skip


def test_extra_columns_are_written_to_the_state() -> None:
    monitor = make_heartbeat_monitor()
    record(monitor, None, extra_columns={"last_ping_body": "x"})
    assert monitor_state(monitor).last_ping_body == "x"


def test_failed_measurement_keeps_the_unit_and_a_long_one_is_cut() -> None:
    monitor = make_monitor()

    def measured(unit: str, error: str = "") -> str:
        found = Measurement(Severity.OK, 1.0, unit=unit, error=error)
        record(monitor, measure_state=lambda state: found)
        return monitor_state(monitor).unit

    assert [measured("V"), measured("", "refused"), measured("x" * 30)] == ["V", "V", "x" * 20]
    assert measured("") == ""


def test_long_texts_are_cut_in_state_and_sample() -> None:
    monitor = make_monitor()
    found = Measurement(Severity.UNKNOWN, message="m" * 600, error="e" * 600)
    record(monitor, measure_state=lambda state: found)
    for row in (monitor_state(monitor), Sample.objects.get()):
        assert (row.message, row.error) == ("m" * 500, "e" * 500)


def test_state_is_measured_after_it_is_locked() -> None:
    monitor = make_monitor()
    seen = []

    def measure_state(state: MonitorState) -> Measurement:
        seen.append(state.samples_total)
        return Measurement(Severity.OK, 1.0)

    for _ in range(2):
        record(monitor, measure_state=measure_state)
    assert seen == [1, 2]


def test_lock_counts_the_samples_of_its_placement() -> None:
    monitor = make_monitor()
    first = [lock_state(monitor, host) for host in ("", "web1", "")]
    assert [(state.host, state.samples_total) for state in first] == [
        ("", 1), ("web1", 1), ("", 2),
    ]  # fmt: skip


def test_measuring_without_recording_uses_the_state_of_the_heartbeat() -> None:
    monitor = make_heartbeat_monitor(period=60, grace=0)
    late = monitor.created_at + timedelta(seconds=61)
    assert measure_only(monitor, monitor.probe, now=late).severity is Severity.CRITICAL
    MonitorState.objects.create(job_id=monitor.pk, host="web1", last_success_ping_at=late)
    assert measure_only(monitor, monitor.probe, now=late).severity is Severity.CRITICAL
    MonitorState.objects.create(job_id=monitor.pk, last_success_ping_at=late)
    assert measure_only(monitor, monitor.probe, now=late).severity is Severity.OK
    assert not Sample.objects.exists()


def test_change_of_severity_is_reported_with_its_sample_or_not_at_all() -> None:
    monitor = make_monitor(consecutive=2)
    record(monitor, 95)
    assert not Incident.objects.exists()
    record(monitor, 95, host="", run_id=None)
    incident = Incident.objects.get()
    assert (incident.severity, incident.occurrences) == ("critical", 1)
    assert incident.summary == "95 (> 90)"
    record(monitor, 95)
    incident.refresh_from_db()
    assert incident.occurrences == 1, "nothing has changed"
    Incident.objects.all().delete()
    record(monitor, 95)
    assert Incident.objects.get().is_open, "nobody knows of it any more"
    record(monitor, 50)
    assert not Incident.objects.get().is_open


def test_failed_report_records_no_sample() -> None:
    monitor = make_monitor()
    with failing_statements("chroniker_incident", error=DataError), pytest.raises(DataError):
        record(monitor, 95)
    assert not MonitorState.objects.exists() and not Sample.objects.exists()


def make_samples(monitor: Monitor, *, host: str = "", count: int = 1, age_days: float = 9) -> None:
    Sample.objects.bulk_create(
        Sample(job_id=monitor.pk, host=host, at=NOON - timedelta(days=age_days), severity=0)
        for _ in range(count)
    )


@pytest.mark.parametrize(
    ("samples", "deleted"),
    [(SAMPLES_BETWEEN_PRUNES - 2, 0), (SAMPLES_BETWEEN_PRUNES - 1, 1), (2 * 100 - 1, 1)],
)
def test_old_samples_are_deleted_after_every_hundred(samples: int, deleted: int) -> None:
    monitor = make_monitor(sample_days=2)
    MonitorState.objects.create(job_id=monitor.pk, samples_total=samples)
    make_samples(monitor)
    record(monitor)
    assert Sample.objects.count() == 2 - deleted
