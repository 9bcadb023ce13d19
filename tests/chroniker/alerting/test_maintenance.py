"""Maintenance windows and notifications."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chroniker.alerting.maintenance import maintenance_ends_at, next_muted_review, review_muted
from chroniker.models import Incident, Maintenance, Run
from tests.factories import (
    NOON,
    make_incident,
    make_job,
    make_maintenance,
    make_subscribed_job,
)
from tests.support.mail_server import MailServer
from tests.support.timeline import Timeline
from tests.support.types import RunTick

pytestmark = pytest.mark.django_db(transaction=True)


def test_incident_within_a_window_is_not_notified(mail_server: MailServer) -> None:
    job, other = make_subscribed_job(), make_subscribed_job("bob")
    timeline = Timeline()
    make_maintenance(timeline.now, 60, job)
    timeline.run(job, "FFS")
    assert mail_server.mails == []
    assert Incident.objects.get().muted and not Incident.objects.open().exists()
    timeline.run(other, "F")
    assert [str(mail["To"]) for mail in mail_server.mails] == ["bob@example.com"]


def test_incident_open_at_window_end_is_notified(mail_server: MailServer) -> None:
    job = make_subscribed_job()
    timeline = Timeline()
    make_maintenance(timeline.now, 25, job)
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
    make_maintenance(timeline.now, 600, job)
    timeline.run(job, "F" * 12)
    assert mail_server.event_names() == ["opened"]
    timeline.run(job, "S")
    assert mail_server.event_names() == ["opened", "resolved"]


def test_window_that_is_ended_early_is_noticed_at_once(mail_server: MailServer) -> None:
    job = make_subscribed_job()
    timeline = Timeline()
    made = make_maintenance(timeline.now, 600, job)
    timeline.run(job, "F", every=1)
    Maintenance.objects.filter(pk=made.pk).update(ends_at=timeline.now)
    review_muted([job.pk], timeline.now)
    timeline.evaluate_incidents()
    timeline.send()
    assert mail_server.event_names() == ["opened"]


def test_window_ended_by_raw_update_is_noticed_within_minutes(
    mail_server: MailServer,
) -> None:
    job = make_subscribed_job()
    timeline = Timeline()
    make_maintenance(timeline.now, 600, job)
    timeline.run(job, "F", every=1)
    Maintenance.objects.all().delete()
    timeline.advance(minutes=5).evaluate_incidents()
    timeline.send()
    assert mail_server.event_names() == ["opened"]


def test_window_that_only_mutes_starts_jobs(run_tick: RunTick) -> None:
    now = datetime.now(UTC)
    job = make_job(schedule="@every 1h", created_at=now - timedelta(minutes=61))
    make_maintenance(now, 60, job)
    run_tick()
    assert Run.objects.get(job=job).status == "succeeded"


# --- without ticks ---

MINUTE = timedelta(minutes=1)


def test_last_end_of_the_active_windows_of_a_job_counts() -> None:
    job, other = make_job(), make_job()
    assert maintenance_ends_at(job, NOON) is None
    make_maintenance(NOON, 90, other)
    make_maintenance(NOON + MINUTE, 90, job)
    make_maintenance(NOON - 10 * MINUTE, 10, job)
    assert maintenance_ends_at(job, NOON) is None
    make_maintenance(NOON, 20, job)
    make_maintenance(NOON - MINUTE, 16, job, other)
    assert maintenance_ends_at(job, NOON) == NOON + 20 * MINUTE
    make_maintenance(NOON, 30)  # of all jobs
    assert maintenance_ends_at(job, NOON) == NOON + 30 * MINUTE


def test_muted_incident_is_reviewed_at_the_end_or_after_five_minutes() -> None:
    assert next_muted_review(NOON + 4 * MINUTE, NOON) == NOON + 4 * MINUTE
    assert next_muted_review(NOON + 6 * MINUTE, NOON) == NOON + 5 * MINUTE


@pytest.mark.parametrize("every", [True, False])
def test_changed_window_reviews_the_muted_incidents_of_its_jobs(every: bool) -> None:
    job, other, later = make_job(), make_job(), NOON + MINUTE
    muted = make_incident(job, muted=True, next_review_at=later)
    muted_other = make_incident(other, muted=True, next_review_at=later)
    make_incident(job, kind="overdue", next_review_at=later)
    make_incident(job, host="x", muted=True, next_review_at=later, resolved_at=NOON)
    make_incident(job, kind="condition", muted=True, next_review_at=None)
    review_muted(None if every else [job.pk], NOON)
    reviewed = set(Incident.objects.needing_review(NOON))
    assert reviewed == ({muted, muted_other} if every else {muted})
