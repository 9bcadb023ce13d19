"""Which notifications an incident or a run causes, and who receives them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from chroniker.alerting.notifications import (
    next_reminder_at,
    notify,
    notify_ended,
    notify_opened_late,
    notify_success,
)
from chroniker.enums import NotificationEvent
from chroniker.models import Job, Notification
from tests.factories import (
    NOON,
    make_incident,
    make_notification,
    make_run,
    make_subscribed_job,
)

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


def written(**filters: Any) -> list[Notification]:
    return list(Notification.objects.filter(**filters).order_by("pk"))


def test_notification_keeps_the_facts_of_its_moment() -> None:
    incident = make_incident(
        make_subscribed_job(), severity="warning", summary="80 %", occurrences=3,
        last_seen_at=NOON, host="web1",
    )  # fmt: skip
    notify(NotificationEvent.OPENED, incident, NOON)
    (notification,) = written()
    incident.severity, incident.summary = "critical", "99 %"
    incident.save()
    notification.refresh_from_db()
    assert notification.facts == {
        "severity": "warning", "summary": "80 %", "occurrences": 3,
        "last_seen_at": NOON.isoformat(), "resolution": "", "resolved_at": None,
        "job": incident.job and incident.job.name, "ended_by": "",
    }  # fmt: skip
    assert (notification.job, notification.incident) == (incident.job, incident)
    assert (notification.event, notification.channel) == ("opened", "mail")
    assert (notification.created_at, notification.next_attempt_at) == (NOON, NOON)


def test_run_of_the_notification_is_the_given_one_or_the_last_of_the_incident() -> None:
    job = make_subscribed_job()
    first, last = make_run(job), make_run(job)
    incident = make_incident(job, last_run=last)
    notify(NotificationEvent.OPENED, incident, NOON)
    notify(NotificationEvent.WORSENED, incident, NOON, first)
    assert [each.run for each in written()] == [last, first]


def test_each_discriminator_is_another_notification() -> None:
    incident = make_incident(make_subscribed_job())
    for severity in ("warning", "critical", "critical"):
        notify(NotificationEvent.WORSENED, incident, NOON, discriminator=severity)
    assert len(written()) == 2


def test_reminder_goes_to_recipients_without_pending_notification() -> None:
    incident = make_incident(make_subscribed_job("ann", "bob"))
    make_notification(incident, "pending", recipient="ann@example.com")
    make_notification(incident, "sent", recipient="bob@example.com", next_attempt_at=None)
    notify(NotificationEvent.WORSENED, incident, NOON)
    assert len(written(event="worsened")) == 2
    Notification.objects.filter(event="worsened").update(next_attempt_at=None)
    notify(NotificationEvent.REMINDER, incident, NOON)
    assert [each.recipient for each in written(event="reminder")] == ["bob@example.com"]


def test_late_opening_reports_the_severity_of_now() -> None:
    incident = make_incident(make_subscribed_job(reminder_hours=3), severity="warning")
    notify_opened_late(incident, NOON)
    assert incident.notified_severity == "warning"
    assert incident.remind_at == NOON + timedelta(hours=3)
    assert [each.event for each in written()] == ["opened"]


@pytest.mark.parametrize("event", ["opened", "worsened", "reminder", "flapping"])
def test_recovery_is_reported_to_whoever_knows_of_the_problem(event: str) -> None:
    incident = make_incident(make_subscribed_job("ann", "bob"), resolved_at=NOON)
    make_notification(incident, "1", event=event, recipient="cleo@example.com")
    make_notification(incident, "2", event=event, channel="site.Chat", recipient="")
    make_notification(incident, "3", event="opened", channel="site.Chat", recipient="")
    notify_ended(incident, incident, NOON)
    found = {(each.channel, each.recipient) for each in written(event="resolved")}
    assert found == {("mail", "cleo@example.com"), ("site.Chat", "")}
    assert len(written(event="resolved")) == 2


def test_recovery_is_not_reported_if_the_problem_was_dropped() -> None:
    incident = make_incident(make_subscribed_job(), resolved_at=NOON)
    make_notification(incident, "1", dropped_at=NOON, next_attempt_at=None)
    notify_ended(incident, incident, NOON)
    assert written(event="resolved") == []


def test_recovery_after_flapping_has_the_facts_of_the_last_incident() -> None:
    job = make_subscribed_job()
    first, last = make_run(job), make_run(job)
    announced = make_incident(job, resolved_at=NOON - MINUTE, last_run=first)
    resolved = make_incident(job, resolved_at=NOON, resolution="ok", last_run=last)
    make_notification(announced, "1", event="flapping")
    notify_ended(announced, resolved, NOON)
    (notification,) = written(event="resolved")
    assert (notification.incident, notification.run) == (announced, last)
    assert notification.facts["resolution"] == "ok"
    assert notification.facts["resolved_at"] == NOON.isoformat()


def test_success_is_mailed_to_each_subscriber_for_each_run() -> None:
    job = make_subscribed_job("ann", "bob", email_on_failure=False)
    run = make_run(job)
    for _ in range(2):
        notify_success(job, run, NOON)
    notify_success(job, make_run(job), NOON)
    assert [each.recipient for each in written(run=run)] == ["ann@example.com", "bob@example.com"]
    assert {(each.event, each.channel, each.incident) for each in written()} == {
        ("succeeded", "mail", None)
    }
    assert len(written()) == 4


def test_reminder_is_due_after_the_hours_of_the_job() -> None:
    assert next_reminder_at(Job(reminder_hours=3), NOON) == NOON + timedelta(hours=3)
    assert next_reminder_at(Job(reminder_hours=None), NOON) is None
