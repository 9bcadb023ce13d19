"""The page as promtool and a real Prometheus read it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from chroniker.enums import RunStatus
from chroniker.models import Host, Job
from chroniker_monitors.collector.metrics import COLLECTOR_FAMILIES, LEVELS
from chroniker_monitors.models import MonitorState, Probe
from tests.factories import NOON, make_finished_run, make_job, make_job_state
from tests.support.machine import run_promtool
from tests.support.metrics_page import scrape
from tests.support.metrics_servers import PrometheusServer, TextFormatProxy
from tests.support.processes import wait_until

pytestmark = pytest.mark.prometheus
HOSTILE = 'a"b\n} evil 1 🦄 \\'
HOSTILE_NAMES = [HOSTILE, "x" * 200, "🦄", "\u202eright to left\u202c שלום", "\\n", "{}%s"]


def fill() -> None:
    job = make_job(
        name=HOSTILE, hostname="*", expected_seconds=1, timeout_seconds=2, start_deadline_seconds=3,
        minimum_seconds=1, success_objective=99, finish_by="90m",
    )  # fmt: skip
    make_job_state(
        job, host="web1", runs_total=2_000_000, last_ended_at=NOON, duration_count=3,
        next_slot_at=NOON, next_run_at=NOON,
    )  # fmt: skip
    for name in ("new", *HOSTILE_NAMES[1:]):
        make_job(name=name)
    monitor = make_job(name="monitor")
    Probe.objects.create(job=monitor, kind="disk", unit="%", warning=80, critical=90)
    MonitorState.objects.create(
        job=monitor, severity=1, value=85, latency_seconds=0.1, last_sample_at=NOON,
        expected_low=10, expected_high=80,
    )  # fmt: skip
    grouped = make_job(name="grouped")
    Probe.objects.create(job=grouped, kind="records", warning=80)
    MonitorState.objects.create(job=grouped, severity=0, dropped_series=0, last_sample_at=NOON)
    Host.objects.filter(name="web1").update(last_tick_at=NOON, tick_seconds=0.25)


@pytest.mark.django_db
def test_promtool_accepts_the_page() -> None:
    fill()
    done = run_promtool("check", "metrics", text=scrape())
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.one_database
def test_prometheus_scrapes_both_formats_and_answers_for_each_name(
    site: str, tmp_path: Path
) -> None:
    """Through gunicorn with 2 workers in multiprocess mode, with a token."""
    fill()
    failing = make_job(name="failing")
    with (
        TextFormatProxy.before(site) as proxy,
        PrometheusServer.scraping(tmp_path, openmetrics=site, text=proxy.address) as prometheus,
    ):
        for job in ("openmetrics", "text"):
            wait_until(
                lambda job=job: prometheus.query(f'chroniker_collector_up{{job="{job}"}} == 1'),  # type: ignore[misc]
                timeout=60,
                interval=0.3,
            )
        assert proxy.content_types == {"text/plain; version=0.0.4; charset=utf-8"}
        names = [
            family.name + ("_bucket" if family.type == "histogram" else "")
            for families in LEVELS.values()
            for family in families
        ]
        for name in (*names, "django_http_requests_before_middlewares_total"):
            found = {sample["metric"]["job"] for sample in prometheus.query(name)}
            assert found == {"openmetrics", "text"}, name
        runs = prometheus.query('chroniker_job_runs_total{host="web1"}')
        assert [sample["metric"]["job_name"] for sample in runs] == [HOSTILE] * 2
        assert [sample["value"][1] for sample in runs] == ["2000000"] * 2
        enabled = prometheus.query('chroniker_job_enabled{job="text"}')
        assert {sample["metric"]["job_name"] for sample in enabled} == {
            "new", "failing", "monitor", "grouped", *HOSTILE_NAMES
        }  # fmt: skip
        collectors = {family.name for family in COLLECTOR_FAMILIES}
        own = prometheus.query('{__name__=~"chroniker_[cb].*"}')
        assert {sample["metric"]["__name__"] for sample in own} == collectors
        first_failure_is_seen(prometheus, failing)


def first_failure_is_seen(prometheus: PrometheusServer, job: Job) -> None:
    """With increase(), which misses a series that starts at 1."""
    expression = f'increase(chroniker_job_failures_total{{job_name="{job.name}"}}[5m]) > 0'
    assert prometheus.query(expression) == []
    run = make_finished_run(job, datetime.now(UTC), RunStatus.FAILED, 2.0)
    found = wait_until(
        lambda: len(samples := prometheus.query(expression)) == 2 and samples, timeout=20
    )
    assert {(sample["metric"]["reason"], sample["metric"]["job"]) for sample in found} == {
        ("error", "openmetrics"),
        ("error", "text"),
    }
    for name in ("chroniker_job_failures_total", "chroniker_job_duration_seconds_bucket"):
        [series] = wait_until(lambda name=name: prometheus.exemplars(name), timeout=20)  # type: ignore[misc]
        assert series["seriesLabels"]["job"] == "openmetrics"
        assert [shown["labels"] for shown in series["exemplars"]] == [{"run_id": str(run.pk)}]
