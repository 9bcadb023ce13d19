"""``CHRONIKER_METRICS_DETAIL``: how many series a job has, and which."""

from __future__ import annotations

import re
from typing import Any

import pytest

from chroniker.enums import BlockedReason, MissedReason, RunStatus
from chroniker.models import Host, Job, JobState
from chroniker_monitors.checks import check_settings
from chroniker_monitors.collector.metrics import JOB_FAMILIES, PLACEMENT_FAMILIES
from chroniker_monitors.enums import MetricsDetail
from tests.alerts.rules import metric_names, rules
from tests.factories import NOON, make_finished_run, make_job, make_job_state
from tests.support.metrics_page import OPENMETRICS, MetricsPage, scrape

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]
EVERY_OPTION: dict[str, Any] = {
    "expected_seconds": 60, "timeout_seconds": 120, "start_deadline_seconds": 30,
    "minimum_seconds": 1, "success_objective": 99.5, "finish_by": "90m", "max_retries": 3,
    "failures_before_alert": 2, "hostname": "web1", "team": "storage",
}  # fmt: skip
BUSY: dict[str, Any] = {
    "lease_token": "t", "lease_expires_at": NOON, "last_started_at": NOON, "parts_total": 9,
    "parts_done": 3, "progress_at": NOON, "next_slot_at": NOON, "next_run_at": NOON,
    "last_status": "failed", "last_ended_at": NOON, "last_failure_at": NOON,
    "last_success_at": NOON, "consecutive_failures": 2, "retries_total": 1, "runs_total": 9,
    "last_max_rss_bytes": 5, "interrupted_total": 1, "failures_error": 2, "missed_downtime": 1,
}  # fmt: skip


def make_jobs() -> None:
    usual = make_job(name="usual", schedule="@every 1h")
    make_finished_run(usual, NOON)
    JobState.objects.filter(job=usual).update(last_max_rss_bytes=5, next_run_at=NOON)
    make_job_state(make_job(name="everything", schedule="@every 1h", **EVERY_OPTION), **BUSY)


def series(page: MetricsPage, name: str) -> int:
    return sum(("job_name", name) in labels for _, labels in page.samples)


@pytest.mark.parametrize(
    ("detail", "usual", "everything"), [("low", 10, 23), ("default", 39, 54), ("high", 74, 81)]
)
def test_number_of_series(detail: str, usual: int, everything: int, settings: Any) -> None:
    """With the twelve buckets of the default settings."""
    settings.CHRONIKER_METRICS_DETAIL = detail
    make_jobs()
    page = MetricsPage()
    assert (series(page, "usual"), series(page, "everything")) == (usual, everything)


def test_high_has_all_series_at_zero_from_the_start(settings: Any) -> None:
    settings.CHRONIKER_METRICS_DETAIL = "high"
    make_job(name="new")
    page = MetricsPage()
    for reason in BlockedReason.values:
        assert page("chroniker_job_blocked", job_name="new", reason=reason) == 0
    for reason in MissedReason.values:
        assert page("chroniker_job_missed_runs_total", job_name="new", reason=reason) == 0
    for status in set(RunStatus.values) - {"running", "missed"}:
        assert page("chroniker_job_last_run_status", job_name="new", status=status) == 0
    for name in ("muted", "retries_total", "start_timestamp_seconds", "progress_ratio"):
        assert page(f"chroniker_job_{name}", job_name="new") == 0
    assert page("chroniker_job_start_lag_seconds_bucket", job_name="new", le="+Inf") == 0
    there = {name for name, labels in page.samples if ("job_name", "new") in labels}
    optional = {family.name for family in (*JOB_FAMILIES, *PLACEMENT_FAMILIES) if family.optional}
    never = optional - {"chroniker_job_last_duration_seconds"}
    plain = {f.name for f in (*JOB_FAMILIES, *PLACEMENT_FAMILIES) if f.type != "histogram"}
    assert plain - never <= there


