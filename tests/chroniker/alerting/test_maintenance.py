"""Windows: alerts are muted, jobs may rest, and what is still wrong afterwards is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chroniker.alerting.incidents import unmute
from chroniker.models import Incident, Job, JobState, Maintenance, Run
from tests.factories import make_job, make_subscribed_job
from tests.support.mail_server import MailServer
from tests.support.timeline import Timeline
from tests.support.types import RunTick

pytestmark = pytest.mark.django_db(transaction=True)


def window(now: datetime, minutes: float, *jobs: Job, **fields: Any) -> Maintenance:
    made = Maintenance.objects.create(
        starts_at=now, ends_at=now + timedelta(minutes=minutes), **fields
    )
    made.jobs.set(jobs)
    return made


def test_incident_within_a_window_is_not_notified(mail_server: MailServer) -> None:
    job, other = make_subscribed_job(), make_subscribed_job("bob")
    timeline = Timeline()
    window(timeline.now, 60, job)
    timeline.run(job, "FFS")
    assert mail_server.mails == []
    assert Incident.objects.get().muted and not Incident.objects.open().exists()
    timeline.run(other, "F")
    assert [str(mail["To"]) for mail in mail_server.mails] == ["bob@example.com"]


def test_incident_open_at_window_end_is_notified(mail_server: MailServer) -> None:
    job = make_subscribed_job()
    timeline = Timeline()
    window(timeline.now, 25, job)
    timeline.run(job, "FF")
    assert mail_server.mails == []
    timeline.run(job, "F")
    assert mail_server.mails == [], "20 minutes"
    timeline.evaluate_incidents()
    timeline.send()
    assert mail_server.event_names() == ["opened"], "30 minutes"
    assert "3 times" in str(mail_server.mails[0].get_body(("plain",)).get_content())  # type: ignore[union-attr]
    timeline.run(job, "S")
    assert mail_server.event_names() == ["opened", "resolved"]


def test_earlier_incident_is_resolved_in_window_without_reminder(
    mail_server: MailServer,
) -> None:
    job = make_subscribed_job(reminder_hours=1)
    timeline = Timeline()
    timeline.run(job, "F")
    window(timeline.now, 600, job)
    timeline.run(job, "F" * 12)
    assert mail_server.event_names() == ["opened"]
    timeline.run(job, "S")
    assert mail_server.event_names() == ["opened", "resolved"]


def test_a_window_without_jobs_is_for_all(mail_server: MailServer) -> None:
    job = make_subscribed_job()
    timeline = Timeline()
    window(timeline.now, 60)
    timeline.run(job, "F")
    assert mail_server.mails == []
    assert list(Job.objects.muted(timeline.now)) == [job]


def test_a_window_whose_only_job_is_deleted_does_not_become_one_for_all() -> None:
    run_once, other = make_job(), make_job()
    now = datetime.now(UTC)
    window(now, 60, run_once, pause=True)
    run_once.delete()
    assert not Job.objects.muted(now).exists()
    assert not Job.objects.paused(now).exists()
    assert Job.objects.get() == other


def test_a_window_that_is_ended_early_is_noticed_at_once(mail_server: MailServer) -> None:
    job = make_subscribed_job()
    timeline = Timeline()
    made = window(timeline.now, 600, job)
    timeline.run(job, "F", every=1)
    Maintenance.objects.filter(pk=made.pk).update(ends_at=timeline.now)
    unmute([job.pk], timeline.now)
    timeline.evaluate_incidents()
    timeline.send()
    assert mail_server.event_names() == ["opened"]


def test_window_ended_by_raw_update_is_noticed_within_minutes(
    mail_server: MailServer,
) -> None:
    job = make_subscribed_job()
    timeline = Timeline()
    window(timeline.now, 600, job)
    timeline.run(job, "F", every=1)
    Maintenance.objects.all().delete()
    timeline.advance(minutes=5).evaluate_incidents()
    timeline.send()
    assert mail_server.event_names() == ["opened"]


@pytest.mark.parametrize(
    ("starts", "ends", "muted"), [(-60, -1, False), (-60, 1, True), (1, 60, False), (0, 1, True)]
)
def test_a_window_is_from_its_start_to_its_end(starts: int, ends: int, muted: bool) -> None:
    job = make_job()
    now = datetime(2026, 3, 1, tzinfo=UTC)
    Maintenance.objects.create(
        starts_at=now + timedelta(minutes=starts), ends_at=now + timedelta(minutes=ends)
    ).jobs.add(job)
    assert Job.objects.muted(now).exists() is muted
    assert not Job.objects.paused(now).exists()


def test_a_paused_job_is_not_started_and_says_why(run_tick: RunTick) -> None:
    now = datetime.now(UTC)
    fields = {"schedule": "@every 1h", "created_at": now - timedelta(minutes=61)}
    paused, free = make_job(**fields), make_job(**fields)
    made = window(now, 60, paused, pause=True, reason="new disks")
    assert run_tick().exit_code == 0
    assert [run.job for run in Run.objects.all()] == [free]
    assert JobState.objects.get(job=paused).blocked_reason.startswith("maintenance: new disks")
    run_tick(only=frozenset([paused.pk]), force=True)
    assert not Run.objects.filter(job=paused).exists(), "not even by name"
    made.delete()
    run_tick()
    assert Run.objects.get(job=paused).status == "succeeded"
    assert JobState.objects.get(job=paused).blocked_reason == ""


def test_a_window_that_only_mutes_starts_jobs(run_tick: RunTick) -> None:
    now = datetime.now(UTC)
    job = make_job(schedule="@every 1h", created_at=now - timedelta(minutes=61))
    window(now, 60, job)
    run_tick()
    assert Run.objects.get(job=job).status == "succeeded"


def test_a_window_has_to_end_after_it_starts() -> None:
    from django.core.exceptions import ValidationError

    now = datetime.now(UTC)
    with pytest.raises(ValidationError, match="end after it starts"):
        Maintenance(starts_at=now, ends_at=now).full_clean()
