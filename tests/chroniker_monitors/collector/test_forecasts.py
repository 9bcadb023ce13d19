"""Deadlines and expected ends on the page."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now as utc_now

from chroniker.models import Host, Job, JobDependency, JobState, Run
from tests.factories import make_job, make_job_state
from tests.support.metrics_page import MetricsPage, scrape
from tests.support.types import AssertNumQueries

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]
DEADLINE = "chroniker_job_deadline_timestamp_seconds"
EXPECTED = "chroniker_job_expected_finish_timestamp_seconds"
SOON = timedelta(hours=2)


def make_state(job: Job, **fields: Any) -> JobState:
    """Due in two hours; a run takes 100 s."""
    slot = utc_now().replace(microsecond=0) + SOON
    usual = {"duration_seconds_sum": 1000, "duration_count": 10}
    return make_job_state(job, **{"next_slot_at": slot, "next_run_at": slot, **usual, **fields})


def test_next_run_has_a_deadline_and_a_forecast() -> None:
    job = make_job(name="report", schedule="@every 6h", finish_by="90m")
    state = make_state(job)
    make_state(make_job(name="without", schedule="@every 6h"))
    page = MetricsPage()
    assert state.next_run_at is not None
    start = state.next_run_at.timestamp()
    assert page(DEADLINE, job_name="report") == start + 90 * 60
    assert page(EXPECTED, job_name="report") == start + 100
    assert len(page.samples_named(DEADLINE)) == len(page.samples_named(EXPECTED)) == 1


def test_forecast_includes_upstream_jobs_two_steps_away() -> None:
    """The first runs since a minute and takes an hour more; the deadline is in the job's zone."""
    first, second, report = (
        make_job(name=name, schedule=schedule)
        for name, schedule in (("first", "@every 6h"), ("second", ""), ("report", "@every 6h"))
    )
    Job.objects.filter(pk=report.pk).update(finish_by="06:00", timezone="Asia/Tokyo")
    for upstream, downstream in ((first, second), (second, report)):
        JobDependency.objects.create(upstream=upstream, downstream=downstream)
    began = utc_now().replace(microsecond=0) - timedelta(minutes=1)
    run = Run.objects.create(job=first, scheduled_for=began, started_at=began)
    make_state(
        first, lease_token="t", lease_expires_at=began, current_run=run, last_started_at=began,
        duration_seconds_sum=3 * 3600, duration_count=3,
    )  # fmt: skip
    make_state(second, next_slot_at=None, next_run_at=None)
    soon = began + timedelta(minutes=5)
    make_state(report, next_slot_at=soon, next_run_at=soon)
    page = MetricsPage()
    assert page(EXPECTED, job_name="report") == began.timestamp() + 3600 + 100 + 100
    assert not page.samples_named(EXPECTED).keys() & {frozenset({("job_name", "first")})}
    deadline = page(DEADLINE, job_name="report")
    assert deadline is not None and soon.timestamp() < deadline <= soon.timestamp() + 86400
    assert (deadline / 3600 + 9) % 24 == 6


@pytest.mark.parametrize("due", ["retry", "restart", "request"])
def test_deadline_belongs_to_the_slot_that_is_due(due: str) -> None:
    job = make_job(name="report", schedule="@every 6h", finish_by="90m")
    slot = utc_now().replace(microsecond=0) - timedelta(minutes=10)
    again = slot + timedelta(minutes=20)
    fields: dict[str, Any] = {
        "retry": {"retry_at": again, "retry_slot_at": slot},
        "restart": {"restart_at": again, "restart_slot_at": slot},
        "request": {"run_requested_at": slot, "run_requested_by": "manual"},
    }
    make_state(job, **fields[due])
    assert MetricsPage()(DEADLINE, job_name="report") == slot.timestamp() + 90 * 60


def test_each_host_has_its_own_forecast() -> None:
    job = make_job(name="sync", schedule="@every 6h", hostname="*", finish_by="90m")
    for number, name in enumerate(("web1", "web2")):
        Host.objects.create(name=name)
        slot = utc_now() + timedelta(hours=1 + number)
        make_state(job, host=name, next_slot_at=slot, next_run_at=slot)
    found = MetricsPage().samples_named(EXPECTED)
    assert len(set(found.values())) == len(found) == 2


def test_unusable_definitions_have_none_and_break_nothing() -> None:
    for number, (text, zone) in enumerate([("nonsense", "UTC"), ("06:00", "Mars/Phobos")]):
        job = make_job(name=f"job {number}", schedule="@every 6h")
        make_state(job)
        Job.objects.filter(pk=job.pk).update(finish_by=text, timezone=zone)
    make_job(name="no state", schedule="@every 6h", finish_by="06:00")
    page = MetricsPage()
    assert page("chroniker_collector_up") == 1
    assert not page.samples_named(DEADLINE)


@pytest.mark.parametrize("number", [2, 50, 1000])
def test_forecasts_need_a_query_for_nine_hundred_jobs(
    number: int, django_assert_num_queries: AssertNumQueries
) -> None:
    jobs = Job.objects.bulk_create(
        [Job(name=f"job {n}", command="noop", finish_by="90m") for n in range(number)]
    )
    soon = utc_now() + SOON
    JobState.objects.bulk_create(
        [JobState(job=job, next_slot_at=soon, next_run_at=soon) for job in jobs]
    )
    forecasts = 1 + math.ceil(number / 900)  # the dependencies, and the states
    with django_assert_num_queries(7 + forecasts + 2):  # a savepoint, and its release
        text = scrape()
    assert text.count(f"\n{DEADLINE}{{") == number


def test_states_of_jobs_without_a_deadline_are_not_read(monkeypatch: Any) -> None:
    """However many jobs have one."""
    monkeypatch.setattr("chroniker_monitors.collector.forecasts.MAX_KEYS", 2)
    for number in range(3):
        make_state(make_job(name=f"report {number}", schedule="@every 6h", finish_by="90m"))
    make_state(make_job(name="without", schedule="@every 6h"))
    with CaptureQueriesContext(connection) as captured:
        page = MetricsPage()
    assert len(page.samples_named(EXPECTED)) == 3
    runs = f"JOIN {connection.ops.quote_name('chroniker_run')}"
    reads = [query["sql"] for query in captured if runs in query["sql"]]
    assert [sql.count(" IN (") for sql in reads] == [1, 1]
