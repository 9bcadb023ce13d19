"""The rows that a scrape reads."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chroniker.models import Job, JobState
from tests.factories import make_job, make_job_state, make_monitor, make_monitor_state
from tests.support.metrics_page import MetricsPage, scrape
from tests.support.types import AssertNumQueries

pytestmark = pytest.mark.django_db


def test_deleted_renamed_and_moved_jobs_leave_no_series() -> None:
    gone, renamed, moved = (make_job(name=name) for name in ("gone", "old name", "moved"))
    make_job_state(moved, runs_total=5)
    make_job_state(renamed, runs_total=6)
    scrape()
    gone.delete()
    Job.objects.filter(pk=renamed.pk).update(name="new name")
    Job.objects.filter(pk=moved.pk).update(hostname="*")
    make_job_state(moved, host="web1", runs_total=1)
    assert MetricsPage().samples_named("chroniker_job_runs_total") == {
        frozenset({("job_name", "new name")}): 6,
        frozenset({("job_name", "moved"), ("host", "web1")}): 1,
    }
    Job.objects.filter(pk=moved.pk).update(hostname="")
    assert MetricsPage().samples_named("chroniker_job_runs_total") == {
        frozenset({("job_name", "new name")}): 6,
        frozenset({("job_name", "moved")}): 5,
    }
    JobState.objects.filter(job=moved, host="").delete()
    assert MetricsPage()("chroniker_job_runs_total", job_name="moved") == 0


def test_every_change_is_exported_at_the_next_scrape() -> None:
    state = make_job_state(make_job(name="a"))
    for runs in (1, 2, 5):
        JobState.objects.filter(pk=state.pk).update(
            runs_total=runs, duration_buckets={"60": runs}, duration_count=runs
        )
        page = MetricsPage()
        assert page("chroniker_job_runs_total", job_name="a") == runs
        assert page("chroniker_job_duration_seconds_bucket", job_name="a", le="60.0") == runs


@pytest.mark.parametrize("number", [1, 200])
def test_scrape_needs_two_queries_for_any_number_of_jobs(
    number: int, django_assert_num_queries: AssertNumQueries
) -> None:
    jobs = Job.objects.bulk_create([Job(name=f"job {n}", command="noop") for n in range(number)])
    JobState.objects.bulk_create([JobState(job=job) for job in jobs])
    for _ in range(2):
        # In a test's transaction, two more: a savepoint, and its release.
        with django_assert_num_queries(7 + 2):
            assert len(MetricsPage().samples_named("chroniker_job_runs_total")) == number


def test_jobs_over_the_limit_are_dropped_and_counted(settings: Any) -> None:
    for name in "abcde":
        make_job_state(make_job(name=name, hostname="*"), host="web1")
    for limit, dropped in ((5, 0), (6, 0), (4, 1), (2, 3)):
        settings.CHRONIKER_METRICS_MAX_JOBS = limit
        page = MetricsPage()
        assert page("chroniker_collector_dropped_jobs") == dropped
        assert len(page.samples_named("chroniker_job_runs_total")) == 5 - dropped
        assert page("chroniker_job_enabled", job_name="a") == 1


def test_monitors_of_dropped_jobs_are_not_read(settings: Any) -> None:
    for name in "abc":
        make_monitor_state(make_monitor(name=name))
    settings.CHRONIKER_METRICS_MAX_JOBS = 2
    with CaptureQueriesContext(connection) as captured:
        page = MetricsPage()
    shown = page.samples_named("chroniker_monitor_threshold")
    assert {dict(labels)["job_name"] for labels in shown} == {"a", "b"}
    probes = f"FROM {connection.ops.quote_name('chroniker_monitors_probe')}"
    (sql,) = [query["sql"] for query in captured if probes in query["sql"]]
    assert " <= " in sql


def test_invalid_rows_are_not_an_error() -> None:
    make_job_state(make_job(name="a"), duration_buckets=["nonsense"], duration_count=2)
    page = MetricsPage()
    assert page("chroniker_collector_up") == 1
    assert page("chroniker_job_duration_seconds_bucket", job_name="a", le="+Inf") == 2
    make_job_state(make_job(name="b"), duration_buckets={"1": "nonsense"})
    page = MetricsPage()
    assert page("chroniker_collector_up") == 0
    assert "python_info" in page.text
