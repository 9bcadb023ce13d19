"""The metrics, compared with the rows of runs and samples: the exporter reads neither."""

from __future__ import annotations

from collections import Counter

import pytest
from django.db.models import Sum

from chroniker.enums import FAILURE_REASONS, MissedReason, RunStatus
from chroniker.models import Incident, Job, JobState, Notification, Run
from chroniker_monitors.models import Monitor, Sample
from tests.demo.running.metrics import DemoMetrics


def placements() -> list[tuple[Job, dict[str, str]]]:
    """Each job with the labels of its host, where it has one per host."""
    once: list[tuple[Job, dict[str, str]]] = [
        (job, {}) for job in Job.objects.exclude(hostname="*")
    ]
    states = JobState.objects.filter(job__hostname="*")
    return once + [(state.job, {"host": state.host}) for state in states]


def test_progress_of_a_running_job_is_scraped(progress: list[float]) -> None:
    assert progress == sorted(progress)
    assert len({ratio for ratio in progress if 0 < ratio < 1}) >= 3


def test_job_metrics_agree_with_the_runs(metrics: DemoMetrics) -> None:
    for job, host in placements():
        ended = Run.objects.filter(job=job).ended().exclude(status="missed")
        last = ended.latest("ended_at", "id")
        ratio = (last.parts_done or 0) / last.parts_total if last.parts_total else 0
        expected = {
            "runs_total": ended.count(),
            "duration_seconds_count": ended.count(),
            "running": 0,
            "last_duration_seconds": last.duration_seconds or 0,
            "progress_parts": last.parts_done or 0,
            "progress_parts_expected": last.parts_total or 0,
            "progress_ratio": ratio,
        }
        labels = {"job_name": job.name} | host
        scraped = {
            name: (metrics.value_or_zero if "progress" in name else metrics.value)(
                f"chroniker_job_{name}", **labels
            )
            for name in expected
        }
        assert scraped == pytest.approx(expected, abs=1e-6), job


def test_metrics_by_status_and_reason_agree_with_the_runs(metrics: DemoMetrics) -> None:
    for job, host in placements():
        ended = Run.objects.filter(job=job).ended().exclude(status="missed")
        by_status = Counter(ended.values_list("status", flat=True))
        last = ended.latest("ended_at", "id")
        labels = {"job_name": job.name} | host
        for status, reason in FAILURE_REASONS.items():
            failures = metrics.value("chroniker_job_failures_total", reason=reason, **labels)
            assert failures == by_status[status], (job, reason)
        for status in RunStatus.values:
            if status not in ("running", "missed"):
                name = "chroniker_job_last_run_status"
                found = metrics.value_or_zero(name, status=status, **labels)
                assert found == float(status == last.status), (job, status)
        for reason in MissedReason.values:
            missed = Run.objects.filter(job=job, missed_reason=reason)
            slots = missed.aggregate(slots=Sum("missed_slots", default=0))["slots"]
            found = metrics.value("chroniker_job_missed_runs_total", reason=reason, **labels)
            assert found == slots, (job, reason)


def test_monitor_metrics_agree_with_the_last_sample(metrics: DemoMetrics) -> None:
    for monitor in Monitor.objects.select_related("probe"):
        last = Sample.objects.filter(job=monitor).latest("at", "id")
        state = monitor.monitor_states.get(host=last.host)
        expected: dict[str, float] = {
            "last_sample_timestamp_seconds": last.at.timestamp(),
            "severity": state.severity,
        }
        if last.value is not None and last.series is None:
            expected["value"] = last.value
        if last.latency_seconds is not None:  # the ping of a heartbeat takes no time
            expected["latency_seconds"] = last.latency_seconds
        labels = {"job_name": monitor.name, "host": last.host}
        scraped = {name: metrics.value(f"chroniker_monitor_{name}", **labels) for name in expected}
        assert scraped == pytest.approx(expected, abs=1e-6), monitor
        for series, (value, *_) in (last.series or {}).items():
            found = metrics.value("chroniker_monitor_value", series=series, **labels)
            assert found == value, (monitor, series)


@pytest.mark.parametrize("severity", ["warning", "critical"])
def test_threshold_metrics_agree_with_the_probes(metrics: DemoMetrics, severity: str) -> None:
    for monitor in Monitor.objects.select_related("probe"):
        threshold = getattr(monitor.probe, severity)
        if threshold is not None:
            found = metrics.value(
                "chroniker_monitor_threshold",
                job_name=monitor.name,
                severity=severity,
                operator=monitor.probe.operator,
            )
            assert found == pytest.approx(threshold), monitor


@pytest.mark.parametrize("severity", ["warning", "critical"])
def test_open_incidents_are_counted(metrics: DemoMetrics, severity: str) -> None:
    number = Incident.objects.open().filter(severity=severity).count()
    assert metrics.value("chroniker_incidents_open", severity=severity) == number


def test_pending_notifications_are_counted(metrics: DemoMetrics) -> None:
    number = Notification.objects.pending().count()
    assert metrics.value("chroniker_notifications_pending") == number
