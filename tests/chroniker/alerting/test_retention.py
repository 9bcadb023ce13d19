"""Old incidents and notifications are deleted; what is open or pending is kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from chroniker.alerting.retention import delete_old_incidents
from chroniker.models import Incident, Notification
from tests.factories import NOON, make_incident, make_job, make_notification

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)


def make_report(key: str, **fields: Any) -> Notification:
    """A notification without an incident, sent before noon."""
    row = {"created_at": NOON - SECOND, "next_attempt_at": None, "sent_at": NOON}
    return Notification.objects.create(
        job=make_job(), event="succeeded", channel="mail", key=key, **row | fields
    )


def test_only_incidents_resolved_before_the_moment_are_deleted() -> None:
    old = make_incident(resolved_at=NOON - SECOND)
    kept = [make_incident(resolved_at=NOON), make_incident(opened_at=NOON - SECOND)]
    make_notification(old, "sent", sent_at=NOON, next_attempt_at=None)
    assert delete_old_incidents(NOON) == 1
    assert set(Incident.objects.all()) == set(kept)
    assert not Notification.objects.exists()


def test_incident_with_a_pending_notification_is_kept() -> None:
    pending = make_incident(resolved_at=NOON - SECOND)
    make_notification(pending, "pending")
    make_notification(pending, "sent", sent_at=NOON, next_attempt_at=None)
    assert delete_old_incidents(NOON) == 0
    assert Notification.objects.count() == 2


def test_old_reports_without_an_incident_are_deleted_once_sent_or_dropped() -> None:
    make_report("sent")
    make_report("dropped", sent_at=None, dropped_at=NOON)
    make_report("pending", sent_at=None, next_attempt_at=NOON)
    make_report("new", created_at=NOON)
    make_notification(make_incident(), "of an open incident", created_at=NOON - SECOND,
                      next_attempt_at=None)  # fmt: skip
    assert delete_old_incidents(NOON) == 0, "incidents are counted"
    kept = set(Notification.objects.values_list("key", flat=True))
    assert kept == {"pending", "new", "of an open incident"}


def test_more_than_a_batch_is_deleted_completely() -> None:
    job = make_job()
    moments = {"opened_at": NOON - SECOND, "last_seen_at": NOON, "resolved_at": NOON - SECOND}
    Incident.objects.bulk_create(
        Incident(job=job, kind="failing", severity="info", **moments) for _ in range(501)
    )
    Notification.objects.bulk_create(
        Notification(event="digest", channel="mail", key=str(n), created_at=NOON - SECOND)
        for n in range(501)
    )
    assert delete_old_incidents(NOON) == 501
    assert not Incident.objects.exists() and not Notification.objects.exists()
