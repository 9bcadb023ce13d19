"""Windows: alerts are muted, jobs may rest, and what is still wrong afterwards is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chroniker.alerting.incidents import unmute
from chroniker.models import Incident, Job, JobState, Maintenance, Run
from tests.incidents.history import Story, watched_job
from tests.incidents.post import PostOffice
from tests.support import make_job

pytestmark = pytest.mark.django_db(transaction=True)

Tick = Callable[..., Any]


def window(now: datetime, minutes: float, *jobs: Job, **fields: Any) -> Maintenance:
    made = Maintenance.objects.create(
        starts_at=now, ends_at=now + timedelta(minutes=minutes), **fields
    )
    made.jobs.set(jobs)
    return made


def test_what_opens_and_closes_within_a_window_is_silent(office: PostOffice) -> None:
    job, other = watched_job(), watched_job("bob")
    story = Story()
    window(story.now, 60, job)
    story.run(job, "FFS")
    assert office.mails == []
    assert Incident.objects.get().muted and not Incident.objects.open().exists()
    story.run(other, "F")
    assert [str(mail["To"]) for mail in office.mails] == ["bob@example.com"]


def test_what_is_still_open_when_the_window_ends_is_told_then(office: PostOffice) -> None:
    job = watched_job()
    story = Story()
    window(story.now, 25, job)
    story.run(job, "FF")
    assert office.mails == []
    story.run(job, "F")
    assert office.mails == [], "20 minutes"
    story.look()
    story.send()
    assert office.words() == ["opened"], "30 minutes"
    assert "3 times" in str(office.mails[0].get_body(("plain",)).get_content())  # type: ignore[union-attr]
    story.run(job, "S")
    assert office.words() == ["opened", "resolved"]


def test_an_incident_from_before_the_window_has_its_end_told_and_no_reminder(
    office: PostOffice,
) -> None:
    job = watched_job(reminder_hours=1)
    story = Story()
    story.run(job, "F")
    window(story.now, 600, job)
    story.run(job, "F" * 12)
    assert office.words() == ["opened"]
    story.run(job, "S")
    assert office.words() == ["opened", "resolved"]


def test_a_window_without_jobs_is_for_all(office: PostOffice) -> None:
    job = watched_job()
    story = Story()
    window(story.now, 60)
    story.run(job, "F")
    assert office.mails == []
    assert list(Job.objects.muted(story.now)) == [job]


def test_a_window_whose_only_job_is_deleted_does_not_become_one_for_all() -> None:
    one, other = make_job(), make_job()
    now = datetime.now(UTC)
    window(now, 60, one, pause=True)
    one.delete()
    assert not Job.objects.muted(now).exists()
    assert not Job.objects.paused(now).exists()
    assert Job.objects.get() == other


def test_a_window_that_is_ended_early_is_noticed_at_once(office: PostOffice) -> None:
    job = watched_job()
    story = Story()
    made = window(story.now, 600, job)
    story.run(job, "F", every=1)
    Maintenance.objects.filter(pk=made.pk).update(ends_at=story.now)
    unmute([job.pk], story.now)
    story.look()
    story.send()
    assert office.words() == ["opened"]


def test_a_window_that_is_ended_behind_our_back_is_noticed_within_minutes(
    office: PostOffice,
) -> None:
    job = watched_job()
    story = Story()
    window(story.now, 600, job)
    story.run(job, "F", every=1)
    Maintenance.objects.all().delete()
    story.later(minutes=5).look()
    story.send()
    assert office.words() == ["opened"]


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


def test_a_paused_job_is_not_started_and_says_why(run_tick: Tick) -> None:
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


def test_a_window_that_only_mutes_starts_jobs(run_tick: Tick) -> None:
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
