"""Reviews of incidents: reminders, and what a window or flapping has held back."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from chroniker.alerting.review import review_due_incidents
from chroniker.models import Incident, Job, Notification
from tests.factories import (
    NOON,
    make_incident,
    make_job,
    make_maintenance,
    make_notification,
    make_subscribed_job,
)

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def due(job: Job, **fields: Any) -> Incident:
    """An open incident that was reported, and whose review is due at noon."""
    row = {"next_review_at": NOON, "notified_severity": "critical", "opened_at": NOON - HOUR}
    return make_incident(job, **row | fields)


def review(incident: Incident, now: datetime = NOON) -> list[str]:
    """Review, and return the events that were written."""
    review_due_incidents(now)
    incident.refresh_from_db()
    return list(Notification.objects.order_by("pk").values_list("event", flat=True))


def test_incident_is_reviewed_when_it_is_due_and_not_before() -> None:
    incident = due(make_subscribed_job(reminder_hours=2), next_review_at=NOON + MINUTE)
    assert review(incident) == []
    assert incident.next_review_at == NOON + MINUTE
    assert review(incident, NOON + MINUTE) == ["reminder"]
    assert incident.next_review_at == NOON + MINUTE + 2 * HOUR
    Notification.objects.update(next_attempt_at=None, sent_at=NOON + MINUTE)
    assert review(incident, NOON + MINUTE + 2 * HOUR) == ["reminder", "reminder"]


def test_no_reminder_before_the_last_notification_is_sent() -> None:
    incident = due(make_subscribed_job("ann", "bob", reminder_hours=2))
    make_notification(incident, "opened")
    assert review(incident) == ["opened", "reminder"]
    assert Notification.objects.get(event="reminder").recipient == "bob@example.com"


def test_no_reminder_once_acknowledged() -> None:
    incident = due(make_subscribed_job(reminder_hours=2), acknowledged_at=NOON)
    assert review(incident) == []
    assert incident.next_review_at is None


@pytest.mark.parametrize(
    ("minutes", "next_minutes"), [(3, 3), (60, 5)], ids=["until its end", "every five minutes"]
)
def test_incident_in_a_window_is_reviewed_again(minutes: float, next_minutes: float) -> None:
    job = make_subscribed_job(reminder_hours=2)
    incident = due(job, muted=True, notified_severity="")
    make_maintenance(NOON, minutes, job)
    assert review(incident) == []
    assert incident.next_review_at == NOON + next_minutes * MINUTE
    assert incident.muted


def test_incident_that_outlasts_its_window_is_reported_as_opened() -> None:
    incident = due(make_subscribed_job(reminder_hours=2), muted=True, notified_severity="")
    assert review(incident) == ["opened"]
    assert not incident.muted
    assert incident.notified_severity == "critical"
    assert incident.next_review_at == NOON + 2 * HOUR


def test_problem_that_outlasts_its_flapping_is_reported_as_opened() -> None:
    incident = due(make_subscribed_job(reminder_hours=None), flapping=True, severity="warning")
    assert review(incident) == ["opened"]
    assert (incident.flapping, incident.flapping_ended_at) == (False, NOON)
    assert (incident.notified_severity, incident.next_review_at) == ("warning", None)


def test_flapping_that_ended_is_reported_as_resolved() -> None:
    incident = due(make_subscribed_job(), flapping=True, resolved_at=NOON - HOUR)
    make_notification(incident, "flapping", event="flapping", sent_at=NOON, next_attempt_at=None)
    assert review(incident) == ["flapping", "resolved"]
    assert (incident.flapping_ended_at, incident.next_review_at) == (NOON, None)


@pytest.mark.parametrize("fields", [{}, {"flapping": True, "flapping_ended_at": NOON - HOUR}])
def test_resolved_incident_needs_nothing(fields: Any) -> None:
    incident = due(make_subscribed_job(), resolved_at=NOON - HOUR, **fields)
    make_notification(incident, "flapping", event="flapping", sent_at=NOON, next_attempt_at=None)
    assert review(incident) == ["flapping"]
    assert incident.next_review_at is None


def test_a_tick_reviews_a_hundred_the_longest_due_first() -> None:
    job = make_job()
    moments = {"opened_at": NOON, "last_seen_at": NOON, "resolved_at": NOON}
    Incident.objects.bulk_create(
        Incident(job=job, kind="failing", severity="info", **moments,
                 next_review_at=NOON - number * MINUTE)
        for number in range(101)
    )  # fmt: skip
    review_due_incidents(NOON)
    left = Incident.objects.filter(next_review_at__isnull=False)
    assert [incident.next_review_at for incident in left] == [NOON]
