"""Overdue jobs: any host reports them, once; starting the job resolves the incident."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chroniker.alerting.overdue import open_overdue
from chroniker.db.transactions import run_transaction
from chroniker.engine.heartbeat import record_heartbeat
from chroniker.engine.planning import plan_changed_jobs
from chroniker.models import Host, Incident, Job, JobDependency, JobState, Maintenance
from tests.factories import make_job, make_subscribed_job
from tests.support.mail_server import MailServer
from tests.support.timeline import START, Timeline
from tests.support.types import RunTick

pytestmark = pytest.mark.django_db(transaction=True)


DUE = {"schedule": "@every 1h", "created_at": START - timedelta(minutes=60)}
"""Due at START."""


def test_overdue_job_of_a_lost_host_is_reported_by_another(mail_server: MailServer) -> None:
    job = make_subscribed_job(hostname="gone", **DUE)
    timeline = Timeline("web1")
    timeline.advance(minutes=4, seconds=59).evaluate_incidents()
    assert not Incident.objects.exists()
    timeline.advance(seconds=2).evaluate_incidents()
    timeline.advance(minutes=1).evaluate_incidents()
    timeline.send()
    assert mail_server.event_names() == ["opened"]
    assert "host gone" in Incident.objects.get().summary
    Timeline("gone").start(job)
    timeline.send()
    assert mail_server.event_names() == ["opened", "resolved"]
    assert not timeline.state(job).overdue_incident


def test_job_started_meanwhile_is_not_overdue() -> None:
    job = make_job(**DUE)
    timeline = Timeline()
    seen = JobState.objects.overdue(timeline.now + timedelta(minutes=1), timeline.now)
    (state,) = list(seen.select_related("job"))
    timeline.start(job)
    from chroniker.alerting import overdue

    moment = timeline.now + timedelta(minutes=1)
    run_transaction(lambda: overdue._open_if_overdue(state, moment, moment))
    assert not Incident.objects.exists()


def test_changed_definition_resolves_the_incident(mail_server: MailServer) -> None:
    job = make_subscribed_job(hostname="gone", **DUE)
    timeline = Timeline().advance(minutes=10)
    timeline.evaluate_incidents()
    Job.objects.filter(pk=job.pk).update(hostname="web1")
    plan_changed_jobs(timeline.now)
    timeline.send()
    assert mail_server.event_names() == ["opened", "closed"]
    assert "changed" in Incident.objects.get().resolution
    assert not timeline.state(job).overdue_incident


@pytest.mark.parametrize("why", ["disabled", "dependency", "maintenance", "running"])
def test_blocked_job_is_not_overdue(why: str) -> None:
    job = make_job(**DUE)
    timeline = Timeline()
    match why:
        case "disabled":
            Job.objects.filter(pk=job.pk).update(enabled=False)
            plan_changed_jobs(timeline.now)
        case "dependency":
            upstream = make_job(schedule="@every 9h", created_at=START)
            JobDependency.objects.create(downstream=job, upstream=upstream)
            plan_changed_jobs(timeline.now)
        case "maintenance":
            Maintenance.objects.create(
                starts_at=START, ends_at=START + timedelta(hours=1), pause=True
            )
        case "running":
            timeline.start(job)
    timeline.advance(minutes=10).evaluate_incidents()
    assert not Incident.objects.exists()


@pytest.mark.parametrize("ended", ["by itself", "early"])
def test_job_paused_by_window_gets_time_to_start(mail_server: MailServer, ended: str) -> None:
    """The host that runs it may tick a minute after the host that checks."""
    job = make_subscribed_job(hostname="web2", **DUE)
    timeline = Timeline()
    window = Maintenance.objects.create(
        starts_at=START - timedelta(minutes=1), ends_at=START + timedelta(minutes=30), pause=True
    )
    timeline.advance(minutes=30)
    if ended == "early":
        timeline.advance(minutes=-10)
        window.ends_at = timeline.now
        window.save()
    timeline.evaluate_incidents()
    timeline.advance(minutes=4).evaluate_incidents()
    assert not Incident.objects.exists()
    timeline.advance(minutes=2).evaluate_incidents()
    timeline.send()
    assert mail_server.event_names() == ["opened"]
    Timeline("web2").advance(minutes=40).start(job)
    timeline.advance(minutes=30).send()
    assert mail_server.event_names() == ["opened", "resolved"]


def test_overdue_is_reported_once_for_any_number_of_hosts(mail_server: MailServer) -> None:
    make_subscribed_job(hostname="gone", **DUE)
    stories = [Timeline("web1").advance(minutes=6), Timeline("web2").advance(minutes=6)]
    for timeline in stories * 3:
        timeline.evaluate_incidents()
    stories[0].send()
    assert mail_server.event_names() == ["opened"]


def test_tick_of_a_long_running_host_reports_overdue(
    run_tick: RunTick, mail_server: MailServer, settings: Any
) -> None:
    settings.CHRONIKER_HOSTNAME = "web1"
    now = datetime.now(UTC)
    make_subscribed_job(
        hostname="gone", schedule="@every 1h", created_at=now - timedelta(minutes=66)
    )
    run_tick()
    assert not Incident.objects.exists(), "a host that has just started reports no overdue jobs"
    Host.objects.filter(name="web1").update(up_since=now - timedelta(minutes=6))
    run_tick()
    assert mail_server.event_names() == ["opened"]
    run_tick()
    assert mail_server.event_names() == ["opened"]


def test_host_counts_as_new_after_a_gap() -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=3)
    Host.objects.create(name="web1", up_since=long_ago, last_tick_at=long_ago)
    record_heartbeat("web1")
    up_since = Host.objects.get().up_since
    assert up_since is not None and up_since > long_ago + timedelta(hours=1)
    record_heartbeat("web1")
    assert Host.objects.get().up_since == up_since


def test_slowly_ticking_host_is_not_new_each_time() -> None:
    now = datetime.now(UTC)
    up_since = now - timedelta(days=1)
    Host.objects.create(
        name="web1", up_since=up_since, last_tick_at=now - timedelta(minutes=10, seconds=20)
    )
    record_heartbeat("web1")
    assert Host.objects.get().up_since == up_since


def test_job_started_after_full_downtime_is_not_overdue(
    run_tick: RunTick, mail_server: MailServer
) -> None:
    now = datetime.now(UTC)
    make_subscribed_job(schedule="@every 1h", created_at=now - timedelta(hours=30))
    run_tick()
    assert mail_server.mails == []


@pytest.mark.parametrize("jobs", [5, 250])
def test_overdue_check_needs_two_queries(jobs: int) -> None:
    Job.objects.bulk_create(
        Job(name=f"job {n}", command="noop", hostname="gone", **DUE) for n in range(jobs)
    )
    Timeline()
    long_ago = datetime.now(UTC) - timedelta(hours=3)
    moment = datetime.now(UTC)
    Host.objects.filter(name="web1").update(
        up_since=long_ago, last_tick_at=moment, hosts_reviewed_at=moment
    )
    with CaptureQueriesContext(connection) as captured:
        assert record_heartbeat("web1").overdue
    assert len(captured) == 2
    while record_heartbeat("web1").overdue:
        open_overdue(datetime.now(UTC))
    assert Incident.objects.open().count() == jobs
    with CaptureQueriesContext(connection) as captured:
        assert not record_heartbeat("web1").overdue
    assert len(captured) == 2


@pytest.mark.parametrize(
    ("hostname", "host", "who"), [("", "", "any host"), ("web1", "", "host web1")]
)
def test_summary_says_when_it_was_due_and_who_should_have_started_it(
    hostname: str, host: str, who: str
) -> None:
    make_job(hostname=hostname, **DUE)
    Timeline().advance(minutes=10).evaluate_incidents()
    incident = Incident.objects.get()
    assert incident.summary == f"Due at 2026-03-01 12:00 UTC, and not started by {who}."
    assert (incident.kind, incident.severity, incident.host) == ("overdue", "warning", host)
    assert incident.opened_at == START + timedelta(minutes=10)


def test_job_of_every_host_is_overdue_where_it_was_not_started() -> None:
    job = make_job(hostname="*", **DUE)
    Timeline("web1").advance(minutes=10).evaluate_incidents()
    incident = Incident.objects.get()
    assert (incident.job, incident.host) == (job, "web1")
    assert incident.summary.endswith("not started by web1.")


@pytest.mark.parametrize(("seconds", "opened"), [(299, False), (301, True)])
def test_job_is_overdue_after_the_seconds_of_the_setting(
    settings: Any, seconds: int, opened: bool
) -> None:
    settings.CHRONIKER_OVERDUE_SECONDS = 300
    make_job(**DUE)
    Timeline().advance(seconds=seconds).evaluate_incidents()
    assert Incident.objects.exists() == opened
