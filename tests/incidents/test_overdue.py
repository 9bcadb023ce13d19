"""Jobs that nobody starts: any host says so, once, and it is over when somebody does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chroniker.alerting.incidents import open_overdue
from chroniker.engine.heartbeat import record_heartbeat
from chroniker.engine.planning import plan_changed_jobs
from chroniker.models import Host, Incident, Job, JobDependency, JobState, Maintenance
from tests.incidents.history import START, Story, watched_job
from tests.incidents.post import PostOffice
from tests.support import make_job

pytestmark = pytest.mark.django_db(transaction=True)

Tick = Callable[..., Any]

DUE = {"schedule": "@every 1h", "created_at": START - timedelta(minutes=60)}
"""Due at START."""


def test_a_job_whose_only_host_is_gone_is_told_by_another(office: PostOffice) -> None:
    job = watched_job(hostname="gone", **DUE)
    story = Story("web1")
    story.later(minutes=4, seconds=59).look()
    assert not Incident.objects.exists()
    story.later(seconds=2).look()
    story.later(minutes=1).look()
    story.send()
    assert office.words() == ["opened"]
    assert "host gone" in Incident.objects.get().summary
    Story("gone").start(job)
    story.send()
    assert office.words() == ["opened", "resolved"]
    assert not story.state(job).overdue_incident


def test_what_is_started_meanwhile_is_not_overdue() -> None:
    job = make_job(**DUE)
    story = Story()
    seen = JobState.objects.overdue(story.now + timedelta(minutes=1), story.now)
    (state,) = list(seen.select_related("job"))
    story.start(job)
    from chroniker.alerting import incidents

    moment = story.now + timedelta(minutes=1)
    incidents._open_overdue(state, moment, moment)
    assert not Incident.objects.exists()


def test_a_changed_definition_ends_it(office: PostOffice) -> None:
    job = watched_job(hostname="gone", **DUE)
    story = Story().later(minutes=10)
    story.look()
    Job.objects.filter(pk=job.pk).update(hostname="web1")
    plan_changed_jobs(story.now)
    story.send()
    assert office.words() == ["opened", "resolved"]
    assert "changed" in Incident.objects.get().resolution
    assert not story.state(job).overdue_incident


@pytest.mark.parametrize("why", ["disabled", "dependency", "maintenance", "running"])
def test_what_is_kept_from_starting_is_not_overdue(why: str) -> None:
    job = make_job(**DUE)
    story = Story()
    match why:
        case "disabled":
            Job.objects.filter(pk=job.pk).update(enabled=False)
            plan_changed_jobs(story.now)
        case "dependency":
            JobDependency.objects.create(downstream=job, upstream=make_job())
            plan_changed_jobs(story.now)
        case "maintenance":
            Maintenance.objects.create(
                starts_at=START, ends_at=START + timedelta(hours=1), pause=True
            )
        case "running":
            story.start(job)
    story.later(minutes=10).look()
    assert not Incident.objects.exists()


@pytest.mark.parametrize("ended", ["by itself", "early"])
def test_what_a_window_held_back_has_time_to_start_after_it(office: PostOffice, ended: str) -> None:
    """The host that is to start it may tick a minute after the one that looks."""
    job = watched_job(hostname="web2", **DUE)
    story = Story()
    window = Maintenance.objects.create(
        starts_at=START - timedelta(minutes=1), ends_at=START + timedelta(minutes=30), pause=True
    )
    story.later(minutes=30)
    if ended == "early":
        story.later(minutes=-10)
        window.ends_at = story.now
        window.save()
    story.look()
    story.later(minutes=4).look()
    assert not Incident.objects.exists()
    story.later(minutes=2).look()
    story.send()
    assert office.words() == ["opened"]
    Story("web2").later(minutes=40).start(job)
    story.later(minutes=30).send()
    assert office.words() == ["opened", "resolved"]


def test_each_is_told_once_however_many_hosts_look(office: PostOffice) -> None:
    watched_job(hostname="gone", **DUE)
    stories = [Story("web1").later(minutes=6), Story("web2").later(minutes=6)]
    for story in stories * 3:
        story.look()
    stories[0].send()
    assert office.words() == ["opened"]


def test_a_tick_of_a_host_that_has_been_up_for_a_while_tells(
    run_tick: Tick, office: PostOffice, settings: Any
) -> None:
    settings.CHRONIKER_HOSTNAME = "web1"
    now = datetime.now(UTC)
    watched_job(hostname="gone", schedule="@every 1h", created_at=now - timedelta(minutes=66))
    run_tick()
    assert not Incident.objects.exists(), "it has just come up, and judges nobody"
    Host.objects.filter(name="web1").update(up_since=now - timedelta(minutes=6))
    run_tick()
    assert office.words() == ["opened"]
    run_tick()
    assert office.words() == ["opened"]


def test_a_break_makes_a_host_new() -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=3)
    Host.objects.create(name="web1", up_since=long_ago, last_tick_at=long_ago)
    record_heartbeat("web1")
    up_since = Host.objects.get().up_since
    assert up_since is not None and up_since > long_ago + timedelta(hours=1)
    record_heartbeat("web1")
    assert Host.objects.get().up_since == up_since


def test_a_host_that_ticks_every_ten_minutes_is_not_new_each_time() -> None:
    now = datetime.now(UTC)
    up_since = now - timedelta(days=1)
    Host.objects.create(
        name="web1", up_since=up_since, last_tick_at=now - timedelta(minutes=10, seconds=20)
    )
    record_heartbeat("web1")
    assert Host.objects.get().up_since == up_since


def test_after_downtime_of_all_hosts_what_starts_is_not_told(
    run_tick: Tick, office: PostOffice
) -> None:
    now = datetime.now(UTC)
    watched_job(schedule="@every 1h", created_at=now - timedelta(hours=30))
    run_tick()
    assert office.mails == []


@pytest.mark.parametrize("jobs", [5, 250])
def test_a_look_at_the_database_is_two_queries_however_many_are_overdue(jobs: int) -> None:
    Job.objects.bulk_create(
        Job(name=f"job {n}", command="noop", hostname="gone", **DUE) for n in range(jobs)
    )
    Story()
    long_ago = datetime.now(UTC) - timedelta(hours=3)
    Host.objects.filter(name="web1").update(up_since=long_ago, last_tick_at=datetime.now(UTC))
    with CaptureQueriesContext(connection) as captured:
        assert record_heartbeat("web1").overdue
    assert len(captured) == 2
    while record_heartbeat("web1").overdue:
        open_overdue(datetime.now(UTC))
    assert Incident.objects.open().count() == jobs
    with CaptureQueriesContext(connection) as captured:
        assert not record_heartbeat("web1").overdue
    assert len(captured) == 2
