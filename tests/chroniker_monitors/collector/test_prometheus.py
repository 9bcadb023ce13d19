"""What the collector exports for jobs and monitors."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now as utc_now
from prometheus_client import CollectorRegistry, generate_latest

import chroniker
from chroniker.enums import BlockedReason
from chroniker.models import (
    Counter,
    Host,
    Incident,
    Job,
    Maintenance,
    MaintenanceJob,
    Notification,
    Run,
)
from chroniker_monitors.collector.metrics import LEVELS, NAMES
from chroniker_monitors.collector.prometheus import ChronikerCollector
from chroniker_monitors.models import Monitor, MonitorState, Probe
from tests.factories import NOON, make_job, make_job_state
from tests.support.machine import REPO
from tests.support.metrics_page import MetricsPage, scrape
from tests.support.types import AssertNumQueries

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _with_every_series(settings: Any) -> None:
    """What the other details leave out is tested in test_detail.py."""
    settings.CHRONIKER_METRICS_DETAIL = "high"


def test_job_that_never_ran_is_exported_with_zeros() -> None:
    make_job(name="new")
    page = MetricsPage()
    assert page("chroniker_job_runs_total", job_name="new") == 0
    for reason in ("error", "timeout", "stopped", "lost"):
        assert page("chroniker_job_failures_total", job_name="new", reason=reason) == 0
    for reason in ("overlap", "downtime", "deadline", "paused", "dependency"):
        assert page("chroniker_job_missed_runs_total", job_name="new", reason=reason) == 0
    for status in ("succeeded", "failed", "timed_out", "stopped", "interrupted", "lost"):
        assert page("chroniker_job_last_run_status", job_name="new", status=status) == 0
    assert page("chroniker_job_duration_seconds_bucket", job_name="new", le="+Inf") == 0
    assert page("chroniker_job_last_success_timestamp_seconds", job_name="new") == 0
    optional = {"deadline_timestamp_seconds", "expected_finish_timestamp_seconds"}
    slot_names = {family.name for family in LEVELS["placement"] if family.type != "histogram"}
    slot_names -= {f"chroniker_job_{name}" for name in optional}
    there = {name for name, labels in page.samples if ("job_name", "new") in labels}
    assert slot_names <= there


def make_window(*jobs: Job, **fields: Any) -> Maintenance:
    now = utc_now()
    window = {"starts_at": now - timedelta(hours=1), "ends_at": now + timedelta(hours=1), **fields}
    made = Maintenance.objects.create(**window)
    for job in jobs:
        MaintenanceJob.objects.create(maintenance=made, job=job)
    return made


def test_job_in_a_maintenance_window_is_muted() -> None:
    make_window(make_job(name="inside"))
    make_job(name="outside")
    make_window(make_job(name="later"), starts_at=utc_now() + timedelta(minutes=1))
    page = MetricsPage()
    assert [page("chroniker_job_muted", job_name=n) for n in ("inside", "outside", "later")] == [
        1,
        0,
        0,
    ]


def test_window_without_jobs_mutes_all_of_them() -> None:
    make_job(name="a")
    make_window(make_job(name="b"))
    make_window()
    page = MetricsPage()
    assert [page("chroniker_job_muted", job_name=name) for name in ("a", "b")] == [1, 1]


def test_window_whose_job_was_deleted_mutes_nothing() -> None:
    gone = make_job(name="gone")
    make_window(gone)
    gone.delete()
    make_job(name="a")
    assert MetricsPage()("chroniker_job_muted", job_name="a") == 0


def test_incidents_and_notifications_are_counted() -> None:
    page = MetricsPage()
    for severity in ("critical", "warning", "info"):
        assert page("chroniker_incidents_open", severity=severity) == 0
    assert page("chroniker_notifications_pending") == 0
    assert page("chroniker_notification_failures_total") == 0
    for number, resolved in enumerate((None, None, NOON)):
        Incident.objects.create(
            job=make_job(name=f"job {number}"),
            kind="failing",
            severity="critical",
            opened_at=NOON,
            last_seen_at=NOON,
            resolved_at=resolved,
        )
    for number, again in enumerate((NOON, None)):
        Notification.objects.create(
            event="opened", channel="mail", key=number, created_at=NOON, next_attempt_at=again
        )
    Counter.objects.add("notification_failures", 5)
    page = MetricsPage()
    assert page("chroniker_incidents_open", severity="critical") == 2
    assert page("chroniker_incidents_open", severity="warning") == 0
    assert page("chroniker_notifications_pending") == 1
    assert page("chroniker_notification_failures_total") == 5


def make_monitor(name: str, *, hostname: str = "", **fields: Any) -> Monitor:
    job = make_job(name=name, command="noop", hostname=hostname)
    Probe.objects.create(job=job, **{"kind": "disk", **fields})
    return Monitor.objects.get(pk=job.pk)


def test_new_monitor_is_exported_without_a_value() -> None:
    make_monitor("new", unit="%", operator="<", warning=20)
    make_job(name="no monitor")
    page = MetricsPage()
    assert page("chroniker_monitor_info", job_name="new", kind="disk", unit="%") == 1
    assert page.samples_named("chroniker_monitor_threshold") == {
        frozenset({"job_name": "new", "operator": "<", "severity": "warning"}.items()): 20
    }
    assert page("chroniker_monitor_severity", job_name="new") == 0
    assert page("chroniker_monitor_last_sample_timestamp_seconds", job_name="new") == 0
    assert not page.samples_named("chroniker_monitor_value")
    assert not page.samples_named("chroniker_monitor_latency_seconds")
    assert len(page.samples_named("chroniker_monitor_severity")) == 1  # a plain job has none


def test_monitor_measurement_is_exported() -> None:
    monitor = make_monitor("full", warning=80, critical=90)
    MonitorState.objects.create(
        job=monitor,
        severity=2,
        value=95.5,
        unit="percent",
        latency_seconds=0.125,
        last_sample_at=NOON,
    )
    page = MetricsPage()
    assert page("chroniker_monitor_info", job_name="full", kind="disk", unit="percent") == 1
    assert page("chroniker_monitor_value", job_name="full") == 95.5
    assert page("chroniker_monitor_severity", job_name="full") == 2
    assert page("chroniker_monitor_latency_seconds", job_name="full") == 0.125
    at = page("chroniker_monitor_last_sample_timestamp_seconds", job_name="full")
    assert at == NOON.timestamp()
    for severity, limit in (("warning", 80), ("critical", 90)):
        exported = page(
            "chroniker_monitor_threshold", job_name="full", operator=">", severity=severity
        )
        assert exported == limit


def test_unknown_monitor_has_no_value() -> None:
    MonitorState.objects.create(job=make_monitor("broken"), severity=3, last_sample_at=NOON)
    page = MetricsPage()
    assert page("chroniker_monitor_severity", job_name="broken") == 3
    assert not page.samples_named("chroniker_monitor_value")


def test_monitor_on_every_host_has_current_hosts_only() -> None:
    Host.objects.create(name="web1")
    Host.objects.create(name="web2")
    monitor = make_monitor("disk", hostname="*")
    MonitorState.objects.create(job=monitor, host="web1", severity=1, value=1)
    MonitorState.objects.create(job=monitor, host="", severity=2)  # of an older definition
    assert MetricsPage().samples_named("chroniker_monitor_severity") == {
        frozenset({"job_name": "disk", "host": host}.items()): severity
        for host, severity in (("web1", 1), ("web2", 0))
    }


def test_monitors_of_dropped_jobs_are_dropped(settings: Any) -> None:
    for name in ("first", "second"):
        make_monitor(name)
    settings.CHRONIKER_METRICS_MAX_JOBS = 1
    [labels] = MetricsPage().samples_named("chroniker_monitor_severity")
    assert dict(labels)["job_name"] == "first"


def test_definition_and_state_are_exported() -> None:
    job = make_job(
        name="backup",
        command="noop",
        args="--password hunter2",
        schedule="@every 90m",
        timezone="Europe/Berlin",
        expected_seconds=60,
        timeout_seconds=120,
        start_deadline_seconds=0,
        team="storage",
        alert_severity="critical",
        minimum_seconds=0.5,
        success_objective=99.5,
    )
    run = Run.objects.create(job=job, scheduled_for=NOON, started_at=NOON)
    make_job_state(
        job,
        lease_token="t",
        lease_host="web1",
        lease_expires_at=utc_now() + timedelta(minutes=1),
        current_run=run,
        last_started_at=NOON,
        last_status="failed",
        last_ended_at=NOON - timedelta(days=1),
        last_failure_at=NOON - timedelta(days=1),
        last_success_at=NOON - timedelta(days=2),
        next_run_at=NOON + timedelta(hours=1, microseconds=250_000),
        last_duration_seconds=2.5,
        last_max_rss_bytes=123_456_789,
        consecutive_failures=3,
        runs_total=1_234_567,
        failures_error=7,
        missed_downtime=2,
        retries_total=4,
        duration_seconds_sum=12.5,
        duration_count=4,
        duration_buckets={"5": 3},
        start_lag_seconds_sum=1.5,
        start_lag_count=1,
        start_lag_buckets={"5": 1},
        cpu_seconds_total=0.75,
        parts_total=77,
        parts_done=13,
        progress_at=NOON,
    )
    Host.objects.create(name="web1", last_tick_at=NOON, tick_seconds=0.5)
    Host.objects.create(name="web2", paused=True)
    page = MetricsPage()

    def exported(name: str, **labels: str) -> float | None:
        return page(f"chroniker_job_{name}", job_name="backup", **labels)

    assert (
        exported(
            "info",
            command="noop",
            schedule="@every 90m",
            timezone="Europe/Berlin",
            hostname="",
            kind="interval",
            severity="critical",
            team="storage",
        )
        == 1
    )
    assert "hunter2" not in page.text
    assert (exported("enabled"), exported("running")) == (1, 1)
    assert (exported("expected_seconds"), exported("timeout_seconds")) == (60, 120)
    assert exported("start_deadline_seconds") == 0
    assert (exported("minimum_seconds"), exported("success_objective_ratio")) == (0.5, 0.995)
    assert exported("start_timestamp_seconds") == NOON.timestamp()
    assert exported("last_run_timestamp_seconds") == NOON.timestamp() - 86400
    assert exported("last_failure_timestamp_seconds") == NOON.timestamp() - 86400
    assert exported("last_success_timestamp_seconds") == NOON.timestamp() - 2 * 86400
    assert exported("next_run_timestamp_seconds") == NOON.timestamp() + 3600.25
    assert exported("last_duration_seconds") == 2.5
    assert exported("last_max_rss_bytes") == 123_456_789
    assert exported("consecutive_failures") == 3
    assert exported("last_run_status", status="failed") == 1
    assert exported("last_run_status", status="succeeded") == 0
    assert (exported("runs_total"), exported("retries_total")) == (1_234_567, 4)
    assert exported("failures_total", reason="error") == 7
    assert exported("missed_runs_total", reason="downtime") == 2
    assert exported("cpu_seconds_total") == 0.75
    assert exported("duration_seconds_bucket", le="1.0") == 0
    assert exported("duration_seconds_bucket", le="5.0") == 3
    assert exported("duration_seconds_bucket", le="14400.0") == 3
    assert exported("duration_seconds_bucket", le="+Inf") == 4
    assert (exported("duration_seconds_count"), exported("duration_seconds_sum")) == (4, 12.5)
    assert (exported("start_lag_seconds_count"), exported("start_lag_seconds_sum")) == (1, 1.5)
    assert exported("progress_ratio") == 13 / 77
    assert (exported("progress_parts"), exported("progress_parts_expected")) == (13, 77)
    assert exported("progress_timestamp_seconds") == NOON.timestamp()
    assert page("chroniker_host_last_tick_timestamp_seconds", host="web1") == NOON.timestamp()
    assert page("chroniker_host_tick_duration_seconds", host="web1") == 0.5
    assert page("chroniker_host_running_jobs", host="web1") == 1
    assert page("chroniker_host_running_jobs", host="web2") == 0
    assert page("chroniker_host_paused", host="web2") == 1
    assert page("chroniker_host_last_tick_timestamp_seconds", host="web2") == 0
    assert page("chroniker_collector_up") == 1
    assert page("chroniker_build_info", version=chroniker.__version__) == 1


def test_run_whose_lease_has_run_out_does_not_count_as_running_on_its_host() -> None:
    """Its scheduler is dead: the host must not seem busy."""
    for number, minutes in enumerate((-1, 1)):
        make_job_state(
            make_job(), lease_token=f"t{number}", lease_host="web1",
            lease_expires_at=utc_now() + timedelta(minutes=minutes),
        )  # fmt: skip
    Host.objects.create(name="web1")
    assert MetricsPage()("chroniker_host_running_jobs", host="web1") == 1


def test_missing_timestamp_is_zero() -> None:
    job = make_job(name="a")
    run = Run.objects.create(job=job, scheduled_for=NOON, started_at=NOON)
    make_job_state(job, current_run=run, last_started_at=NOON)  # without an owner
    assert MetricsPage()("chroniker_job_start_timestamp_seconds", job_name="a") == 0


def test_threshold_that_is_not_set_is_absent() -> None:
    make_job(name="a")
    page = MetricsPage()
    for name in ("expected", "timeout", "start_deadline"):
        assert not page.samples_named(f"chroniker_job_{name}_seconds")
        assert f"# TYPE chroniker_job_{name}_seconds gauge" in page.text


def test_blocked_job_exports_the_reason() -> None:
    make_job_state(make_job(name="a"), blocked_reason="dependency")
    page = MetricsPage()
    values = {
        dict(labels)["reason"]: value
        for labels, value in page.samples_named("chroniker_job_blocked").items()
    }
    expected = dict.fromkeys(BlockedReason.values, 0.0)
    assert values == expected | {"dependency": 1.0}


def test_raw_command_is_exported_without_arguments() -> None:
    make_job(name="a", raw_command="/usr/bin/curl -u me:secret https://x")
    page = scrape()
    assert 'command="/usr/bin/curl"' in page
    assert "secret" not in page


def test_task_is_exported_without_arguments() -> None:
    make_job(name="a", task="shop.tasks.rebuild", task_kwargs={"token": "secret"})
    page = scrape()
    assert 'command="shop.tasks.rebuild"' in page
    assert "secret" not in page


def test_only_every_host_jobs_have_a_host_label() -> None:
    everywhere = make_job(name="everywhere", hostname="*")
    make_job_state(everywhere, host="web1", runs_total=1)
    make_job_state(everywhere, host="web2", runs_total=2)
    make_job_state(make_job(name="there", hostname="web1"), runs_total=3)
    Host.objects.create(name="web3")
    page = MetricsPage()
    assert page.samples_named("chroniker_job_runs_total") == {
        frozenset({("job_name", "everywhere"), ("host", "web1")}): 1,
        frozenset({("job_name", "everywhere"), ("host", "web2")}): 2,
        frozenset({("job_name", "everywhere"), ("host", "web3")}): 0,  # no tick since then
        frozenset({("job_name", "there")}): 3,
    }
    # The definition is the same on every host and is joined by the job name.
    assert page.samples_named("chroniker_job_enabled") == {
        frozenset({("job_name", "everywhere")}): 1,
        frozenset({("job_name", "there")}): 1,
    }


def test_histograms_can_be_left_out(settings: Any) -> None:
    make_job_state(make_job(name="a"), runs_total=3, duration_count=3, duration_seconds_sum=4.5)
    settings.CHRONIKER_METRICS_HISTOGRAMS = False
    page = MetricsPage()
    assert "_bucket{" not in page.text
    assert page("chroniker_job_duration_seconds_count", job_name="a") == 3
    assert page("chroniker_job_duration_seconds_sum", job_name="a") == 4.5
    assert page("chroniker_job_runs_total", job_name="a") == 3
    settings.CHRONIKER_METRICS_HISTOGRAMS = True
    assert "chroniker_job_duration_seconds_bucket" in scrape()


def test_changed_bounds_apply_from_the_next_scrape(settings: Any) -> None:
    make_job_state(make_job(name="a"), duration_buckets={"5": 2, "60": 1}, duration_count=4)
    assert MetricsPage()("chroniker_job_duration_seconds_bucket", job_name="a", le="5.0") == 2
    settings.CHRONIKER_METRICS_DURATION_BUCKETS = [10, 100]
    page = MetricsPage()
    assert [
        page("chroniker_job_duration_seconds_bucket", job_name="a", le=le)
        for le in ("5.0", "10.0", "100.0", "+Inf")
    ] == [None, 2, 3, 4]


def test_collector_can_be_registered_elsewhere(django_assert_num_queries: AssertNumQueries) -> None:
    registry = CollectorRegistry(auto_describe=True)
    with django_assert_num_queries(0):
        registry.register(ChronikerCollector())
    make_job_state(make_job(name="a"), runs_total=3)
    text = generate_latest(registry).decode()
    assert MetricsPage(text)("chroniker_job_runs_total", job_name="a") == 3
    found = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert {name.removesuffix("_total") for name in found} == NAMES


def test_describing_needs_no_settings() -> None:
    code = (
        "from chroniker_monitors.collector.prometheus import ChronikerCollector;"
        "print(len(ChronikerCollector().describe()))"
    )
    done = subprocess.run([sys.executable, "-c", code], env={}, cwd=REPO, capture_output=True)
    assert (done.stdout.decode().strip(), done.stderr) == (str(len(NAMES)), b"")