def test_default_leaves_out_what_is_not_the_case() -> None:
    state = make_job_state(make_job(name="a"))
    assert MetricsPage()("chroniker_job_blocked", job_name="a", reason="dependency") is None
    JobState.objects.filter(pk=state.pk).update(blocked_reason="dependency", last_status="lost")
    page = MetricsPage()
    assert page.samples_named("chroniker_job_blocked") == {
        frozenset({("job_name", "a"), ("reason", "dependency")}): 1
    }
    assert page.samples_named("chroniker_job_last_run_status") == {
        frozenset({("job_name", "a"), ("status", "lost")}): 1
    }
    # Counters that dashboards and rules take increases of are there from the start.
    for reason in ("error", "timeout", "stopped", "lost"):
        assert page("chroniker_job_failures_total", job_name="a", reason=reason) == 0
    Job.objects.update(failures_before_alert=2)
    assert MetricsPage()("chroniker_job_failures_before_alert", job_name="a") == 2


def test_start_lag_is_a_histogram_of_the_fleet(settings: Any) -> None:
    for name, buckets in (("a", {"1": 2, "60": 1}), ("b", {"5": 4})):
        make_job_state(
            make_job(name=name), start_lag_buckets=buckets, start_lag_seconds_sum=7.5,
            start_lag_count=sum(buckets.values()),
        )  # fmt: skip
    for detail in MetricsDetail.values:
        settings.CHRONIKER_METRICS_DETAIL = detail
        page = MetricsPage()
        counts = [
            page("chroniker_start_lag_seconds_bucket", le=le) for le in ("1.0", "5.0", "+Inf")
        ]
        assert counts == [2, 6, 7]
        assert page("chroniker_start_lag_seconds_sum") == 15
        own = page("chroniker_job_start_lag_seconds_count", job_name="a")
        assert own == (None if detail == "low" else 3)
        bucket = page("chroniker_job_start_lag_seconds_bucket", job_name="a", le="5.0")
        assert bucket == (2 if detail == "high" else None)
        kind = {"low": "", "default": "summary", "high": "histogram"}[detail]
        assert (f"# TYPE chroniker_job_start_lag_seconds {kind}\n" in page.text) == bool(kind)


def test_low_keeps_the_last_duration_where_a_rule_needs_it(settings: Any) -> None:
    settings.CHRONIKER_METRICS_DETAIL = "low"
    for fields in ({"name": "plain"}, {"name": "minimum", "minimum_seconds": 5},
                   {"name": "monitor", "command": "check_monitor"}):  # fmt: skip
        make_job_state(make_job(**fields), last_duration_seconds=2.5)
    found = MetricsPage().samples_named("chroniker_job_last_duration_seconds")
    assert {dict(labels)["job_name"] for labels in found} == {"minimum", "monitor"}


def test_every_metric_that_a_rule_reads_is_exported_at_each_level() -> None:
    read = set().union(*(metric_names(rule["expr"]) for rule in rules()))
    for family in (*JOB_FAMILIES, *PLACEMENT_FAMILIES):
        names = {family.name} if family.type != "histogram" else {f"{family.name}_sum"}
        if names & read:
            assert family.at(MetricsDetail.LOW, histograms=True) is not None, family.name


@pytest.mark.parametrize("detail", MetricsDetail.values)
def test_both_formats_have_the_same_samples(detail: str, settings: Any) -> None:
    settings.CHRONIKER_METRICS_DETAIL = detail
    Host.objects.create(name="web1")
    make_jobs()
    volatile = r"(?m)^chroniker_(collector_duration|job_expected_finish).*$"
    plain, openmetrics = (
        {
            line.split(" # ")[0]
            for line in re.sub(volatile, "", text).splitlines()
            if line.startswith("chroniker_")
        }
        for text in (scrape(), scrape(accept=OPENMETRICS))
    )
    assert plain == openmetrics


@pytest.mark.parametrize("value", ["medium", ""])
def test_wrong_detail_is_reported(value: str, settings: Any) -> None:
    settings.CHRONIKER_METRICS_DETAIL = value
    assert [message.id for message in check_settings()] == ["chroniker_monitors.E009"]
